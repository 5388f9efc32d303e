import sys
from types import SimpleNamespace

import numpy as np
import pytest

from npaae import backend
from npaae.errors import InvalidInput, Unavailable


def cupy_that_finds(gpu):
    return SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: gpu))


def test_numpy_is_numpy():
    assert backend.array_module("numpy") is np


def test_another_name_is_refused():
    with pytest.raises(InvalidInput, match=r'use "numpy", "cupy" or "auto"'):
        backend.array_module("torch")


def test_cupy_that_is_not_installed_is_one_sentence_saying_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    with pytest.raises(Unavailable, match=r"cannot be imported here \(.*\); install it with `pip install cupy-cuda12x` or"):
        backend.array_module("cupy")


def test_cupy_without_a_gpu_is_one_sentence_saying_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_that_finds(gpu=False))
    with pytest.raises(Unavailable, match="needs an NVIDIA GPU"):
        backend.array_module("cupy")


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


def test_the_slices_of_a_sweep_cover_everything_once():
    size = 2 * backend.CHUNK + 5
    covered = np.zeros(size, int)
    for part in backend.sweep(np, size):
        covered[part] += 1
    np.testing.assert_array_equal(covered, 1)


@pytest.mark.gpu
def test_a_step_on_cupy_equals_numpys_given_the_same_draws():
    """One step on both backends with the same weights, masks and prior draws, fed from the host."""
    import npaae

    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no GPU here")

    class HostDraws:
        """NumPy's draws, handed to either backend."""

        def __init__(self, xp):
            self.xp, self.rng = xp, np.random.default_rng(0)

        def random(self, shape, dtype):
            return self.xp.asarray(self.rng.random(shape, dtype=np.float32))

        def standard_normal(self, shape):
            return self.xp.asarray(self.rng.standard_normal(shape))

    x = np.random.default_rng(1).random((100, 784))
    models = [npaae.AdversarialAutoencoder(backend=name, dtype="float64") for name in ("numpy", "cupy")]
    for _ in range(3):
        for model in models:
            model.step(model.xp.asarray(x), HostDraws(model.xp))
    on_numpy, on_cupy = (backend.to_host(model.theta) for model in models)
    np.testing.assert_allclose(on_cupy, on_numpy, rtol=1e-9, atol=1e-12)
