"""Layers of the user's own: the first model with them trains, saves, resumes, is checked, refused.

A layer says what it learns, keeps and depends on; the package goes by that, at any depth. The
layers below are put after the first layer of the encoder, the decoder and the discriminator.
"""

import copy
import pickle

import numpy as np
import pytest

import npaae
from npaae import AdversarialAutoencoder, BadFile, Diverged, InvalidInput, gradcheck
from npaae.backend import NOISE, random_stream
from npaae.categorical.layers import BatchNorm, SideBySide
from npaae.layers import Dense, ReLU, Sequential, flatten, named_parameters

from .fake_ranks import Rank, on_threads
from .layer_norm import LayerNorm

SMALL = {"hidden": (6, 5), "visible": 9, "dtype": "float64", "seed": 3}
NETWORKS = ("encoder", "decoder", "discriminator")
X = np.random.default_rng(1).random((10, 9))
IMAGES = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


class Residual:
    """y = x + f(x), for layers f that are applied one after another; dx = dy + f'(x) dy."""

    def __init__(self, layers):
        self.layers = [Sequential(layers)]

    def initialise(self, rng):
        self.layers[0].initialise(rng)

    def forward(self, x, rng=None):
        y, cache = self.layers[0].forward(x, rng)
        return x + y, cache

    def backward(self, dy, cache, *, parameters=True, inputs=True):
        dx = self.layers[0].backward(dy, cache, parameters=parameters, inputs=inputs)
        return dy + dx if inputs else None


class Scale:
    """y = γ x + shift, with a scalar γ and a constant; it keeps the number and mean of batches."""

    parameters = ("gamma",)
    statistics = ("batches", "mean")
    settings = ("shift", "every")

    def __init__(self, shift):
        self.gamma, self.shift, self.every = np.ones(1), shift, 2
        self.batches, self.mean = np.zeros((), np.int64), np.zeros(1, np.float32)

    def forward(self, x, rng=None):
        if rng is not None:
            self.batches += 1
            if self.batches % self.every == 0:  # of which `every` must stay an integer
                self.mean = 0.9 * self.mean + 0.1 * x.mean(keepdims=True)[0].astype(np.float32)
        return self.gamma * x + self.shift + self.mean[0], x

    def backward(self, dy, cache):
        return self.gamma * dy

    def parameter_gradients(self, dy, cache):
        self.dgamma[:] = np.vdot(dy, cache)


def dense(fan_in, fan_out, dtype):
    return Dense(np, np.empty((fan_in, fan_out), dtype), np.empty(fan_out, dtype))


def normalised(k, dtype):
    return [BatchNorm(np, k, dtype)]


def residual(k, dtype):
    return [Residual([dense(k, k, dtype), LayerNorm(k, dtype), ReLU(np), Residual([ReLU(np)])])]


def nested(k, dtype):
    return [Sequential([LayerNorm(k, dtype), Sequential([ReLU(np), BatchNorm(np, k, dtype)])])]


def side_by_side(k, dtype):
    left = Sequential([BatchNorm(np, 2, dtype), dense(2, 1, dtype)])
    right = Sequential([dense(k - 2, 1, dtype)])
    return [SideBySide(np, [left, right], [2, k - 2]), dense(2, k, dtype)]


def scaled(k, dtype):
    return [Scale(-0.1), Sequential([Residual([Scale(0.2)])])]


class Open(AdversarialAutoencoder):
    """Has layers of its own after the first layer of each network."""

    own = staticmethod(lambda k, dtype: [])

    def network(self, sizes, dropout):
        first, *others = super().network(sizes, dropout).layers
        return Sequential([first, *self.own(sizes[1], self.dtype), *others])


class Everything(Open):
    @staticmethod
    def own(k, dtype):
        return [
            layer
            for make in (normalised, residual, nested, side_by_side, scaled)
            for layer in make(k, dtype)
        ]


def with_own(own):
    return type(f"With_{own.__name__}", (Open,), {"own": staticmethod(own)})


KINDS = [*map(with_own, (normalised, residual, nested, side_by_side, scaled)), Everything]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
each_of_one = pytest.mark.parametrize("kind", KINDS[:-1], ids=lambda kind: kind.__name__)


def draws():
    return np.random.default_rng(2)


def trained(model, batch_size=10):
    list(npaae.train(model, IMAGES, test_images=IMAGES, epochs=2, batch_size=batch_size))
    return model


def everything(model):
    """All numbers that a model consists of."""
    adams = {f"{name}.t": np.array(adam.t) for name, adam in model.adams().items()}
    settings = {
        label: np.array(getattr(layer, name)) for label, layer, name in model.declared("settings")
    }
    return {"epoch": np.array(model.epoch), **model.arrays(), **adams, **settings}


def assert_equal(a, b):
    a, b = everything(a), everything(b)
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert (array.dtype, array.shape) == (b[name].dtype, b[name].shape), name
        np.testing.assert_array_equal(b[name], array, err_msg=name)


# Training


@each_kind
def test_training_lowers_the_loss_and_moves_every_parameter(kind):
    model = kind(**SMALL | {"dropout": 0.0, "lr_reconstruction": 0.01})
    before = {id(a): a.copy() for *_, a in parameters(model)}
    start, *_, end = npaae.train(model, IMAGES, epochs=30)
    assert end.reconstruction < start.reconstruction
    for name, label, array in parameters(model):
        assert np.any(array != before[id(array)]), f"{name}.{label} has not moved"


def parameters(model):
    for name in NETWORKS:
        for label, layer, parameter in named_parameters(getattr(model, name)):
            yield name, label, getattr(layer, parameter)


@each_kind
@pytest.mark.parametrize(
    ("phase", "moved"),
    [
        ("reconstruction", ["encoder", "decoder"]),
        ("discriminator", ["discriminator"]),
        ("generator", ["encoder"]),
    ],
)
def test_each_phase_moves_its_own_parameters_to_the_last_bit_and_no_other(kind, phase, moved):
    model, rng = kind(**SMALL), draws()
    codes, caches = model.encoder.forward(X, rng)
    model.gradient[:] = np.nan  # so that a gradient that nobody writes is seen
    before, gradient = model.theta.copy(), model.gradient
    arguments = {
        "reconstruction": (X, rng),
        "discriminator": (codes, rng),
        "generator": (codes, caches, rng),
    }[phase]
    getattr(model, f"{phase}_gradient")(*arguments)
    adams = model.adams()
    adams[f"{phase}_adam"].step()
    own = np.repeat(
        [name in moved for name in NETWORKS], [getattr(model, name).size for name in NETWORKS]
    )
    np.testing.assert_array_equal(np.isfinite(gradient), own)
    np.testing.assert_array_equal(model.theta[~own], before[~own])
    assert np.isfinite(model.theta).all()
    others = [adam for name, adam in adams.items() if name != f"{phase}_adam"]
    assert not any(adam.t or adam.m.any() or adam.v.any() for adam in others)


@each_kind
def test_every_parameter_is_a_view_of_theta_and_its_gradient_of_gradient(kind):
    model = kind(**SMALL)
    model.theta[:] = model.gradient[:] = np.arange(model.theta.size)
    owned = [
        (layer, name)
        for network in NETWORKS
        for _, layer, name in named_parameters(getattr(model, network))
    ]
    for prefix in ("", "d"):
        views = [np.ravel(getattr(layer, prefix + name)) for layer, name in owned]
        np.testing.assert_array_equal(np.concatenate(views), model.theta)


@each_kind
def test_to_encode_or_to_decode_changes_nothing_and_treats_each_row_alone(kind):
    model = trained(kind(**SMALL))
    before = copy.deepcopy(model)
    many = np.random.default_rng(0).random((300, 9))
    codes = model.encode(many)
    np.testing.assert_allclose(model.encode(many[7:8]), codes[7:8], rtol=1e-10)
    model.decode(codes)
    assert_equal(model, before)


@pytest.mark.parametrize(
    ("of_layers", "of_model"), [("float64", "float32"), ("float32", "float64")]
)
def test_a_parameter_of_another_type_gets_the_type_of_the_model(of_layers, of_model):
    def own(k, dtype):
        drawn = dense(k, k, of_layers)
        drawn.W[:] = np.finfo(of_layers).max  # as memory that nobody has written yet may be
        drawn.b.view(np.uint32)[:] = 0x7FA00001  # in float32 a NaN that signals
        return [LayerNorm(k, of_layers), drawn]

    model = with_own(own)(**SMALL | {"dtype": of_model})
    assert {array.dtype for *_, array in parameters(model)} == {np.dtype(of_model)}
    assert {loss.dtype for loss in model.step(X, draws())} == {np.dtype(of_model)}


@pytest.mark.parametrize("declared", ["parameters", "statistics", "settings"])
def test_a_string_in_place_of_a_tuple_of_names_is_refused(declared, tmp_path):
    wrong = type("Wrong", (Scale,), {declared: "gamma"})
    model = with_own(lambda k, dtype: [Sequential([wrong(0.1)])])
    with pytest.raises(InvalidInput, match=f"^{declared} must .*'gamma'"):
        model(**SMALL).save(tmp_path / "model.npz")


@pytest.mark.parametrize("gamma", [1.0, np.float64(1), [1.0]])
def test_a_parameter_that_is_no_array_is_refused_by_name(gamma):
    layer = Scale(shift=0.0)
    layer.gamma = gamma
    with pytest.raises(InvalidInput, match=rf"^parameter 0\.gamma .* {type(gamma).__name__}$"):
        flatten(np, [Sequential([layer])])


@pytest.mark.parametrize("depth", [0, 1])
def test_a_layer_with_parameters_that_stands_in_two_places_is_refused(depth):
    shared = dense(6, 6, float)
    again = Sequential([shared]) if depth else shared
    with pytest.raises(InvalidInput, match=r"^networks must"):
        flatten(np, [Sequential([dense(9, 6, float), shared]), Sequential([ReLU(np), again])])


# The gradient check


@pytest.fixture
def shaken(rng):
    """Makes a network with other parameters than the first ones, some of which put it on kinks."""

    def network(kind, name):
        model = kind(**SMALL)
        model.theta += 0.1 * rng.standard_normal(model.theta.size)
        return getattr(model, name), rng.standard_normal((8, 9 if name == "encoder" else 2))

    return network


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((kind, "encoder") for kind in KINDS[:-1]), *((KINDS[2], name) for name in NETWORKS[1:])],
)
def test_the_gradient_check_sees_every_parameter_and_passes_them(kind, name, shaken):
    network, x = shaken(kind, name)
    errors = gradcheck.parameters(network, x)
    assert list(errors) == [label for label, *_ in named_parameters(network)]
    assert max(errors.values()) < 1e-6
    assert gradcheck.layer(network, x) < 1e-6


@each_of_one
def test_the_gradient_check_sees_a_wrong_gradient_at_any_depth(kind, shaken, monkeypatch):
    network, x = shaken(kind, "encoder")
    label, layer, _ = list(named_parameters(network))[2]  # the first that is not of a dense layer
    right = layer.parameter_gradients
    monkeypatch.setattr(layer, "parameter_gradients", lambda dy, cache: right(1.001 * dy, cache))
    assert gradcheck.parameters(network, x)[label] > 1e-4


# Saving, copying, resuming


def saved(model, path):
    model.save(path / "model.npz")
    return type(model).load(path / "model.npz")


@each_kind
def test_a_loaded_model_is_the_same_and_trains_on_the_same_to_the_last_bit(kind, tmp_path):
    model = trained(kind(**SMALL))
    loaded = saved(model, tmp_path)
    assert_equal(loaded, model)
    np.testing.assert_array_equal(loaded.encode(X), model.encode(X))
    assert_equal(trained(loaded), trained(model))


@each_kind
def test_a_copied_model_is_the_same_and_trains_on_the_same_to_the_last_bit(kind):
    model = trained(kind(**SMALL))
    copied = copy.deepcopy(model)
    assert_equal(copied, model)
    assert_equal(trained(copied), trained(model))


def test_a_pickled_model_is_the_same():
    model = trained(Everything(**SMALL))
    assert_equal(pickle.loads(pickle.dumps(model)), model)


@each_kind
def test_what_layers_keep_and_depend_on_comes_back_with_its_value_and_type(kind, tmp_path):
    model = kind(**SMALL)
    declared = [*model.declared("statistics"), *model.declared("settings")]
    for number, (_, layer, name) in enumerate(declared, 3):
        value = getattr(layer, name)
        if isinstance(value, np.ndarray):
            value[...] = number
        elif name not in ("rate", "momentum"):  # which are fractions
            setattr(layer, name, type(value)(number))
    loaded = saved(model, tmp_path)
    for (label, layer, name), other in zip(
        declared, [*loaded.declared("statistics"), *loaded.declared("settings")], strict=True
    ):
        value, again = getattr(layer, name), getattr(other[1], name)
        assert type(again) is type(value), label
        np.testing.assert_array_equal(again, value, err_msg=label)


def test_the_file_of_one_class_is_not_loaded_as_another_of_the_same_layout(tmp_path):
    other = type("Other", (Everything,), {})
    Everything(**SMALL).save(tmp_path / "model.npz")
    with pytest.raises(BadFile, match="Everything, not Other"):
        other.load(tmp_path / "model.npz")


# Subclasses with other sizes, and with settings of their own


class Deep(AdversarialAutoencoder):
    """Builds all three networks by itself: an encoder without hidden layers, a wide decoder."""

    def networks(self):
        latent, visible = self.latent, self.visible
        encoder = Sequential(
            [BatchNorm(np, visible, self.dtype), dense(visible, latent, self.dtype)]
        )
        decoder = self.network((latent, 31, visible), 0.1)
        return encoder, decoder, self.network((latent, 4, 3, 1), 0.0)


class Bottleneck(AdversarialAutoencoder):
    """Has settings of its own, of which its layers depend."""

    def __init__(self, *, squeeze=2, shift=0.0, title="", **others):
        self.squeeze, self.shift = squeeze, shift
        super().__init__(**others)
        self.config |= {"squeeze": squeeze, "shift": shift, "title": title}

    def network(self, sizes, dropout):
        first, *others = super().network(sizes, dropout).layers
        own = [dense(sizes[1], self.squeeze, self.dtype), Scale(self.shift)]
        return Sequential([first, *own, dense(self.squeeze, sizes[1], self.dtype), *others])


SUBCLASSES = [
    (Deep, {}),
    (Bottleneck, {"squeeze": 3, "shift": -0.5, "title": "α"}),
    (type("Wider", (Bottleneck,), {"own": None}), {"squeeze": 7}),
]


@pytest.mark.parametrize(("kind", "options"), SUBCLASSES)
def test_a_subclass_with_other_sizes_or_settings_is_loaded_and_copied(kind, options, tmp_path):
    model = trained(kind(**SMALL | options))
    for again in (saved(model, tmp_path), copy.deepcopy(model)):
        assert_equal(again, model)
        assert again.config == model.config
        np.testing.assert_array_equal(again.encode(X), model.encode(X))
    assert_equal(trained(again), trained(model))


# What has become infinite is found wherever it is


@each_kind
def test_a_statistic_that_is_not_finite_stops_training_and_is_named(kind):
    statistics = {
        label: getattr(layer, name) for label, layer, name in kind(**SMALL).declared("statistics")
    }
    for spoilt in (label for label, array in statistics.items() if array.dtype.kind == "f"):

        class Spoilt(kind):
            def step(self, x, rng, labels=None, spoilt=spoilt):
                losses = super().step(x, rng, labels)
                self.arrays()[spoilt][-1] = np.nan
                return losses

        with pytest.raises(Diverged, match=f"epoch 1: {spoilt} "):
            trained(Spoilt(**SMALL), batch_size=25)


# Ranks


def mixes_rows(kind):
    return kind.__name__ not in ("With_residual", "With_scaled")


@pytest.fixture
def no_thread_limit(monkeypatch):
    monkeypatch.setattr(npaae.backend, "one_blas_thread", lambda: None)


@pytest.mark.parametrize("kind", [*filter(mixes_rows, KINDS)], ids=lambda kind: kind.__name__)
def test_ranks_refuse_a_layer_that_mixes_rows_at_any_depth(kind, no_thread_limit, tmp_path):
    with pytest.raises(InvalidInput, match=r"^comm must .*BatchNorm"):
        kind(**SMALL, comm=Rank())
    kind(**SMALL).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"^comm must .*BatchNorm"):
        kind.load(tmp_path / "model.npz", comm=Rank())


def test_ranks_train_layers_that_treat_each_row_alone_as_one_process_does(no_thread_limit):
    def steps(comm):
        model = with_own(residual)(**SMALL, comm=comm)
        rng = random_stream(np, 1, NOISE)
        losses = [[float(loss) for loss in model.step(X, rng)] for _ in range(5)]
        return np.concatenate([np.ravel(losses), model.theta])

    for found in on_threads(3, steps):
        np.testing.assert_allclose(found, steps(None), rtol=0, atol=1e-12)


# Layers that cannot be kept, or that leave their drawing to the network


class Average:
    """The identity, with a running mean that takes the shape of the means of a batch."""

    statistics = ("mean",)

    def __init__(self, mean):
        self.mean = mean

    def forward(self, x, rng=None):
        if rng is not None:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        return x, None

    def backward(self, dy, cache):
        return dy


def with_layers(*layers):
    """A model whose encoder ends in these layers."""

    class Model(AdversarialAutoencoder):
        def networks(self):
            encoder, decoder, discriminator = super().networks()
            return Sequential([*encoder.layers, *layers]), decoder, discriminator

    return Model(**SMALL)


@pytest.mark.parametrize("mean", [0.0, np.float64(0), [0.0, 0.0]])
def test_a_statistic_that_is_no_array_is_refused_by_name(mean):
    with pytest.raises(InvalidInput, match=r"^encoder\.7\.mean must be an array"):
        with_layers(Average(mean))


@pytest.mark.parametrize("mean", [np.zeros(()), np.zeros(1), np.zeros(2, np.float32)])
def test_a_statistic_that_changes_its_shape_or_type_is_refused_in_the_first_epoch(mean):
    model = with_layers(Average(mean))
    with pytest.raises(InvalidInput, match=r"^encoder\.7\.mean must stay"):
        next(npaae.train(model, IMAGES))


def test_the_layers_of_one_that_draws_nothing_itself_are_drawn():
    class Inner(Residual):
        initialise = property()  # hasattr says that there is none

    weights = [np.full((2, 2), 777.0) for _ in range(2)]
    model = with_layers(Inner([Dense(np, weights[0], np.zeros(2))]))
    assert np.abs(model.encoder.layers[-1].layers[0].layers[0].W).max() <= 1 / np.sqrt(2)


def test_a_model_whose_statistic_is_refused_is_given_back_as_it_was():
    model = with_layers(Average(np.zeros(1)))
    before = model.theta.copy()
    with pytest.raises(InvalidInput):
        next(npaae.train(model, IMAGES))
    np.testing.assert_array_equal(model.theta, before)
    assert (model.encoder.layers[-1].mean.shape, model.epoch) == ((1,), 0)


def test_a_layer_with_slots_is_copied():
    class Slots:
        """The identity, without a __dict__."""

        __slots__ = ()

        def forward(self, x, rng=None):
            return x, None

        def backward(self, dy, cache):
            return dy

    class Model(AdversarialAutoencoder):
        def networks(self):
            encoder, decoder, discriminator = super().networks()
            return Sequential([*encoder.layers, Slots()]), decoder, discriminator

    model = Model(**SMALL)
    np.testing.assert_array_equal(copy.deepcopy(model).encode(X), model.encode(X))
