import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import npaae
from npaae import experiment
from npaae.errors import BadFile, CannotWrite, InvalidInput

from .idx_files import write_set
from .running import FIGURES, FILES, command, files, on_a_terminal, rows, run, run_here, stopped, wait_for

HEADER = (
    "epoch,reconstruction,discriminator,generator,test_reconstruction,code_mean_0,code_mean_1,code_std_0,code_std_1,seconds"
)


# What a run leaves behind


def test_a_run_leaves_every_file_and_nothing_else(finished):
    folder, process = finished
    assert process.returncode == 0, process.stderr
    assert files(folder) == FILES


def test_the_losses_have_their_header_and_one_row_an_epoch(finished):
    folder, _ = finished
    assert (folder / "losses.csv").read_text().splitlines()[0] == HEADER
    assert [row["epoch"] for row in rows(folder)] == ["1", "2", "3"]
    assert all(np.isfinite(float(value)) for row in rows(folder) for value in row.values())


def test_the_figures_are_pictures(finished):
    folder, _ = finished
    for name in FIGURES:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5_000


def test_the_saved_model_is_the_one_that_was_trained(finished):
    folder, _ = finished
    model = npaae.AdversarialAutoencoder.load(folder / "model.npz")
    assert model.epoch == 3
    assert model.config["hidden"] == (32, 16)
    assert model.sample(2, seed=0).shape == (2, 784)


def test_the_configuration_tells_what_ran_on_what(finished, digits):
    config = json.loads((finished[0] / "config.json").read_text())
    assert config["flags"]["epochs"] == 3
    assert config["model"]["hidden"] == [32, 16]
    assert config["model"]["prior"] == {"name": "gaussian", "std": 5.0}
    assert config["data"] == f"MNIST from {digits}"
    assert (config["train_images"], config["test_images"]) == (300, 100)
    assert config["array_module"] == f"numpy {np.__version__}"


def test_the_rows_are_the_records_of_training_on_the_training_set_column_by_column(finished, digits):
    mine, records = npaae.data.mnist(digits), rows(finished[0])
    model = npaae.AdversarialAutoencoder(hidden=(32, 16))
    for row, record in zip(records, npaae.train(model, mine.train_images, test_images=mine.test_images, epochs=3), strict=True):
        expected = (*record[:5], *record.code_mean, *record.code_std)
        assert [float(value) for value in list(row.values())[:-1]] == pytest.approx(expected, abs=5e-7)
        assert float(row["seconds"]) > 0


def test_a_log_has_one_line_an_epoch_and_no_bar(finished):
    _, process = finished
    assert len(re.findall(r"^epoch \d/3  reconstruction 0\.\d{4}  discriminator ", process.stdout, re.M)) == 3
    assert process.stderr == ""


def test_it_is_said_where_the_results_are_first_and_last(finished):
    folder, process = finished
    first, *_, last = process.stdout.splitlines()
    assert first.endswith(f"300 images, 100 to test. Results go to {folder}")
    assert last.endswith(f"Results are in {folder}")


def test_the_same_seed_gives_the_same_losses_and_another_does_not(finished, digits, tmp_path):
    def losses(folder):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder)]

    flags = ("--data-dir", digits, "--epochs", 3, "--hidden", 32, 16)
    run(*flags, "--out", tmp_path / "again")
    run(*flags, "--out", tmp_path / "other", "--seed", 1)
    assert losses(tmp_path / "again") == losses(finished[0])
    assert losses(tmp_path / "other") != losses(finished[0])


def test_fashion_mnist_is_the_same_but_for_its_data(digits, tmp_path):
    process = run_here(
        "--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", tmp_path / "run", example="fashion_mnist.py"
    )
    assert process.returncode == 0, process.stderr
    assert files(tmp_path / "run") == FILES
    assert "Training on Fashion-MNIST" in process.stdout


def test_without_out_new_folders_are_made_one_after_the_other(digits, tmp_path):
    (tmp_path / "runs" / "mnist-1").mkdir(parents=True)
    run("--data-dir", digits, "--epochs", 1, "--hidden", 8, cwd=tmp_path)
    assert files(tmp_path / "runs") == {"mnist-1", "mnist-2"}
    assert files(tmp_path / "runs" / "mnist-2") == FILES


def test_on_a_terminal_a_bar_shows_epoch_losses_and_time_left(digits, tmp_path):
    text = on_a_terminal("--data-dir", digits, "--epochs", 3, "--hidden", 8, "--out", tmp_path / "run")
    assert re.search(r"3/3 \[\d\d:\d\d<\d\d:\d\d,.*, R 0\.\d{4}  D \d\.\d{4}  G \d\.\d{4}\]", text), text
    assert "epoch 1/3" not in text


def test_a_log_has_its_lines_even_where_the_bar_is_on_a_terminal(digits, tmp_path):
    log = tmp_path / "log"
    text = on_a_terminal("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run", log=log)
    assert "2/2 [" in text
    assert "epoch 2/2  reconstruction" in log.read_text()


@pytest.mark.slow
def test_a_terminal_without_a_size_has_lines(digits, tmp_path):
    text = on_a_terminal("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run", size=(0, 0))
    assert "epoch 2/2  reconstruction" in text


@pytest.mark.slow
def test_no_progress_is_lines_on_a_terminal_too(digits, tmp_path):
    text = on_a_terminal("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run", "--no-progress")
    assert "epoch 2/2  reconstruction" in text
    assert "it/s" not in text
    assert "%|" not in text


# Stopping


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_draw_once_more_say_where_things_are_and_exit_so(digits, tmp_path, number, status):
    folder = tmp_path / "run"
    got, out, err = stopped(folder, digits, after_rows=3, number=number)
    assert (got, err) == (status, "")
    assert files(folder) == FILES
    says = rf"Stopped after \d+ epochs\. Results are in {folder}; --resume --out {folder} goes on with them"
    assert re.fullmatch(says, out.splitlines()[-2])
    assert out.splitlines()[-1] == "Drawing the last whole epoch"
    model = npaae.AdversarialAutoencoder.load(folder / "model.npz")
    assert model.epoch == len(rows(folder)) >= 3
    assert np.isfinite(model.theta).all()


@pytest.mark.slow
@pytest.mark.parametrize("after_rows", [1, 2, 5, 9, 14])
def test_whenever_ctrl_c_comes_the_files_are_whole_and_of_one_epoch(digits, tmp_path, after_rows):
    status, _, err = stopped(tmp_path / "run", digits, after_rows)
    assert (status, err) == (130, "")
    assert files(tmp_path / "run") == FILES
    assert npaae.AdversarialAutoencoder.load(tmp_path / "run" / "model.npz").epoch == len(rows(tmp_path / "run"))


def a_run(folder, **flags):
    """A run begun in this process, of a small model on the bundled sample."""
    values = {"out": folder, "epochs": 10**9, "resume": False, "overwrite": False, "no_progress": True}
    model = npaae.AdversarialAutoencoder(hidden=(4,))
    return experiment.Run("mnist", SimpleNamespace(**(values | flags)), model, npaae.data.mnist_sample())


def a_record(epoch):
    return npaae.Record(epoch, 0.2, 1.3, 0.8, 0.2, (0.0, 0.0), (5.0, 5.0), 1.0)


def test_after_an_interrupt_the_figures_are_of_the_saved_model_not_of_one_cut_in_the_middle_of_a_step(monkeypatch, tmp_path):
    run, drawn = a_run(tmp_path / "run"), []
    saved = run.model.theta.copy()
    monkeypatch.setattr(run, "_write_figures", lambda: drawn.append(run.model.theta.copy()))

    def interrupted():
        with run:
            run.model.theta[:] = 7
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    np.testing.assert_array_equal(drawn, [saved])


def test_an_interrupt_between_an_epochs_two_files_waits_for_both(monkeypatch, tmp_path):
    run = a_run(tmp_path / "run")
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    write_losses = run._write_losses
    monkeypatch.setattr(run, "_write_losses", lambda history: (write_losses(history), signal.raise_signal(signal.SIGINT)))
    run.model.epoch = 1
    try:
        with pytest.raises(KeyboardInterrupt):
            run.record(a_record(1))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert len(rows(tmp_path / "run")) == 1
    assert npaae.AdversarialAutoencoder.load(tmp_path / "run" / "model.npz").epoch == 1


def test_an_interrupt_waits_for_matplotlibs_import(monkeypatch):
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.delitem(sys.modules, "npaae.plots", raising=False)
    monkeypatch.delattr(npaae, "plots", raising=False)
    imported = []

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "npaae.plots":
                signal.raise_signal(signal.SIGINT)
                imported.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    try:
        with pytest.raises(KeyboardInterrupt):
            experiment.import_plots()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert imported == ["npaae.plots"]
    assert "npaae.plots" in sys.modules


# Going on


def losses(folder):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder)]


def pictures(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FIGURES}


def assert_equal_runs(folder, other):
    """Equal bit for bit: parameters, moments, step counts, losses, figures."""
    assert files(folder) == files(other) == FILES
    with np.load(folder / "model.npz") as ours, np.load(other / "model.npz") as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert losses(folder) == losses(other)
    assert pictures(folder) == pictures(other)


def test_a_resumed_run_equals_one_that_never_stopped_bit_for_bit(finished, digits, tmp_path):
    folder = tmp_path / "run"
    first = run("--data-dir", digits, "--epochs", 1, "--hidden", 32, 16, "--out", folder)
    second = run("--resume", "--epochs", 3, "--out", folder)
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    assert second.stdout.startswith(f"Going on after 1 epoch on MNIST from {digits}: ")
    assert "epoch 1/3" not in second.stdout
    assert "epoch 2/3" in second.stdout
    assert_equal_runs(folder, finished[0])


def copied(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


def test_resuming_a_finished_run_draws_what_may_be_missing_and_trains_no_more(finished, tmp_path):
    folder = copied(finished, tmp_path)
    (folder / "samples.png").unlink()
    process = run("--resume", "--out", folder)
    assert (process.returncode, process.stderr) == (0, "")
    assert_equal_runs(folder, finished[0])


def test_a_row_that_a_killed_run_wrote_before_its_model_is_computed_again(finished, tmp_path):
    folder = copied(finished, tmp_path)
    before = rows(folder)
    with open(folder / "losses.csv", "a") as file:
        file.write("4,9,9,9,9,9,9,9,9,9\n")
    assert run_here("--resume", "--out", folder).returncode == 0
    assert rows(folder) == before


@pytest.mark.slow
def test_what_a_killed_run_left_half_written_is_removed(finished, tmp_path):
    folder = copied(finished, tmp_path)
    (folder / ".model.npz.123.partial").write_bytes(b"half")
    assert run("--resume", "--out", folder).returncode == 0
    assert files(folder) == FILES


def test_a_run_whose_model_is_lost_is_not_silently_begun_again(finished, tmp_path):
    folder = copied(finished, tmp_path)
    (folder / "model.npz").unlink()
    process = run_here("--resume", "--out", folder)
    assert process.returncode == 1
    assert f"{folder / 'model.npz'} cannot be used (No such file or directory)" in process.stderr
    assert len(rows(folder)) == 3


def test_two_runs_at_once_in_one_folder_are_refused(digits, tmp_path):
    folder = tmp_path / "run"
    arguments = command("--data-dir", digits, "--epochs", 100_000, "--hidden", 8, "--out", folder)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: (folder / "config.json").exists(), process)
            for flags in (["--resume"], ["--overwrite", "--data-dir", digits]):
                second = run_here(*flags, "--out", folder)
                assert second.returncode == 2
                assert f"{folder} is in use by another run; wait for it to end" in second.stderr
        finally:
            process.kill()
    assert run_here("--resume", "--epochs", 1, "--out", folder).returncode in (0, 2)  # free again; 2: it has more epochs


def test_a_run_of_one_data_set_is_not_taken_up_by_the_others_example(finished, digits, tmp_path):
    folder = copied(finished, tmp_path)
    process = run_here("--resume", "--out", folder, example="fashion_mnist.py")
    assert process.returncode == 2
    assert "holds a run of another example, which has a flag sample" in process.stderr
    run_here("--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", tmp_path / "clothes", example="fashion_mnist.py")
    process = run_here("--resume", "--out", tmp_path / "clothes")
    assert process.returncode == 2
    assert "holds a run of fashion-mnist, and this is mnist" in process.stderr


def test_overwriting_what_cannot_be_written_keeps_the_old_run(finished, digits, tmp_path):
    folder = copied(finished, tmp_path)
    no_long_files = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    flags = ("--overwrite", "--data-dir", digits, "--epochs", 1, "--out", folder)
    process = run(*flags, preexec_fn=lambda: exec(no_long_files))
    assert process.returncode == 1
    assert "cannot be written (File too large); what it held before is whole" in process.stderr
    assert_equal_runs(folder, finished[0])


def test_an_epoch_that_could_not_be_saved_is_not_counted(monkeypatch, tmp_path, capsys):
    def fail():
        raise CannotWrite("full")

    def work():
        with a_run(tmp_path / "run") as run:
            monkeypatch.setattr(run, "save", fail)
            run.record(a_record(1))

    with pytest.raises(CannotWrite):
        work()
    assert capsys.readouterr().out.splitlines()[-1].startswith("Stopped after 0 epochs.")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--hidden", 64], "--hidden 64 came, and the run in {folder} has --hidden 32 16; leave the flag out"),
        (["--seed", 1], "--seed 1 came, and the run in {folder} has --seed 0; leave"),
        (["--batch-size", 50], "--batch-size 50 came, and the run in {folder} has --batch-size 100;"),
        (["--prior-std", 1], "--prior-std 1.0 came, and the run in {folder} has --prior-std 5.0;"),
        (["--lr-regularization", 0.5], "--lr-regularization 0.5 came, and"),
        (["--dtype", "float64"], "--dtype float64 came, and the run in {folder} has --dtype float32;"),
        (["--sample"], "the bundled sample of MNIST came, and the run in {folder} was trained on MNIST from {digits}, with"),
        (["--epochs", 2], "--epochs 2 came, and the run in {folder} has 3 already; ask for as many or more"),
    ],
)
def test_resuming_with_a_flag_that_contradicts_the_run_names_both_values(finished, digits, tmp_path, flags, says):
    folder = copied(finished, tmp_path)
    process = run_here("--resume", "--out", folder, *flags)
    assert process.returncode == 2
    assert process.stderr.startswith(f"mnist.py: error: {says.format(folder=folder, digits=digits)}")
    assert len(process.stderr.splitlines()) == 1
    assert_equal_runs(folder, finished[0])


@pytest.mark.parametrize("epochs", [2, 4])
def test_measuring_a_run_of_other_epochs_than_it_has_is_refused(finished, tmp_path, epochs):
    folder = copied(finished, tmp_path)
    process = run_here("--evaluate", "--out", folder, "--epochs", epochs)
    assert (process.returncode, process.stderr) == (
        2,
        f"mnist.py: error: --epochs {epochs} came, and the run in {folder} has --epochs 3; "
        "leave the flag out to have that run, or name another folder\n",
    )


@pytest.mark.slow
def test_the_same_data_in_another_place_are_the_same_data(finished, digits, tmp_path):
    folder = copied(finished, tmp_path)
    shutil.copytree(digits, tmp_path / "moved")
    process = run("--resume", "--out", folder, "--data-dir", tmp_path / "moved")
    assert (process.returncode, process.stderr) == (0, "")


def test_resuming_where_there_is_no_run_is_one_sentence(tmp_path):
    process = run_here("--resume", "--out", tmp_path)
    assert process.returncode == 2
    assert process.stderr == (
        f"mnist.py: error: {tmp_path} holds no run, for it has no config.json; name the folder of one, or start one there\n"
    )


@pytest.mark.parametrize("flag", ["--resume", "--overwrite", "--evaluate"])
def test_resume_overwrite_and_evaluate_want_a_folder(flag):
    process = run_here(flag)
    assert process.returncode == 2
    assert f"{flag} came without --out; name the folder of the run" in process.stderr


def damage(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("config.json", "{", "", "config.json is damaged: Extra data"),
        ("config.json", '"flags": {', '"falgs": {', "config.json is damaged: it has no 'flags'"),
        ("config.json", '"batch_size": 100', '"batch_size": "many"', "its flag batch_size is 'many'"),
        ("config.json", '"std": 5.0', '"std": 4.0', "its model.npz and its config.json are of two runs"),
        ("losses.csv", "\n2,", "\n5,", "losses.csv is damaged: it lacks some of the 3 epochs of model.npz"),
        ("losses.csv", "\n3,0", "\n3,x", "losses.csv is damaged: could not convert string to float"),
        ("losses.csv", "epoch,", "epochs,", "losses.csv is damaged: it lacks"),
        ("losses.csv", "\n2,", "\n2" + 140_000 * "2" + ",", "losses.csv is damaged: field larger than field limit"),
        ("losses.csv", "\n3,0", "\n3,nan,0", "it has a row of another length"),
        ("losses.csv", "\n3,0.", "\n3,1e999", "it has a number that is not finite"),
        ("losses.csv", "\n3,", "\n3,3,", "it has a row of another length than its header"),
    ],
)
def test_a_damaged_run_is_refused_by_name_and_left_as_it_is(finished, tmp_path, file, old, new, says):
    folder = copied(finished, tmp_path)
    damage(folder / file, old, new)
    before = (folder / file).read_bytes()
    process = run_here("--resume", "--out", folder)
    assert process.returncode == 1
    assert says in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert (folder / file).read_bytes() == before


def test_overwrite_discards_the_run_and_keeps_what_is_not_its(finished, digits, tmp_path):
    folder = copied(finished, tmp_path)
    (folder / "notes.txt").write_text("mine")
    process = run_here("--overwrite", "--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", folder)
    assert (process.returncode, process.stderr) == (0, "")
    assert files(folder) == FILES | {"notes.txt"}
    assert len(rows(folder)) == 1


@pytest.mark.slow
def test_a_run_killed_twenty_times_at_random_moments_ends_as_one_that_never_was(digits, tmp_path):
    folder, whole, epochs, rng = tmp_path / "killed", tmp_path / "whole", 200, np.random.default_rng(0)
    flags = ("--data-dir", digits, "--hidden", 32, 16, "--batch-size", 20, "--epochs", epochs)
    kills = 0
    while True:
        go_on = ("--resume",) if (folder / "config.json").exists() else ()
        with subprocess.Popen(
            command(*flags, *go_on, "--out", folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                table = folder / "losses.csv"
                goal = (len(rows(folder)) if table.exists() else 0) + int(rng.integers(1, 6))
                if kills < 24:
                    wait_for(lambda table=table, goal=goal: table.exists() and len(rows(folder)) >= goal, process)
                    time.sleep(rng.uniform(0, 0.03))  # anywhere in an epoch: a step, a write, a rename
                    process.kill()
                    kills += 1
                    continue
                assert process.wait(timeout=120) == 0, process.stderr.read()
                break
            finally:
                process.kill()
    assert kills >= 20
    assert run(*flags, "--out", whole).returncode == 0
    assert_equal_runs(folder, whole)


# What can go wrong


def test_a_folder_that_holds_a_run_is_not_overwritten(finished, digits):
    folder, _ = finished
    before = (folder / "losses.csv").read_bytes()
    process = run_here("--data-dir", digits, "--epochs", 1, "--out", folder)
    assert process.returncode == 2
    assert process.stderr == (
        f"mnist.py: error: {folder} holds a run already, with its losses.csv; go on with it by --resume, discard it by "
        "--overwrite, or name another folder with --out\n"
    )
    assert (folder / "losses.csv").read_bytes() == before


def test_somebody_elses_model_in_the_folder_is_not_overwritten(digits, tmp_path):
    (tmp_path / "model.npz").write_bytes(b"precious")
    process = run_here("--data-dir", digits, "--epochs", 1, "--out", tmp_path)
    assert process.returncode == 2
    assert "holds a run already, with its model.npz" in process.stderr
    assert files(tmp_path) == {"model.npz"}
    assert (tmp_path / "model.npz").read_bytes() == b"precious"


def test_training_that_diverges_is_one_sentence_and_keeps_the_last_whole_epoch(digits, tmp_path):
    process = run_here("--data-dir", digits, "--prior-std", 1e38, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run")
    assert process.returncode == 1
    assert re.fullmatch(
        r"mnist\.py: error: training diverged: in epoch 1, step \d, the discriminator loss was (nan|inf); .*\n", process.stderr
    )
    assert process.stdout.splitlines()[-1].endswith(f"Stopped after 0 epochs. Results are in {tmp_path / 'run'}")
    assert npaae.AdversarialAutoencoder.load(tmp_path / "run" / "model.npz").epoch == 0


def test_settings_that_matplotlib_refuses_are_one_sentence_before_training(digits, tmp_path):
    process = run("--data-dir", digits, "--out", tmp_path / "run", env=os.environ | {"MPLBACKEND": "nonsense"})
    assert process.returncode == 1
    assert process.stderr.startswith("mnist.py: error: matplotlib cannot be used: Key backend: 'nonsense'")
    assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_users_matplotlib_style_does_not_change_the_pictures(finished, digits, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\nfigure.facecolor: black\n")
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    folder = tmp_path / "run"
    process = run("--data-dir", digits, "--epochs", 3, "--hidden", 32, 16, "--out", folder, env=environment)
    assert process.returncode == 0, process.stderr
    assert (folder / "losses.png").read_bytes() == (finished[0] / "losses.png").read_bytes()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file", "file is a file, where a folder is wanted; name another with --out"),
        ("file/run", r"file/run cannot be made \(Not a directory\); name another folder with --out"),
        ("sealed/run", r"sealed/run/model.npz cannot be written \(.*\); make room or the folder writable, or name another"),
    ],
)
def test_a_results_folder_that_cannot_be_had_is_one_sentence_before_training(digits, tmp_path, out, says):
    (tmp_path / "file").touch()
    (tmp_path / "sealed" / "run").mkdir(parents=True)
    no_new_files = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    process = run(
        "--data-dir", digits, "--out", tmp_path / out, preexec_fn=lambda: exec(no_new_files) if "sealed" in out else None
    )
    assert process.returncode == 1
    assert re.fullmatch(rf"mnist\.py: error: {tmp_path}/{says}\n", process.stderr)


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_the_last_whole_epoch_to_go_on_from(digits, tmp_path):
    folder = tmp_path / "run"
    arguments = command("--data-dir", digits, "--epochs", 100_000, "--hidden", 32, "--out", folder)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: (folder / "losses.csv").exists() and len(rows(folder)) >= 3, process)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, 10))  # no file may grow beyond ten bytes
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert re.fullmatch(
        rf"mnist\.py: error: {folder}/\S+ cannot be written \(File too large\); what it held before is whole; make room .*\n",
        err,
    )
    epoch = npaae.AdversarialAutoencoder.load(folder / "model.npz").epoch
    assert epoch >= 2  # the third row's model may have been the first not to fit
    assert run("--resume", "--epochs", epoch + 1, "--out", folder).returncode == 0
    assert npaae.AdversarialAutoencoder.load(folder / "model.npz").epoch == epoch + 1
    assert not [name for name in files(folder) if name.endswith(".partial")]


# When to draw


class Clock:
    """Time that passes only when told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(experiment.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize("epoch_seconds", [0.2, 3.0, 40.0])
def test_at_most_a_tenth_of_the_time_goes_into_figures_however_long_an_epoch(monkeypatch, tmp_path, epoch_seconds):
    clock, drawn = Clock(monkeypatch), []
    run = a_run(tmp_path / "run")
    monkeypatch.setattr(run, "_write_figures", lambda: (drawn.append(clock.now), setattr(clock, "now", clock.now + 1.1)))
    monkeypatch.setattr(run, "save", lambda: None)
    monkeypatch.setattr(run, "_write_losses", lambda history: None)
    while clock.now < 400:
        clock.now += epoch_seconds
        run.record(a_record(len(run.history) + 1))
    run.draw()
    assert 1.1 * len(drawn) <= 0.1 * clock.now
    assert len(drawn) > 0.4 * min(0.1 * clock.now / 1.1, clock.now / epoch_seconds)


def test_the_last_epoch_is_drawn_once(monkeypatch, tmp_path):
    clock, drawn = Clock(monkeypatch), []
    run = a_run(tmp_path / "run", epochs=2)
    monkeypatch.setattr(run, "_write_figures", lambda: drawn.append(len(run.history)))
    for epoch in (1, 2):
        clock.now += 1000
        run.record(a_record(epoch))
    run.draw()
    assert drawn == [1, 2]


def test_the_summary_tells_the_time_and_how_much_of_it_went_into_drawing(monkeypatch, tmp_path, capsys):
    clock = Clock(monkeypatch)
    with a_run(tmp_path / "run", epochs=1) as run:
        monkeypatch.setattr(run, "_write_figures", lambda: setattr(clock, "now", clock.now + 2.5))
        clock.now += 60
        run.record(a_record(1))
        run.draw()
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 epoch in 62 s, 2.5 s of it drawing. ")


# Looking at a run again


def test_evaluating_a_run_prints_its_measures_and_leaves_the_folder_as_it_was(finished):
    folder, _ = finished
    before = {path: path.read_bytes() for path in folder.iterdir()}
    process = run_here("--evaluate", "--out", folder)
    assert (process.returncode, process.stderr) == (0, "")
    first, *rows_ = process.stdout.splitlines()
    assert first.startswith(f"The run of mnist in {folder} after 3 epochs, on MNIST from ")
    assert [row[:30].strip() for row in rows_] == [
        "reconstruction, BCE a pixel", "codes' mean", "codes' covariance", "energy distance to the prior",
        "10-nearest-neighbour accuracy", "Parzen log-likelihood", "of training images instead",
    ]  # fmt: skip
    assert rows_[0].split()[-2:] == [f"{float(rows(folder)[-1]['test_reconstruction']):.4f}", "nats"]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_is_reopened_with_its_model_and_its_data(finished, digits):
    folder, _ = finished
    name, model, dataset = experiment.reopen(folder)
    assert (name, model.epoch, dataset.source) == ("mnist", 3, f"MNIST from {digits}")


def test_a_run_on_the_sample_is_reopened_without_being_told(tmp_path):
    process = run_here("--sample", "--epochs", 1, "--hidden", 4, "--batch-size", 1000, "--out", tmp_path)
    assert process.returncode == 0
    assert experiment.reopen(tmp_path)[2].source == "the bundled sample of MNIST"


def test_a_run_is_reopened_with_its_own_data_or_none(finished, tmp_path):
    folder, _ = finished
    write_set(tmp_path)
    with pytest.raises(InvalidInput, match="with other content; name that data again, or name another folder"):
        experiment.reopen(folder, tmp_path)


def test_a_run_whose_name_is_none_of_the_examples_is_damaged(finished, tmp_path):
    config = json.loads((finished[0] / "config.json").read_text()) | {"name": "cifar"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadFile, match="its name is 'cifar'"):
        experiment.reopen(tmp_path)


def test_a_run_whose_data_folder_is_no_name_is_damaged(finished, tmp_path):
    config = json.loads((finished[0] / "config.json").read_text())
    config["flags"]["data_dir"] = 5
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadFile, match="its data_dir 5"):
        experiment.reopen(tmp_path)


def test_a_folder_with_files_of_two_runs_is_not_reopened(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    npaae.AdversarialAutoencoder(hidden=4).save(folder / "model.npz")
    with pytest.raises(BadFile, match=r"its model\.npz and its config\.json are of two runs"):
        experiment.reopen(folder)


def test_a_run_of_the_first_format_is_resumed(finished, digits, tmp_path):
    """Its configuration named neither the prior nor the classes."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    config = json.loads((folder / "config.json").read_text())
    del config["model"]["classes"], config["model"]["prior"]["name"]
    (folder / "config.json").write_text(json.dumps(config))
    assert run_here("--resume", "--epochs", 4, "--out", folder).returncode == 0
    assert len(rows(folder)) == 4
