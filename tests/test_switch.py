"""The same code on a GPU.

Shown without one on a strict stand-in, equal to the last bit, and against CuPy's names. With one,
`pytest -m gpu` shows it on the GPU.
"""

import ast
import copy
import gc
import inspect
import io
import operator
import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import npaae
from npaae import backend, layers, losses, metrics, plots, priors
from npaae.backend import to_host

from . import strict_device
from .strict_device import DeviceArray, device

IMAGES = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


@pytest.fixture
def strict(monkeypatch):
    """backend="cupy" computes on the stand-in."""
    monkeypatch.setattr(backend, "_cupy_on_a_gpu", lambda: device)


@pytest.fixture
def pair(strict, small_model):
    """Makes two equal models: on NumPy and on the stand-in."""
    return lambda **options: [small_model(backend=name, **options) for name in ("numpy", "cupy")]


@pytest.fixture
def cupy():
    reason = "CuPy is not installed: pip install cupy-cuda12x"
    return pytest.importorskip("cupy", reason=reason, exc_type=ImportError)


def recorded(action):
    """(fetches, moves, fused, compiled, launches) of an action on the stand-in."""
    records = (
        strict_device.FETCHES,
        strict_device.MOVES,
        strict_device.FUSED,
        strict_device.COMPILED,
        strict_device.LAUNCHES,
    )
    for record in records:
        record.clear()
    action()
    return tuple(map(list, records))


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
        lambda d, n: d.__imul__(n),
        lambda d, n: d[n.astype(int)],
    ],
)
def test_the_stand_in_refuses_to_meet_numpy(mix):
    with pytest.raises(TypeError):
        mix(device.asarray([1.0, 2.0]), np.array([1.0, 2.0]))


def test_the_stand_in_records_what_the_host_fetches_and_moves():
    def action():
        array = device.asarray([1.0, 2.0])
        float(array[0])
        bool((array > 0).all())
        array.get()

    assert recorded(action)[:2] == ([(), (), (2,)], [(2,)])


def test_the_stand_in_offers_nothing_that_cupy_lacks(cupy):
    ours = {"": device, "ndarray.": DeviceArray, "random.Generator.": strict_device.Generator}
    theirs = (cupy, cupy.ndarray, cupy.random.Generator)
    missing = [
        prefix + name
        for (prefix, owner), other in zip(ours.items(), theirs, strict=True)
        for name in vars(owner)
        if not name.startswith("_") and not hasattr(other, name)
    ]
    assert missing == []


# The mathematics on it, to the last bit


MIXTURE = priors.gaussian_mixture(components=3)
OPTIONS = [
    {"dtype": "float32"},
    {"prior": priors.uniform_square()},
    {"prior": priors.uniform_disc()},
    {"prior": MIXTURE, "classes": 3},
    {"prior": priors.swiss_roll(), "classes": 3, "dtype": "float32"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options)))
def test_training_is_the_same_on_the_device(pair, options):
    models = pair(**options)
    assert isinstance(models[1].theta, DeviceArray)
    labels = np.arange(25) % 4 - 1 if "classes" in options else None
    arguments = {"labels": labels, "test_images": IMAGES, "epochs": 2, "batch_size": 10}
    ours, theirs = (list(npaae.train(model, IMAGES, **arguments)) for model in models)
    ours, theirs = ([record._replace(seconds=0) for record in each] for each in (ours, theirs))
    assert ours == theirs
    for name, array in models[0].arrays().items():
        np.testing.assert_array_equal(to_host(models[1].arrays()[name]), array, err_msg=name)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.encode(IMAGES),
        lambda model: model.reconstruct(IMAGES),
        lambda model: model.decode([[0.5, -0.5]]),
        lambda model: model.sample(3, seed=1),
    ],
    ids=["encode", "reconstruct", "decode", "sample"],
)
def test_a_model_on_the_device_gives_the_same_numpy_arrays(pair, use):
    ours, theirs = map(use, pair())
    assert type(theirs) is np.ndarray
    np.testing.assert_array_equal(theirs, ours)


def test_what_training_does_not_use_is_the_same_on_the_device(rng):
    x, dy = rng.uniform(0.1, 0.9, (2, 3, 4))
    results = []
    for xp in (np, device):
        layer = layers.Sigmoid(xp)
        y, cache = layer.forward(xp.asarray(x))
        loss = losses.bce(xp, y, xp.asarray(x))
        results.append([to_host(a) for a in (y, layer.backward(xp.asarray(dy), cache), *loss)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        plots.samples,
        lambda model: plots.manifold(model, side=3),
        lambda model: plots.latent(model, IMAGES, np.arange(25) % 3, "abc"),
        lambda model: plots.reconstructions(model, IMAGES),
        lambda model: plots.priors({"it": model}, IMAGES, np.arange(25) % 3),
    ],
    ids=["samples", "manifold", "latent", "reconstructions", "priors"],
)
def test_every_figure_is_the_same_on_the_device(pair, draw):
    pictures = [io.BytesIO(), io.BytesIO()]
    for model, picture in zip(pair(prior=MIXTURE), pictures, strict=True):
        draw(model).savefig(picture)
    assert pictures[0].getvalue() == pictures[1].getvalue()


def test_every_measure_is_the_same_on_the_device(pair):
    labels = np.arange(25) % 3
    dataset = npaae.data.Dataset(IMAGES, labels, IMAGES, labels, ("a", "b", "c"), "a test")
    ours, theirs = (metrics.measure(model, dataset)._asdict() for model in pair())
    np.testing.assert_equal(theirs, ours)


@pytest.mark.parametrize("backends", [("cupy", "numpy"), ("numpy", "cupy"), ("cupy", "cupy")])
def test_a_model_saved_on_one_backend_goes_on_on_another(strict, small_model, tmp_path, backends):
    model = small_model(backend=backends[0])
    list(npaae.train(model, IMAGES, epochs=1))
    model.save(tmp_path / "model.npz")
    loaded = npaae.AdversarialAutoencoder.load(tmp_path / "model.npz", backend=backends[1])
    assert isinstance(loaded.theta, DeviceArray) == (backends[1] == "cupy")
    for either in (model, loaded):
        list(npaae.train(either, IMAGES, epochs=1))
    np.testing.assert_array_equal(to_host(loaded.theta), to_host(model.theta))


# What a GPU waits for


def test_a_copy_of_a_model_on_the_device_is_there_too(pair):
    _, model = pair()
    list(npaae.train(model, IMAGES, epochs=1))
    other = copy.deepcopy(model)
    assert isinstance(other.theta, DeviceArray)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(to_host(other.arrays()[name]), to_host(array))


def test_an_epoch_fetches_the_same_few_numbers_whatever_its_steps(pair):
    _, model = pair()

    def fetches(batch_size):
        arguments = {"test_images": IMAGES, "epochs": 1, "batch_size": batch_size}
        return [
            len(shape) for shape in recorded(lambda: [*npaae.train(model, IMAGES, **arguments)])[0]
        ]

    # the losses, what is finite, the codes of the test set, their loss
    assert fetches(25) == fetches(2) == [2, 1, 2, 0]


def test_the_images_move_once_and_an_order_every_epoch(pair):
    _, model = pair()
    arguments = {"test_images": IMAGES[:5], "epochs": 3, "batch_size": 7}
    _, moves, *_ = recorded(lambda: [*npaae.train(model, IMAGES, **arguments)])
    assert moves == [(25, 9), (5, 9), (25,), (25,), (25,)]


@pytest.mark.parametrize("classes", [0, 3])
def test_a_step_fetches_and_moves_nothing_and_runs_each_chain_as_one_kernel(pair, classes):
    _, model = pair(prior=MIXTURE, classes=classes)
    x, rng = device.asarray(np.full((6, 9), 0.5)), backend.random_stream(device, 0, backend.NOISE)
    labels = device.asarray(np.arange(6) % 4) if classes else None
    model.step(x, rng, labels)  # compiles what is not yet compiled
    fetches, moves, kernels, compiled, _ = recorded(lambda: model.step(x, rng, labels))
    assert fetches == moves == compiled == []
    expected = {"_update": 3, "_cross_entropies": 4, "_drop": 10, "_where_positive": 10}
    assert Counter(kernels) == expected


def test_a_step_launches_at_most_140_kernels(pair):
    _, model = pair()
    x, rng = device.asarray(IMAGES), backend.random_stream(device, 0, backend.NOISE)
    model.step(x, rng)
    *_, launches = recorded(lambda: model.step(x, rng))
    assert 100 < len(launches) <= 140


@pytest.mark.parametrize("kind", [npaae.AdversarialAutoencoder, npaae.CategoricalAutoencoder])
def test_more_epochs_leave_no_more_arrays_or_kernels(monkeypatch, kind):
    monkeypatch.setattr(backend, "_cupy_on_a_gpu", lambda: device)
    model = kind(hidden=(7, 5), visible=9, backend="cupy")

    def left_by(epochs):
        images = model.xp.asarray(IMAGES)  # bytes on the device: an eighth of float64
        assert images.dtype == np.uint8
        for _ in npaae.train(model, IMAGES, epochs=epochs, batch_size=7):
            pass
        gc.collect()
        return sum(type(each) is DeviceArray for each in gc.get_objects())

    first = left_by(26)  # compiles what is not yet compiled; Adam flushes every 100 steps
    strict_device.COMPILED.clear()
    assert left_by(40) == first
    assert strict_device.COMPILED == []


# What the package uses of CuPy exists in CuPy


def uses_of_xp():
    """{dotted name after xp: keywords} of every use of the array module in the package."""
    found = {}
    for path in sorted(Path(npaae.__file__).parent.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        calls = {id(node.func): node.keywords for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if match := re.fullmatch(r"(?:\w+\.)*xp\.(?!__)([\w.]+)", text):
                keywords = {keyword.arg for keyword in calls.get(id(node), ())}
                found.setdefault(match[1], set()).update(keywords)
    return found


def test_the_walk_finds_the_uses():
    uses = uses_of_xp()
    assert {"random.XORWOW", "zeros", "asarray", "log1p", "sum"} <= set(uses)
    assert uses["matmul"] == {"out"}


@pytest.mark.parametrize("name", sorted(n for n in uses_of_xp() if not n.startswith("cuda")))
def test_every_use_of_the_array_module_is_in_the_stand_in(name):
    operator.attrgetter(name)(device)


@pytest.mark.parametrize(("name", "keywords"), sorted(uses_of_xp().items()))
def test_every_use_of_the_array_module_is_in_cupy(cupy, name, keywords):
    function = operator.attrgetter(name)(cupy)
    if isinstance(function, cupy.ufunc):
        assert keywords <= {"out", "dtype", "casting"}
    elif keywords:
        assert keywords <= set(inspect.signature(function).parameters)


# On a GPU


class HostDraws:
    """NumPy's draws, handed to either backend."""

    def __init__(self, xp, seed):
        self.xp, self.rng = xp, np.random.default_rng(seed)

    def random(self, shape, dtype=np.float64):
        return self.xp.asarray(self.rng.random(shape, dtype=dtype))

    def standard_normal(self, shape, dtype=np.float64):
        return self.xp.asarray(self.rng.standard_normal(shape, dtype=dtype))

    def integers(self, low, high, shape):
        return self.xp.asarray(self.rng.integers(low, high, shape))


@pytest.fixture
def gpu(cupy):
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no GPU here")


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("dtype", "steps", "tolerance", "kind"),
    [
        (*precision, kind)
        for precision in [("float64", 10, 1e-9), ("float32", 1, 1e-4)]
        for kind in ["unlabelled", "classes", "categories"]
    ]
    + [  # r is a small gradient scaled to length 2, and its rounding errors are scaled with it
        ("float64", 1, 1e-9, "phase 5"),
        ("float32", 1, 1e-2, "phase 5"),
    ],
)
def test_on_a_gpu_a_step_equals_numpys_given_the_same_draws(dtype, steps, tolerance, kind):
    x, labels = np.random.default_rng(1).random((100, 784)), np.arange(100) % 10

    def losses_of_a_step(model, number):
        asarray = model.xp.asarray
        known = (asarray(x[:30]), asarray(labels[:30]))
        if not isinstance(model, npaae.CategoricalAutoencoder):
            known = asarray(labels) if kind == "classes" else None
        draws = HostDraws(model.xp, number)
        return [float(loss) for loss in model.step(model.xp.asarray(x), draws, known)]

    with_categories = partial(npaae.CategoricalAutoencoder, latent=2, head_distance=6.0)
    make = {
        "unlabelled": npaae.AdversarialAutoencoder,
        "classes": partial(npaae.AdversarialAutoencoder, classes=10),
        "categories": partial(with_categories, perturbation=0),
        "phase 5": with_categories,
    }[kind]
    options = {"hidden": (256, 128), "dtype": dtype, "prior": priors.gaussian_mixture()}
    models = [make(backend=name, **options) for name in ("numpy", "cupy")]
    for number in range(steps):
        ours, theirs = (losses_of_a_step(model, number) for model in models)
        np.testing.assert_allclose(theirs, ours, rtol=tolerance)
    for name in ("reconstruction_adam.m", "discriminator_adam.m", "generator_adam.v"):
        array, other = models[0].arrays()[name], to_host(models[1].arrays()[name])
        assert other.dtype == dtype
        atol = tolerance * np.abs(array).max()
        np.testing.assert_allclose(other, array, rtol=100 * tolerance, atol=atol, err_msg=name)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_a_model_trains_and_encodes_without_it(tmp_path):
    digits = npaae.data.mnist_sample()
    model = npaae.AdversarialAutoencoder(backend="cupy")
    arguments = {"test_images": digits.test_images, "epochs": 5}
    first, *_, last = npaae.train(model, digits.train_images, **arguments)
    assert last.reconstruction < first.reconstruction
    assert model.sample(3, seed=1).shape == (3, 784)
    model.save(tmp_path / "model.npz")
    loaded = npaae.AdversarialAutoencoder.load(tmp_path / "model.npz")
    ours, theirs = loaded.encode(digits.test_images), model.encode(digits.test_images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


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
    ours, theirs = to_host(resumed.theta), to_host(whole.theta)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
