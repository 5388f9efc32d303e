"""What the tests share: Hypothesis's settings, small models, and the real data if it is there."""

import gc
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

import npaae

from .idx_files import write_set
from .running import run

# Every run draws new cases and prints how to reproduce a failure. A busy machine fails no test.
settings.register_profile(
    "npaae",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
examples = 4 * settings.get_profile("npaae").max_examples
settings.register_profile("ci", settings.get_profile("npaae"), max_examples=examples)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "npaae"))

# A runner may ignore these, as nohup and a shell's background do, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if os.name == "posix":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported, which takes 3 % of the tests' time."""
    gc.freeze()


# The full sets, beside the checkout on the project's own machines. Users have no such folder.
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """Small matrix products gain nothing from a second thread, which keeps a core busy waiting."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(autouse=True)
def not_for_ever():
    """A test that waits for what never comes fails, where the system has alarms."""

    def end(*_):
        raise TimeoutError("this test has not ended within twenty minutes")

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, end)
        signal.alarm(1200)
    yield
    if hasattr(signal, "SIGALRM"):
        signal.alarm(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small_model():
    """Makes models small enough for finite differences, in float64, with ReLU and dropout."""
    defaults = {"hidden": (7, 5), "latent": 2, "visible": 9, "dtype": "float64", "seed": 3}
    return lambda **arguments: npaae.AdversarialAutoencoder(**defaults | arguments)


@pytest.fixture
def full_set():
    """Gives the folder of a full data set, or skips the test."""

    def folder(name):
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"the full {name} is not beside the checkout")
        return path

    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with the first few hundred images of the bundled sample, as a user's own data."""
    sample, folder = npaae.data.mnist_sample(), tmp_path_factory.mktemp("data") / "digits"
    train = {"train_images": sample.train_images[:300], "train_labels": sample.train_labels[:300]}
    test = {"t10k_images": sample.test_images[:100], "t10k_labels": sample.test_labels[:100]}
    write_set(folder, **train, **test)
    return folder


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """A finished run of `examples/mnist.py` on those: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("out") / "run"
    arguments = ("--data-dir", digits, "--epochs", 3, "--hidden", 32, 16, "--out", folder)
    return folder, run(*arguments)
