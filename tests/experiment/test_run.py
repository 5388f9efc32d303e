"""The folder of a run: what it holds, that nothing is lost however it ends, how it continues."""

import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import npaae
from npaae import BadFile, CannotWrite, Diverged, InvalidInput
from npaae.experiment import Run, check_run, import_plots, read_history, reopen

from .. import running
from ..idx_files import write_set
from ..running import (
    FILES,
    SIGNALS,
    alter_config,
    assert_equal_runs,
    assert_refused,
    files,
    rows,
    run,
    run_here,
)


def saved_model(folder):
    return npaae.AdversarialAutoencoder.load(folder / "model.npz")


def a_run(folder, **options):
    """A run in this process, of a small model on the bundled sample."""
    model, sample = npaae.AdversarialAutoencoder(hidden=(4,)), npaae.data.mnist_sample()
    return Run(folder, "MNIST", model, sample, epochs=10**9, batch_size=100, **options)


def a_record(epoch):
    return npaae.Record(epoch, 0.2, 1.3, 0.8, 0.2, (0.0, 0.0), (5.0, 5.0), 1.0)


@pytest.fixture
def ctrl_c():
    """Python's own handling of Ctrl-C, even if the tests run in the background of a shell."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


# What a run leaves behind


def test_a_run_leaves_every_file_and_nothing_else(finished):
    folder, process = finished
    assert (process.returncode, process.stderr) == (0, "")
    assert files(folder) == FILES
    for name in running.FIGURES:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5_000


def test_the_losses_are_the_records_of_training_column_by_column(finished, digits):
    mine, table = npaae.data.mnist(digits), rows(finished[0])
    codes = ["code_mean_0", "code_mean_1", "code_std_0", "code_std_1"]
    assert [*table[0]] == [*npaae.Record._fields[:5], *codes, "seconds"]
    model = npaae.AdversarialAutoencoder(hidden=(32, 16))
    records = npaae.train(model, mine.train_images, test_images=mine.test_images, epochs=3)
    for row, record in zip(table, records, strict=True):
        expected = (*record[:5], *record.code_mean, *record.code_std)
        assert [float(value) for value in row.values()][:-1] == pytest.approx(expected, abs=5e-7)
        assert float(row["seconds"]) > 0


def test_the_model_is_the_one_that_was_trained_and_the_configuration_is_its_own(finished, digits):
    config, model = json.loads((finished[0] / "config.json").read_text()), saved_model(finished[0])
    assert (config["name"], config["epochs"], config["batch_size"]) == ("digits", 3, 100)
    assert (model.epoch, model.config["hidden"]) == (3, (32, 16))
    assert config["model"] == json.loads(json.dumps(model.config))
    assert (config["data"], config["data_dir"]) == (f"digits from {digits}", str(digits))
    assert (config["train_images"], config["test_images"]) == (300, 100)
    assert config["versions"]["numpy"] == np.__version__


def test_a_log_says_where_the_results_are_and_has_one_line_per_epoch(finished):
    first, *epochs, last = finished[1].stdout.splitlines()
    assert first.endswith(f"300 images, 100 to test, 10 labels. Results go to {finished[0]}")
    pattern = r"epoch \d/3  reconstruction 0\.\d{4}  discriminator \d\.\d{4}  generator \d.*"
    assert [bool(re.fullmatch(pattern, line)) for line in epochs] == [True] * 3
    drawing = r"3 epochs in \d+\.\d s, \d+\.\d s of it drawing\. Results are in .*"
    assert re.fullmatch(drawing, last)


def test_without_a_folder_new_ones_are_made_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mnist-1").mkdir(parents=True)
    for number in (2, 3):
        with a_run(None) as run:
            assert run.folder.name == f"mnist-{number}"


BAR = r"2/2 \[\d\d:\d\d<\d\d:\d\d,.*, R 0\.\d{4}  D \d\.\d{4}  G \d\.\d{4}\]"


@running.posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "size", "shows", "hides"),
    [
        ([], (24, 80), BAR, "epoch 1/2"),
        (["--no-progress"], (24, 80), "epoch 2/2  rec", "%|"),
        ([], (0, 0), "epoch 2/2  rec", "%|"),
    ],
)
def test_a_terminal_shows_a_bar_unless_lines_are_wanted_or_it_has_no_size(
    digits, tmp_path, flags, size, shows, hides
):
    small = ("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run")
    text = running.on_a_terminal(*small, *flags, size=size)
    assert re.search(shows, text), text
    assert hides not in text


@running.posix
def test_a_log_has_its_lines_even_if_the_bar_is_on_a_terminal(tmp_path, monkeypatch, capsys):
    import termios

    controller, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with open(terminal, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with a_run(tmp_path) as run:
            list(run.progress([a_record(1)]))
        shown = os.read(controller, 4096).decode()
    os.close(controller)
    assert "R 0.20" in shown
    assert "epoch 1/1000000000  reconstruction" in capsys.readouterr().out


def test_a_notebook_shows_a_bar_and_no_lines(tmp_path, monkeypatch):
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, notebook())
    with a_run(tmp_path) as run:
        list(run.progress([a_record(1)]))
    assert "R 0.2000" in sys.stderr.getvalue()
    assert "epoch 1/" not in sys.stdout.getvalue()


# Stopping


@running.posix
@pytest.mark.parametrize("number", SIGNALS)
def test_ctrl_c_sigterm_and_sighup_draw_once_more_and_say_how_to_continue(
    digits, tmp_path, monkeypatch, number
):
    folder, record = tmp_path / "run", Run.record

    def record_and_stop(run, row):
        record(run, row)
        if row.epoch == 3:
            assert signal.getsignal(number) is not signal.SIG_DFL
            signal.raise_signal(number)

    monkeypatch.setattr(Run, "record", record_and_stop)
    process = run_here("--data-dir", digits, "--hidden", 32, "--out", folder)
    assert (process.returncode, process.stderr) == (128 + number, "")
    assert files(folder) == FILES
    *_, advice, last = process.stdout.splitlines()
    done = f"Stopped after 3 epochs. Results are in {folder}; "
    assert advice == f"{done}continue with --resume --out {folder}"
    assert last == "Drawing the last whole epoch"
    assert saved_model(folder).epoch == len(rows(folder)) == 3


@running.posix
@pytest.mark.slow
@pytest.mark.parametrize("after_rows", [1, 2, 5, 9, 14])
def test_whenever_ctrl_c_comes_the_files_are_whole_and_of_one_epoch(digits, tmp_path, after_rows):
    status, _, err = running.stopped(tmp_path / "run", digits, after_rows)
    assert (status, err) == (130, "")
    assert files(tmp_path / "run") == FILES
    assert saved_model(tmp_path / "run").epoch == len(rows(tmp_path / "run"))


@pytest.fixture
def sketched(monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", running.sketch)


@pytest.mark.usefixtures("sketched")
def test_ctrl_c_draws_the_saved_model_not_one_in_the_middle_of_a_step(tmp_path):
    run = a_run(tmp_path)
    saved = run.model.theta.copy()

    with suppress(KeyboardInterrupt), run:
        run.model.theta[:] = 7
        raise KeyboardInterrupt
    assert files(tmp_path) == FILES
    np.testing.assert_array_equal(run.model.theta, saved)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_between_an_epochs_two_files_waits_for_both(monkeypatch, tmp_path):
    with a_run(tmp_path) as run:
        save = run.model.save

        def interrupted_save(path):
            assert len(rows(tmp_path)) == 1
            signal.raise_signal(signal.SIGINT)
            save(path)

        monkeypatch.setattr(run.model, "save", interrupted_save)
        run.model.epoch = 1
        with pytest.raises(KeyboardInterrupt):
            run.record(a_record(1))
    assert saved_model(tmp_path).epoch == len(rows(tmp_path)) == len(run.history) == 1


@running.posix
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, None])
def test_a_pipe_whose_reader_has_gone_keeps_nobody_from_drawing(digits, tmp_path, number):
    folder = tmp_path / "run"
    line = ("--data-dir", digits, "--epochs", 10**5, "--hidden", 32, "--out", folder)
    with running.started(*line) as process:  # as in `mnist.py | tee log`
        running.wait_for(lambda: len(rows(folder)) >= 2, process)
        process.send_signal(signal.SIGSTOP)
        process.stdout.close()
        if number:  # Ctrl-C reaches both programs
            process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        err = process.stderr.read()
        assert process.wait(timeout=300) == (130 if number else 1)
    assert files(folder) == FILES
    advice, *error = err.splitlines()
    assert advice.endswith(f"continue with --resume --out {folder}")
    assert len(error) == (0 if number else 1)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_figures_are_drawn_waits_for_the_last_of_them(tmp_path):
    class Figure:
        def savefig(self, file, **_):
            signal.raise_signal(signal.SIGINT)
            file.write(b"drawn")

    with a_run(tmp_path, figures=lambda run: {"a.png": Figure(), "b.png": Figure()}) as run:
        with pytest.raises(KeyboardInterrupt):
            run.draw()
        assert {path.name for path in tmp_path.glob("?.png")} == {"a.png", "b.png"}


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_waits_until_the_last_whole_epoch_is_drawn(tmp_path, monkeypatch):
    kind, load = npaae.AdversarialAutoencoder, npaae.AdversarialAutoencoder.load

    def interrupted_load(path, **options):
        signal.raise_signal(signal.SIGINT)
        return load(path, **options)

    class Figure:
        def savefig(self, file, **_):
            file.write(b"drawn")

    with (
        suppress(KeyboardInterrupt),
        a_run(tmp_path, figures=lambda run: {"a.png": Figure()}) as run,
    ):
        run.model.epoch = 1
        run.record(a_record(1))
        monkeypatch.setattr(kind, "load", interrupted_load)
        raise KeyboardInterrupt
    assert (tmp_path / "a.png").read_bytes() == b"drawn"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_matplotlibs_import(monkeypatch):
    monkeypatch.delitem(sys.modules, "npaae.plots", raising=False)
    monkeypatch.delattr(npaae, "plots", raising=False)

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "npaae.plots":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(KeyboardInterrupt):
        import_plots()
    assert hasattr(sys.modules["npaae.plots"], "losses")


def test_an_epoch_that_could_not_be_saved_is_not_counted(monkeypatch, tmp_path, capsys):
    def fail(path):
        raise CannotWrite("full")

    with suppress(CannotWrite), a_run(tmp_path) as run:
        monkeypatch.setattr(run.model, "save", fail)
        run.record(a_record(1))
    assert capsys.readouterr().out.splitlines()[-1].endswith("nothing is kept")
    assert files(tmp_path) == set()


def test_an_epoch_whose_model_could_not_be_saved_is_computed_again(monkeypatch, tmp_path):
    def fail(path):
        raise CannotWrite("full")

    with suppress(CannotWrite), a_run(tmp_path) as run:
        for epoch in (1, 2):
            run.model.epoch = epoch
            run.model.theta += 1
            run.record(a_record(epoch))
            monkeypatch.setattr(run.model, "save", fail)
    assert len(rows(tmp_path)) == 2
    model = saved_model(tmp_path)
    check_run(tmp_path, model, run.dataset)
    assert [record.epoch for record in read_history(tmp_path, model)] == [1]


def test_a_disk_with_room_for_one_model_alone_is_refused_before_training(monkeypatch, tmp_path):
    def fail(path):
        raise CannotWrite("full")

    run = a_run(tmp_path)
    monkeypatch.setattr(run.model, "save", fail)
    with pytest.raises(CannotWrite), run:
        pytest.fail("it has begun")


def test_a_figure_that_could_not_be_drawn_leaves_the_old_one(tmp_path):
    class Figure:
        def savefig(self, file, **_):
            if not (tmp_path / "a.png").exists():
                file.write(b"whole")
                return
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with suppress(OSError), a_run(tmp_path, figures=lambda run: {"a.png": Figure()}) as run:
        run.draw()
        run.draw()
        pytest.fail("it has drawn")
    assert (tmp_path / "a.png").read_bytes() == b"whole"


def test_a_run_that_diverged_is_not_advised_to_continue(tmp_path, capsys):
    with suppress(Diverged), a_run(tmp_path) as run:
        run.record(a_record(1))
        raise Diverged("a loss is not finite")
    assert "Stopped after 1 epoch" in (said := "".join(capsys.readouterr()))
    assert "--resume" not in said


def test_a_history_has_the_losses_of_every_phase(tmp_path):
    model = npaae.CategoricalAutoencoder(hidden=(4,), categories=2, latent=1)
    code = (0.0,) * model.code_size
    record = npaae.Record(1, 0.2, 1.3, 0.8, 0.2, code, code, 1.0, 0.5, -0.25)
    options = {"epochs": 2, "batch_size": 100, "figures": lambda run: {}}
    with Run(tmp_path, "MNIST", model, npaae.data.mnist_sample(), **options) as run:
        model.epoch = 1
        run.record(record)
    assert read_history(tmp_path, model) == [record]


@pytest.mark.parametrize("name", npaae.data.Dataset._fields[:4])
def test_data_that_differ_in_any_array_are_other_data(name, tmp_path):
    sample = npaae.data.mnist_sample()
    other = sample._replace(**{name: getattr(sample, name)[::-1]})
    with a_run(tmp_path) as run:
        run.record(a_record(1))
    with pytest.raises(InvalidInput, match="not the same data"):
        Run(tmp_path, "MNIST", run.model, other, epochs=9, batch_size=100, resume=True).__enter__()


@pytest.mark.parametrize("existed", [False, True])
def test_an_error_before_the_first_epoch_leaves_nothing_behind(tmp_path, existed):
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
        (folder / "notes").touch()
    with suppress(InvalidInput), a_run(folder) as run:
        assert (folder / "model.npz").exists()
        npaae.train(run.model, np.zeros((3, 7)))
    assert (files(folder) == {"notes"}) if existed else not folder.exists()


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 3), dtype=np.uint8)
BAD_DATA = {
    "other pixels": {"train_images": IMAGES[:, 1:]},
    "a mask": {"train_images": IMAGES // 128},
    "no test images": {"test_images": None},
    "test images of other pixels": {"test_images": IMAGES[:, 1:]},
    "test images of another shape": {"test_images": IMAGES.reshape(40, 3, 4)},
    "test images as rows": {"test_images": IMAGES.reshape(40, 12)},
    "labels of another number": {"train_labels": np.zeros(3, int)},
    "labels beyond their names": {"test_labels": np.full(40, 2)},
    "labels as text": {"train_labels": np.array(["a"] * 40)},
    "labels as floats": {"train_labels": np.zeros(40)},
}


@pytest.mark.parametrize("bad", BAD_DATA.values(), ids=BAD_DATA)
def test_data_that_do_not_fit_are_refused_before_there_is_a_folder(tmp_path, bad):
    dataset = npaae.data.dataset(IMAGES, np.arange(40) % 2, IMAGES, np.arange(40) % 2)
    model = npaae.AdversarialAutoencoder(hidden=(4,), visible=12)
    options = {"epochs": 1, "batch_size": 10}
    with (
        pytest.raises(InvalidInput),
        Run(tmp_path / "run", "mine", model, dataset._replace(**bad), **options),
    ):
        pass
    assert not (tmp_path / "run").exists()


LABELS = np.arange(40) % 2
OTHER_FORMS = {  # of the same data set
    "a channel axis": {"train_images": IMAGES[..., None], "test_images": IMAGES[..., None]},
    "a first channel axis": {"train_images": IMAGES[:, None], "test_images": IMAGES[:, None]},
    "labels in a column": {"train_labels": LABELS[:, None], "test_labels": LABELS[:, None]},
    "labels in a list": {"train_labels": LABELS.tolist(), "test_labels": LABELS.tolist()},
    "truth values": {"train_labels": LABELS == 1, "test_labels": LABELS == 1},
    "names in an array": {"label_names": np.array(["0", "1"])},
    "names as integers": {"label_names": [0, 1]},
    "a path as text": {"path": "mine.npz"},
}


@pytest.mark.parametrize("other", OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_a_run_brings_a_data_set_into_the_form_that_is_drawn_and_saved(tmp_path, other):
    dataset = npaae.data.dataset(IMAGES, LABELS, IMAGES, LABELS, path=Path("mine.npz"))
    model = npaae.AdversarialAutoencoder(hidden=(4,), visible=12)
    own = dataset._replace(**other)
    with Run(tmp_path / "run", "mine", model, own, epochs=1, batch_size=10) as run:
        for got, expected in zip(run.dataset[:4], dataset[:4], strict=True):
            np.testing.assert_array_equal(got, expected)
        assert run.dataset[4:] == dataset[4:]
        assert run.dataset.train_labels.dtype.kind in "iu"


# Continuing


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., None], (IMAGES / 255).astype(">f4")])
def test_data_that_were_put_into_an_archive_are_the_same_data(tmp_path, images):
    labels = np.arange(40) % 3 + 1
    model = npaae.AdversarialAutoencoder(hidden=(4,), visible=12)
    own = npaae.data.Dataset(images, labels, images, labels, tuple("abcd"), "mine")
    with Run(tmp_path / "run", "mine", model, own, epochs=1, batch_size=10):
        pass
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    reopen(tmp_path / "run", tmp_path / "mine.npz")


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("labels", [None, np.arange(40) % 3])
def test_a_run_of_any_data_set_is_continued_as_it_advises(tmp_path, capsys, labels):
    """With `mnist.py` and an archive of the data in memory; a shell can parse the advice."""
    folder = tmp_path / "my run"
    dataset = npaae.data.dataset(IMAGES, labels, name="mine")
    model = npaae.AdversarialAutoencoder(hidden=(4,), visible=12)
    a_run = Run(folder, "an idea", model, dataset, epochs=2, batch_size=10)
    tested = {"test_images": dataset.test_images, "epochs": 1}
    with suppress(KeyboardInterrupt), a_run as run:
        run.record(next(npaae.train(model, dataset.train_images, **tested)))
        raise KeyboardInterrupt
    advice = f"--resume --out '{folder.as_posix()}' --data-dir "
    assert advice in capsys.readouterr().out
    kinds = ("x_train", "y_train", "x_test", "y_test")
    arrays = {kind: array for kind, array in zip(kinds, dataset, strict=False) if array is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    again = (*shlex.split(advice), tmp_path / "mine.npz", "--epochs", 2)
    assert run_here(*again).returncode == 0
    assert saved_model(folder).epoch == 2
    assert files(folder) == FILES


def test_a_resumed_run_equals_one_that_never_stopped_bit_for_bit(finished, digits, tmp_path):
    folder = tmp_path / "run"
    first = run_here("--data-dir", digits, "--epochs", 1, "--hidden", 32, 16, "--out", folder)
    second = run_here("--resume", "--epochs", 3, "--out", folder, pictures=True)
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    assert second.stdout.startswith(f"Continuing after 1 epoch on digits from {digits}: ")
    assert "epoch 1/3" not in second.stdout
    assert "epoch 2/3" in second.stdout
    assert_equal_runs(folder, finished[0])


def test_resuming_a_finished_run_restores_its_figures_and_clears_what_was_half_written(
    finished, copied
):
    (copied / "samples.png").unlink()
    (copied / ".model.npz.123.partial").write_bytes(b"half")
    process = run_here("--resume", "--out", copied, pictures=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert_equal_runs(copied, finished[0])


def test_a_row_that_a_killed_run_wrote_before_its_model_is_dropped(finished, copied):
    with open(copied / "losses.csv", "a", encoding="utf-8") as file:
        file.write("4,9,9,9,9,9,9,9,9,9\n")
    assert run_here("--resume", "--out", copied).returncode == 0
    assert rows(copied) == rows(finished[0])


def test_a_run_whose_model_is_lost_is_not_silently_started_again(copied):
    (copied / "model.npz").unlink()
    process = run_here("--resume", "--out", copied)
    assert_refused(process, 1, f"{copied / 'model.npz'} cannot be used: No such file")
    assert len(rows(copied)) == 3


@running.posix
def test_two_runs_at_once_in_one_folder_are_refused(digits, tmp_path):
    folder = tmp_path / "run"
    line = ("--data-dir", digits, "--epochs", 10**5, "--hidden", 8, "--out", folder)
    with running.started(*line) as process:
        running.wait_for(lambda: (folder / "config.json").exists(), process)
        for flags in (["--resume"], ["--overwrite", "--data-dir", digits]):
            second = run_here(*flags, "--out", folder)
            assert_refused(second, 2, f"{folder} is in use by another run")
    with reopen_as_run(folder):
        pass  # free again


def reopen_as_run(folder):
    _, model, dataset = reopen(folder)
    return Run(folder, "MNIST", model, dataset, epochs=10**9, batch_size=100, resume=True)


def test_the_same_data_in_another_place_are_the_same_data(copied, digits, tmp_path):
    shutil.copytree(digits, tmp_path / "moved")
    process = run_here("--resume", "--out", copied, "--data-dir", tmp_path / "moved")
    assert (process.returncode, process.stderr) == (0, "")


def test_overwriting_discards_the_run_and_keeps_what_is_not_its_own(copied, digits):
    (copied / "notes.txt").write_text("mine")
    (copied / "explore.html").write_text("the discarded run's")
    small = ("--data-dir", digits, "--epochs", 1, "--hidden", 8)
    assert run_here("--overwrite", *small, "--out", copied).returncode == 0
    assert files(copied) == FILES | {"notes.txt"}
    assert len(rows(copied)) == 1


@running.linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "own", "expected"),
    [
        ("mnist.py", (), FILES),
        ("semi_supervised.py", ("--labels", 50), running.FILES_WITH_CATEGORIES),
    ],
)
def test_a_run_killed_twenty_times_ends_as_one_never_killed(
    digits, tmp_path, example, own, expected
):
    killed, whole, rng = tmp_path / "killed", tmp_path / "whole", np.random.default_rng(0)
    flags = ("--data-dir", digits, "--hidden", 32, 16, "--batch-size", 20, "--epochs", 200, *own)
    for kill in range(21):
        go_on = ("--resume",) if (killed / "config.json").exists() else ()
        with running.started(*flags, *go_on, "--out", killed, example=example) as process:
            if kill == 20:
                process.communicate(timeout=300)
                assert process.returncode == 0
                break
            goal = len(rows(killed)) + int(rng.integers(1, 6))
            running.wait_for(lambda goal=goal: len(rows(killed)) >= goal, process)
            time.sleep(rng.uniform(0, 0.03))  # anywhere: in a step, a write, a rename
    assert run(*flags, "--out", whole, example=example).returncode == 0
    assert_equal_runs(killed, whole, expected)


class Killed(KeyboardInterrupt):
    """Stops a run in the middle as SIGKILL would: it leaves the folder as it is."""


def killed_at_a_rename(monkeypatch, number, *flags):
    """The run is killed before the file with this number, counted from 1, is in its place."""
    renames, replace = [], os.replace

    def replace_or_kill(*paths):
        renames.append(paths)
        if len(renames) == number:
            raise Killed
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_or_kill)
        patch.setattr(Run, "__exit__", lambda run, *_: run._exit_stack.close())
        process = run_here(*flags)
    assert process.returncode == 130
    assert len(renames) == number


def first_fast(numbers):
    """All cases, of which only the first is among the fast tests."""
    first, *others = numbers
    return [first, *(pytest.param(number, marks=pytest.mark.slow) for number in others)]


SMALL = ("--epochs", 3, "--hidden", 32, 16)
AT_ITS_START = range(1, 5)  # model.npz, twice, losses.csv, config.json
IN_AN_EPOCH = range(5, 11)  # losses.csv, config.json, model.npz, of two epochs


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """The folder of a run in this process that is never killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_here("--data-dir", digits, *SMALL, "--out", folder).returncode == 0
    return folder


@pytest.mark.parametrize("number", first_fast(AT_ITS_START))
def test_a_run_killed_before_it_has_a_configuration_starts_again(
    whole, digits, tmp_path, monkeypatch, number
):
    flags = ("--data-dir", digits, *SMALL, "--out", tmp_path / "run")
    killed_at_a_rename(monkeypatch, number, *flags)
    assert_refused(run_here("--resume", "--out", tmp_path / "run"), 2, "no config.json")
    assert run_here(*flags).returncode == 0
    assert_equal_runs(tmp_path / "run", whole)


def test_a_trained_model_without_a_configuration_is_not_taken_for_a_start(tmp_path, digits):
    model = npaae.AdversarialAutoencoder(hidden=(4,))
    model.epoch = 7
    model.save(tmp_path / "model.npz")
    before = (tmp_path / "model.npz").read_bytes()
    assert_refused(run_here("--data-dir", digits, *SMALL, "--out", tmp_path), 2, "no config.json")
    assert (tmp_path / "model.npz").read_bytes() == before


@pytest.mark.parametrize("number", first_fast(IN_AN_EPOCH))
def test_a_run_killed_between_two_files_of_an_epoch_continues(
    whole, digits, tmp_path, monkeypatch, number
):
    flags = ("--data-dir", digits, *SMALL, "--out", tmp_path / "run")
    killed_at_a_rename(monkeypatch, number, *flags)
    for again in AT_ITS_START:  # and so does one that is killed once more while it continues
        killed_at_a_rename(monkeypatch, again, "--resume", "--out", tmp_path / "run")
    assert run_here("--resume", "--out", tmp_path / "run").returncode == 0
    assert_equal_runs(tmp_path / "run", whole)


@pytest.mark.parametrize("number", first_fast(AT_ITS_START))
def test_an_overwriting_run_that_is_killed_never_continues_as_the_old_one(
    copied, digits, monkeypatch, number
):
    flags = ("--data-dir", digits, *SMALL, "--batch-size", 50, "--overwrite", "--out", copied)
    killed_at_a_rename(monkeypatch, number, *flags)
    assert_refused(run_here("--resume", "--out", copied), 2, "no config.json")
    assert run_here(*flags).returncode == 0
    assert json.loads((copied / "config.json").read_text())["batch_size"] == 50
    assert saved_model(copied).reconstruction_adam.t == 3 * 6


def test_somebody_elses_files_are_not_taken_for_a_start(copied, digits):
    (copied / "config.json").unlink()
    process = run_here("--data-dir", digits, "--out", copied)
    assert_refused(process, 2, copied, "but no config.json", "--overwrite")


# A folder that changes in mid-run


def test_files_that_are_removed_in_mid_run_are_back_after_the_next_epoch(tmp_path):
    with a_run(tmp_path) as run:
        run.record(a_record(1))
        for name in running.KEPT:
            (tmp_path / name).unlink()
        run.model.epoch = 2
        run.record(a_record(2))
    _, model, _ = reopen(tmp_path)
    assert [record.epoch for record in read_history(tmp_path, model)] == [1, 2]


@running.posix
@pytest.mark.parametrize("method", ["record", "draw"])
def test_a_folder_that_was_replaced_in_mid_run_is_left_alone(tmp_path, method):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    with suppress(CannotWrite), a_run(folder) as run:
        run.model.epoch = 1
        run.record(a_record(1))
        folder.rename(moved)
        with a_run(folder):  # another run, in a folder of the same name
            pass
        before = {path: path.read_bytes() for path in folder.iterdir()}
        run.record(a_record(2)) if method == "record" else run.draw()
        pytest.fail("it went on in a folder that is not its own")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert len(rows(moved)) == saved_model(moved).epoch == 1


@running.posix
def test_a_folder_that_was_emptied_before_the_first_epoch_is_left_alone(tmp_path):
    """The run may discard what it has begun, but not what somebody else has put in its place."""
    folder = tmp_path / "run"
    with suppress(CannotWrite), a_run(folder) as run:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "model.npz").write_bytes(b"precious")
        run.record(a_record(1))
    assert (folder / "model.npz").read_bytes() == b"precious"


# What is refused, before anything is touched


def test_a_folder_that_holds_a_run_is_not_overwritten(finished, digits):
    folder, _ = finished
    before = (folder / "losses.csv").read_bytes()
    process = run_here("--data-dir", digits, "--epochs", 1, "--out", folder)
    assert_refused(process, 2, folder, "losses.csv", "--resume", "--overwrite", "--out")
    assert (folder / "losses.csv").read_bytes() == before


def test_somebody_elses_model_in_the_folder_is_not_overwritten(tmp_path):
    (tmp_path / "model.npz").write_bytes(b"precious")
    with pytest.raises(InvalidInput, match=r"model\.npz"), a_run(tmp_path):
        pass
    assert files(tmp_path) == {"model.npz"}
    assert (tmp_path / "model.npz").read_bytes() == b"precious"


def test_a_run_does_not_become_shorter(finished, copied):
    process = run_here("--resume", "--out", copied, "--epochs", 2)
    assert_refused(process, 2, "--epochs must be at least 3", copied, "got 2")
    assert_equal_runs(copied, finished[0])


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.json", "{", ""),
        ("config.json", '"model": {', '"modle": {'),
        ("config.json", '"batch_size": 100', '"batch_size": "many"'),
        ("config.json", '"epochs": 3', '"epochs": 0'),
        ("config.json", '"data_dir": "', '"data_dir": 5, "was": "'),
        ("config.json", '"backend": "numpy"', '"backend": ["numpy"]'),
        ("config.json", '"settings": {}', '"settings": 7'),
        ("config.json", '"std": 5.0', '"std": 4.0'),  # not model.npz's
        ("losses.csv", "\n2,", "\n5,"),
        ("losses.csv", "\n3,0", "\n3,x"),
        ("losses.csv", "epoch,", "epochs,"),
        ("losses.csv", "\n2,", "\n2" + 140_000 * "2" + ","),
        ("losses.csv", "\n3,0.", "\n3,1e999"),
        ("losses.csv", "\n3,", "\n3,3,"),
    ],
)
def test_a_damaged_run_is_refused_by_name_and_left_as_it_is(copied, file, old, new):
    text = (copied / file).read_text()
    assert old in text
    (copied / file).write_text(text.replace(old, new, 1))
    before = {path: path.read_bytes() for path in copied.iterdir()}
    process = run_here("--resume", "--out", copied)
    assert_refused(process, 1, file, "is damaged")
    assert {path: path.read_bytes() for path in copied.iterdir()} == before


@pytest.mark.parametrize("file", ["config.json", "losses.csv"])
@given(data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_digit_changed_in_a_text_is_noticed(copied, file, data):
    text = (copied / file).read_text()
    place = data.draw(st.sampled_from([i for i, c in enumerate(text) if c.isdigit()]))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != text[place]]))
    (copied / file).write_text(text[:place] + other + text[place + 1 :])
    with pytest.raises(BadFile, match=file):
        read_history(copied, saved_model(copied))
    (copied / file).write_text(text)


@pytest.mark.parametrize("change", [b"\r\n", b"\n\n"], ids=["of Windows", "doubled"])
def test_a_table_with_other_line_ends_is_not_taken_for_the_one_that_was_written(copied, change):
    content = (copied / "losses.csv").read_bytes()
    (copied / "losses.csv").write_bytes(content.replace(b"\n", change))
    with pytest.raises(BadFile, match=r"losses\.csv"):
        read_history(copied, saved_model(copied))


ODD = {
    "data_dir": [False, 7, ["a"]],
    "model": [{}, {"prior": 1}, {"prior": {"name": "gaussian_mixture", "components": 10**400}}],
    "settings": [{"labels": "abc"}, {"out": "/"}, {"overwrite": True}, {"epochs": 9}, {"x": 1}],
    "epochs": [-3, 0, 2.5, True],
    "batch_size": [-1, None],
    "epochs_done": [-1, 2, "3"],
    "backend": ["fortran", "/dev/zero"],
    "name": ["\x1b[2J\x07 \u202e", "x" * 300_000, 7],
    "dataset": [None],
    "losses_sha256": [None, "\x1b[2J"],
    "theta_sha256": [None, [], [7]],
}


@pytest.mark.parametrize(("entry", "value"), [(e, v) for e in ODD for v in ODD[e]])
def test_an_odd_value_is_one_sentence_however_it_got_there(copied, entry, value):
    alter_config(copied, **{entry: value})
    before = {path: path.read_bytes() for path in copied.iterdir()}
    process = run_here("--resume", "--out", copied, example="semi_supervised.py")
    if entry != "name":  # which a program for any data set only shows
        process = run_here("--resume", "--out", copied)
    assert process.returncode in (1, 2)
    assert_refused(process, process.returncode)
    assert process.stderr.removesuffix("\n").isprintable()
    assert len(process.stderr) < 3_000
    assert {path: path.read_bytes() for path in copied.iterdir()} == before


@running.posix
@pytest.mark.parametrize("file", ["losses.csv", "config.json", "model.npz"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "sparse"])
def test_what_is_no_file_of_a_run_is_refused_at_once(copied, file, kind):
    path = copied / file
    if kind == "sparse":
        os.truncate(path, 2**40)  # a terabyte, which takes no room
    else:
        path.unlink()
        make = {"pipe": os.mkfifo, "folder": os.mkdir, "loop": lambda p: p.symlink_to(p)}
        make.get(kind, lambda p: p.symlink_to("/dev/zero"))(path)
    process = run_here("--resume", "--out", copied)
    assert_refused(process, 2 if file == "config.json" and kind != "sparse" else 1, copied)


@running.linux
def test_overwriting_what_cannot_be_written_keeps_the_old_run(finished, copied, digits):
    process = run("--overwrite", "--data-dir", digits, "--out", copied, preexec_fn=no_files(1000))
    assert_refused(process, 1, "model.npz cannot be written: File too large", "old file is intact")
    assert_equal_runs(copied, finished[0])


def no_files(longer_than):
    import resource

    limit = (longer_than, longer_than)
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_refused_before_training(digits, tmp_path, out):
    (tmp_path / "file").touch()
    process = run_here("--data-dir", digits, "--out", tmp_path / out)
    assert_refused(process, 1, tmp_path / "file", "cannot be used")
    assert process.stdout == ""


@running.linux
def test_a_full_disk_is_found_before_training(digits, tmp_path):
    process = run("--data-dir", digits, "--out", tmp_path / "run", preexec_fn=no_files(0))
    assert_refused(process, 1, f"{tmp_path / 'run'}")
    assert process.stdout == ""
    assert not (tmp_path / "run").exists()


@running.linux
def test_a_disk_that_fills_up_leaves_the_last_whole_epoch_to_continue_from(digits, tmp_path):
    import resource

    folder = tmp_path / "run"
    line = ("--data-dir", digits, "--epochs", 10**5, "--hidden", 32, "--out", folder)
    with running.started(*line) as process:
        running.wait_for(lambda: len(rows(folder)) >= 3, process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, 10))  # bytes
        out, err = process.communicate(timeout=300)
    ended = subprocess.CompletedProcess(line, process.returncode, out, err)
    assert_refused(ended, 1, folder, "cannot be written: File too large", "old file is intact")
    epoch = saved_model(folder).epoch
    assert epoch >= 2  # the model of the third row may have been the first not to fit
    assert run_here("--resume", "--epochs", epoch + 1, "--out", folder).returncode == 0
    assert saved_model(folder).epoch == epoch + 1
    assert files(folder) == FILES


def test_training_that_diverges_at_once_is_one_sentence_and_leaves_nothing(digits, tmp_path):
    small = ("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", tmp_path / "run")
    process = run_here("--prior-std", 1e38, *small)
    assert_refused(process, 1, "training diverged in epoch 1, step", "discriminator loss")
    assert process.stdout.splitlines()[-1].endswith("nothing is kept")
    assert not (tmp_path / "run").exists()


def test_settings_that_matplotlib_refuses_are_one_sentence_before_training(digits, tmp_path):
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    process = run("--data-dir", digits, "--out", tmp_path / "run", env=environment)
    assert_refused(process, 1, "MPLBACKEND", "'nonsense'")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_users_matplotlib_style_does_not_change_the_pictures(finished, copied, tmp_path):
    style = "text.usetex: True\nlines.linewidth: 9\nfigure.facecolor: black\n"
    (tmp_path / "matplotlibrc").write_text(style)
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    process = run("--resume", "--out", copied, env=environment)
    assert process.returncode == 0, process.stderr
    assert_equal_runs(copied, finished[0])


# Opening a run again


def test_a_run_is_reopened_with_its_model_and_its_data(finished, digits):
    config, model, dataset = reopen(finished[0])
    assert (config["name"], model.epoch, dataset.source) == ("digits", 3, f"digits from {digits}")


def test_a_run_on_the_sample_is_reopened_without_being_told(tmp_path):
    with a_run(tmp_path):
        pass
    assert reopen(tmp_path)[2].source == npaae.data.mnist_sample().source


def test_a_run_is_reopened_with_its_own_data_or_none(finished, tmp_path):
    write_set(tmp_path)
    with pytest.raises(InvalidInput, match="not the same data"):
        reopen(finished[0], tmp_path)


def test_a_folder_with_files_of_two_runs_is_not_reopened(copied):
    npaae.AdversarialAutoencoder(hidden=(4,)).save(copied / "model.npz")
    with pytest.raises(BadFile, match="two runs"):
        reopen(copied)


def test_the_model_of_another_run_with_the_same_configuration_is_refused(copied):
    other = saved_model(copied)
    other.theta *= 0.5
    other.save(copied / "model.npz")
    with pytest.raises(BadFile, match="two runs"):
        reopen(copied)
    assert_refused(run_here("--resume", "--out", copied), 1, "two runs")


def test_a_run_is_reopened_while_it_trains(tmp_path):
    with a_run(tmp_path) as run:
        for epoch in range(1, 4):
            run.model.epoch = epoch
            run.model.theta *= 0.5
            run.record(a_record(epoch))
            if epoch == 1:
                model = saved_model(tmp_path)
        check_run(tmp_path, model, run.dataset)


def test_a_run_on_data_that_no_name_finds_asks_for_their_folder(copied, digits):
    alter_config(copied, dataset="mine", data_dir=None)
    with pytest.raises(InvalidInput, match=r"--data-dir .* mine"):
        reopen(copied)
    assert reopen(copied, digits)[0]["dataset"] == "mine"
