"""The same code on a GPU: proven without one on a strict stand-in, against CuPy's names, and with one by parity."""

import ast
import copy
import ctypes
import inspect
import io
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import npaae
from npaae import backend, layers, losses, metrics, optim, plots, priors, training
from npaae.network import parameter_count, perceptron
from npaae.optim import Adam

from . import strict_device
from .strict_device import DeviceArray, device


@pytest.fixture
def strict(monkeypatch):
    """backend="cupy" computes on the stand-in."""
    monkeypatch.setattr(backend, "_cupy_on_a_gpu", lambda: device)
    strict_device.FETCHES.clear()


def host(value):
    return value._array if isinstance(value, DeviceArray) else np.asarray(value)


# The stand-in is strict


@pytest.mark.parametrize(
    "mix",
    [
        lambda d, n: d + n,
        lambda d, n: n + d,
        lambda d, n: np.exp(d),
        lambda d, n: np.concatenate((d, d)),
        lambda d, n: np.asarray(d),
        lambda d, n: device.maximum(d, n),
        lambda d, n: n.__setitem__(slice(None), d),
        lambda d, n: d.__setitem__(slice(None), n),
        lambda d, n: d[n.astype(int)],
    ],
)
def test_the_stand_in_refuses_to_meet_numpy(mix):
    with pytest.raises(TypeError):
        mix(device.asarray([1.0, 2.0]), np.array([1.0, 2.0]))


def test_the_stand_in_counts_what_the_host_asks_for():
    strict_device.FETCHES.clear()
    array = device.asarray([1.0, 2.0])
    float(array[0])
    bool((array > 0).all())
    array.get()
    assert strict_device.FETCHES == [(), (), (2,)]


# The mathematics on it, to the last bit


@pytest.mark.parametrize(
    "make",
    [
        lambda xp, W, b: layers.Dense(xp, W, b),
        lambda xp, W, b: layers.ReLU(xp),
        lambda xp, W, b: layers.Sigmoid(xp),
        lambda xp, W, b: layers.Dropout(xp, 0.4),
    ],
    ids=["dense", "relu", "sigmoid", "dropout"],
)
def test_every_layer_computes_the_same_on_the_device(make, rng):
    x, W, dy = rng.standard_normal((3, 4, 4))
    results = []
    for xp in (np, device):
        layer = make(xp, xp.asarray(W), xp.asarray(W[0]))
        y, cache = layer.forward(xp.asarray(x), backend.generator(xp, 0, 1))
        results.append([host(y), host(layer.backward(xp.asarray(dy), cache))])
        if isinstance(layer, layers.Dense):
            layer.parameter_gradients(xp.asarray(dy), cache)
            results[-1] += [host(layer.dW), host(layer.db)]
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("function", [losses.bce, losses.bce_with_logits])
def test_both_losses_compute_the_same_on_the_device(function, rng):
    p, t = rng.uniform(0.1, 0.9, (2, 3, 4))
    on_numpy, on_device = (function(xp, xp.asarray(p), xp.asarray(t)) for xp in (np, device))
    for ours, theirs in zip(on_numpy, on_device, strict=True):
        np.testing.assert_array_equal(ours, host(theirs))


def test_a_network_and_its_optimiser_compute_the_same_on_the_device(rng):
    theta, x, dy = rng.standard_normal(parameter_count((4, 3, 2))), rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    results = []
    for xp in (np, device):
        parameters, gradient = xp.asarray(theta.copy()), xp.asarray(np.zeros_like(theta))
        network, adam = perceptron(xp, (4, 3, 2), 0.3, parameters, gradient), Adam(xp, parameters, gradient, 0.1)
        for _ in range(3):
            _, caches = network.forward(xp.asarray(x), backend.generator(xp, 0, 1))
            network.backward(xp.asarray(dy), caches)
            adam.step()
        results.append(host(parameters))
    np.testing.assert_array_equal(*results)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "prior",
    [priors.gaussian(), priors.uniform_square(), priors.uniform_disc(), priors.gaussian_mixture(), priors.swiss_roll()],
    ids=lambda prior: type(prior).__name__,
)
def test_every_prior_draws_the_same_on_the_device(prior):
    on_numpy, on_device = (prior(backend.generator(xp, 0, 1), 50, 2) for xp in (np, device))
    assert isinstance(on_device, DeviceArray)
    np.testing.assert_array_equal(on_numpy, host(on_device))


@pytest.mark.usefixtures("strict")
def test_training_with_labels_is_the_same_on_the_device(small_model):
    images = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)
    prior, labels = priors.gaussian_mixture(components=3), np.arange(25) % 4
    models = [small_model(backend=name, prior=prior, classes=3) for name in ("numpy", "cupy")]
    histories = [list(npaae.train(model, images, labels=labels, epochs=2, batch_size=10)) for model in models]
    assert [record[1:4] for record in histories[0]] == [record[1:4] for record in histories[1]]
    np.testing.assert_array_equal(models[0].theta, host(models[1].theta))


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_and_everything_after_it_are_the_same_on_the_device(small_model, dtype, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)
    models = [small_model(backend=name, dtype=dtype) for name in ("numpy", "cupy")]
    assert isinstance(models[1].theta, DeviceArray)
    histories = [list(npaae.train(model, images, test_images=images, epochs=2, batch_size=10)) for model in models]
    for ours, theirs in zip(*histories, strict=True):
        assert ours[:-1] == theirs[:-1]
    on_numpy, on_device = models
    for name, array in on_numpy.arrays().items():
        np.testing.assert_array_equal(host(on_device.arrays()[name]), array)
    for use in (
        lambda model: model.encode(images),
        lambda model: model.reconstruct(images),
        lambda model: model.decode([[0.5, -0.5]]),
        lambda model: model.sample(3, seed=1),
    ):
        np.testing.assert_array_equal(use(on_device), use(on_numpy))
        assert type(use(on_device)) is np.ndarray


@pytest.mark.slow
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("prior", [priors.gaussian(), priors.gaussian_mixture()], ids=lambda prior: type(prior).__name__)
def test_every_figure_is_the_same_on_the_device(small_model, prior):
    images, labels = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8), np.arange(25) % 3
    on_numpy, on_device = (small_model(backend=name, prior=prior) for name in ("numpy", "cupy"))
    for draw in (
        lambda model: plots.samples(model),
        lambda model: plots.manifold(model, side=3),
        lambda model: plots.latent(model, images, labels, "abc"),
        lambda model: plots.reconstructions(model, images),
        lambda model: plots.priors({"it": model}, images, labels),
    ):
        pictures = [io.BytesIO(), io.BytesIO()]
        for model, picture in zip((on_numpy, on_device), pictures, strict=True):
            draw(model).savefig(picture)
        assert pictures[0].getvalue() == pictures[1].getvalue()


@pytest.mark.usefixtures("strict")
def test_every_measurement_is_the_same_on_the_device(small_model):
    images, labels = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8), np.arange(25) % 3
    on_numpy, on_device = (small_model(backend=name) for name in ("numpy", "cupy"))
    dataset = npaae.data.Dataset(images, labels, images, labels, ("a", "b", "c"), "a test")
    ours, theirs = (metrics.report(model, dataset) for model in (on_numpy, on_device))
    for name, number in ours._asdict().items():
        np.testing.assert_array_equal(getattr(theirs, name), number)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("there_and_back", [("cupy", "numpy"), ("numpy", "cupy"), ("cupy", "cupy")])
def test_a_model_saved_on_one_backend_goes_on_on_another(small_model, tmp_path, there_and_back):
    images = np.random.default_rng(0).random((20, 9))
    first, second = there_and_back
    model = small_model(backend=first)
    list(npaae.train(model, images, epochs=1))
    model.save(tmp_path / "model.npz")
    loaded = npaae.AdversarialAutoencoder.load(tmp_path / "model.npz", backend=second)
    assert isinstance(loaded.theta, DeviceArray) == (second == "cupy")
    for both in (model, loaded):
        list(npaae.train(both, images, epochs=1))
    np.testing.assert_array_equal(host(loaded.theta), host(model.theta))


@pytest.mark.usefixtures("strict")
def test_the_host_asks_for_numbers_once_an_epoch_not_once_a_step(small_model):
    def fetches(batch_size):
        model = small_model(backend="cupy")
        strict_device.FETCHES.clear()
        images = np.random.default_rng(0).random((60, 9))
        list(npaae.train(model, images, test_images=images, epochs=1, batch_size=batch_size))
        return len(strict_device.FETCHES)

    assert fetches(60) == fetches(2) == 4  # losses, what is finite, the test set's loss, its codes


@pytest.mark.usefixtures("strict")
def test_the_host_asks_for_no_more_numbers_where_evaluation_goes_in_pieces(small_model, monkeypatch):
    images = device.asarray(np.random.default_rng(0).random((60, 9)))

    def fetches(rows_at_once):
        monkeypatch.setattr(training, "ROWS_AT_ONCE", rows_at_once)
        strict_device.FETCHES.clear()
        training.evaluate(small_model(backend="cupy"), images)
        return len(strict_device.FETCHES)

    assert fetches(60) == fetches(7)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("classes", [0, 3])
def test_a_step_asks_for_nothing_moves_nothing_and_runs_each_chain_as_one(small_model, classes):
    model = small_model(backend="cupy", prior=priors.gaussian_mixture(), classes=classes)
    x, rng = device.asarray(np.full((6, 9), 0.5)), backend.generator(device, 0, 3)
    labels = device.asarray(np.arange(6) % 4) if classes else None
    for record in (strict_device.FETCHES, strict_device.MOVES, strict_device.FUSED):
        record.clear()
    model.step(x, rng, labels)
    assert strict_device.FETCHES == strict_device.MOVES == []
    assert Counter(strict_device.FUSED) == {"_update": 3, "_cross_entropies": 4, "_drop": 10}


@pytest.mark.usefixtures("strict")
def test_the_images_move_once_whatever_the_steps_and_epochs(small_model):
    def moves(epochs):
        model = small_model(backend="cupy")
        strict_device.MOVES.clear()
        images = np.random.default_rng(0).random((60, 9))
        list(npaae.train(model, images, test_images=images, epochs=epochs, batch_size=7))
        return strict_device.MOVES

    assert moves(3) == [(60, 9), (60, 9), (60,), (60,), (60,)]  # training set, test set, and each epoch's order


def test_a_chain_is_fused_once():
    assert backend.fused(device, optim._update) is backend.fused(device, optim._update)


# What the package uses of CuPy exists in CuPy


def uses_of_xp():
    """(dotted name after xp, keywords) of every use of the array module in the package."""
    found = []
    for path in sorted(Path(npaae.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {
            id(node.func): [keyword.arg for keyword in node.keywords] for node in ast.walk(tree) if isinstance(node, ast.Call)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                names, inner = [], node
                while isinstance(inner, ast.Attribute):
                    names.insert(0, inner.attr)
                    inner = inner.value
                names = [inner.id, *names] if isinstance(inner, ast.Name) else names
                if "xp" in names and names[-1] != "xp":
                    found.append((".".join(names[names.index("xp") + 1 :]), tuple(calls.get(id(node), ()))))
    return sorted({use for use in found if not use[0].startswith("__")})


def test_the_walk_finds_the_uses():
    names = {name for name, _ in uses_of_xp()}
    assert {"matmul", "random.default_rng", "zeros", "asarray", "log1p"} <= names
    assert ("matmul", ("out",)) in uses_of_xp()


@pytest.mark.parametrize(("name", "keywords"), uses_of_xp())
def test_every_use_of_the_array_module_is_in_the_stand_in(name, keywords):
    place = device
    for part in name.split("."):
        place = getattr(place, part)


@pytest.mark.parametrize(("name", "keywords"), uses_of_xp())
def test_every_use_of_the_array_module_is_in_cupy(name, keywords):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x", exc_type=ImportError)
    place = cupy
    for part in name.split("."):
        place = getattr(place, part)
    if isinstance(place, cupy.ufunc):
        assert set(keywords) <= {"out", "dtype", "casting"}
    elif keywords:
        assert set(keywords) <= set(inspect.signature(place).parameters)


def test_every_method_that_a_prior_or_a_layer_asks_of_a_generator_is_in_cupys():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x", exc_type=ImportError)
    for name in ("random", "standard_normal", "uniform", "integers"):
        assert hasattr(cupy.random.Generator, name)


# The fused chains: CuPy traces them into CUDA without a GPU, and any C++ compiler makes a loop of that


def cuda_kernel(chain, arguments):
    """The one kernel that CuPy makes of a chain, given arrays that have shapes and types and no memory."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x", exc_type=ImportError)
    if cupy.cuda.is_available():
        pytest.skip("there is a GPU here: `pytest -m gpu` runs the kernels themselves")
    nowhere = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(1, 2**20, None, device_id=0), 0)
    fused = backend.fused.__wrapped__(cupy, chain)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):  # traced, and then refused for want of a GPU
        fused(*(cupy.ndarray(a.shape, a.dtype, nowhere) if isinstance(a, np.ndarray) else a for a in arguments))
    ((kernel, _),) = fused._memo.values()
    return kernel


def run_on_the_host(kernel, arguments, folder):
    """Compile a kernel as a C++ loop over its elements and run it; returns the outputs that are not arguments."""
    compiler = shutil.which("c++") or pytest.skip("there is no C++ compiler here")
    parameters = kernel.params[:-1]  # the last is the index
    outputs = [np.empty(arguments[0].shape, parameter.dtype) for parameter in parameters[len(arguments) :]]
    values = [*arguments, *outputs]
    pairs = list(zip(parameters, values, strict=True))
    signature = ", ".join(f"{p.ctype} {'*' if isinstance(v, np.ndarray) else ''}_{p.name}" for p, v in pairs)
    names = "\n".join(
        f"{p.ctype} &{p.name} = _{p.name}[i];" if isinstance(v, np.ndarray) else f"{p.ctype} {p.name} = _{p.name};"
        for p, v in pairs
    )
    preamble = kernel.preamble.replace('#include "cupy/float16.cuh"', "").replace("__device__", "static")
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    source.write_text(
        f"#include <algorithm>\n#include <cmath>\nusing namespace std;\n{preamble}\n"
        f'extern "C" void run(long n, {signature}) {{ for (long i = 0; i < n; ++i) {{ {names}\n{kernel.operation} }} }}'
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-ffp-contract=off", "-o", library, source], check=True)
    types = {"float": ctypes.c_float, "double": ctypes.c_double, "long long": ctypes.c_longlong}
    ctypes.CDLL(library).run(
        ctypes.c_long(arguments[0].size),
        *(ctypes.c_void_p(v.ctypes.data) if isinstance(v, np.ndarray) else types[p.ctype](v) for p, v in pairs),
    )
    return outputs


def chain_and_arguments(name, dtype):
    numbers = np.random.default_rng(0).standard_normal((4, 5, 7)).astype(dtype)
    scale = np.dtype(dtype).type(1 / 0.7)
    return {
        "Adam": (optim._update, [numbers[0], numbers[1], numbers[2], numbers[3] ** 2, 0.9, 0.999, 1e-3, 1e-8]),
        "cross-entropy": (losses._cross_entropies, [100 * numbers[0], numbers[1] ** 2, 35]),
        "cross-entropy of one target": (losses._cross_entropies, [100 * numbers[0], 1.0, 35]),
        "dropout": (layers._drop, [numbers[0], np.random.default_rng(0).random((5, 7), np.float32), 0.3, scale]),
    }[name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["Adam", "cross-entropy", "cross-entropy of one target", "dropout"])
def test_what_cupy_makes_of_a_chain_is_one_kernel_that_computes_the_same(name, dtype, tmp_path):
    chain, arguments = chain_and_arguments(name, dtype)
    kernel = cuda_kernel(chain, arguments)
    if dtype == "float32":  # of which a GPU computes many times as many
        assert "double" not in kernel.preamble + kernel.operation
    ours, theirs = copy.deepcopy(arguments), copy.deepcopy(arguments)
    returned, outputs = chain(np, *ours) or (), run_on_the_host(kernel, theirs, tmp_path)
    assert [array.dtype for array in returned] == [array.dtype for array in outputs]
    for array, other in zip([*ours, *returned], [*theirs, *outputs], strict=True):
        np.testing.assert_allclose(other, array, rtol=4 * np.finfo(dtype).eps, atol=0)


# On a GPU


class HostDraws:
    """NumPy's draws, handed to either backend."""

    def __init__(self, xp, seed):
        self.xp, self.rng = xp, np.random.default_rng(seed)

    def random(self, shape, dtype=np.float64):
        return self.xp.asarray(self.rng.random(shape, dtype=dtype))

    def standard_normal(self, shape):
        return self.xp.asarray(self.rng.standard_normal(shape))


@pytest.fixture
def gpu():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x", exc_type=ImportError)
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no GPU here")
    return cupy


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("classes", [0, 10])
def test_on_a_gpu_every_step_equals_numpys_given_the_same_draws(classes):
    x, labels = np.random.default_rng(1).random((100, 784)), np.arange(100) % 11
    options = {"dtype": "float64", "classes": classes, "prior": priors.gaussian_mixture()}
    models = [npaae.AdversarialAutoencoder(backend=name, **options) for name in ("numpy", "cupy")]
    for number in range(10):
        steps = [
            model.step(model.xp.asarray(x), HostDraws(model.xp, number), model.xp.asarray(labels) if classes else None)
            for model in models
        ]
        on_numpy, on_cupy = ([float(loss) for loss in step] for step in steps)
        np.testing.assert_allclose(on_cupy, on_numpy, rtol=1e-9)
        for name, array in models[0].arrays().items():
            np.testing.assert_allclose(backend.to_host(models[1].arrays()[name]), array, rtol=1e-7, atol=1e-11, err_msg=name)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_a_step_in_float32_equals_numpys_to_its_rounding():
    x = np.random.default_rng(1).random((100, 784))
    models = [npaae.AdversarialAutoencoder(backend=name) for name in ("numpy", "cupy")]
    on_numpy, on_cupy = ([float(loss) for loss in model.step(model.xp.asarray(x), HostDraws(model.xp, 0))] for model in models)
    np.testing.assert_allclose(on_cupy, on_numpy, rtol=1e-4)
    theirs = models[1].arrays()
    for name in ("reconstruction_adam.M", "reconstruction_adam.V"):
        array = models[0].arrays()[name]
        assert theirs[name].dtype == np.float32
        np.testing.assert_allclose(backend.to_host(theirs[name]), array, rtol=1e-3, atol=1e-4 * np.abs(array).max())


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_a_model_trains_encodes_samples_and_is_loaded_without_it(tmp_path):
    digits = npaae.data.mnist_sample()
    model = npaae.AdversarialAutoencoder(backend="cupy")
    first, *_, last = npaae.train(model, digits.train_images, test_images=digits.test_images, epochs=5)
    assert last.reconstruction < first.reconstruction
    assert model.sample(3, seed=1).shape == (3, 784)
    model.save(tmp_path / "model.npz")
    on_cpu = npaae.AdversarialAutoencoder.load(tmp_path / "model.npz")
    np.testing.assert_allclose(on_cpu.encode(digits.test_images), model.encode(digits.test_images), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_training_on_after_loading_equals_not_having_stopped(tmp_path):
    images = np.random.default_rng(0).random((500, 784))
    whole, halves = (npaae.AdversarialAutoencoder(backend="cupy", seed=1) for _ in range(2))
    list(npaae.train(whole, images, epochs=4))
    list(npaae.train(halves, images, epochs=2))
    halves.save(tmp_path / "model.npz")
    resumed = npaae.AdversarialAutoencoder.load(tmp_path / "model.npz", backend="cupy")
    list(npaae.train(resumed, images, epochs=2))
    np.testing.assert_allclose(backend.to_host(resumed.theta), backend.to_host(whole.theta), rtol=1e-4, atol=1e-6)
