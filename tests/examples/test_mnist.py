"""The training programs, mnist.py and fashion_mnist.py: what they draw, train on and measure."""

import pytest

from npaae.experiment import Run

from ..running import FILES, files, rows, run_here


@pytest.mark.parametrize(("every", "drawn"), [(1, [1, 2, 3]), (2, [2, 3]), (25, [3])])
def test_figures_are_drawn_every_so_often_and_at_the_end(
    digits, tmp_path, monkeypatch, every, drawn
):
    epochs = []
    monkeypatch.setattr(Run, "draw", lambda run: epochs.append(len(run.history)))
    small = ("--data-dir", digits, "--epochs", 3, "--hidden", 8, "--out", tmp_path / "run")
    assert run_here(*small, "--figures-every", every).returncode == 0
    assert epochs == drawn


def test_another_seed_gives_other_losses(finished, digits, tmp_path):
    small = ("--data-dir", digits, "--epochs", 1, "--hidden", 32, 16, "--out", tmp_path / "run")
    assert run_here(*small, "--seed", 1).returncode == 0
    assert rows(tmp_path / "run")[0]["generator"] != rows(finished[0])[0]["generator"]


def test_fashion_mnist_is_the_same_program_on_other_data(digits, tmp_path):
    small = ("--data-dir", digits, "--epochs", 1, "--hidden", 8, "--out", tmp_path / "run")
    process = run_here(*small, example="fashion_mnist.py")
    assert process.returncode == 0, process.stderr
    assert files(tmp_path / "run") == FILES
    assert process.stdout.startswith(f"Training on digits from {digits}")


def test_fashion_mnist_has_its_own_epochs_and_no_sample():
    process = run_here("--help", example="fashion_mnist.py")
    assert "(default: 50)" in process.stdout
    assert "--sample" not in process.stdout


def test_evaluating_a_run_prints_its_measures_and_leaves_the_folder_as_it_was(finished):
    folder, _ = finished
    before = {path: path.read_bytes() for path in folder.iterdir()}
    process = run_here("--evaluate", "--out", folder)
    assert (process.returncode, process.stderr) == (0, "")
    heading, *lines = process.stdout.splitlines()
    assert heading == "| digits, 3 epochs, seed 0 | value |"
    (reconstruction,) = [line for line in lines if "reconstruction BCE, test set" in line]
    assert reconstruction.endswith(f"| {float(rows(folder)[-1]['test_reconstruction']):.3f} |")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
