import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import npaae
from npaae import command_line, metrics
from npaae.errors import BadFile, InvalidInput, Unavailable
from npaae.interrupts import Terminated

from .running import FILES, command, files, rows, run_here

# The flags


def test_every_flag_is_taken(digits, tmp_path):
    process = run_here(
        "--epochs", 1, "--batch-size", 50, "--hidden", 16, "--latent", 3, "--prior-std", 2.5, "--lr-reconstruction", 1e-3,
        "--lr-regularization", 2e-4, "--seed", 7, "--backend", "auto", "--dtype", "float64", "--data-dir", digits,
        "--out", tmp_path / "run", "--no-progress",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    expected = {
        "hidden": [16], "latent": 3, "visible": 784, "prior": {"name": "gaussian", "std": 2.5},
        "classes": 0, "dropout": 0.25, "discriminator_dropout": 0.2,
        "lr_reconstruction": 1e-3, "lr_regularization": 2e-4, "dtype": "float64", "seed": 7,
    }  # fmt: skip
    assert config["model"] == expected
    assert config["flags"]["batch_size"] == 50
    mine = npaae.data.mnist(digits)
    model = npaae.AdversarialAutoencoder(**(expected | {"prior": npaae.priors.gaussian(std=2.5)}))
    (record,) = npaae.train(model, mine.train_images, epochs=1, batch_size=50)
    assert float(rows(tmp_path / "run")[0]["reconstruction"]) == pytest.approx(record.reconstruction, abs=1e-6)
    assert "code_std_2" in rows(tmp_path / "run")[0]


def test_the_flags_defaults_are_the_reports(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    assert vars(command_line.parse_flags(None, epochs=100, sample=True)) == {
        "epochs": 100, "batch_size": 100, "hidden": [256, 128], "latent": 2, "prior_std": 5.0, "lr_reconstruction": 5e-4,
        "lr_regularization": 1e-4, "seed": 0, "backend": "numpy", "dtype": "float32", "data_dir": None, "sample": False,
        "out": None, "no_progress": False, "resume": False, "overwrite": False, "evaluate": False,
    }  # fmt: skip


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
        (["--resume", "--overwrite", "--out", "."], "not allowed with argument --resume"),
        (["--evaluate", "--resume", "--out", "."], "not allowed with argument"),
        (["--out", ""], "'' came, the name of a folder is wanted"),
        (["--data-dir", ""], "'' came, the name of a folder is wanted"),
        (["--frobnicate"], "unrecognized arguments"),
    ],
)
def test_a_bad_flag_is_one_sentence_and_status_2(flags, says):
    process = run_here(*flags)
    assert process.returncode == 2
    assert says in process.stderr
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.usefixtures("own_signals")
def test_running_out_of_memory_is_one_sentence(monkeypatch, capsys):
    def main():
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    with pytest.raises(SystemExit, match="1"):
        command_line.launch(main)
    assert capsys.readouterr().err == (
        "mnist.py: error: out of memory (Unable to allocate 3 TiB); make --hidden, --latent or --batch-size smaller\n"
    )


def test_a_terminal_that_knows_few_characters_and_a_closed_stderr_are_no_reason_to_stop(digits, tmp_path):
    odd = tmp_path / "größe-σ"
    arguments = ["--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", odd]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    shell = f"exec {shlex.join(command(*arguments))} 2>&-"
    process = subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE, text=True, timeout=120, env=ascii_only)
    assert process.returncode == 0
    assert files(odd) == FILES


def test_a_data_folder_without_data_is_one_sentence(tmp_path):
    process = run_here("--data-dir", tmp_path, "--out", tmp_path / "run")
    assert process.returncode == 1
    assert re.fullmatch(r"mnist\.py: error: .* has no train-images-idx3-ubyte\[\.gz\]; name a folder .*\n", process.stderr)
    assert not (tmp_path / "run").exists()


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
    assert len(command_line.mnist(flags()).train_images) == 10_000
    assert capsys.readouterr().err == (
        "Training on the bundled sample of 10,000 digits: MNIST cannot be downloaded: tried nothing; "
        "name a folder with --data-dir\n"
    )


def test_the_sample_never_stands_in_for_a_folder_that_was_named(monkeypatch, tmp_path):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    with pytest.raises(Unavailable):
        command_line.mnist(flags(data_dir=tmp_path))


def test_with_sample_the_full_set_is_not_looked_for(monkeypatch):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    assert len(command_line.mnist(flags(sample=True)).train_images) == 10_000


# How a program ends


@pytest.fixture
def own_signals():
    """`launch` changes the handling of SIGTERM, for the whole process."""
    previous = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (InvalidInput("x"), 2),
        (Unavailable("x"), 1),
        (BadFile("x"), 1),
        (OSError("x"), 1),
        (MemoryError(), 1),
    ],
)
def test_each_end_has_a_status_of_its_own(error, status):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        command_line.launch(main)
    assert caught.value.code == status


@pytest.mark.usefixtures("own_signals")
def test_a_defect_keeps_its_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command_line.launch(main)


@pytest.mark.usefixtures("own_signals")
def test_a_reader_that_ends_is_told_of(monkeypatch, capsys):
    def main():
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    with pytest.raises(SystemExit):
        command_line.launch(main)
    assert capsys.readouterr().err.startswith("mnist.py: error: what read the output has ended;")


@pytest.mark.usefixtures("own_signals")
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    with pytest.raises(SystemExit):
        command_line.launch(lambda: (tmp_path / "nothing").read_bytes())
    assert capsys.readouterr().err == (
        f"mnist.py: error: {tmp_path}/nothing cannot be used (No such file or directory); mend that, or name another\n"
    )


# What --evaluate prints


def test_each_measure_of_a_report_is_printed_under_its_own_name(monkeypatch, capsys, digits, small_model):
    report = metrics.Report(
        reconstruction=0.1234,
        code_mean=np.array([1.0, 2.0]), code_covariance=np.array([[3.0, 4.0], [4.0, 5.0]]),
        prior_mean=np.array([6.0, 7.0]), prior_covariance=np.array([[8.0, 9.0], [9.0, 10.0]]),
        energy=metrics.EnergyTest(0.5, 0.25, 0.01), neighbour_accuracy=0.765,
        parzen=metrics.Parzen(111.0, 2.0, 0.15), training_parzen=metrics.Parzen(222.0, 3.0, 0.17),
    )  # fmt: skip
    monkeypatch.setattr(metrics, "report", lambda model, dataset: report)
    reopened = ("mnist", small_model(), npaae.data.mnist(digits))
    monkeypatch.setattr(command_line.experiment, "reopen", lambda folder, data_dir, backend: reopened)
    command_line.print_metrics(SimpleNamespace(out="here", data_dir=None, backend="numpy"))
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line[30:] for line in lines] == [
        "0.1234 nats",
        "(1.00, 2.00), the prior's (6.00, 7.00)",
        "((3.00, 4.00), (4.00, 5.00)), the prior's ((8.00, 9.00), (9.00, 10.00))",
        "0.5000, above the 0.2500 that chance stays below in 95 of 100",
        "76.5 %",
        "111.0 ± 2.0 nats an image, window 0.15",
        "222.0 ± 3.0 nats an image, window 0.17",
    ]


@pytest.mark.parametrize(
    ("width", "says"), [(0.1, "0.10, at the edge of those tried"), (0.11, "0.11"), (0.3, "0.30, at the edge of those tried")]
)
def test_a_width_at_the_edge_of_those_tried_is_said_to_be_there(width, says):
    assert command_line._parzen(metrics.Parzen(111.0, 2.0, width)) == f"111.0 ± 2.0 nats an image, window {says}"
