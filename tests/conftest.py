"""What the tests share: small models, and the real data where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import npaae

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
