"""The training programs, mnist.py and fashion_mnist.py: what they draw, train on and measure."""

import json

import numpy as np
import pytest

from npaae.experiment import Run

from ..layouts import KERAS, LAYOUTS, npz_layout, some_images
from ..running import FILES, KEPT, files, rows, run_here


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


# Anybody's images


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_layout_trains_under_its_own_name(tmp_path, monkeypatch, layout):
    monkeypatch.setattr(Run, "draw", lambda run: None)
    (name, write), images = LAYOUTS[layout], some_images()
    (tmp_path / "mine").mkdir()
    path = write(tmp_path / "mine", images)
    small = ("--data-dir", path, "--epochs", 1, "--hidden", 4, "--out", tmp_path / "run")
    process = run_here(*small)
    assert process.returncode == 0, process.stderr
    name = name or "mine"
    assert process.stdout.startswith(f"Training on {name} from {path}")
    assert ": 12 images, 6 to test, " in process.stdout.splitlines()[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["name"] == name


SIZES_AND_CLASSES = [((5, 4), 26)]
SIZES_AND_CLASSES += [
    pytest.param(*case, marks=pytest.mark.slow)
    for case in (((8, 8), 10), ((64, 48), 10), ((1, 1), 1), ((3, 5), 100), ((6, 7), None))
]


@pytest.mark.parametrize(("size", "classes"), SIZES_AND_CLASSES)
def test_images_of_any_size_and_labels_are_trained_on_resumed_measured_and_explored(
    tmp_path, size, classes
):
    images = some_images(size, classes or 1, train=120, test=20)
    path = npz_layout(*(KERAS if classes else ("x_train",)))(tmp_path, images)
    out = ("--out", tmp_path / "run")
    small = ("--data-dir", path, "--epochs", 1, "--hidden", 4)
    assert run_here(*small, *out, pictures=True).returncode == 0
    assert files(tmp_path / "run") == FILES
    process = run_here("--resume", "--epochs", 2, *out)
    assert process.returncode == 0, process.stderr
    table = run_here("--evaluate", *out)
    assert table.stdout.startswith("| mine, 2 epochs, seed 0 | value |")
    assert ("neighbour accuracy" in table.stdout) == bool(classes)
    assert run_here(tmp_path / "run", example="results.py").stdout == table.stdout
    assert run_here(tmp_path / "run", example="explore.py").returncode == 0


def test_rows_that_are_no_images_train_and_what_is_drawn_is_said_before(tmp_path):
    path = npz_layout(*KERAS)(tmp_path, some_images((30,)))
    line = ("--data-dir", path, "--epochs", 1, "--hidden", 4, "--out", tmp_path / "run")
    process = run_here(*line)
    assert process.returncode == 0, process.stderr
    assert "rows of 30 numbers not drawn as images" in process.stdout.splitlines()[0]
    assert files(tmp_path / "run") == KEPT | {"losses.png", "latent.png"}


def test_rows_whose_length_is_a_square_are_drawn_as_images_and_that_is_said(tmp_path):
    path = npz_layout(*KERAS)(tmp_path, some_images((9,)))
    line = ("--data-dir", path, "--epochs", 1, "--hidden", 4, "--out", tmp_path / "run")
    assert "drawn as 3 × 3 images" in run_here(*line).stdout.splitlines()[0]
    assert files(tmp_path / "run") == FILES


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((9, 4, 4, 3), np.uint8),
        np.eye(4, dtype=np.uint8)[None].repeat(9, axis=0),
        np.full((9, 4, 4), 7.0),
        np.array([[1], [2, 3]], object),
    ],
    ids=["colours", "a mask", "beyond 1", "ragged"],
)
def test_images_that_cannot_be_trained_on_are_one_sentence_and_leave_no_folder(
    tmp_path, monkeypatch, images
):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "mine.npz", x_train=images)
    process = run_here("--data-dir", "mine.npz", "--epochs", 1)
    assert process.returncode in (1, 2)
    assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
