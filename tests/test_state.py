"""What changes training or results is kept by `save`, copies and pickles, or stays in one place."""

import copy
import pickle
from itertools import count

import numpy as np
import pytest

import npaae
from npaae import AdversarialAutoencoder, CategoricalAutoencoder, InvalidInput
from npaae.categorical.layers import BatchNorm, ClusterHeads, Noise
from npaae.layers import Dropout, named_parameters, parts, perceptron
from npaae.priors import uniform_disc

SMALL = {"hidden": (7, 5), "visible": 9, "dtype": "float64", "seed": 3}
MODELS = {
    "first": (AdversarialAutoencoder, {}),
    "second": (CategoricalAutoencoder, {"head_distance": 1.0}),
}
X = np.random.default_rng(1).random((6, 9))


OF_LAYERS = {  # not read from the layers, which may forget to declare one
    Dropout: ("rate",),
    Noise: ("std",),
    BatchNorm: ("epsilon", "momentum"),
    ClusterHeads: ("distance",),
}


def loaded(model, path):
    model.save(path / "model.npz")
    return type(model).load(path / "model.npz")


CARRIED = {
    "saved": loaded,
    "copied": lambda model, path: copy.deepcopy(model),
    "pickled": lambda model, path: pickle.loads(pickle.dumps(model)),
}


def numbers(model):
    """{name: (owner, attribute)} of all numbers that training or evaluation depends on."""
    adam = ("t", "learning_rate", "beta1", "beta2", "epsilon")
    of_adams = {
        f"{name}.{attribute}": (owner, attribute)
        for name, owner in model.adams().items()
        for attribute in adam
    }
    of_layers = {
        f"{network} {label}{attribute}": (layer, attribute)
        for network in ("encoder", "decoder", "discriminator")
        for label, layer in parts(getattr(model, network))
        for attribute in OF_LAYERS.get(type(layer), ())
    }
    return of_adams | of_layers | {"epoch": (model, "epoch"), "seed": (model, "seed")}


def changed(kind, options):
    """A model after an epoch, of which each number, the prior and every array has been changed."""
    model = kind(**SMALL, **options)
    list(npaae.train(model, X, epochs=1, batch_size=3))
    number = count(1)
    for owner, attribute in numbers(model).values():
        value = getattr(owner, attribute)
        kind_of = type(value)
        new = 12_000 + next(number) if kind_of is int else (value or 0.01) * (1 - next(number) / 99)
        setattr(owner, attribute, kind_of(new))
    model.prior = uniform_disc(3.0)
    for array in model.arrays().values():
        array *= 1 + next(number) / 99
    return model


@pytest.mark.parametrize("carry", CARRIED.values(), ids=CARRIED)
@pytest.mark.parametrize(("kind", "options"), MODELS.values(), ids=MODELS)
class TestAModelThatIsCarried:
    def test_has_every_number(self, kind, options, carry, tmp_path):
        model = changed(kind, options)
        expected = {name: getattr(*place) for name, place in numbers(model).items()}
        assert len(set(expected.values())) == len(expected)  # so that none can be another
        again = carry(model, tmp_path)
        assert {name: getattr(*place) for name, place in numbers(again).items()} == expected

    def test_has_every_array(self, kind, options, carry, tmp_path):
        model = changed(kind, options)
        again = carry(model, tmp_path).arrays()
        for name, array in model.arrays().items():
            np.testing.assert_array_equal(again[name], array, err_msg=name)

    def test_has_the_prior_that_was_assigned(self, kind, options, carry, tmp_path):
        assert carry(changed(kind, options), tmp_path).prior == uniform_disc(3.0)

    def test_shares_nothing_with_the_model(self, kind, options, carry, tmp_path):
        model = changed(kind, options)
        again = carry(model, tmp_path)
        before = {name: getattr(*place) for name, place in numbers(model).items()}
        for owner, attribute in numbers(again).values():
            setattr(owner, attribute, 0 * getattr(owner, attribute))
        again.prior = uniform_disc(1.0)
        for name, array in model.arrays().items():
            assert not np.shares_memory(array, again.arrays()[name]), name
        assert {name: getattr(*place) for name, place in numbers(model).items()} == before
        assert model.config["prior"]["radius"] == 3.0

    def test_trains_and_encodes_as_the_model_does(self, kind, options, carry, tmp_path):
        model = changed(kind, options)
        again = carry(model, tmp_path)
        np.testing.assert_array_equal(again.encode(X), model.encode(X))
        np.testing.assert_array_equal(again.sample(3, seed=1), model.sample(3, seed=1))
        ours, theirs = (next(npaae.train(m, X, batch_size=3)) for m in (model, again))
        assert ours._replace(seconds=0) == theirs._replace(seconds=0)
        np.testing.assert_array_equal(again.theta, model.theta)


# One vector


@pytest.mark.parametrize("name", ["theta", "gradient"])
def test_a_vector_that_is_assigned_is_copied_into_the_one_that_all_networks_view(name):
    model = AdversarialAutoencoder(**SMALL)
    vector, prefix = getattr(model, name), "d" if name == "gradient" else ""
    values = np.arange(vector.size, dtype=np.float32)
    setattr(model, name, values)
    values[:] = 0
    assert getattr(model, name) is vector
    found = np.concatenate(
        [
            getattr(layer, prefix + parameter).ravel()
            for network in (model.encoder, model.decoder, model.discriminator)
            for _, layer, parameter in named_parameters(network)
        ]
    )
    np.testing.assert_array_equal(found, np.arange(vector.size))


@pytest.mark.parametrize("name", ["theta", "gradient"])
@pytest.mark.parametrize("values", [0.5, [0.5], np.zeros(3)])
def test_a_vector_takes_nothing_of_another_shape(name, values):
    with pytest.raises(InvalidInput, match=rf"^{name} must have shape"):
        setattr(AdversarialAutoencoder(**SMALL), name, values)


@pytest.mark.parametrize("name", ["theta", "gradient"])
def test_a_vector_can_be_updated_in_place(name):
    model = AdversarialAutoencoder(**SMALL)
    vector = getattr(model, name)
    before = vector.copy()
    setattr(model, name, getattr(model, name) + 1)
    np.testing.assert_array_equal(vector, before + 1)


@pytest.mark.parametrize("name", ["theta", "gradient"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (-1, 1)])
def test_a_vector_of_another_shape_is_refused_and_changes_nothing(name, shape):
    model = AdversarialAutoencoder(**SMALL)
    before = getattr(model, name).copy()
    values = before.reshape(shape) if -1 in shape else np.zeros(shape)
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        setattr(model, name, values)
    np.testing.assert_array_equal(getattr(model, name), before)


def own_weights(layer):
    layer.W = np.ones_like(layer.W)


def own_gradients(layer):
    layer.parameter_gradients = lambda dy, x: vars(layer).update(dW=x.T @ dy)


DETACHED = {"encoder.0.W": own_weights, "the gradient of encoder.0.W": own_gradients}


@pytest.mark.parametrize(("name", "detach"), DETACHED.items(), ids=DETACHED)
def test_a_parameter_or_gradient_that_is_replaced_is_not_left_behind_in_silence(
    name, detach, tmp_path
):
    model = AdversarialAutoencoder(**SMALL)
    detach(model.encoder.layers[0])
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        next(npaae.train(model, X))
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        model.save(tmp_path / "model.npz")


def test_a_layer_that_is_added_to_a_model_is_not_left_untrained_in_silence():
    model = AdversarialAutoencoder(**SMALL)
    model.encoder.layers += perceptron(np, (2, 2), 0.0, model.dtype).layers
    with pytest.raises(InvalidInput, match=r"^encoder\.7\.W must"):
        next(npaae.train(model, X))


def test_a_parameter_may_be_changed_in_place():
    model = AdversarialAutoencoder(**SMALL)
    model.encoder.layers[0].W += 1
    model.encoder.layers[0].b[:] = 7
    np.testing.assert_array_equal(model.arrays()["theta"][9 * 7 : 9 * 7 + 7], 7)


def test_another_seed_may_be_assigned_and_a_wrong_one_is_refused():
    model, other = (AdversarialAutoencoder(**SMALL | {"seed": seed}) for seed in (1, 2**64))
    model.theta = other.theta
    model.seed = 2**64
    assert model.config == other.config
    for each in (model, other):
        list(npaae.train(each, X, epochs=1))
    np.testing.assert_array_equal(model.theta, other.theta)
    with pytest.raises(InvalidInput, match=r"^seed must"):
        model.seed = -1


def test_a_prior_of_ones_own_replaces_the_one_that_the_file_would_name(tmp_path):
    model = AdversarialAutoencoder(hidden=(3,), visible=4)
    model.prior = lambda rng, n, dim: rng.random((n, dim))
    assert model.config["prior"] is None
    model.save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"^prior must"):
        AdversarialAutoencoder.load(tmp_path / "model.npz")
