import csv
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import npaae
from npaae import experiment
from npaae.errors import InvalidInput, Unavailable

from .test_data import STEMS, write_set

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FIGURES = {f"{name}.png" for name in ("losses", "samples", "manifold", "latent", "reconstructions")}
FILES = FIGURES | {"losses.csv", "model.npz", "config.json"}
HEADER = (
    "epoch,reconstruction,discriminator,generator,test_reconstruction,code_mean_0,code_mean_1,code_std_0,code_std_1,seconds"
)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with the first few hundred images of the bundled sample, as a user's own data set."""
    sample, folder = npaae.data.mnist_sample(), tmp_path_factory.mktemp("digits")
    arrays = (sample.train_images[:300], sample.train_labels[:300], sample.test_images[:100], sample.test_labels[:100])
    names = ("train_images", "train_labels", "t10k_images", "t10k_labels")
    write_set(folder, **dict(zip(names, arrays, strict=True)))
    assert {path.name for path in folder.iterdir()} == {f"{stem}.gz" for stem in STEMS}
    return folder


def command(*arguments, example="mnist.py"):
    return [sys.executable, str(EXAMPLES / example), *map(str, arguments)]


def run(*arguments, example="mnist.py", **options):
    return subprocess.run(command(*arguments, example=example), capture_output=True, text=True, timeout=120, **options)


def files(folder):
    return {path.name for path in folder.iterdir()}


def rows(folder):
    with open(folder / "losses.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """A finished run of the example on a few hundred images: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("out") / "run"
    return folder, run("--data-dir", digits, "--epochs", 3, "--hidden", 32, 16, "--out", folder)


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
    assert config["model"]["prior"] == {"std": 5.0}
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
    process = run("--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", tmp_path / "run", example="fashion_mnist.py")
    assert process.returncode == 0, process.stderr
    assert files(tmp_path / "run") == FILES
    assert "Training on Fashion-MNIST" in process.stdout


def test_every_flag_is_taken(digits, tmp_path):
    process = run(
        "--epochs", 1, "--batch-size", 50, "--hidden", 16, "--latent", 3, "--prior-std", 2.5, "--lr-reconstruction", 1e-3,
        "--lr-regularization", 2e-4, "--seed", 7, "--backend", "auto", "--dtype", "float64", "--data-dir", digits,
        "--out", tmp_path / "run", "--no-progress",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    expected = {
        "hidden": [16], "latent": 3, "visible": 784, "prior": {"std": 2.5}, "dropout": 0.25, "discriminator_dropout": 0.2,
        "lr_reconstruction": 1e-3, "lr_regularization": 2e-4, "dtype": "float64", "seed": 7,
    }  # fmt: skip
    assert config["model"] == expected
    assert config["flags"]["batch_size"] == 50
    mine = npaae.data.mnist(digits)
    model = npaae.AdversarialAutoencoder(**(expected | {"prior": npaae.priors.gaussian(std=2.5)}))
    (record,) = npaae.train(model, mine.train_images, epochs=1, batch_size=50)
    assert float(rows(tmp_path / "run")[0]["reconstruction"]) == pytest.approx(record.reconstruction, abs=1e-6)
    assert "code_std_2" in rows(tmp_path / "run")[0]


def test_without_out_new_folders_are_made_one_after_the_other(digits, tmp_path):
    for _ in range(2):
        run("--data-dir", digits, "--epochs", 1, "--hidden", 8, cwd=tmp_path)
    assert files(tmp_path / "runs") == {"mnist-1", "mnist-2"}
    assert files(tmp_path / "runs" / "mnist-2") == FILES


def test_the_flags_defaults_are_the_reports(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    assert vars(experiment.parse_flags(None, epochs=100, sample=True)) == {
        "epochs": 100, "batch_size": 100, "hidden": [256, 128], "latent": 2, "prior_std": 5.0, "lr_reconstruction": 5e-4,
        "lr_regularization": 1e-4, "seed": 0, "backend": "numpy", "dtype": "float32", "data_dir": None, "sample": False,
        "out": None, "no_progress": False,
    }  # fmt: skip


def on_a_terminal(*arguments):
    """What a run shows on a terminal."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 160))
    with subprocess.Popen(command(*arguments), stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(controller, 4096):
                shown += piece
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(controller)
    assert process.returncode == 0
    return shown.decode()


def test_on_a_terminal_a_bar_shows_epoch_losses_and_time_left(digits, tmp_path):
    text = on_a_terminal("--data-dir", digits, "--epochs", 3, "--hidden", 8, "--out", tmp_path / "run")
    assert re.search(r"3/3 \[\d\d:\d\d<\d\d:\d\d,.*reconstruction 0\.\d{4}  discriminator \d\.\d{4}  generator", text), text
    assert "epoch 1/3" not in text


def test_no_progress_is_lines_on_a_terminal_too(digits, tmp_path):
    text = on_a_terminal("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run", "--no-progress")
    assert "epoch 2/2  reconstruction" in text
    assert "it/s" not in text
    assert "%|" not in text


# Stopping


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not get that far in a minute"
        time.sleep(0.02)


def heed_interrupts():
    """A shell that starts the tests in the background makes their children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(folder, digits, after_rows):
    arguments = command("--data-dir", digits, "--epochs", 100_000, "--hidden", 32, "--out", folder)
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            started = folder / "losses.csv"
            wait_for(lambda: started.exists() and started.read_text().count("\n") > after_rows, process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()  # lest a run that did not stop outlive the test
    return process.returncode, out, err


def test_ctrl_c_draws_once_more_says_where_things_are_and_exits_130(digits, tmp_path):
    folder = tmp_path / "run"
    status, out, err = interrupted(folder, digits, after_rows=3)
    assert (status, err) == (130, "")
    assert files(folder) == FILES
    assert re.search(rf"Stopped after \d+ epochs\. Results are in {folder}$", out.strip())
    model = npaae.AdversarialAutoencoder.load(folder / "model.npz")
    assert model.epoch == len(rows(folder)) >= 3
    assert np.isfinite(model.theta).all()


@pytest.mark.slow
@pytest.mark.parametrize("after_rows", [1, 2, 5, 9, 14])
def test_whenever_ctrl_c_comes_the_files_are_whole_and_of_one_epoch(digits, tmp_path, after_rows):
    status, _, err = interrupted(tmp_path / "run", digits, after_rows)
    assert (status, err) == (130, "")
    assert files(tmp_path / "run") == FILES
    assert npaae.AdversarialAutoencoder.load(tmp_path / "run" / "model.npz").epoch == len(rows(tmp_path / "run"))


@pytest.fixture
def python_handles_interrupts():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("python_handles_interrupts")
def test_an_interrupt_waits_for_the_end_of_a_block_that_must_not_be_cut():
    done = []

    def block():
        with experiment._uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("the whole block")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the whole block"]


# What a user can do wrong


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--epochs", "0"], "argument --epochs: '0' came, a whole number of at least 1 is wanted"),
        (["--epochs", "many"], "'many' came"),
        (["--batch-size", "-5"], "argument --batch-size: '-5' came"),
        (["--hidden", "256", "x"], "argument --hidden: 'x' came"),
        (["--prior-std", "nan"], "'nan' came, a positive, finite number is wanted"),
        (["--prior-std", "1e300", "--sample"], "prior=gaussian(std=1e+300) came"),
        (["--lr-reconstruction", "1e30"], "'1e30' came, a number above 0 and at most 1 is wanted"),
        (["--lr-regularization", "0"], "'0' came, a number above 0"),
        (["--hidden", "1000000000", "--sample"], "more than memory can hold"),
        (["--latent", "100000000000", "--sample"], "more than memory can hold"),
        (["--seed", "-1"], "'-1' came, a whole number of at least 0"),
        (["--dtype", "float16"], "invalid choice: 'float16'"),
        (["--sample", "--data-dir", "."], "not allowed with argument --sample"),
        (["--frobnicate"], "unrecognized arguments"),
    ],
)
def test_a_bad_flag_is_one_sentence_and_status_2(flags, says):
    process = run(*flags)
    assert process.returncode == 2
    assert says in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_a_folder_that_holds_a_run_is_not_overwritten(finished, digits):
    folder, _ = finished
    before = (folder / "losses.csv").read_bytes()
    process = run("--data-dir", digits, "--epochs", 1, "--out", folder)
    assert process.returncode == 2
    assert process.stderr == (
        f"mnist.py: error: {folder} holds a run already, with its losses.csv; name another folder with --out\n"
    )
    assert (folder / "losses.csv").read_bytes() == before


def test_somebody_elses_model_in_the_folder_is_not_overwritten(digits, tmp_path):
    (tmp_path / "model.npz").write_bytes(b"precious")
    process = run("--data-dir", digits, "--epochs", 1, "--out", tmp_path)
    assert process.returncode == 2
    assert "holds a run already, with its model.npz" in process.stderr
    assert files(tmp_path) == {"model.npz"}
    assert (tmp_path / "model.npz").read_bytes() == b"precious"


def test_training_that_diverges_is_one_sentence_and_keeps_the_last_whole_epoch(digits, tmp_path):
    process = run("--data-dir", digits, "--prior-std", 1e38, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run")
    assert process.returncode == 1
    assert re.fullmatch(
        r"mnist\.py: error: training diverged: in epoch 1, step \d, the discriminator loss was (nan|inf); .*\n", process.stderr
    )
    assert process.stdout.splitlines()[-1] == f"Stopped after 0 epochs. Results are in {tmp_path / 'run'}"
    assert npaae.AdversarialAutoencoder.load(tmp_path / "run" / "model.npz").epoch == 0


def test_running_out_of_memory_is_one_sentence(monkeypatch, capsys):
    def main():
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    with pytest.raises(SystemExit, match="1"):
        experiment.launch(main)
    assert capsys.readouterr().err == (
        "mnist.py: error: out of memory (Unable to allocate 3 TiB); make --hidden, --latent or --batch-size smaller\n"
    )


def test_settings_that_matplotlib_refuses_are_one_sentence_before_training(digits, tmp_path):
    process = run("--data-dir", digits, "--out", tmp_path / "run", env=os.environ | {"MPLBACKEND": "nonsense"})
    assert process.returncode == 1
    assert process.stderr.startswith("mnist.py: error: matplotlib cannot be used: Key backend: 'nonsense'")
    assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_users_matplotlib_style_does_not_change_the_pictures(finished, digits, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\nfigure.facecolor: black\n")
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    folder = tmp_path / "run"
    process = run("--data-dir", digits, "--epochs", 3, "--hidden", 32, 16, "--out", folder, env=environment)
    assert process.returncode == 0, process.stderr
    assert (folder / "losses.png").read_bytes() == (finished[0] / "losses.png").read_bytes()


def test_a_terminal_that_knows_few_characters_and_a_closed_stderr_are_no_reason_to_stop(digits, tmp_path):
    odd = tmp_path / "größe-σ"
    arguments = ["--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", odd]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    shell = f"exec {shlex.join(command(*arguments))} 2>&-"
    process = subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE, text=True, timeout=120, env=ascii_only)
    assert process.returncode == 0
    assert files(odd) == FILES


def test_a_data_folder_without_data_is_one_sentence(tmp_path):
    process = run("--data-dir", tmp_path, "--out", tmp_path / "run")
    assert process.returncode == 1
    assert re.fullmatch(r"mnist\.py: error: .* has no train-images-idx3-ubyte\[\.gz\]; name a folder .*\n", process.stderr)
    assert not (tmp_path / "run").exists()


def test_a_results_folder_that_cannot_be_made_is_one_sentence(digits, tmp_path):
    (tmp_path / "file").touch()
    process = run("--data-dir", digits, "--out", tmp_path / "file" / "run")
    assert process.returncode == 1
    assert re.fullmatch(r"mnist\.py: error: .*file/run'\n", process.stderr)


def test_cupy_where_there_is_none_is_one_sentence_that_says_what_to_install(digits, tmp_path):
    hidden = (
        "import sys, runpy; sys.modules['cupy'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], {}, '__main__')"
    )
    arguments = [
        sys.executable,
        "-c",
        hidden,
        *command("--backend", "cupy", "--data-dir", digits, "--out", tmp_path / "run")[1:],
    ]
    process = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert "pip install" in process.stderr
    assert len(process.stderr.splitlines()) == 1


# The data, when it cannot be had


def flags(**values):
    return SimpleNamespace(**{"sample": False, "data_dir": None} | values)


def unavailable(_):
    raise Unavailable("MNIST cannot be downloaded: tried nothing; name a folder with --data-dir")


def test_without_the_full_set_one_line_says_that_the_sample_is_used_why_and_how_to_get_the_rest(monkeypatch, capsys):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    assert len(experiment.mnist(flags()).train_images) == 10_000
    assert capsys.readouterr().err == (
        "Training on the bundled sample of 10,000 digits: MNIST cannot be downloaded: tried nothing; "
        "name a folder with --data-dir\n"
    )


def test_the_sample_never_stands_in_for_a_folder_that_was_named(monkeypatch, tmp_path):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    with pytest.raises(Unavailable):
        experiment.mnist(flags(data_dir=tmp_path))


def test_with_sample_the_full_set_is_not_looked_for(monkeypatch):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    assert len(experiment.mnist(flags(sample=True)).train_images) == 10_000


# When to draw


class Clock:
    """Time that passes only when told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(experiment.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize("epoch_seconds", [0.2, 3.0, 40.0])
def test_at_most_a_tenth_of_the_time_goes_into_figures_however_long_an_epoch(monkeypatch, tmp_path, epoch_seconds):
    clock, drawn = Clock(monkeypatch), []
    model = npaae.AdversarialAutoencoder(hidden=(4,))
    run = experiment.Run("mnist", SimpleNamespace(out=tmp_path / "run", epochs=10**9), model, npaae.data.mnist_sample())
    monkeypatch.setattr(run, "_write_figures", lambda: (drawn.append(clock.now), setattr(clock, "now", clock.now + 1.1)))
    monkeypatch.setattr(run, "save", lambda: None)
    monkeypatch.setattr(run, "_write_losses", lambda: None)
    while clock.now < 400:
        clock.now += epoch_seconds
        run.record(npaae.Record(len(run.history) + 1, 0.2, 1.3, 0.8, 0.2, (0.0, 0.0), (5.0, 5.0), epoch_seconds))
    run.draw()
    assert 1.1 * len(drawn) <= 0.1 * clock.now
    assert len(drawn) > 0.4 * min(0.1 * clock.now / 1.1, clock.now / epoch_seconds)


def test_the_last_epoch_is_drawn_once(monkeypatch, tmp_path):
    clock, drawn = Clock(monkeypatch), []
    flags = SimpleNamespace(out=tmp_path / "run", epochs=2)
    run = experiment.Run("mnist", flags, npaae.AdversarialAutoencoder(hidden=(4,)), npaae.data.mnist_sample())
    monkeypatch.setattr(run, "_write_figures", lambda: drawn.append(len(run.history)))
    for epoch in (1, 2):
        clock.now += 1000
        run.record(npaae.Record(epoch, 0.2, 1.3, 0.8, 0.2, (0.0, 0.0), (5.0, 5.0), 1000))
    run.draw()
    assert drawn == [1, 2]


def test_a_run_may_be_kept_by_another_thread_than_the_first():
    done = []

    def work():
        with experiment._uninterrupted():
            done.append("kept")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["kept"]


def test_a_folder_with_a_run_is_refused_before_anything_is_written(finished):
    folder, _ = finished
    with pytest.raises(InvalidInput, match="holds a run already"):
        experiment.Run("mnist", SimpleNamespace(out=folder), npaae.AdversarialAutoencoder(), None)
