"""The code and the commands in README.md, examples/README.md and examples/RECIPES.md."""

import inspect
import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image

import npaae
from npaae.layers import Dense

from .running import FILES, files, run_here

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def code(text):
    """The blocks of Python in a text."""
    return [dedent(block) for _, block in FENCE.findall(text)]


def section(file, title=""):
    """The text below a heading, up to the next one of its level; without a title, the beginning."""
    text = (ROOT / file).read_text(encoding="utf-8")
    heading = rf"^## {title}\n" if title else r"\A"
    return re.search(rf"{heading}(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


PAGES = [
    "README.md",
    ".github/CONTRIBUTING.md",
    *(f"examples/{name}.md" for name in ("README", "FROZEN", "HOMEWORK", "RECIPES")),
    "examples/lesson/README.md",
]


@pytest.mark.parametrize("file", PAGES)
def test_every_link_within_the_repository_leads_somewhere(file):
    folder, text = (ROOT / file).parent, (ROOT / file).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        path, _, heading = "".join(target).partition("#")
        if not path.startswith("http"):
            page = folder / path if path else ROOT / file
            assert page.exists(), path
            assert not heading or heading in anchors(page), heading


def anchors(page):
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_lines_that_stand_beside_their_formulas_are_the_layers_own():
    table = re.findall(r"^\| .* = .* \| (.*) \|$", section("README.md"), re.MULTILINE)
    lines = [line for cell in table for line in re.findall("`([^`]+)`", cell)]
    source = [line.partition("  #")[0].strip() for line in inspect.getsource(Dense).splitlines()]
    assert len(lines) == 5
    assert set(lines) <= set(source)


def test_the_row_of_the_audit_is_what_it_prints(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # without the places, whose lines change
    shown = section("README.md").split("```")[1].split()
    lines = run_here("dense.dx", example="audit.py").stdout.splitlines()
    printed = " ".join(lines[2:4]).split()
    numbers = re.compile(r"\d+")  # the worst error varies
    assert [numbers.sub("#", word) for word in shown] == [numbers.sub("#", w) for w in printed]


def test_the_code_on_the_front_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = code(section("README.md", "Use it"))
    names = {}
    exec(program.replace("epochs=20", "epochs=1"), names)
    assert names["novel"].shape == (100, 784)
    assert Path("model.npz").exists()


def test_the_gradient_checks_run_and_find_no_fault():
    (program,) = code(section("examples/RECIPES.md", "Check a gradient"))
    *setup, one, two, dense, three = program.strip().splitlines()
    exec("\n".join([*setup, dense]), names := {})
    errors = [eval(line, names) for line in (one, two, three)]
    assert max(*errors[:2], *errors[2].values()) < 1e-6


# The user's own data


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Six digits in a CSV file like Kaggle's and in PNG files, and the names the lines use."""
    monkeypatch.chdir(tmp_path)
    digits = npaae.data.mnist_sample()
    images = digits.train_images[:6]
    rows = np.column_stack([digits.train_labels[:6], images.reshape(6, 784)])
    header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    np.savetxt("mine.csv", rows, "%d", delimiter=",", header=header, comments="")
    Path("mine").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"mine/{i}.png")
    return images, {"np": np, "Path": Path, "Image": Image}


CSV, LABELS_FIRST, *READERS, SAVE = code(section("README.md", "Your own data"))[0].splitlines()


@pytest.mark.parametrize("lines", [f"{CSV}\n{LABELS_FIRST}", *READERS])
def test_a_line_reads_images_of_ones_own(mine, lines):
    images, names = mine
    if "frame" in lines:
        names["frame"] = pytest.importorskip("pandas").DataFrame(images.reshape(6, 784))
    exec(lines, names)
    assert names["images"].dtype == np.uint8
    np.testing.assert_array_equal(names["images"].reshape(images.shape), images)


def test_the_program_trains_on_them(mine):
    images, names = mine
    exec(SAVE, names | {"images": images})
    text = section("README.md", "Your own data")
    (command,) = re.findall(r"`examples/mnist.py (.*?)`", text)
    flags = ("--epochs", 1, "--hidden", 8, "--out", "run")
    process = run_here(*command.split(), *flags, pictures=True)
    assert process.returncode == 0, process.stderr
    assert files(Path("run")) == FILES


# The recipes

PREAMBLE, *RECIPES = code(section("examples/RECIPES.md"))
TITLES = re.findall(r"^\*\*(\w+)", section("examples/RECIPES.md"), re.MULTILINE)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Runs the recipe whose title begins with a word, on few images; the names that it leaves."""
    monkeypatch.chdir(tmp_path)

    def follow(word, **given):
        names = {}
        exec(PREAMBLE, names)
        images = names["digits"]
        few = {field: getattr(images, field)[:50] for field in images._fields[:4]}
        names |= {"digits": images._replace(**few)} | given
        exec(RECIPES[TITLES.index(word)].replace("epochs=20", "epochs=2"), names)
        return names

    return follow


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


def test_the_bar_knows_how_many_epochs_there_are(recipe, capsys):
    recipe("Show")
    assert "2/2 [" in capsys.readouterr().err


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
