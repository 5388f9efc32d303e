"""Every argument of both constructors: what it changes in the model, and that it changes no more.

`facts` takes a model to pieces. Two tables give another value of each argument and all facts that
then differ from those of the model without it.
"""

from inspect import signature

import numpy as np
import pytest

import npaae
from npaae import AdversarialAutoencoder, CategoricalAutoencoder
from npaae.backend import NOISE, random_stream, to_host
from npaae.categorical.losses import divergence, information
from npaae.layers import Sequential, declared, parts
from npaae.priors import gaussian, gaussian_mixture, uniform_disc

from . import strict_device
from .fake_ranks import Rank

NETWORKS = ("encoder", "decoder", "discriminator")
OTHER = object()  # any value but the one without the argument


def facts(model):
    """{name: value} of all that a model is made of, apart from its configuration."""
    theta = to_host(model.theta).astype(float)
    found = {
        "backend": "numpy" if model.xp is np else "cupy",
        "dtype": str(model.theta.dtype),
        "ranks": model.ranks and model.ranks.size,
        "seed": model.seed,
        "prior": model.prior,
        "samples": np.round(model.sample_prior(4, seed=0).astype(float), 3).tolist(),
        "weights": np.round(theta, 3).tolist(),
        "phases": model.phases,
        "width of a code": model.code_size,
        "width of an image": model.visible,
        "classes": model.classes,
        "labels": model.label_count,
    }
    for name in NETWORKS:
        network = getattr(model, name)
        found[f"{name} kinds"] = [type(layer).__name__ for _, layer in parts(network)]
        for kind in ("parameters", "settings"):
            for _, layer, attribute in declared(network, kind):
                value = getattr(layer, attribute)
                values = found.setdefault(f"{name} {attribute}", [])
                values.append(getattr(value, "shape", value))
    ends = np.cumsum([getattr(model, name).size for name in NETWORKS])
    for name, adam in model.adams().items():
        for attribute in ("t", "learning_rate", "beta1", "beta2", "epsilon"):
            found[f"{name} {attribute}"] = getattr(adam, attribute)
        model.theta[:] = 0
        adam.parameters[:] = 1
        of_networks = np.split(to_host(model.theta), ends[:-1])
        found[f"{name} owns"] = [(part.min(), part.max()) for part in of_networks]
    model.theta[:] = model.xp.asarray(theta)
    return found | phase_5(model) if isinstance(model, CategoricalAutoencoder) else found


def phase_5(model):
    """The length of r, and the weight of the information, as they show in what phase 5 computes."""
    xp, k = model.xp, model.categories
    x = xp.asarray(np.random.default_rng(0).random((6, model.visible)), model.dtype)
    model.theta[:] += xp.asarray(np.sin(np.arange(model.theta.size)), model.dtype)
    log_y, perturbed = model.perturb(x, random_stream(xp, 0, NOISE))
    logits, _ = Sequential(model.encoder.layers[1:-1]).forward(perturbed)
    far, _ = divergence(xp, log_y, logits[:, :k])
    gained, _ = information(xp, logits[:, :k])
    loss = model.smoothness_gradient(log_y, perturbed, None)
    return {
        "length of r": np.linalg.norm(to_host(perturbed - x), axis=1).round(3).tolist(),
        "information": round(float(far - loss) / float(gained), 3),
    }


FIRST = {
    "hidden": ((6,), {
        "weights": OTHER,
        "encoder kinds": ["Sequential", "Dense", "ReLU", "Dropout", "Dense"],
        "encoder W": [(9, 6), (6, 2)],
        "encoder b": [(6,), (2,)],
        "encoder rate": [0.25],
        "decoder kinds": ["Sequential", "Dense", "ReLU", "Dropout", "Dense"],
        "decoder W": [(2, 6), (6, 9)],
        "decoder b": [(6,), (9,)],
        "decoder rate": [0.25],
        "discriminator kinds": ["Sequential", "Dense", "ReLU", "Dropout", "Dense"],
        "discriminator W": [(2, 6), (6, 1)],
        "discriminator b": [(6,), (1,)],
        "discriminator rate": [0.2],
    }),
    "latent": (3, {
        "weights": OTHER,
        "samples": OTHER,
        "width of a code": 3,
        "encoder W": [(9, 7), (7, 5), (5, 3)],
        "encoder b": [(7,), (5,), (3,)],
        "decoder W": [(3, 5), (5, 7), (7, 9)],
        "discriminator W": [(3, 7), (7, 5), (5, 1)],
    }),
    "visible": (4, {
        "weights": OTHER,
        "width of an image": 4,
        "encoder W": [(4, 7), (7, 5), (5, 2)],
        "decoder W": [(2, 5), (5, 7), (7, 4)],
        "decoder b": [(5,), (7,), (4,)],
    }),
    "prior": (gaussian_mixture(3), {"prior": gaussian_mixture(3), "samples": OTHER}),
    "classes": (3, {
        "weights": OTHER,
        "classes": 3,
        "labels": 3,
        "discriminator W": [(2 + 3 + 1, 7), (7, 5), (5, 1)],
    }),
    "dropout": (0.5, {"encoder rate": [0.5, 0.5], "decoder rate": [0.5, 0.5]}),
    "discriminator_dropout": (0.5, {"discriminator rate": [0.5, 0.5]}),
    "lr_reconstruction": (0.01, {"reconstruction_adam learning_rate": 0.01}),
    "lr_regularization": (0.01, {
        "discriminator_adam learning_rate": 0.01,
        "generator_adam learning_rate": 0.01,
    }),
    "backend": ("cupy", {"backend": "cupy"}),
    "dtype": ("float64", {"dtype": "float64"}),
    "seed": (5, {"seed": 5, "weights": OTHER}),
    "comm": (Rank(), {"ranks": 1}),
}  # fmt: skip

BLOCK = ["Dense", "BatchNorm", "ReLU", "Dropout"]
ADVERSARY = ["Sequential", "Dense", "ReLU", "Dropout", "Dense", "ReLU", "Dropout", "Dense"]

SECOND = {
    "hidden": ((6,), {
        "weights": OTHER,
        "encoder kinds": ["Sequential", "Noise", *BLOCK, "Dense", "BatchNorm", "PartialSoftmax"],
        "encoder W": [(9, 6), (6, 5)],
        "encoder b": [(6,), (5,)],
        "encoder gamma": [(6,), (5,)],
        "encoder beta": [(6,), (5,)],
        "encoder rate": [0.0],
        "encoder epsilon": [1e-5] * 2,
        "encoder momentum": [0.02] * 2,
        "decoder kinds": ["Sequential", *BLOCK, "Dense"],
        "decoder W": [(5, 6), (6, 9)],
        "decoder b": [(6,), (9,)],
        "decoder gamma": [(6,)],
        "decoder beta": [(6,)],
        "decoder rate": [0.0],
        "decoder epsilon": [1e-5],
        "decoder momentum": [0.02],
        "discriminator kinds": ["SideBySide", *ADVERSARY[:5], *ADVERSARY[:5]],
        "discriminator W": [(3, 6), (6, 1), (2, 6), (6, 1)],
        "discriminator b": [(6,), (1,)] * 2,
        "discriminator rate": [0.2] * 2,
    }),
    "categories": (4, {
        "weights": OTHER,
        "samples": OTHER,
        "labels": 4,
        "width of a code": 6,
        "encoder W": [(9, 7), (7, 5), (5, 6)],
        "encoder b": [(7,), (5,), (6,)],
        "encoder gamma": [(7,), (5,), (6,)],
        "encoder beta": [(7,), (5,), (6,)],
        "decoder W": [(6, 5), (5, 7), (7, 9)],
        "discriminator W": [(4, 7), (7, 5), (5, 1), (2, 7), (7, 5), (5, 1)],
    }),
    "latent": (4, {
        "weights": OTHER,
        "samples": OTHER,
        "width of a code": 7,
        "encoder W": [(9, 7), (7, 5), (5, 7)],
        "encoder b": [(7,), (5,), (7,)],
        "encoder gamma": [(7,), (5,), (7,)],
        "encoder beta": [(7,), (5,), (7,)],
        "decoder W": [(7, 5), (5, 7), (7, 9)],
        "discriminator W": [(3, 7), (7, 5), (5, 1), (4, 7), (7, 5), (5, 1)],
    }),
    "visible": (4, {
        "weights": OTHER,
        "width of an image": 4,
        "encoder W": [(4, 7), (7, 5), (5, 5)],
        "decoder W": [(5, 5), (5, 7), (7, 4)],
        "decoder b": [(5,), (7,), (4,)],
    }),
    "prior": (uniform_disc(), {"prior": uniform_disc(), "samples": OTHER}),
    "noise": (0.5, {"encoder std": [0.5]}),
    "perturbation": (0.5, {"length of r": [0.5] * 6}),
    "information_weight": (0.5, {"information": 0.5}),
    "head_distance": (1.5, {
        "weights": OTHER,
        "decoder kinds": ["Sequential", "ClusterHeads", *BLOCK, *BLOCK, "Dense"],
        "decoder W": [(3, 2), (2, 5), (5, 7), (7, 9)],
        "decoder b": [(2,), (5,), (7,), (9,)],
        "decoder distance": [1.5],
    }),
    "joint": (True, {
        "weights": OTHER,
        "discriminator kinds": ["SideBySide", *ADVERSARY],
        "discriminator W": [(5, 7), (7, 5), (5, 1)],
        "discriminator b": [(7,), (5,), (1,)],
        "discriminator rate": [0.2] * 2,
    }),
    "dropout": (0.5, {"encoder rate": [0.5, 0.5], "decoder rate": [0.5, 0.5]}),
    "discriminator_dropout": (0.5, {"discriminator rate": [0.5] * 4}),
    "lr_reconstruction": (0.01, {"reconstruction_adam learning_rate": 0.01}),
    "lr_discriminator": (0.01, {"discriminator_adam learning_rate": 0.01}),
    "lr_generator": (0.01, {"generator_adam learning_rate": 0.01}),
    "lr_classification": (0.01, {"classification_adam learning_rate": 0.01}),
    "lr_smoothness": (0.01, {"smoothness_adam learning_rate": 0.01}),
    "beta1": (0.7, {"discriminator_adam beta1": 0.7, "generator_adam beta1": 0.7}),
    "backend": ("cupy", {"backend": "cupy"}),
    "dtype": ("float64", {"dtype": "float64"}),
    "seed": (5, {"seed": 5, "weights": OTHER}),
}  # fmt: skip

SMALL = {
    AdversarialAutoencoder: {"hidden": (7, 5), "visible": 9, "prior": gaussian_mixture(5)},
    CategoricalAutoencoder: {"hidden": (7, 5), "visible": 9, "categories": 3, "latent": 2},
}
CASES = [
    (kind, argument, *case)
    for kind, table in ((AdversarialAutoencoder, FIRST), (CategoricalAutoencoder, SECOND))
    for argument, case in table.items()
]


@pytest.fixture
def backends(monkeypatch):
    monkeypatch.setattr(npaae.backend, "_cupy_on_a_gpu", lambda: strict_device.device)
    monkeypatch.setattr(npaae.backend, "one_blas_thread", lambda: None)


def test_the_tables_are_of_all_arguments():
    assert FIRST.keys() == signature(AdversarialAutoencoder).parameters.keys()
    # It refuses every communicator: `test_categorical`.
    assert SECOND.keys() == signature(CategoricalAutoencoder).parameters.keys() - {"comm"}


@pytest.mark.parametrize(("kind", "argument", "value", "expected"), CASES)
def test_an_argument_changes_what_it_says_and_no_more(backends, kind, argument, value, expected):
    options = SMALL[kind] | ({"prior": gaussian()} if argument == "latent" else {})
    usual, other = kind(**options), kind(**options | {argument: value})
    before, after = facts(usual), facts(other)
    changed = {
        name: after.get(name)
        for name in before.keys() | after.keys()
        if name not in after or name not in before or before[name] != after[name]
    }
    assert changed.keys() == expected.keys()
    for name, fact in expected.items():
        assert fact is OTHER or changed[name] == fact, name
    in_config = {name for name in other.config if other.config[name] != usual.config[name]}
    assert in_config == {argument} - {"backend", "comm"}


EACH = {"encoder": (1, 0, 0), "autoencoder": (1, 1, 0), "discriminator": (0, 0, 1)}
OWNERS = {
    "reconstruction": "autoencoder",
    "discriminator": "discriminator",
    "generator": "encoder",
    "classification": "encoder",
    "smoothness": "encoder",
}


@pytest.mark.parametrize("kind", SMALL)
def test_each_phase_has_an_optimiser_of_all_that_it_moves(kind):
    model = kind(**SMALL[kind])
    assert model.adams().keys() == {f"{phase}_adam" for phase in model.phases}
    found = facts(model)
    for phase in model.phases:
        owned = found[f"{phase}_adam owns"]
        assert owned == [(share, share) for share in EACH[OWNERS[phase]]], phase


@pytest.mark.parametrize(
    ("kind", "options"),
    [*((kind, {}) for kind in SMALL), (CategoricalAutoencoder, {"perturbation": 0})],
)
def test_each_gradient_is_followed_by_the_step_of_its_own_optimiser(kind, options, monkeypatch):
    model, done = kind(**SMALL[kind] | options), []

    def note(owner, method, name):
        original = getattr(owner, method)

        def noted(*arguments):
            done.append(name)
            return original(*arguments)

        monkeypatch.setattr(owner, method, noted)

    for phase in OWNERS:
        if hasattr(model, f"{phase}_adam"):
            note(model, f"{phase}_gradient", phase)
            note(getattr(model, f"{phase}_adam"), "step", f"{phase}_adam")
    model.step(np.random.default_rng(0).random((6, 9)), np.random.default_rng(1))
    assert done == [name for phase in model.phases for name in (phase, f"{phase}_adam")]
