"""The label-conditioned discriminator: each class goes to its own part of the prior."""

import numpy as np
import pytest

import npaae
from npaae import AdversarialAutoencoder, InvalidInput, gradcheck
from npaae.priors import gaussian, gaussian_mixture, swiss_roll

LABELS = np.array([0, 1, 2, -1, 2, 1])  # of three classes; −1 is "unlabelled"
X = np.random.default_rng(1).random((6, 9))


@pytest.fixture
def told(small_model):
    """Makes models of three classes."""
    prior = gaussian_mixture(components=3)
    return lambda **options: small_model(**{"prior": prior, "classes": 3} | options)


def draws():
    return np.random.default_rng(2)


def test_the_discriminator_has_an_input_for_each_class_and_one_for_unlabelled(told):
    assert told().discriminator.layers[0].W.shape == (2 + 3 + 1, 7)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_label_draws_from_its_own_part_of_the_prior(told, rng, label):
    samples = told().draw_prior(rng, 3000, np.full(3000, label))
    assert shares(samples)[label] > 0.999


def test_unlabelled_draws_from_the_whole_prior(told, rng):
    found = shares(told().draw_prior(rng, 3000, np.full(3000, -1)))
    five_standard_errors = 5 * np.sqrt(2 / 9 / 3000)
    np.testing.assert_allclose(found, 1 / 3, atol=five_standard_errors)


def shares(samples):
    """The share of samples in each third of the plane, seen from 0."""
    angles = np.arctan2(samples[:, 1], samples[:, 0])
    return np.bincount(np.rint(3 * angles / (2 * np.pi)).astype(int) % 3, minlength=3) / len(
        samples
    )


def test_samples_are_of_the_whole_prior(told):
    assert min(shares(told().sample_prior(3000, seed=1))) > 0.3


def test_a_step_tells_both_phases_of_the_regularization_the_labels(told):
    model, by_hand = told(), told()
    losses = model.step(X, draws(), LABELS)

    rng = draws()
    expected = [by_hand.reconstruction_gradient(X, rng)]
    by_hand.reconstruction_adam.step()
    codes, caches = by_hand.encoder.forward(X, rng)
    expected.append(by_hand.discriminator_gradient(codes, rng, LABELS))
    by_hand.discriminator_adam.step()
    expected.append(by_hand.generator_gradient(codes, caches, rng, LABELS))
    by_hand.generator_adam.step()
    assert list(losses) == expected
    np.testing.assert_array_equal(model.theta, by_hand.theta)


def test_the_type_of_the_labels_does_not_matter(told):
    models = [told() for _ in range(3)]
    for model, dtype in zip(models, (np.int64, np.int32, np.int8), strict=True):
        model.step(X, draws(), LABELS.astype(dtype))
        np.testing.assert_array_equal(model.theta, models[0].theta)


def test_in_float32_a_step_with_labels_is_float64s_to_its_precision(told):
    gradients = []
    for dtype in ("float32", "float64"):
        model = told(dtype=dtype)
        losses = model.step(X, draws(), LABELS)
        assert {loss.dtype for loss in losses} == {np.dtype(dtype)}
        gradients.append(model.discriminator_adam.gradient)
    assert gradcheck.relative_error(*gradients) < 1e-5


@pytest.mark.parametrize(("classes", "labels"), [(3, None), (0, LABELS)])
def test_a_step_refuses_labels_that_are_missing_or_too_many(told, rng, classes, labels):
    with pytest.raises(InvalidInput, match=r"^labels must"):
        told(classes=classes).step(X, rng, labels)


class Line:
    """A prior with parts that returns samples of a wrong shape for them."""

    def __call__(self, rng, n, dim):
        return rng.random((n, dim))

    def at(self, rng, position):
        return position


@pytest.mark.parametrize("prior", [gaussian(), Line(), lambda rng, n, dim: rng.random((n, dim))])
def test_a_prior_without_working_parts_is_refused_for_a_model_with_classes(prior):
    with pytest.raises(InvalidInput, match=r"^prior must"):
        AdversarialAutoencoder(prior=prior, classes=2)


@pytest.mark.parametrize("prior", [gaussian_mixture(), swiss_roll()])
def test_a_prior_of_the_plane_is_refused_for_codes_of_other_dimensions(prior):
    with pytest.raises(InvalidInput, match=r"^prior must"):
        AdversarialAutoencoder(prior=prior, latent=3, classes=10)


def test_each_of_two_hundred_classes_reaches_the_steps():
    class Watched(AdversarialAutoencoder):
        def step(self, x, rng, labels=None):
            given.extend(zip(np.rint(200 * x[:, 0]).tolist(), labels.tolist(), strict=True))
            return (np.float32(0),) * 3

    given, labels = [], np.arange(200)
    model = Watched(hidden=(3,), visible=1, classes=200, prior=swiss_roll())
    list(npaae.train(model, labels[:, None] / 200, labels=labels, epochs=1))
    assert sorted(given) == [(label, label) for label in labels]
