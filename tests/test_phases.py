"""The three phases, apart from their formulas, which `examples/audit.py` checks."""

import numpy as np
import pytest

from npaae import AdversarialAutoencoder, CategoricalAutoencoder, InvalidInput, gradcheck
from npaae.layers import named_parameters
from npaae.priors import gaussian_mixture

from .layer_norm import NormalisedAutoencoder

NETWORKS = ("encoder", "decoder", "discriminator")


@pytest.fixture
def x():
    return np.random.default_rng(1).random((6, 9))


def draws():
    return np.random.default_rng(2)


def test_a_discriminator_that_knows_nothing_has_the_losses_of_equilibrium(small_model, x):
    model = small_model()
    model.discriminator_adam.parameters[:] = 0
    model.discriminator_adam.learning_rate = 0  # so that it still knows nothing in phase 3
    _, discriminator, generator = model.step(x, draws())
    assert discriminator == pytest.approx(2 * np.log(2), rel=1e-15)
    assert generator == pytest.approx(np.log(2), rel=1e-15)


@pytest.mark.parametrize("part", ["reconstruction", "discriminator", "generator"])
def test_in_float32_each_phases_gradient_is_float64s_to_its_precision(small_model, x, part):
    gradients = []
    for dtype in ("float32", "float64"):
        model, rng = small_model(dtype=dtype), draws()
        codes, caches = model.encoder.forward(x.astype(dtype), rng)
        arguments = {
            "reconstruction": (x.astype(dtype), rng),
            "discriminator": (codes, rng),
            "generator": (codes, caches, rng),
        }[part]
        getattr(model, f"{part}_gradient")(*arguments)
        gradients.append(model.adams()[f"{part}_adam"].gradient)
    assert gradients[0].dtype == np.float32
    assert gradcheck.relative_error(*gradients) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_leaves_its_batch_alone_and_keeps_the_models_type(small_model, x, dtype):
    model, batch = small_model(dtype=dtype), x.astype(dtype)
    batch.flags.writeable = False
    losses = model.step(batch, draws())
    assert [(loss.dtype, loss.shape) for loss in losses] == [(dtype, ())] * 3
    assert model.theta.dtype == model.gradient.dtype == dtype


def test_the_phases_leave_the_codes_alone(small_model, x):
    model = small_model()
    codes, caches = model.encoder.forward(x, draws())
    codes.flags.writeable = False
    model.discriminator_gradient(codes, draws())
    model.generator_gradient(codes, caches, draws())


def test_a_batch_means_the_same_in_every_accepted_form(small_model):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
    expected = small_model()
    expected.step(pixels, draws())
    for same in (pixels.reshape(6, 3, 3), pixels / 255, (pixels / 255).tolist()):
        model = small_model()
        model.step(same, draws())
        np.testing.assert_array_equal(model.theta, expected.theta)


@pytest.mark.parametrize(
    "batch", [np.zeros((2, 8)), np.zeros(9), np.zeros((0, 9)), np.zeros((2, 9), int)]
)
def test_a_batch_of_another_shape_or_type_is_refused_and_moves_nothing(small_model, batch):
    model = small_model()
    before = model.theta.copy()
    with pytest.raises(InvalidInput, match=r"^images must"):
        model.step(batch, draws())
    np.testing.assert_array_equal(model.theta, before)


def test_a_step_overwrites_the_gradients_of_the_step_before(small_model, x):
    fresh, stale = small_model(), small_model()
    stale.gradient[:] = np.nan
    for model in (fresh, stale):
        model.step(x, draws())
    np.testing.assert_array_equal(stale.theta, fresh.theta)


def test_nobody_needs_the_gradient_of_images_or_of_the_codes_of_phase_2(small_model, x):
    model = small_model()
    model.encoder.layers[0].backward = None
    model.step(x, draws())
    model.discriminator.layers[0].backward = None
    model.discriminator_gradient(model.encoder.forward(x)[0], draws())


# The size of a batch of MNIST: what is right for six rows may be wrong for a hundred


PIXELS = np.random.default_rng(3).random((100, 784))
DIGITS = np.random.default_rng(4).integers(0, 10, 100)
WHOLE = {
    "plain": (AdversarialAutoencoder, {}),
    "classes": (AdversarialAutoencoder, {"classes": 10, "prior": gaussian_mixture()}),
    "categories": (CategoricalAutoencoder, {"information_weight": 0.5, "dropout": 0.1}),
    "heads": (CategoricalAutoencoder, {"latent": 2, "head_distance": 3.0, "joint": True}),
}


def phases(model):
    """{name: a function of no argument} that computes the loss of a phase, always the same."""
    labels = np.where(DIGITS > 7, -1, DIGITS) if model.classes else None
    codes, _ = model.encoder.forward(PIXELS, draws())

    def generator():
        codes, caches = model.encoder.forward(PIXELS, draws())
        return model.generator_gradient(codes, caches, draws(), labels)

    found = {
        "reconstruction": lambda: model.reconstruction_gradient(PIXELS, draws()),
        "discriminator": lambda: model.discriminator_gradient(codes, draws(), labels),
        "generator": generator,
    }
    if isinstance(model, CategoricalAutoencoder):
        perturbed = model.perturb(PIXELS, draws())
        found["classification"] = lambda: model.classification_gradient(PIXELS, DIGITS, draws())
        found["smoothness"] = lambda: model.smoothness_gradient(*perturbed, draws())
    return found


@pytest.mark.parametrize(("kind", "options"), WHOLE.values(), ids=WHOLE)
def test_each_phases_gradient_is_right_along_a_random_direction_at_real_size(kind, options, rng):
    model = kind(**{"hidden": (100, 40), "dtype": "float64"} | options)
    for name, loss in phases(model).items():
        parameters = model.adams()[f"{name}_adam"].parameters

        def of(values, parameters=parameters, loss=loss):
            parameters[:] = values
            return loss()

        start = parameters.copy()
        of(start)
        gradient = model.adams()[f"{name}_adam"].gradient.copy()
        assert gradcheck.along(of, start, gradient, rng.standard_normal(start.size)) < 1e-6, name
        parameters[:] = start


@pytest.mark.parametrize("label", range(-1, 10))
def test_each_of_ten_classes_has_a_column_of_the_discriminators_inputs(small_model, label, x):
    model = small_model(classes=10, prior=gaussian_mixture())
    model.discriminator_gradient(model.encoder.forward(x)[0], draws(), np.full(6, label))
    (seen,) = np.unique(np.nonzero(model.discriminator.layers[0].dW[2:])[0])
    assert seen == (10 if label < 0 else label)


def test_each_of_ten_classes_draws_from_a_part_of_the_prior_of_its_own(small_model):
    model = small_model(classes=10, prior=gaussian_mixture(10, tangential_std=0.1))
    labels = np.repeat(np.arange(10), 20)
    samples = model.draw_prior(draws(), 200, labels)
    angles = np.arctan2(samples[:, 1], samples[:, 0])
    np.testing.assert_array_equal(np.rint(10 * angles / (2 * np.pi)) % 10, labels)


# A layer of the user's own


@pytest.fixture
def normalised():
    return NormalisedAutoencoder(hidden=(7, 5), visible=9, dtype="float64", seed=3)


def test_a_layer_of_ones_own_has_its_parameters_in_the_flat_vector_as_they_were(normalised):
    for name, width in zip(NETWORKS, (7, 5, 7), strict=True):
        layer = getattr(normalised, name).layers[1]
        np.testing.assert_array_equal(layer.gamma, np.ones(width))
        np.testing.assert_array_equal(layer.beta, np.zeros(width))
        assert np.shares_memory(layer.gamma, normalised.theta)
        assert np.shares_memory(layer.dbeta, normalised.gradient)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_of_ones_own_passes_the_gradient_check_within_a_network(normalised, rng, name):
    network = getattr(normalised, name)
    x = rng.standard_normal((6, network.layers[0].W.shape[0]))
    errors = gradcheck.parameters(network, x) | {"x": gradcheck.layer(network, x)}
    assert {"0.W", "1.gamma", "1.beta"} <= set(errors)
    assert max(errors.values()) < 1e-6


def test_a_step_moves_the_parameters_of_a_layer_of_ones_own(normalised, x):
    before = normalised.theta.copy()
    normalised.step(x, draws())
    normalised.theta -= before  # of which every parameter is a view
    for name in NETWORKS:
        for label, layer, parameter in named_parameters(getattr(normalised, name)):
            assert np.any(getattr(layer, parameter)), f"{name} {label} has not moved"
