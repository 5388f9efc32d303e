"""priors.py: a model and a column of the figure for each distribution."""

import numpy as np
import priors
import pytest

import npaae

from ..layouts import npz_layout, some_images
from ..running import assert_refused, run_here


@pytest.mark.slow
def test_every_prior_is_imposed_and_drawn_in_one_figure(digits, tmp_path):
    figure = tmp_path / "new" / "priors.png"
    line = ("--data-dir", digits, "--epochs", 1, "--out", figure)
    process = run_here(*line, example="priors.py", pictures=True)
    assert process.returncode == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    _, *lines, last = process.stdout.splitlines()
    assert last == f"Drawn in {figure}"
    assert ["in their own part" in line for line in lines] == [False] * 4 + [True, False, True]
    losses = [float(line.split("reconstruction ")[1].split(",")[0]) for line in lines]
    assert np.isfinite(losses).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "kinds", "told"),
    [((5, 4), ("x", "y"), 2), ((8, 8), ("x",), 0), ((7,), ("x", "y"), 2)],
)
def test_images_of_any_size_and_labels_have_their_priors(tmp_path, size, kinds, told):
    path = npz_layout(*kinds)(tmp_path, some_images(size, train=60))
    line = ("--data-dir", path, "--epochs", 1, "--out", tmp_path / "priors.png")
    process = run_here(*line, example="priors.py", pictures=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("in their own part") == told
    assert process.stdout.count("reconstruction") == 5 + told


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "measured"), [([], "test"), (["--held-out"], "held-out")])
def test_the_test_set_is_not_used_if_settings_are_chosen(tmp_path, flags, measured):
    path = npz_layout("x")(tmp_path, some_images((8, 8), train=60))
    line = ("--data-dir", path, "--epochs", 1, "--out", tmp_path / "priors.png", *flags)
    process = run_here(*line, example="priors.py")
    assert process.stdout.splitlines()[0].endswith(f" {measured} images")


@pytest.fixture
def first(tmp_path, monkeypatch):
    """With some flags, the seed, the training images and the test images of the first model."""

    class Begun(Exception):
        pass

    def train(model, images, *, test_images, **_):
        raise Begun(model.seed, images, test_images)

    def begin(*flags):
        monkeypatch.setattr(npaae, "train", train)
        path = npz_layout("x")(tmp_path, some_images((8, 8), train=60))
        line = ("priors.py", "--data-dir", path, "--out", tmp_path / "priors.png", *flags)
        monkeypatch.setattr("sys.argv", [*map(str, line)])
        with pytest.raises(Begun) as begun:
            priors.main()
        return begun.value.args

    return begin


def test_the_models_have_the_seed_that_is_given(first):
    assert first("--seed", 7)[0] == 7


def test_no_image_that_is_held_out_is_trained_on(first):
    _, images, held_out = first("--held-out")
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in held_out}


def test_images_that_cannot_be_trained_on_are_refused_before_anything_is_made(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.eye(6, dtype=np.uint8)[:, None])
    line = ("--data-dir", tmp_path / "mine.npz", "--out", tmp_path / "new" / "priors.png")
    assert_refused(run_here(*line, example="priors.py"), 2, "images")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--epochs", 0], ["--epochs", "positive integer"]), (["--what"], ["--what"])],
)
def test_a_wrong_flag_is_refused(flags, words):
    assert_refused(run_here(*flags, example="priors.py"), 2, *words)


def test_a_folder_that_cannot_be_made_is_refused_before_training(digits, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "priors.png"
    process = run_here("--data-dir", digits, "--out", out, example="priors.py")
    assert_refused(process, 1, tmp_path / "file")
    assert process.stdout == ""


def test_a_figure_that_exists_is_not_replaced(digits, tmp_path):
    out = tmp_path / "priors.png"
    out.write_text("an old one")
    process = run_here("--data-dir", digits, "--out", out, example="priors.py")
    assert_refused(process, 2, out, "exists")
    assert out.read_text() == "an old one"
