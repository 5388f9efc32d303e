import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npaae
from npaae import metrics
from npaae.errors import InvalidInput
from npaae.metrics import energy_test, moments, neighbour_accuracy, parzen, parzen_log_likelihood, parzen_width

from .strategies import seeds


def distances(x, y):
    return np.linalg.norm(x[:, None] - y[None], axis=2)


@pytest.fixture
def in_small_pieces(monkeypatch):
    """As of large sets: a few rows at a time."""
    monkeypatch.setattr(metrics, "DISTANCES_AT_ONCE", 50)


# Mean and covariance


def test_the_moments_are_those_that_numpy_finds(rng):
    codes = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 3)) + 7
    mean, covariance = moments(codes)
    np.testing.assert_allclose(mean, codes.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(codes.T, bias=True))


def test_the_covariance_of_one_dimension_is_a_matrix_too():
    assert moments(np.array([[1.0], [3.0]]))[1].tolist() == [[1.0]]


# The energy distance


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_the_energy_distance_is_its_formula(seed, n, m, dim):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, dim)), 1 + rng.standard_normal((m, dim))
    expected = 2 * distances(x, y).mean() - distances(x, x).mean() - distances(y, y).mean()
    assert energy_test(x, y, permutations=1).distance == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.usefixtures("in_small_pieces")
def test_the_energy_distance_does_not_depend_on_the_pieces(rng):
    x, y = rng.standard_normal((30, 2)), rng.standard_normal((20, 2))
    expected = 2 * distances(x, y).mean() - distances(x, x).mean() - distances(y, y).mean()
    assert energy_test(x, y).distance == pytest.approx(expected, abs=1e-6)


def test_the_threshold_is_that_of_the_permuted_samples(rng):
    """Permutations done by hand, with another generator's, agree within what 999 of them leave to chance."""
    x, y = rng.standard_normal((40, 2)), rng.standard_normal((20, 2))
    z, energies = np.concatenate((x, y)), []
    for _ in range(999):
        a, b = np.split(rng.permutation(z), [40])
        energies.append(2 * distances(a, b).mean() - distances(a, a).mean() - distances(b, b).mean())
    assert energy_test(x, y, permutations=999).threshold == pytest.approx(np.quantile(energies, 0.95), rel=0.15)


def test_samples_of_one_distribution_are_taken_for_different_ones_in_about_5_of_100_cases():
    rng, trials = np.random.default_rng(0), 300
    wrong = sum(energy_test(*rng.standard_normal((2, 30, 2)), seed=k).p <= 0.05 for k in range(trials))
    assert abs(wrong / trials - 0.05) < 4 * np.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize(
    "change", [lambda z: z + 0.5, lambda z: 1.5 * z, lambda z: z * [1, 0.5]], ids=["moved", "wider", "flat"]
)
def test_a_distribution_that_is_moved_widened_or_flattened_is_told(change, rng):
    found = energy_test(change(rng.standard_normal((400, 2))), rng.standard_normal((400, 2)))
    assert found.distance > found.threshold
    assert found.p == pytest.approx(1 / 200)


# The neighbours


@given(seeds, st.integers(1, 30), st.integers(1, 10), st.integers(1, 5))
def test_the_neighbours_vote_as_counted_by_hand(seed, n, m, neighbours):
    rng = np.random.default_rng(seed)
    train, test = rng.standard_normal((max(n, neighbours), 2)), rng.standard_normal((m, 2))
    train_labels, test_labels = (rng.integers(0, 3, len(z)) for z in (train, test))
    right = 0
    for code, label in zip(test, test_labels, strict=True):
        nearest = np.argsort(np.linalg.norm(train - code, axis=1))[:neighbours]
        right += np.bincount(train_labels[nearest]).argmax() == label
    assert neighbour_accuracy(train, train_labels, test, test_labels, neighbours=neighbours) == right / m


@pytest.mark.usefixtures("in_small_pieces")
def test_every_piece_of_the_test_set_is_counted(rng):
    codes, labels = rng.standard_normal((45, 2)), rng.integers(0, 3, 45)
    assert neighbour_accuracy(codes, labels, codes, labels, neighbours=1) == 1.0
    assert neighbour_accuracy(codes, labels, codes, labels + 3, neighbours=1) == 0.0


# The Parzen windows


@given(seeds, st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.floats(0.1, 3))
def test_the_log_likelihood_is_that_of_a_mixture_of_normal_densities(seed, n, m, dim, width):
    rng = np.random.default_rng(seed)
    points, samples = rng.standard_normal((n, dim)), rng.standard_normal((m, dim))
    density = np.exp(-(distances(points, samples) ** 2) / (2 * width**2)).mean(axis=1) / (2 * np.pi * width**2) ** (dim / 2)
    np.testing.assert_allclose(np.exp(parzen_log_likelihood(points, samples, width)), density, rtol=1e-9, atol=1e-300)


def test_the_density_integrates_to_one():
    grid = np.linspace(-8, 8, 4001)[:, None]
    density = np.exp(parzen_log_likelihood(grid, np.array([[-1.0], [0.3], [2.0]]), 0.7))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=1e-9)


def test_images_far_from_every_sample_have_a_finite_log_likelihood():
    found = parzen_log_likelihood(np.zeros((1, 784)), np.ones((3, 784)), 0.1)
    assert found == pytest.approx(-784 / 0.02 - 392 * np.log(2 * np.pi * 0.01))


@pytest.mark.usefixtures("in_small_pieces")
def test_the_likelihoods_do_not_depend_on_the_pieces(rng):
    points, samples = rng.standard_normal((23, 2)), rng.standard_normal((20, 2))
    alone = [parzen_log_likelihood(point[None], samples, 0.5)[0] for point in points]
    np.testing.assert_allclose(parzen_log_likelihood(points, samples, 0.5), alone, rtol=1e-12)


def test_the_width_is_the_one_that_held_out_points_are_likeliest_under(rng):
    samples, held_out = rng.standard_normal((2000, 1)), rng.standard_normal((500, 1))
    widths = (0.001, 0.1, 0.3, 1.0, 5.0)
    likeliest = max(widths, key=lambda width: parzen_log_likelihood(held_out, samples, width).mean())
    assert parzen_width(held_out, samples, widths) == likeliest
    assert likeliest in (0.1, 0.3)


def test_what_is_scored_has_no_say_in_the_width(rng):
    samples, held_out = rng.standard_normal((200, 2)), rng.standard_normal((50, 2))
    one, other = (parzen(scored, held_out, samples, (0.1, 0.5, 2.0)) for scored in (held_out, samples))
    assert one.width == other.width
    assert parzen(samples, samples, samples, (0.1, 0.5, 2.0)).width < one.width  # as published code has it


def test_the_error_is_the_standard_error_of_the_mean(rng):
    samples, held_out, scored = rng.standard_normal((3, 100, 2))
    found = parzen(scored, held_out, samples, (0.5,))
    likelihoods = parzen_log_likelihood(scored, samples, 0.5)
    assert (found.mean, found.error) == pytest.approx((likelihoods.mean(), likelihoods.std() / 10))


# What is no sample


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: moments(np.zeros((0, 2))), r"codes of shape \(0, 2\)"),
        (lambda: moments([[np.nan, 0.0]]), "pass rows of finite numbers"),
        (lambda: energy_test([[0.0, 1.0]], [[0.0]]), "samples of 2 and of 1 dimensions came"),
        (lambda: energy_test([[0.0]], [[0.0]], permutations=0), "permutations=0 came"),
        (lambda: neighbour_accuracy([[0.0]], [1, 2], [[0.0]], [1]), r"\(2,\) and \(1,\) labels came for 1 and 1 codes"),
        (lambda: neighbour_accuracy([[0.0]], [1.0], [[0.0]], [1]), "labels of types float64 and int64 came"),
        (lambda: neighbour_accuracy([[0.0, 1.0]], [1], [[0.0]], [1]), "codes of 2 and of 1 dimensions came"),
        (lambda: moments([[0.0], [1.0, 2.0]]), "rows of unequal lengths came"),
        (lambda: neighbour_accuracy([[0.0]], [1], [[0.0]], [1]), "neighbours=10 came, and 1 training codes"),
        (lambda: parzen_log_likelihood([[0.0]], [[0.0, 1.0]], 1), "points of 1 and samples of 2 dimensions came"),
        (lambda: parzen_log_likelihood([[0.0]], [[0.0]], 0), "width=0 came"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()


# The report


@pytest.fixture(scope="module")
def reported():
    sample = npaae.data.mnist_sample()
    few = sample._replace(
        train_images=sample.train_images[:300], train_labels=sample.train_labels[:300],
        test_images=sample.test_images[:100], test_labels=sample.test_labels[:100],
    )  # fmt: skip
    model = npaae.AdversarialAutoencoder(hidden=(32, 16))
    *_, record = npaae.train(model, few.train_images, test_images=few.test_images, epochs=5)
    return model, few, record, metrics.report(model, few)


def test_the_report_agrees_with_the_last_record_of_training(reported):
    _, _, record, report = reported
    assert report.reconstruction == pytest.approx(record.test_reconstruction)
    np.testing.assert_allclose(report.code_mean, record.code_mean, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(report.code_covariance)), record.code_std, rtol=1e-6)


def test_the_report_measures_the_prior_that_the_model_has(reported):
    _, _, _, report = reported
    np.testing.assert_allclose(report.prior_mean, 0, atol=5 * 5 / 316)  # five standard errors of 100,000 draws
    np.testing.assert_allclose(report.prior_covariance, 25 * np.eye(2), atol=5 * 25 * np.sqrt(2) / 316)


def test_the_report_scores_the_second_half_of_the_test_set_in_windows_chosen_on_the_first(reported):
    model, few, _, report = reported
    images = few.test_images.reshape(100, 784) / 255
    assert report.parzen == parzen(images[50:], images[:50], model.sample(100, seed=0))
    assert report.training_parzen == parzen(images[50:], images[:50], few.train_images[:100].reshape(100, 784) / 255)


def test_the_report_compares_the_test_sets_codes_with_draws_of_the_prior(reported):
    model, few, _, report = reported
    assert report.energy == energy_test(model.encode(few.test_images), model.sample_prior(100, seed=1))


def test_the_report_finds_test_codes_among_training_codes(reported):
    model, few, _, report = reported
    codes = (model.encode(few.train_images), few.train_labels, model.encode(few.test_images), few.test_labels)
    assert report.neighbour_accuracy == neighbour_accuracy(*codes, neighbours=10)
