import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import npaae
from npaae import backend
from npaae.backend import BLOCK, blas_threads, blockwise
from npaae.errors import InvalidInput, Unavailable

from .strategies import seeds


class Cuda:
    """As `cupy.cuda` does, it loads a library when it is first asked for it."""

    def __init__(self, *missing, gpu=True):
        self.missing, self.is_available = missing, lambda: gpu

    def __getattr__(self, name):
        if name in self.missing:
            raise ImportError(f"lib{name}:\nno such file")
        return self

    def getVersion(self):
        if "symbol" in self.missing:
            raise RuntimeError("libnvrtc:\nno such symbol")


@pytest.mark.parametrize("name", ["torch", "", None, np.zeros(2)])
def test_a_backend_of_another_name_is_refused(name):
    with pytest.raises(InvalidInput, match=r"^backend must"):
        backend.array_module(name)


UNUSABLE = {
    "not installed": None,  # which makes `import cupy` fail
    "no GPU": SimpleNamespace(cuda=Cuda(gpu=False)),
    **{name: SimpleNamespace(cuda=Cuda(name)) for name in ("cublas", "curand", "nvrtc", "symbol")},
}


@pytest.mark.parametrize("cupy", UNUSABLE.values(), ids=UNUSABLE)
def test_a_cupy_that_cannot_compute_is_one_line_that_says_what_to_install(monkeypatch, cupy):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert backend.array_module("auto") is backend.array_module("numpy") is np
    with pytest.raises(Unavailable, match=r"^[^\n]*cupy[^\n]* install [^\n]*$"):
        backend.array_module("cupy")


def test_a_cupy_that_can_compute_is_what_auto_means(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy := SimpleNamespace(cuda=Cuda()))
    assert backend.array_module("auto") is backend.array_module("cupy") is cupy


def test_a_generator_is_determined_by_its_whole_key():
    keys = [(1, 2, 3), (1, 2, 3), (3, 2, 1), (1, 2, 4), (2, 2, 3), (1, 3, 3)]
    same, *draws = [backend.random_stream(np, *key).random(3).tolist() for key in keys]
    assert same == draws[0]
    assert len(set(map(tuple, draws))) == len(draws)


# A GPU's generator is not NumPy's, so its words are floats.
GENERATORS = {
    "NumPy's": lambda seed: np.random.default_rng(seed),
    "another": lambda seed: SimpleNamespace(random=np.random.default_rng(seed).random),
}


def bits_of(words):
    """The first 16 bits of each word, as an integer."""
    return words if words.dtype == np.uint16 else np.floor(words * 2**16).astype(np.uint16)


@pytest.mark.parametrize(("make", "dtype"), [*zip(GENERATORS.values(), ("u2", "f4"), strict=True)])
@given(seed=seeds, shape=st.lists(st.integers(0, 5), max_size=3))
def test_random_words_have_the_shape_asked_for(make, dtype, seed, shape):
    words = backend.random_words(np, make(seed), tuple(shape))
    assert (words.shape, words.dtype) == (tuple(shape), dtype)


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_every_bit_of_random_words_is_1_half_of_the_time_whatever_the_others_are(make):
    n = 100_000
    words = bits_of(backend.random_words(np, make(0), (n,)))
    bits = (words[:, None] >> np.arange(16)) & 1
    signs = 2.0 * np.hstack((bits[:-1], bits[1:])) - 1  # of a word and of the next one
    products = signs.T @ signs / len(signs) - np.eye(32)
    bound = 6 / np.sqrt(len(signs))  # six standard deviations of a mean of ±1
    assert np.abs(signs.mean(axis=0)).max() < bound
    assert np.abs(products).max() < bound


@given(threshold=st.integers(0, 2**16 - 1))
def test_as_many_words_as_the_threshold_says_lie_below_the_limit(threshold):
    words = np.arange(2**16, dtype=np.uint16)
    for each in (words, np.float32(words / 2**16), np.float32((words + 0.99) / 2**16)):
        np.testing.assert_array_equal(each < backend.limit(each, threshold), words < threshold)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_block_by_block_an_update_reaches_every_element_once(rng, size):
    @blockwise
    def update(xp, a, b, factor):
        a += factor * b

    a, b = rng.standard_normal((2, size))
    expected = a + 0.5 * b
    update(np, a, b, 0.5)
    np.testing.assert_array_equal(a, expected)


# Threads of matrix products


def threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(backend, "THREADS_CHOSEN", False)
    with threadpool_limits(2, "blas"):
        if threads() != {2}:
            pytest.skip("the threads of NumPy's linear algebra cannot be set here")
        yield


@pytest.mark.usefixtures("two_threads")
def test_small_products_have_one_thread_and_give_the_others_back_whatever_happens():
    with suppress(KeyboardInterrupt), blas_threads(np, 10**8 - 1):
        assert threads() == {1}
        raise KeyboardInterrupt
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_of_two_blocks_that_overlap_the_last_to_end_gives_the_threads_back(first_to_end):
    blocks = [blas_threads(np, 1), blas_threads(np, 1)]  # as of two trainings in two threads
    for block in blocks:
        block.__enter__()
    blocks.pop(first_to_end).__exit__(None, None, None)
    assert threads() == {1}
    blocks.pop().__exit__(None, None, None)
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("xp", "multiplications", "chosen"),
    [(np, 10**8, False), (SimpleNamespace(), 1, False), (np, 1, True)],
    ids=["large products", "on a GPU", "a user's choice"],
)
def test_the_threads_stay_as_they_are_for(monkeypatch, xp, multiplications, chosen):
    monkeypatch.setattr(backend, "THREADS_CHOSEN", chosen)
    with blas_threads(xp, multiplications):
        assert threads() == {2}


@pytest.mark.parametrize(
    ("chosen", "variables"),
    [(False, {}), (True, {"OPENBLAS_NUM_THREADS": "2"}), (True, {"OMP_NUM_THREADS": "1"})],
)
def test_users_choose_a_number_of_threads_before_numpy_is_loaded(chosen, variables):
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: text for name, text in os.environ.items() if name not in names}
    line = "from npaae import backend; print(backend.THREADS_CHOSEN)"
    printed = subprocess.check_output(
        [sys.executable, "-c", line], env=environment | variables, text=True
    )
    assert printed.strip() == str(chosen)


class Watch:
    """A layer that does nothing but look how many threads there are."""

    def __init__(self):
        self.seen = []

    def forward(self, x, rng=None):
        self.seen.append(threads())
        return x, None

    def backward(self, dy, cache):
        return dy


@pytest.mark.usefixtures("two_threads")
def test_small_models_train_on_one_thread_and_between_two_epochs_the_users_are_back(small_model):
    model, watch, images = small_model(), Watch(), np.full((4, 9), 0.5)
    model.encoder.layers.append(watch)
    for record in npaae.train(model, images, test_images=images, epochs=2):
        assert threads() == {2}
        assert watch.seen == [{1}] * 3 * record.epoch  # two passes of training, one of evaluation


@pytest.mark.usefixtures("two_threads")
def test_two_trainings_in_two_threads_equal_one_and_leave_the_users_threads():
    images = np.random.default_rng(0).random((200, 784))

    def theta(_):
        model = npaae.AdversarialAutoencoder(hidden=(64, 32))
        list(npaae.train(model, images, epochs=3))
        return model.theta

    alone = theta(None)
    with ThreadPoolExecutor(2) as pool:
        for together in pool.map(theta, range(4)):
            np.testing.assert_array_equal(together, alone)
    assert threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_large_models_train_on_the_users_threads():
    model, watch = npaae.AdversarialAutoencoder(hidden=(1000, 1000), visible=9), Watch()
    model.encoder.layers.append(watch)
    next(npaae.train(model, np.full((40, 9), 0.5), batch_size=40))
    assert watch.seen == [{2}] * 2
