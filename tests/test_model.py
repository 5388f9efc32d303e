import json
import zipfile
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npaae
from npaae import checkpoint, gradcheck
from npaae.backend import SAMPLE, generator
from npaae.errors import BadFile, InvalidInput, Unavailable
from npaae.losses import bce_with_logits
from npaae.model import AdversarialAutoencoder
from npaae.network import parameter_count, perceptron
from npaae.priors import gaussian_mixture, swiss_roll, uniform_disc, uniform_square

from .strategies import off_kinks, seeds, shapes, sizes

ENCODER, DECODER, DISCRIMINATOR = "encoder", "decoder", "discriminator"


def part(model, name):
    """The slice of theta that belongs to a network of `small_model`'s sizes."""
    encoder, decoder = parameter_count((9, 7, 5, 2)), parameter_count((2, 5, 7, 9))
    return {
        ENCODER: slice(0, encoder),
        DECODER: slice(encoder, encoder + decoder),
        DISCRIMINATOR: slice(encoder + decoder, model.theta.size),
    }[name]


def state(model):
    """Everything that a phase might move, by name."""
    parts = {f"theta.{name}": model.theta[part(model, name)] for name in (ENCODER, DECODER, DISCRIMINATOR)}
    gradients = {f"gradient.{name}": model.gradient[part(model, name)] for name in (ENCODER, DECODER, DISCRIMINATOR)}
    adams = ("reconstruction_adam", "discriminator_adam", "generator_adam")
    moments = {f"{name}.{m}": getattr(getattr(model, name), m) for name in adams for m in ("M", "V", "t")}
    return {name: np.copy(value) for name, value in (parts | gradients | moments).items()}


def moved(model, action):
    """The names of what `action` changed, to the last bit."""
    before = state(model)
    action()
    return {name for name, value in state(model).items() if not np.array_equal(value, before[name])}


# What the networks are


def test_the_defaults_are_the_reports_networks():
    model = AdversarialAutoencoder()
    shapes = {
        name: [layer.W.shape for layer in getattr(model, name).layers if hasattr(layer, "W")]
        for name in (ENCODER, DECODER, DISCRIMINATOR)
    }
    assert shapes == {
        ENCODER: [(784, 256), (256, 128), (128, 2)],
        DECODER: [(2, 128), (128, 256), (256, 784)],
        DISCRIMINATOR: [(2, 256), (256, 128), (128, 1)],
    }
    assert {layer.rate for layer in model.encoder.layers + model.decoder.layers if hasattr(layer, "rate")} == {0.25}
    assert {layer.rate for layer in model.discriminator.layers if hasattr(layer, "rate")} == {0.2}
    assert model.theta.dtype == np.float32
    assert model.reconstruction_adam.learning_rate == 5e-4
    assert model.discriminator_adam.learning_rate == model.generator_adam.learning_rate == 1e-4


def test_the_arguments_left_out_are_the_documented_ones():
    model = AdversarialAutoencoder()
    assert model.config == {
        "hidden": (256, 128), "latent": 2, "visible": 784, "prior": {"name": "gaussian", "std": 5.0}, "classes": 0,
        "dropout": 0.25, "discriminator_dropout": 0.2, "lr_reconstruction": 5e-4, "lr_regularization": 1e-4,
        "dtype": "float32", "seed": 0,
    }  # fmt: skip
    assert (model.xp, model.epoch) == (np, 0)


def test_the_smallest_model_has_one_of_everything():
    model = AdversarialAutoencoder(hidden=1, latent=1, visible=1)
    assert model.sample(1, seed=0).shape == (1, 1)


def test_each_optimiser_owns_all_of_its_networks_and_nothing_else(small_model):
    model = small_model()
    encoder, decoder, discriminator = (part(model, name) for name in (ENCODER, DECODER, DISCRIMINATOR))
    for adam, owned in (
        (model.reconstruction_adam, slice(encoder.start, decoder.stop)),
        (model.discriminator_adam, discriminator),
        (model.generator_adam, encoder),
    ):
        for view, flat in ((adam.parameters, model.theta), (adam.gradient, model.gradient)):
            flat[:] = 0
            view[:] = 1
            np.testing.assert_array_equal(np.flatnonzero(flat), np.arange(flat.size)[owned])


def test_no_phase_asks_for_the_gradient_of_an_input_that_nothing_uses(small_model, monkeypatch):
    model, asked = small_model(), []
    for network in (model.encoder, model.decoder, model.discriminator):
        first = network.layers[0]
        backward = first.backward
        monkeypatch.setattr(
            first,
            "backward",
            lambda dy, cache, backward=backward, network=network: asked.append(network) or backward(dy, cache),
        )
    model.step(np.full((6, 9), 0.5), frozen(0))
    assert asked == [model.decoder, model.discriminator]  # to reach the encoder, in phases 1 and 3


def test_the_three_networks_are_views_of_theta_in_order(small_model):
    model = small_model()
    for name in (ENCODER, DECODER, DISCRIMINATOR):
        model.theta[:] = 0
        model.theta[part(model, name)] = 1
        for other in (ENCODER, DECODER, DISCRIMINATOR):
            values = {float(layer.W[0, 0]) for layer in getattr(model, other).layers if hasattr(layer, "W")}
            assert values == {float(other == name)}


def test_a_dtype_may_be_numpys_own_object():
    model = AdversarialAutoencoder(dtype=np.dtype("float64"), hidden=2)
    assert (model.theta.dtype, model.config["dtype"]) == (np.float64, "float64")


def test_float32_and_float64_start_alike():
    single, double = AdversarialAutoencoder(), AdversarialAutoencoder(dtype="float64")
    np.testing.assert_array_equal(single.theta, double.theta.astype(np.float32))


def test_another_seed_gives_other_weights(small_model):
    assert not np.any(small_model(seed=1).theta == small_model(seed=2).theta)


# The three phases


def test_the_reconstruction_phase_moves_encoder_and_decoder_only(small_model, rng):
    model = small_model()

    def phase():
        model.reconstruction_gradient(rng.random((6, 9)), rng)
        model.reconstruction_adam.step()

    assert moved(model, phase) == {
        "theta.encoder", "theta.decoder", "gradient.encoder", "gradient.decoder",
        "reconstruction_adam.M", "reconstruction_adam.V", "reconstruction_adam.t",
    }  # fmt: skip


def test_the_discriminator_phase_moves_the_discriminator_only(small_model, rng):
    model = small_model()

    def phase():
        model.discriminator_gradient(rng.standard_normal((6, 2)), rng)
        model.discriminator_adam.step()

    assert moved(model, phase) == {
        "theta.discriminator", "gradient.discriminator",
        "discriminator_adam.M", "discriminator_adam.V", "discriminator_adam.t",
    }  # fmt: skip


def test_the_generator_phase_moves_the_encoder_only_through_an_untouched_discriminator(small_model, rng):
    model = small_model()

    def phase():
        codes, caches = model.encoder.forward(rng.random((6, 9)), rng)
        model.generator_gradient(codes, caches, rng)
        model.generator_adam.step()

    assert moved(model, phase) == {
        "theta.encoder", "gradient.encoder", "generator_adam.M", "generator_adam.V", "generator_adam.t",
    }  # fmt: skip


def frozen(seed):
    return np.random.default_rng(seed)


def reconstruction(model, x, rng):
    return model.reconstruction_gradient(x, rng)


def discrimination(model, x, rng, labels=None):
    codes, _ = model.encoder.forward(x, rng)
    return model.discriminator_gradient(codes, rng, labels)


def generation(model, x, rng, labels=None):
    codes, caches = model.encoder.forward(x, rng)
    return model.generator_gradient(codes, caches, rng, labels)


PHASES = pytest.mark.parametrize(
    ("phase", "adam_name"),
    [
        (reconstruction, "reconstruction_adam"),
        (discrimination, "discriminator_adam"),
        (generation, "generator_adam"),
    ],
)


def phase_gradient(model, phase, adam_name, x, seed):
    """A phase's loss as a function of all the parameters that it moves; where they are; and the gradient it leaves there."""
    adam = getattr(model, adam_name)
    model.gradient[:] = np.nan  # what the phase does not overwrite shows
    phase(model, x, frozen(seed))
    gradient, start = adam.gradient.copy(), adam.parameters.copy()

    def loss(parameters):
        adam.parameters[:] = parameters
        return phase(model, x, frozen(seed))

    return loss, start, gradient


@PHASES
@given(seeds, sizes, shapes, sizes, st.floats(0, 0.5))
def test_each_phases_gradient_agrees_with_finite_differences_along_any_direction_dropout_on(
    phase, adam_name, seed, n, hidden, latent, rate
):
    model = AdversarialAutoencoder(
        hidden=hidden, latent=latent, visible=5, dropout=rate, discriminator_dropout=rate, dtype="float64", seed=seed
    )
    rng = frozen(seed)
    loss, start, gradient = phase_gradient(model, phase, adam_name, rng.random((n, 5)), seed)
    direction = rng.standard_normal(start.size)
    assert off_kinks(gradcheck.along, loss, start, gradient, direction, richardson=True) < 1e-6


@PHASES
@settings(max_examples=10)
@given(seeds, sizes)
def test_each_phases_gradient_agrees_with_finite_differences_in_every_parameter_dropout_on(phase, adam_name, seed, n):
    model = AdversarialAutoencoder(hidden=(7, 5), latent=2, visible=9, dtype="float64", seed=seed)
    loss, start, gradient = phase_gradient(model, phase, adam_name, frozen(seed).random((n, 9)), seed)
    assert off_kinks(gradcheck.elementwise, loss, start, gradient) < 1e-6


@PHASES
def test_in_float32_each_phases_gradient_is_float64s_to_its_precision(small_model, phase, adam_name):
    x, gradients = frozen(1).random((6, 9)), []
    for dtype in ("float32", "float64"):
        model = small_model(dtype=dtype)
        phase(model, x.astype(dtype), frozen(2))
        gradients.append(getattr(model, adam_name).gradient)
    assert gradients[0].dtype == np.float32
    assert gradcheck.relative_error(*gradients) < 1e-5


def test_the_generators_gradient_is_the_one_through_a_copy_of_the_discriminator(small_model):
    model, x = small_model(), frozen(1).random((6, 9))
    codes, caches = model.encoder.forward(x, frozen(2))
    theta = model.theta[part(model, DISCRIMINATOR)].copy()
    discriminator = perceptron(np, (2, 7, 5, 1), 0.2, theta, np.empty_like(theta))
    logits, discriminator_caches = discriminator.forward(codes, frozen(3))
    dcodes = discriminator.backward(bce_with_logits(np, logits, 1.0)[1], discriminator_caches)
    model.encoder.backward(dcodes, caches)
    expected = model.generator_adam.gradient.copy()
    model.gradient[:] = np.nan
    model.generator_gradient(codes, caches, frozen(3))
    np.testing.assert_array_equal(model.generator_adam.gradient, expected)


def softplus(x):
    return np.log1p(np.exp(x))


# Finite differences compare a loss with its own gradient; these three hold each loss to its definition.


def test_the_reconstruction_loss_is_the_bce_of_the_decoded_image(small_model):
    model, x = small_model(), np.random.default_rng(1).random((6, 9))
    rng = frozen(2)
    codes, _ = model.encoder.forward(x, rng)
    logits, _ = model.decoder.forward(codes, rng)
    expected = np.mean(x * softplus(-logits) + (1 - x) * softplus(logits))
    assert model.reconstruction_gradient(x, frozen(2)) == pytest.approx(expected, rel=1e-12)


def test_the_discriminator_loss_is_a_sum_of_two_means_with_the_prior_as_real(small_model):
    model, codes = small_model(), np.random.default_rng(1).standard_normal((6, 2))
    rng = frozen(2)
    logits, _ = model.discriminator.forward(np.concatenate((model.prior(rng, 6, 2), codes)), rng)
    expected = np.mean(softplus(-logits[:6])) + np.mean(softplus(logits[6:]))
    assert model.discriminator_gradient(codes, frozen(2)) == pytest.approx(expected, rel=1e-12)


def test_the_generator_loss_is_the_non_saturating_one(small_model):
    model, codes = small_model(), np.random.default_rng(1).standard_normal((6, 2))
    caches = model.encoder.forward(np.full((6, 9), 0.5))[1]
    logits, _ = model.discriminator.forward(codes, frozen(2))
    assert model.generator_gradient(codes, caches, frozen(2)) == pytest.approx(np.mean(softplus(-logits)), rel=1e-12)


def test_the_generator_is_taught_to_pass_its_codes_for_the_prior(small_model):
    model, x, rng = small_model(lr_regularization=1e-2), np.random.default_rng(1).random((20, 9)), frozen(2)

    def verdict():
        return model.discriminator.forward(model.encoder.forward(x)[0])[0].mean()

    before = verdict()
    for _ in range(200):
        codes, caches = model.encoder.forward(x, rng)
        model.generator_gradient(codes, caches, rng)
        model.generator_adam.step()
    assert verdict() > before  # by how much is up to the untrained discriminator; the direction is the claim


def test_the_discriminator_is_taught_that_the_prior_is_real_and_codes_are_not(small_model, rng):
    model = small_model(lr_regularization=1e-2)
    codes = rng.standard_normal((50, 2)) - 20
    for _ in range(300):
        model.discriminator_gradient(codes, rng)
        model.discriminator_adam.step()
    verdict = npaae.layers.sigmoid(np, model.discriminator.forward(np.concatenate((codes, model.sample_prior(50, seed=1))))[0])
    assert verdict[:50].mean() < 0.1 < 0.9 < verdict[50:].mean()


def test_a_step_is_the_three_phases_in_order_with_one_encoder_pass_for_two_of_them(small_model):
    x = np.random.default_rng(1).random((6, 9))
    model, by_hand = small_model(), small_model()
    losses = model.step(x, frozen(2))

    rng = frozen(2)
    expected = [by_hand.reconstruction_gradient(x, rng)]
    by_hand.reconstruction_adam.step()
    codes, caches = by_hand.encoder.forward(x, rng)
    expected.append(by_hand.discriminator_gradient(codes, rng))
    by_hand.discriminator_adam.step()
    expected.append(by_hand.generator_gradient(codes, caches, rng))
    by_hand.generator_adam.step()
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_array_equal(model.theta, by_hand.theta)


def test_dropout_is_on_in_all_three_phases(small_model):
    model, x = small_model(), np.random.default_rng(0).random((6, 9))
    codes, caches = model.encoder.forward(x)
    for phase in (
        lambda rng: model.reconstruction_gradient(x, rng),
        lambda rng: model.discriminator_gradient(codes, rng),
        lambda rng: model.generator_gradient(codes, caches, rng),
    ):
        model.prior = lambda rng, n, dim: np.ones((n, dim))  # so that only dropout is left to differ
        assert phase(frozen(0)) != phase(frozen(1))


def test_a_step_accepts_uint8_and_takes_it_for_255ths(small_model):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
    bytes_model, float_model = small_model(), small_model()
    bytes_model.step(pixels, frozen(0))
    float_model.step(pixels / 255, frozen(0))
    np.testing.assert_array_equal(bytes_model.theta, float_model.theta)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_leaves_its_batch_alone_and_keeps_the_models_type(small_model, dtype):
    model, x = small_model(dtype=dtype), np.full((4, 9), 0.5, dtype)
    x.flags.writeable = False
    losses = model.step(x, frozen(0))
    assert {loss.dtype.name for loss in losses} == {model.theta.dtype.name} == {dtype}


@pytest.mark.parametrize(
    ("prior", "says"),
    [
        ("gaussian", "'str' object is not callable"),
        (npaae.priors.gaussian, "takes from 1 to 2 positional arguments"),
        (
            lambda rng, n, dim: rng.standard_normal((n, dim + 1)),
            r"shape \(2, 3\) and type float64; it must return real numbers of shape \(2, 2\)",
        ),
        (lambda rng, n, dim: np.full((n, dim), 1j), "type complex128; it must return real numbers"),
        (lambda rng, n, dim: [[1.0], [2.0, 3.0]], "inhomogeneous shape"),
        (lambda rng, n, dim: [["a", "b"]] * n, "type <U1; it must return real numbers"),
        (lambda rng, n, dim: np.full((n, dim), np.nan), "it returned NaN, infinity or numbers too large for float32"),
        (npaae.priors.gaussian(std=1e300), "it returned NaN, infinity or numbers too large for float32"),
    ],
)
def test_what_is_no_prior_is_refused_at_construction(prior, says):
    with pytest.raises(InvalidInput, match=rf"^prior=.* came; a prior is a callable .*{says}"):
        AdversarialAutoencoder(prior=prior)


def test_a_prior_is_tried_on_the_same_draws_every_time():
    drawn = []

    def prior(rng, n, dim):
        drawn.append(rng.random())
        return np.zeros((n, dim))

    AdversarialAutoencoder(hidden=1, prior=prior)
    AdversarialAutoencoder(hidden=1, prior=prior)
    assert drawn[0] == drawn[1]


def test_samples_that_are_not_finite_are_refused():
    model = AdversarialAutoencoder(hidden=1, prior=lambda rng, n, dim: np.full((n, dim), np.nan if n > 2 else 0.0))
    with pytest.raises(InvalidInput, match="returned NaN or infinity; it must return finite numbers"):
        model.sample(3)


def test_a_prior_whose_shape_is_wrong_for_some_n_only_is_refused_in_the_step(small_model, rng):
    model = small_model(prior=lambda rng, n, dim: rng.standard_normal((min(n, 5), dim)))
    with pytest.raises(InvalidInput, match=r"shape \(5, 2\) and type float64; it must return real numbers of shape \(6, 2\)"):
        model.step(np.full((6, 9), 0.5), rng)


def test_a_step_takes_lists_too(small_model):
    arrays, lists = small_model(), small_model()
    arrays.step(np.full((2, 9), 0.5), frozen(0))
    lists.step([[0.5] * 9] * 2, frozen(0))
    np.testing.assert_array_equal(arrays.theta, lists.theta)


def test_a_users_own_prior_is_imposed(small_model):
    model = small_model(prior=lambda rng, n, dim: 1 + 0 * rng.random((n, dim)))
    np.testing.assert_array_equal(model.sample_prior(3), 1)


# Use


# Label-conditioned: the discriminator sees each code beside its label, and each class goes to its own part of the prior


@pytest.fixture
def told_labels(small_model):
    """A model of three classes, and of "unlabelled" as label 3."""
    return lambda **arguments: small_model(prior=gaussian_mixture(components=3), classes=3, **arguments)


LABELS = np.array([0, 1, 2, 3, 2, 1])


@pytest.mark.parametrize(
    ("phase", "adam_name"), [(discrimination, "discriminator_adam"), (generation, "generator_adam")], ids=["phase 2", "phase 3"]
)
@settings(max_examples=20)
@given(seeds, st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_with_labels_each_phases_gradient_agrees_with_finite_differences_dropout_on(phase, adam_name, seed, labels):
    model = AdversarialAutoencoder(
        hidden=(7, 5), visible=9, prior=gaussian_mixture(components=3), classes=3, dtype="float64", seed=seed
    )
    told = partial(phase, labels=np.array(labels))
    loss, start, gradient = phase_gradient(model, told, adam_name, frozen(seed).random((len(labels), 9)), seed)
    assert off_kinks(gradcheck.elementwise, loss, start, gradient) < 1e-6


def test_the_discriminator_sees_each_code_beside_its_one_hot_label(told_labels, rng):
    model, codes = told_labels(), rng.standard_normal((6, 2))
    real = model.draw_prior(frozen(2), 6, LABELS)
    seen = np.vstack((np.hstack((real, np.eye(4)[LABELS])), np.hstack((codes, np.eye(4)[LABELS]))))
    draws = frozen(2)
    model.draw_prior(draws, 6, LABELS)
    logits, _ = model.discriminator.forward(seen, draws)
    expected = np.mean(softplus(-logits[:6])) + np.mean(softplus(logits[6:]))
    assert model.discriminator_gradient(codes, frozen(2), LABELS) == pytest.approx(expected, rel=1e-12)


def test_a_label_draws_from_its_own_part_of_the_prior_and_unlabelled_from_all_of_it(told_labels, rng):
    model, n = told_labels(), 3000
    angles = [model.prior.radius * np.array([np.cos(a), np.sin(a)]) for a in 2 * np.pi / 3 * np.arange(3)]

    def shares(label):
        samples = model.draw_prior(rng, n, np.full(n, label))
        nearest = np.argmin([((samples - mean) ** 2).sum(axis=1) for mean in angles], axis=0)
        return np.bincount(nearest, minlength=3) / n

    for label in range(3):
        assert shares(label)[label] > 0.999
    np.testing.assert_allclose(shares(3), 1 / 3, atol=5 * np.sqrt(2 / 9 / n))  # five standard errors


def test_a_step_with_labels_tells_them_to_both_phases_of_the_regularization(told_labels):
    x = np.random.default_rng(1).random((6, 9))
    model, by_hand = told_labels(), told_labels()
    losses = model.step(x, frozen(2), LABELS)

    rng = frozen(2)
    expected = [by_hand.reconstruction_gradient(x, rng)]
    by_hand.reconstruction_adam.step()
    codes, caches = by_hand.encoder.forward(x, rng)
    expected.append(by_hand.discriminator_gradient(codes, rng, LABELS))
    by_hand.discriminator_adam.step()
    expected.append(by_hand.generator_gradient(codes, caches, rng, LABELS))
    by_hand.generator_adam.step()
    assert list(losses) == expected
    np.testing.assert_array_equal(model.theta, by_hand.theta)


def test_in_float32_the_labels_leave_the_type_as_it_is(told_labels):
    model = told_labels(dtype="float32")
    model.step(np.full((6, 9), 0.5, np.float32), frozen(2), LABELS)
    assert {layer.W.dtype for layer in model.discriminator.layers if hasattr(layer, "W")} == {np.dtype(np.float32)}
    assert model._beside(np.zeros((6, 2), np.float32), LABELS).dtype == np.float32


@pytest.mark.parametrize(
    ("classes", "labels", "says"), [(3, None, "labels=None came to a model of 3 classes"), (0, LABELS, "a model of 0 classes")]
)
def test_a_step_refuses_labels_that_are_missing_or_too_many(small_model, rng, classes, labels, says):
    model = small_model(prior=gaussian_mixture(components=3), classes=classes)
    with pytest.raises(InvalidInput, match=says):
        model.step(np.full((6, 9), 0.5), rng, labels)


def test_a_prior_without_parts_is_refused_for_a_model_with_classes():
    with pytest.raises(InvalidInput, match="classes=10; pass one with parts for them, such as gaussian_mixture"):
        AdversarialAutoencoder(classes=10)


def test_a_prior_of_the_users_own_with_parts_is_tried_with_labels_too():
    class Line:
        def __call__(self, rng, n, dim):
            return rng.random((n, dim))

        def along(self, rng, position):
            return position

    with pytest.raises(InvalidInput, match=r"shape \(2,\)"):
        AdversarialAutoencoder(prior=Line(), classes=2)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)


def test_images_mean_the_same_in_every_accepted_form(small_model, pixels):
    model = small_model()
    expected = model.encode(pixels)
    assert expected.shape == (5, 2)
    for same in (pixels.reshape(5, 9), pixels / 255, (pixels / 255).reshape(5, 9), (pixels / 255).tolist()):
        np.testing.assert_array_equal(model.encode(same), expected)


def test_reconstruct_is_decode_after_encode(small_model, pixels):
    model = small_model()
    images = model.reconstruct(pixels)
    assert images.shape == (5, 9)
    assert 0 < images.min() < images.max() < 1
    np.testing.assert_allclose(images, model.decode(model.encode(pixels)), rtol=1e-12)


def test_evaluation_has_no_dropout_and_does_not_depend_on_the_batch(small_model):
    model, many = small_model(), np.random.default_rng(0).random((2500, 9))
    codes = model.encode(many)
    np.testing.assert_allclose(model.encode(many[2100:2101]), codes[2100:2101], rtol=1e-12)


def test_a_seed_names_one_random_stream_of_its_own(small_model):
    model = small_model()
    np.testing.assert_array_equal(model.sample_prior(4, seed=1), model.prior(generator(np, 1, SAMPLE), 4, 2))


def test_sampling_is_determined_by_its_seed(small_model):
    model = small_model()
    a, b, other = model.sample(4, seed=1), model.sample(4, seed=1), model.sample(4, seed=2)
    assert a.shape == (4, 9)
    np.testing.assert_array_equal(a, b)
    assert not np.any(a == other)
    assert not np.any(model.sample(4) == model.sample(4))


def test_samples_are_decoded_draws_from_the_prior(small_model):
    model = small_model()
    np.testing.assert_array_equal(model.sample(4, seed=1), model.decode(model.sample_prior(4, seed=1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_comes_out_is_numpy_of_the_models_type(small_model, pixels, dtype):
    model = small_model(dtype=dtype)
    for result in (model.encode(pixels), model.decode([[0.0, 1.0]]), model.reconstruct(pixels), model.sample(2)):
        assert type(result) is np.ndarray
        assert result.dtype == dtype


class Unconvertible:
    """As an array of another library is, that lies on a GPU or carries a gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach first")


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((2, 10), np.uint8), r"shape \(2, 10\) came; pass them as \(n, 9\) or \(n, 3, 3\)"),
        (np.zeros((2, 9, 1)), r"shape \(2, 9, 1\) came"),
        (np.zeros(9), r"shape \(9,\) came"),
        (np.zeros((0, 9)), "empty batch"),
        (np.zeros((2, 9), int), "type int64 came; pass uint8 in 0 … 255 or floats"),
        (np.full((2, 9), np.nan), "pixels from nan to nan came"),
        (np.full((2, 9), 1.5), r"pixels from 1.5 to 1.5 came; pass floats in \[0, 1\]"),
        (np.full((2, 9), -0.1), "pixels from -0.1"),
        (np.full((2, 9), np.inf), "to inf came"),
        ([["a"] * 9], "type <U1 came"),
        ([[0.5, 0.5], [0.5]], "rows of unequal lengths came; pass images"),
        (Unconvertible(), r"images of type Unconvertible came \(call detach first\); pass a NumPy array"),
        (np.full((2, 9), -1e-3), "pixels from -0.001 to"),
        (np.full((2, 9), 1.001), "to 1.001 came"),
        (np.full((2, 9), 1j), "type complex128"),
    ],
)
@pytest.mark.parametrize("method", ["encode", "reconstruct"])
def test_what_is_no_batch_of_images_is_refused_in_one_sentence(small_model, method, images, says):
    with pytest.raises(ValueError, match=says):
        getattr(small_model(), method)(images)


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\)"),
        (np.zeros(2), r"shape \(2,\)"),
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        ([[np.nan, 0]], "with NaN, infinity"),
        ([["a", "b"]], "type <U1"),
        ([[1, 2], [3]], "rows of unequal lengths came; pass codes"),
        ([[1e300, 0]], "too large for float32"),
    ],
)
def test_what_are_no_codes_is_refused_in_one_sentence(small_model, codes, says):
    with pytest.raises(ValueError, match=says):
        small_model(dtype="float32").decode(codes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"hidden": ()}, r"^hidden=\(\) came; give the width of at least one hidden layer$"),
        ({"hidden": (256, 0)}, "hidden=0 came"),
        ({"hidden": (2.5,)}, "hidden=2.5 came"),
        ({"hidden": (True,)}, "hidden=True came"),
        ({"hidden": "256"}, "hidden='256' came"),
        ({"hidden": np.array([[8]])}, r"hidden=array\(\[8\]\) came"),
        ({"dtype": np.zeros(2)}, r"dtype=array\(\[0., 0.\]\) came"),
        ({"backend": np.zeros(2)}, r"backend=array\(\[0., 0.\]\) came"),
        ({"hidden": 10**9}, r"hidden=\(1000000000,\), .* make 1,578,000,000,787 parameters; that is more than memory"),
        ({"hidden": 10**20}, "more than memory can hold"),
        ({"latent": 10**11}, "more than memory can hold"),
        ({"latent": 0}, "latent=0 came"),
        ({"classes": -1}, "^classes=-1 came"),
        ({"classes": 2.5}, "^classes=2.5 came"),
        ({"visible": -1}, "visible=-1 came"),
        ({"dropout": 1.0}, "dropout=1.0 came"),
        ({"discriminator_dropout": "half"}, "discriminator_dropout='half' came"),
        ({"lr_reconstruction": 0}, "lr_reconstruction=0 came"),
        ({"lr_reconstruction": "0.1"}, "lr_reconstruction='0.1' came"),
        ({"lr_reconstruction": 1.5}, "lr_reconstruction=1.5 came; it must be a number above 0 and at most 1"),
        ({"lr_regularization": 10**400}, "it must be a number above 0"),
        ({"lr_regularization": float("nan")}, "lr_regularization=nan came"),
        ({"dtype": "float16"}, "dtype='float16' came"),
        ({"seed": -1}, "seed=-1 came"),
        ({"seed": 0.5}, "seed=0.5 came"),
        ({"backend": "jax"}, "backend='jax' came"),
    ],
)
def test_an_argument_outside_its_range_is_refused_in_one_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        AdversarialAutoencoder(**arguments)


@pytest.mark.parametrize(("n", "seed", "says"), [(0, 1, "n=0 came"), (1.5, 1, "n=1.5 came"), (1, -1, "seed=-1 came")])
def test_sampling_refuses_counts_and_seeds_outside_their_range(small_model, n, seed, says):
    with pytest.raises(ValueError, match=says):
        small_model().sample(n, seed=seed)


# Saving


def trained(model, steps=3):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        model.step(rng.random((6, 9)), rng)
    return model


def test_a_loaded_model_is_equal_in_every_array_and_number(small_model, tmp_path):
    arguments = {"dropout": 0.1, "discriminator_dropout": 0.3, "lr_reconstruction": 1e-3, "lr_regularization": 2e-3}
    model = trained(small_model(prior=npaae.priors.gaussian(std=2.5), **arguments))
    model.epoch = 7
    model.save(tmp_path / "model.npz")
    loaded = AdversarialAutoencoder.load(tmp_path / "model.npz")
    before, after = state(model), state(loaded)
    for name, value in before.items():
        if not name.startswith("gradient"):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert loaded.config == model.config
    assert (loaded.prior, loaded.epoch, loaded.seed) == (model.prior, 7, 3)
    for name in (ENCODER, DISCRIMINATOR):
        assert getattr(loaded, name).layers[2].rate == getattr(model, name).layers[2].rate
    for name in ("reconstruction_adam", "discriminator_adam", "generator_adam"):
        assert getattr(loaded, name).learning_rate == getattr(model, name).learning_rate


def test_a_saved_model_says_nothing_of_its_backend(small_model, tmp_path):
    small_model().save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        assert "backend" not in json.loads(str(archive["config"]))


def test_a_model_is_loaded_to_the_backend_asked_for(small_model, tmp_path, monkeypatch):
    asked = []
    small_model().save(tmp_path / "model.npz")
    monkeypatch.setattr(npaae.model, "array_module", lambda backend: asked.append(backend) or np)
    AdversarialAutoencoder.load(tmp_path / "model.npz", backend="cupy")
    assert set(asked) == {"cupy"}


def test_a_loaded_model_trains_on_as_the_saved_one_would(small_model, tmp_path):
    model = trained(small_model())
    model.save(tmp_path / "model.npz")
    loaded = AdversarialAutoencoder.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(trained(loaded).theta, trained(model).theta)


def test_a_prior_of_the_users_own_must_be_given_again(small_model, tmp_path):
    def prior(rng, n, dim):
        return rng.random((n, dim))

    small_model(prior=prior).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"^/.*model\.npz was trained with a prior of your own; pass it again, as load"):
        AdversarialAutoencoder.load(tmp_path / "model.npz")
    assert AdversarialAutoencoder.load(tmp_path / "model.npz", prior=prior).prior is prior


def test_a_prior_that_is_given_takes_the_saved_ones_place(small_model, tmp_path):
    small_model().save(tmp_path / "model.npz")
    narrow = npaae.priors.gaussian(std=1.0)
    loaded = AdversarialAutoencoder.load(tmp_path / "model.npz", prior=narrow)
    assert loaded.prior is narrow
    assert loaded.config["prior"] == {"name": "gaussian", "std": 1.0}


def test_a_wrong_prior_is_not_blamed_on_the_file(small_model, tmp_path):
    small_model().save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"^prior=5 came"):
        AdversarialAutoencoder.load(tmp_path / "model.npz", prior=5)


def test_a_kind_of_gaussian_of_the_users_own_is_not_saved_as_a_gaussian(small_model, tmp_path):
    class half_gaussian(npaae.priors.gaussian):
        def __call__(self, rng, n, dim):
            return abs(super().__call__(rng, n, dim))

    small_model(prior=half_gaussian()).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match="with a prior of your own"):
        AdversarialAutoencoder.load(tmp_path / "model.npz")


@pytest.mark.parametrize(
    "prior", [uniform_disc(3.0), uniform_square(3.0), gaussian_mixture(components=3), swiss_roll(turns=1.5)]
)
def test_every_prior_of_the_package_is_saved_with_its_numbers(small_model, tmp_path, prior):
    small_model(prior=prior).save(tmp_path / "model.npz")
    assert AdversarialAutoencoder.load(tmp_path / "model.npz").prior == prior


def test_a_model_with_classes_is_loaded_with_them(told_labels, tmp_path):
    model = told_labels()
    model.save(tmp_path / "model.npz")
    loaded = AdversarialAutoencoder.load(tmp_path / "model.npz")
    assert loaded.classes == 3
    np.testing.assert_array_equal(loaded.theta, model.theta)


def test_a_prior_of_the_users_own_with_parts_can_be_given_again_to_a_model_with_classes(small_model, tmp_path):
    class Thirds(gaussian_mixture):
        pass

    prior = Thirds(components=3)
    small_model(prior=prior, classes=3).save(tmp_path / "model.npz")
    assert AdversarialAutoencoder.load(tmp_path / "model.npz", prior=prior).prior is prior


def test_a_model_of_format_1_which_named_neither_prior_nor_classes_is_loaded(saved):
    path, _ = saved
    config = json.loads(str(np.load(path)["config"]))
    del config["classes"], config["prior"]["name"]
    np.savez(path, **dict(np.load(path)) | {"format": 1, "config": json.dumps(config)})
    loaded = AdversarialAutoencoder.load(path)
    assert (loaded.prior, loaded.classes) == (npaae.priors.gaussian(5.0), 0)


@pytest.mark.parametrize("prior", [{"std": 5.0}, {"name": "bimodal"}, {"name": "gaussian", "width": 1}, [1], "gaussian"])
def test_a_saved_prior_that_is_none_of_the_packages_is_refused(saved, prior):
    path, rewrite = saved
    rewrite(config={"prior": prior})
    assert "is damaged" in refusal(path)


@pytest.fixture
def saved(small_model, tmp_path):
    """The path of a saved model, and a function that writes it again with other members."""
    path = tmp_path / "model.npz"
    trained(small_model()).save(path)
    members = dict(np.load(path))

    def rewrite(without=(), config=None, **others):
        kept = {name: value for name, value in (members | others).items() if name not in without}
        if config is not None:
            kept["config"] = json.dumps(json.loads(str(members["config"])) | config)
        np.savez(path, **kept)

    return path, rewrite


def refusal(path):
    """The one sentence with which a file is refused."""
    with pytest.raises(BadFile) as caught:
        AdversarialAutoencoder.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("content", [b"", b"not a zip archive", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path, content):
    (tmp_path / "model.npz").write_bytes(content)
    assert "not a whole model saved by npaae: File is not a zip file" in refusal(tmp_path / "model.npz")


def test_a_truncated_file_is_refused_wherever_it_was_cut(saved):
    path, _ = saved
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert "is not a whole model" in refusal(path)


def test_one_changed_byte_in_an_array_is_told_by_its_checksum(saved):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in refusal(path)


def test_an_archive_of_another_program_is_refused(tmp_path):
    np.savez(tmp_path / "model.npz", theta=np.zeros(3))
    assert "it has no 'format'" in refusal(tmp_path / "model.npz")


def test_a_compressed_archive_which_may_be_a_bomb_is_refused_unread(tmp_path):
    np.savez_compressed(tmp_path / "model.npz", format=checkpoint.FORMAT, theta=np.zeros(10**6))
    assert "it promises more than it holds" in refusal(tmp_path / "model.npz")


def test_pickled_members_are_refused(saved):
    path, rewrite = saved
    rewrite(theta=np.array([{}], object))
    assert "allow_pickle=False" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"without": ["theta"]}, "it has no 'theta'"),
        ({"without": ["generator_adam.t"]}, "it has no 'generator_adam.t'"),
        ({"without": ["config"]}, "it has no 'config'"),
        ({"format": 0}, "has format 0"),
        ({"theta": np.zeros(317)}, "its 317 parameters do not fit its own layer sizes"),
        ({"theta": np.zeros(318, np.float32)}, "its theta does not fit its own configuration"),
        ({"generator_adam.M": np.zeros(7)}, "its generator_adam.M does not fit"),
        ({"theta": np.full(318, np.nan)}, "its theta holds numbers that training cannot have left"),
        ({"discriminator_adam.V": np.full(67, -1.0)}, "its discriminator_adam.V holds numbers"),
        ({"epoch": np.array(-1)}, "epoch=array(-1) came"),
        ({"epoch": np.array(np.nan)}, "epoch=array(nan) came"),
        ({"reconstruction_adam.t": np.array(-1)}, "reconstruction_adam.t=array(-1) came"),
        ({"config": {"hidden": [7, -5]}}, "hidden=-5 came"),
        ({"config": {"hidden": [2**50, "a"]}}, "hidden='a' came"),
        ({"config": {"hidden": [10**12]}}, "do not fit its own layer sizes"),
        ({"config": {"hidden": None}}, "damaged"),
        ({"config": {"seed": -1}}, "damaged: seed=-1 came"),
        ({"config": {"dtype": "float16"}}, "damaged: dtype='float16' came"),
        ({"config": {"prior": {"name": "gaussian", "std": -5}}}, "damaged: std=-5 came"),
        ({"config": {"latent": "wide"}}, "damaged: latent='wide' came"),
        ({"config": {"shape": "round"}}, "unexpected keyword argument 'shape'"),
        ({"format": np.array("one")}, "invalid literal for int()"),
        ({"format": 99}, "has format 99, this npaae reads formats 1 and 2; use the npaae that wrote it"),
    ],
)
def test_a_file_with_other_content_than_a_models_is_refused_saying_what_is_wrong(saved, changes, says):
    path, rewrite = saved
    rewrite(**changes)
    assert says in refusal(path)


@pytest.mark.parametrize("name", ["seed", "dropout", "hidden", "classes"])
def test_a_configuration_that_lacks_something_is_not_filled_up_with_defaults(saved, name):
    path, _ = saved
    config = json.loads(str(np.load(path)["config"]))
    del config[name]
    members = dict(np.load(path)) | {"config": json.dumps(config)}
    np.savez(path, **members)
    assert f"it has no '{name}'" in refusal(path)


def test_a_layer_of_a_single_unit_is_saved_and_loaded(small_model, tmp_path):
    small_model(hidden=1).save(tmp_path / "model.npz")
    assert AdversarialAutoencoder.load(tmp_path / "model.npz").config["hidden"] == (1,)


def test_a_saved_prior_that_does_not_suit_the_saved_model_is_the_files_fault(small_model, tmp_path):
    small_model(latent=3).save(tmp_path / "model.npz")
    members = dict(np.load(tmp_path / "model.npz"))
    members["config"] = json.dumps(json.loads(str(members["config"])) | {"prior": {"name": "swiss_roll"}})
    np.savez(tmp_path / "model.npz", **members)
    assert "is damaged: prior=swiss_roll" in refusal(tmp_path / "model.npz")


def test_a_damaged_file_is_not_blamed_on_the_prior_that_is_given(saved):
    path, rewrite = saved
    rewrite(config={"dropout": 2})
    with pytest.raises(BadFile, match="is damaged: dropout=2 came"):
        AdversarialAutoencoder.load(path, prior=npaae.priors.gaussian())


def test_an_archive_with_more_than_arrays_is_refused(saved):
    path, _ = saved
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "not an array")
    assert "its notes.txt is no array" in refusal(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_what_is_no_regular_file_is_refused_unread(path):
    assert "is no regular file" in refusal(path)


def test_a_configuration_without_a_prior_wants_one(saved):
    path, _ = saved
    config = json.loads(str(np.load(path)["config"]))
    del config["prior"]
    members = dict(np.load(path)) | {"config": json.dumps(config)}
    np.savez(path, **members)
    with pytest.raises(InvalidInput, match="pass it again"):
        AdversarialAutoencoder.load(path)


def test_a_configuration_that_is_no_object_is_refused(saved):
    path, _ = saved
    members = dict(np.load(path)) | {"config": "[1, 2]"}
    np.savez(path, **members)
    assert "its configuration is no JSON object" in refusal(path)


def test_a_wrong_backend_is_not_blamed_on_the_file(small_model, tmp_path):
    small_model().save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match="backend='jax'"):
        AdversarialAutoencoder.load(tmp_path / "model.npz", backend="jax")


def test_cupy_without_cupy_is_one_sentence_that_says_what_to_install():
    try:
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("this machine has CuPy and a GPU")
    except ImportError:
        pass
    with pytest.raises(Unavailable, match=r"install"):
        AdversarialAutoencoder(backend="cupy")
