"""The code and the commands in README.md and in the recipes of examples/README.md."""

import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import npaae

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def code(text):
    """The blocks of Python in a text."""
    return [dedent(block) for _, block in FENCE.findall(text)]


def section(file, title):
    """The text below a heading, up to the next one of its level."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


# The recipes

PREAMBLE, *RECIPES = code(section("examples/README.md", "Recipes"))
TITLES = re.findall(r"^\*\*(\w+)", section("examples/README.md", "Recipes"), re.MULTILINE)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Runs the recipe whose title begins with a word, on few images; the names that it leaves."""
    monkeypatch.chdir(tmp_path)

    def run(word, **given):
        names = {}
        exec(PREAMBLE, names)
        images = names["digits"]
        few = {field: getattr(images, field)[:50] for field in images._fields[:4]}
        names |= {"digits": images._replace(**few)} | given
        exec(RECIPES[TITLES.index(word)].replace("epochs=20", "epochs=2"), names)
        return names

    return run


def test_every_recipe_has_a_title_and_at_most_ten_lines():
    assert len(RECIPES) == len(TITLES)
    assert all(len(recipe.splitlines()) <= 10 for recipe in RECIPES)


@pytest.fixture
def train(monkeypatch):
    """Makes training an epoch for each of some test losses, in which only `epoch` changes."""

    def give(*losses):
        def train(model, images, *, test_images, epochs):
            for loss in losses:
                model.epoch += 1
                yield npaae.Record(model.epoch, 0.0, 0.0, 0.0, loss, (), (), 0.0)

        monkeypatch.setattr(npaae, "train", train)

    return give


def test_the_best_model_is_kept(recipe, train):
    train(3, 1, 2)
    assert recipe("Keep")["best"].epoch == 2


def test_training_stops_five_epochs_after_the_best(recipe, train):
    train(3, 1, 2, 2, 2, 2, 2, 0)
    assert recipe("Stop")["model"].epoch == 7


def test_every_rate_follows_the_schedule(recipe):
    rates = [adam.learning_rate for adam in recipe("Schedule")["model"].adams().values()]
    assert rates == pytest.approx(0.95**2 * np.array([5e-4, 1e-4, 1e-4]))


def test_the_log_has_a_row_per_epoch(recipe):
    recipe("Log")
    header, *rows = Path("log.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("epoch,reconstruction,")
    assert [row.split(",")[0] for row in rows] == ["1", "2"]


def test_the_strip_begins_and_ends_with_the_two_reconstructions(recipe):
    names = recipe("Interpolate")
    ends = names["model"].reconstruct(names["digits"].test_images[:2])
    np.testing.assert_allclose(names["strip"][[0, -1]], ends, atol=1e-6)
    assert Path("strip.png").read_bytes().startswith(b"\x89PNG")


def test_the_strangest_image_is_the_one_restored_worst(recipe):
    class Model:
        def reconstruct(self, images):
            return np.where(np.arange(len(images))[:, None] == 7, 1 - images, images)

    names = recipe("Score", model=Model())
    np.testing.assert_array_equal(names["strangest"][0], names["digits"].test_images[7])


def test_the_encoder_is_the_same_in_pytorch(recipe):
    torch = pytest.importorskip("torch")
    names = recipe("Take")
    images = names["digits"].test_images.reshape(-1, 784) / np.float32(255)
    with torch.no_grad():
        theirs = names["encoder"](torch.tensor(images)).numpy()
    np.testing.assert_allclose(theirs, names["model"].encode(images), rtol=0, atol=1e-6)
