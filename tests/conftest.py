"""What the tests share: small models, and the real data where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import npaae

from .idx_files import STEMS, write_set
from .running import run

# No test may fail because the machine was busy, nor by the luck of the draw: every run sees the same examples.
settings.register_profile("npaae", deadline=None, derandomize=True)
settings.load_profile("npaae")

# Where the full sets lie on the project's development machines, beside the checkout. Users have no such folder.
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small_model():
    """A model small enough to check by finite differences, in float64, its ReLUs and dropout at work."""

    def make(**arguments):
        return npaae.AdversarialAutoencoder(
            **{"hidden": (7, 5), "latent": 2, "visible": 9, "dtype": "float64", "seed": 3} | arguments
        )

    return make


@pytest.fixture
def full_set():
    """The folder of a full data set, or a skip that says what is missing."""

    def folder(name):
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"the full {name} is not at hand beside the checkout")
        return path

    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with the first few hundred images of the bundled sample, as a user's own data set."""
    sample, folder = npaae.data.mnist_sample(), tmp_path_factory.mktemp("digits")
    arrays = (sample.train_images[:300], sample.train_labels[:300], sample.test_images[:100], sample.test_labels[:100])
    names = ("train_images", "train_labels", "t10k_images", "t10k_labels")
    write_set(folder, **dict(zip(names, arrays, strict=True)))
    assert {path.name for path in folder.iterdir()} == {f"{stem}.gz" for stem in STEMS}
    return folder


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """A finished run of the example on a few hundred images: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("out") / "run"
    return folder, run("--data-dir", digits, "--epochs", 3, "--hidden", 32, 16, "--out", folder)
