"""The flags of a training program: what they mean, and which are refused."""

import json
import subprocess
import sys

import pytest

import npaae
from npaae import Unavailable
from npaae.experiment import load_data, training_flags

from ..running import alter_config, assert_equal_runs, assert_refused, command, rows, run_here


def test_every_flag_is_taken(digits, tmp_path):
    process = run_here(
        *("--epochs", 1, "--batch-size", 50, "--hidden", 16, 8, "--latent", 3, "--prior-std", 2.5),
        *("--lr-reconstruction", 1e-3, "--lr-regularization", 2e-4, "--seed", 7),
        *("--backend", "auto", "--dtype", "float64", "--figures-every", 1, "--no-progress"),
        *("--data-dir", digits, "--out", tmp_path / "run"),
    )
    assert process.returncode == 0, process.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    model = npaae.AdversarialAutoencoder(
        hidden=(16, 8),
        latent=3,
        prior=npaae.priors.gaussian(std=2.5),
        lr_reconstruction=1e-3,
        lr_regularization=2e-4,
        dtype="float64",
        seed=7,
    )
    assert config["model"] == json.loads(json.dumps(model.config))
    images = npaae.data.mnist(digits).train_images
    (record,) = npaae.train(model, images, epochs=1, batch_size=50)
    row = rows(tmp_path / "run")[0]
    assert float(row["reconstruction"]) == pytest.approx(record.reconstruction, abs=1e-6)


def test_the_defaults_are_the_reports(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    flags = vars(training_flags("MNIST", epochs=100))
    model = npaae.AdversarialAutoencoder()
    for name in ("latent", "lr_reconstruction", "lr_regularization", "dtype", "seed"):
        assert flags[name] == model.config[name]
    assert (tuple(flags["hidden"]), flags["prior_std"]) == ((256, 128), model.prior.std)
    assert (flags["epochs"], flags["batch_size"], flags["backend"]) == (100, 100, "numpy")
    assert not any(flags[name] for name in ("out", "data_dir", "sample", "resume", "evaluate"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "0"], ["--epochs", "positive integer", "got 0"]),
        (["--epochs", "many"], ["--epochs", "positive integer", "'many'"]),
        (["--batch-size", "-5"], ["--batch-size", "-5"]),
        (["--hidden", "256", "x"], ["--hidden", "'x'"]),
        (["--hidden", "256,128"], ["--hidden", "'256,128'", "separate numbers by spaces"]),
        (["--prior-std", "nan"], ["--prior-std", "positive, finite number", "nan"]),
        (["--prior-std", "1e300", "--sample"], ["prior", "1e+300"]),
        (["--lr-reconstruction", "1e30"], ["--lr-reconstruction", "(0, 1]", "1e+30"]),
        (["--lr-regularization", "0"], ["--lr-regularization", "(0, 1]"]),
        (["--hidden", "1000000000", "--sample"], ["memory", "1000000000"]),
        (["--latent", "100000000000", "--sample"], ["latent", "100000000000"]),
        (["--seed", "-1"], ["--seed", "non-negative integer", "-1"]),
        (["--figures-every", "0"], ["--figures-every", "positive integer"]),
        (["--dtype", "float16"], ["--dtype", "float16"]),
        (["--sample", "--data-dir", "."], ["--data-dir", "--sample"]),
        (["--resume", "--overwrite", "--out", "."], ["--overwrite", "--resume"]),
        (["--evaluate", "--resume", "--out", "."], ["--resume", "--evaluate"]),
        (["--out", ""], ["--out", "folder"]),
        (["--data-dir", ""], ["--data-dir", "folder"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["--resume"], ["--resume needs --out"]),
        (["--overwrite"], ["--overwrite needs --out"]),
        (["--evaluate"], ["--evaluate needs --out"]),
    ],
    ids=" ".join,
)
def test_a_wrong_flag_is_one_sentence_and_status_2(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(run_here(*flags), 2, *words)
    assert not list(tmp_path.iterdir())


# A run that exists

FLAGS = {
    "--hidden 64": "32 16",
    "--seed 1": "0",
    "--batch-size 50": "100",
    "--prior-std 1.0": "5.0",
    "--lr-regularization 0.5": "0.0001",
    "--latent 3": "2",
    "--dtype float64": "float32",
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_that_contradicts_the_run_is_refused_with_both_values(finished, copied, flag):
    process = run_here("--resume", "--out", copied, *flag.split())
    assert_refused(process, 2, flag, f"the run in {copied}, which has {FLAGS[flag]};")
    assert_equal_runs(copied, finished[0])


@pytest.mark.parametrize("epochs", [2, 4])
def test_measuring_a_run_of_other_epochs_than_it_has_is_refused(copied, epochs):
    process = run_here("--evaluate", "--out", copied, "--epochs", epochs)
    assert_refused(process, 2, f"--epochs {epochs} contradicts", "which has 3;")


@pytest.mark.parametrize("flag", ["--resume", "--evaluate"])
def test_other_data_than_the_runs_are_refused(copied, digits, flag):
    process = run_here(flag, "--out", copied, "--sample")
    assert_refused(process, 2, f"digits from {digits}", "the bundled sample", "not the same data")


@pytest.mark.parametrize("flag", ["--resume", "--evaluate"])
def test_a_folder_without_a_run_is_refused(tmp_path, flag):
    assert_refused(run_here(flag, "--out", tmp_path), 2, tmp_path, "no config.json")


def test_a_run_is_continued_by_either_program_on_the_data_it_was_started_with(copied):
    process = run_here("--resume", "--out", copied, example="fashion_mnist.py")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("Continuing after 3 epochs on digits")


def test_a_value_that_equals_the_runs_may_be_repeated(copied):
    flags = ("--hidden", 32, 16, "--prior-std", 5, "--epochs", 3)
    assert run_here("--resume", "--out", copied, *flags).returncode == 0


@pytest.mark.parametrize("unknown", [{"overwrite": True}, {"out": "/"}, {"hidden": [8], "x": 1}])
def test_what_a_damaged_run_calls_a_flag_sets_nothing(copied, unknown):
    alter_config(copied, name="MNIST", settings=unknown)
    *_, key = unknown
    process = run_here("--resume", "--out", copied)
    assert_refused(process, 1, f"config.json is damaged: {key} is not a flag's setting")


# The data, and what the machine may lack


def unavailable():
    raise Unavailable("MNIST cannot be downloaded")


def test_without_the_full_set_one_line_says_that_the_sample_is_used_and_why(monkeypatch, capsys):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    assert load_data("MNIST").source == npaae.data.mnist_sample().source
    printed = capsys.readouterr().err
    assert "sample" in printed
    assert "MNIST cannot be downloaded" in printed
    assert printed.count("\n") == 1


def test_the_sample_never_stands_in_for_a_folder_that_was_named(monkeypatch, tmp_path):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    with pytest.raises(Unavailable):
        load_data("MNIST", tmp_path)


def test_with_sample_the_full_set_is_not_looked_for(monkeypatch):
    monkeypatch.setattr(npaae.data, "mnist", unavailable)
    assert load_data("MNIST", sample=True).source == npaae.data.mnist_sample().source


def test_a_data_folder_without_data_is_one_sentence(tmp_path):
    process = run_here("--data-dir", tmp_path, "--out", tmp_path / "run")
    assert_refused(process, 1, tmp_path, "train-images-idx3-ubyte")
    assert not (tmp_path / "run").exists()


def test_a_missing_cupy_is_one_sentence_that_says_what_to_install(digits, tmp_path):
    hide = "import sys, runpy; sys.modules['cupy'] = None; sys.argv = sys.argv[1:]; "
    hide += "sys.path.insert(0, sys.argv[0][:-8]); runpy.run_path(sys.argv[0], {}, '__main__')"
    line = command("--backend", "cupy", "--data-dir", digits, "--out", tmp_path / "run")
    line[1:1] = ["-c", hide]
    process = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert_refused(process, 1, "pip install")
