import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from npaae import backend
from npaae.errors import InvalidInput, Unavailable


def cupy_that_finds(gpu):
    libraries = {"cublas": None, "curand": None, "nvrtc": SimpleNamespace(getVersion=lambda: (12, 9))}
    return SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: gpu, **libraries))


def test_numpy_is_numpy():
    assert backend.array_module("numpy") is np


def test_another_name_is_refused():
    with pytest.raises(InvalidInput, match=r'use "numpy", "cupy" or "auto"'):
        backend.array_module("torch")


def test_cupy_that_is_not_installed_is_one_sentence_saying_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    with pytest.raises(
        Unavailable, match=r"cannot be imported here \(.*\); install it with `pip install 'cupy-cuda12x\[ctk\]'` or"
    ):
        backend.array_module("cupy")


def test_cupy_without_a_gpu_is_one_sentence_saying_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_that_finds(gpu=False))
    with pytest.raises(Unavailable, match="needs an NVIDIA GPU"):
        backend.array_module("cupy")


@pytest.mark.parametrize("error", [ImportError, RuntimeError], ids=["no library", "one of another version"])
def test_a_gpu_without_cudas_libraries_is_one_sentence_saying_what_to_install(monkeypatch, error):
    def absent():
        raise error("libnvrtc.so.12:\nno such file")

    cupy = cupy_that_finds(gpu=True)
    cupy.cuda.nvrtc.getVersion = absent
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(Unavailable, match=r"^[^\n]*\(libnvrtc.so.12: no such file\); install them with `pip install [^\n]*$"):
        backend.array_module("cupy")


def test_a_missing_linear_algebra_library_is_noticed_before_it_is_needed(monkeypatch):
    cupy = cupy_that_finds(gpu=True)
    del cupy.cuda.cublas
    cupy.cuda = ModuleThatImports(vars(cupy.cuda))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(Unavailable, match=r"not all of CUDA's libraries \(libcublas is absent\)"):
        backend.array_module("cupy")


class ModuleThatImports(SimpleNamespace):
    """Which, as `cupy.cuda` does, imports some of its attributes when first asked for them."""

    def __init__(self, attributes):
        super().__init__(**attributes)

    def __getattr__(self, name):
        raise ImportError(f"lib{name} is absent")


def test_auto_is_numpy_where_there_is_no_gpu(monkeypatch):
    for absent in (None, cupy_that_finds(gpu=False)):
        monkeypatch.setitem(sys.modules, "cupy", absent)
        assert backend.array_module("auto") is np


def test_auto_is_cupy_where_there_is_a_gpu(monkeypatch):
    cupy = cupy_that_finds(gpu=True)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert backend.array_module("auto") is cupy


def test_a_generator_is_determined_by_its_key():
    def draw(*key):
        return backend.generator(np, *key).random(3).tolist()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*key)) for key in ((1, 2, 3), (3, 2, 1), (1, 2, 4), (2, 2, 3))}) == 4


@pytest.mark.parametrize("size", [0, 1, backend.CHUNK, 2 * backend.CHUNK + 5, 7 * backend.CHUNK])
def test_a_sweep_goes_over_everything_once_in_pieces_that_fit_a_cache(size):
    covered, longest = np.zeros(size, int), []

    def count(part):
        covered[part] += 1
        longest.append(part.stop - part.start)

    backend.sweep(np, size, count)
    np.testing.assert_array_equal(covered, 1)
    assert max(longest, default=0) <= backend.CHUNK


def test_an_error_in_either_thread_of_a_sweep_is_the_callers():
    for bad in (0, backend.CHUNK):

        def fail(part, bad=bad):
            if part.start == bad:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            backend.sweep(np, 2 * backend.CHUNK, fail)


def test_a_sweep_on_a_device_is_one_piece():
    parts = []
    backend.sweep(SimpleNamespace(), 10**6, parts.append)
    assert parts == [slice(0, 10**6)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_sweeps_with_a_thread_of_its_own():
    backend.sweep(np, 2 * backend.CHUNK, lambda part: None)
    child = os.fork()
    if child == 0:
        backend.sweep(np, 2 * backend.CHUNK, lambda part: None)
        os._exit(0)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done == (child, 0)
