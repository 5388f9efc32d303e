"""What the audit's rows of the metrics leave open: large sets, bias, power, refusals, reports."""

from math import log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npaae
from npaae import metrics
from npaae.errors import InvalidInput
from npaae.metrics import block_standard_error, energy_test, moments, neighbour_accuracy, parzen

from .strategies import seeds


@given(seeds, st.integers(2, 40), st.integers(2, 40), st.sampled_from([1, 7, 60]))
def test_large_sets_are_measured_piece_by_piece_with_the_same_result(seed, n, m, at_once):
    def measures():
        accuracy = neighbour_accuracy(y, labels[:m], x, labels[:n], neighbours=2)
        return [*energy_test(x, y), accuracy, *metrics.parzen_log_likelihood(x, y, 0.5)]

    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    labels = rng.integers(0, 3, n + m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "DISTANCES_AT_ONCE", at_once)
        in_pieces = measures()
    np.testing.assert_allclose(in_pieces, measures(), rtol=1e-9, atol=1e-6)


def test_the_energy_distance_of_hundreds_of_points_is_its_definition(rng):
    x, y = rng.standard_normal((700, 2)), rng.standard_normal((600, 2)) + 1

    def mean_distance(a, b, pairs):
        return np.linalg.norm(a[:, None] - b, axis=2).sum() / pairs

    within = mean_distance(x, x, 700 * 699) + mean_distance(y, y, 600 * 599)
    expected = 2 * mean_distance(x, y, 700 * 600) - within
    assert energy_test(x, y, permutations=1).distance == pytest.approx(expected, rel=1e-9)


def test_sets_far_from_0_are_measured_as_exactly_as_others(rng):
    x, y = rng.integers(-8, 8, (2, 20, 2)).astype(float)
    far = np.array([2.0**30, -(2.0**30)])
    found, expected = energy_test(x + far, y + far), energy_test(x, y)
    assert found.distance == pytest.approx(expected.distance, abs=1e-6)


# The energy distance


def test_the_permutations_are_fixed_by_the_seed(rng):
    x, y = rng.standard_normal((2, 30, 2))
    assert energy_test(x, y) == energy_test(x, y, seed=0) != energy_test(x, y, seed=1)


def test_under_one_distribution_the_energy_distance_is_0_on_average(rng):
    """With each point counted against itself it would be 2 · 8.86 / 20 = 0.89."""
    found = [
        energy_test(*rng.normal(0, 5, (2, 20, 2)), permutations=1).distance for _ in range(300)
    ]
    assert abs(np.mean(found)) < 6 * np.std(found) / sqrt(300) < 0.2


def test_p_is_at_most_5_percent_in_about_5_of_100_cases_of_one_distribution(rng):
    found = [energy_test(*rng.standard_normal((2, 30, 2)), seed=k).p <= 0.05 for k in range(300)]
    assert abs(np.mean(found) - 0.05) < 4 * sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0.5), (1.5, 0), ([1, 0.5], 0)])
def test_a_distribution_that_is_moved_widened_or_flattened_is_found(scale, shift, rng):
    x, y = rng.standard_normal((2, 400, 2))
    found = energy_test(scale * x + shift, y)
    assert found.distance > found.threshold
    assert found.p == pytest.approx(1 / 200)


# The Parzen windows and the standard error


def test_images_far_from_every_sample_have_a_finite_log_likelihood():
    found = metrics.parzen_log_likelihood(np.zeros((1, 784)), np.eye(3, 784) + 1, 0.1)
    assert found == pytest.approx(-787 / 0.02 - 392 * log(2 * pi * 0.01))


def test_the_width_is_the_one_that_held_out_points_like_best_whatever_is_scored(rng):
    samples, held_out = rng.standard_normal((200, 1)), rng.standard_normal((60, 1))
    widths = (0.001, 0.1, 0.3, 1.0, 5.0)
    best = max(widths, key=lambda h: metrics.parzen_log_likelihood(held_out, samples, h).mean())
    for scored in (held_out, samples):
        assert parzen(scored, held_out, samples, widths).width == best
    assert parzen(samples, samples, samples, widths).width == 0.001


@given(seeds, st.integers(2, 2000), st.integers(1, 400))
def test_the_block_standard_error_is_its_formula(seed, n, block):
    values = 1e3 + np.random.default_rng(seed).standard_normal(n).cumsum()
    parts = np.array_split(values, min(n, max(10, n // block)))
    sums = [sum(v - values.mean() for v in part) for part in parts]
    expected = sqrt(len(parts) / (len(parts) - 1) * sum(s * s for s in sums)) / n
    assert block_standard_error(values, block) == pytest.approx(expected, rel=1e-6)


def test_an_image_that_stands_in_the_file_500_times_counts_once(rng):
    images, samples = rng.random((20, 4)), rng.random((30, 4))
    likelihoods = metrics.parzen_log_likelihood(images, samples, 0.2)
    found = parzen(np.repeat(images, 500, axis=0), images, samples, (0.2,))
    expected = (likelihoods.mean(), likelihoods.std(ddof=1) / sqrt(20))
    assert (found.mean, found.error) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: moments(np.zeros((0, 2))), "codes"),
        (lambda: moments([[np.nan, 0.0]]), "codes"),
        (lambda: moments([["1", "2"]]), "codes"),
        (lambda: moments([[1.0], [1.0, 2.0]]), "codes"),
        (lambda: energy_test([[0.0, 1.0]] * 2, [[0.0]] * 2), "x and y"),
        (lambda: energy_test([[0.0]], [[0.0]] * 2), "x"),
        (lambda: energy_test([[0.0]] * 2, [[0.0]] * 2, permutations=0), "permutations"),
        (lambda: neighbour_accuracy([[0.0]], [1, 2], [[0.0]], [1]), "train_labels"),
        (lambda: neighbour_accuracy([[0.0]], [1], [[0.0]], [1.0]), "test_labels"),
        (lambda: neighbour_accuracy([[0.0]], [[1], [1, 2]], [[0.0]], [1]), "train_labels"),
        (lambda: neighbour_accuracy([[0.0, 1]], [1], [[0.0]], [1]), "train_codes and test_codes"),
        (lambda: neighbour_accuracy([[0.0]], [1], [[0.0]], [1]), "neighbours"),
        (lambda: neighbour_accuracy([[0.0]], [1], [[0.0]], [1], neighbours=0), "neighbours"),
        (lambda: metrics.parzen_log_likelihood([[0.0]], [[0.0, 1.0]], 1), "points and samples"),
        (lambda: metrics.parzen_log_likelihood([[0.0]], [[0.0]], 0), "width"),
        (lambda: block_standard_error([1.0]), "values"),
        (lambda: block_standard_error([[1.0], [1.0, 2.0]]), "values"),
        (lambda: block_standard_error([1.0, 2.0], 0), "block"),
        (lambda: metrics.cluster_names([[np.nan]], [1]), "confidences"),
        (lambda: metrics.cluster_names([[0.5]], [0.5]), "labels"),
    ],
)
def test_what_does_not_fit_is_refused(call, name):
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        call()


# The report


@pytest.fixture(scope="module")
def trained(digits):
    """A model, its data set, both of its halves as pixels in [0, 1], and the last record."""
    few = npaae.data.mnist(digits)  # 300 training and 100 test images
    model = npaae.AdversarialAutoencoder(hidden=(32, 16))
    *_, record = npaae.train(model, few.train_images, test_images=few.test_images, epochs=5)
    train, test = (images.reshape(-1, 784) / 255 for images in (few.train_images, few.test_images))
    return model, few, train, test, record


def test_the_report_is_made_of_the_measures_above(trained, rng):
    model, few, *_, record = trained
    few = few._replace(train_labels=rng.integers(0, 3, 300), test_labels=rng.integers(0, 3, 100))
    found, codes = metrics.measure(model, few), model.encode(few.test_images)
    assert found.reconstruction == pytest.approx(record.test_reconstruction)
    np.testing.assert_allclose(found.code_mean, record.code_mean, rtol=1e-6)
    np.testing.assert_allclose(np.diag(found.code_covariance) ** 0.5, record.code_std, rtol=1e-6)
    mean, covariance = moments(metrics.prior_draws(model))
    np.testing.assert_array_equal(found.prior_mean, mean)
    np.testing.assert_array_equal(found.prior_covariance, covariance)
    mean, _ = moments(metrics.prior_draws(model, seed=2))
    np.testing.assert_array_equal(metrics.measure(model, few, seed=2).prior_mean, mean)
    assert found.energy == energy_test(codes, model.sample_prior(100, seed=1))
    labelled = (model.encode(few.train_images), few.train_labels, codes, few.test_labels)
    assert found.neighbour_accuracy == neighbour_accuracy(*labelled)


def test_the_whole_test_set_is_scored_in_windows_fitted_to_the_last_training_images(trained):
    model, few, train, test, _ = trained
    found = metrics.measure(model, few)
    assert found.parzen == parzen(test, train[270:], model.sample(100, seed=0))
    assert found.training_parzen == parzen(test, train[270:], train[:100])


@pytest.mark.parametrize(("n", "kept"), [(9, 8), (20, 18)])
def test_training_images_that_choose_the_width_are_not_samples(trained, n, kept):
    model, few, train, test, _ = trained
    small = few._replace(train_images=few.train_images[:n], train_labels=few.train_labels[:n])
    expected = parzen(test, train[kept:n], train[:kept])
    assert metrics.measure(model, small).training_parzen == expected


def test_the_smallest_data_set_is_measured(small_model, monkeypatch):
    monkeypatch.setattr(
        metrics, "prior_draws", lambda model, seed: model.sample_prior(9, seed=seed)
    )
    images = np.random.default_rng(0).random((2, 9))
    found = metrics.measure(small_model(), npaae.data.dataset(images, [0, 1], images, [0, 1]))
    assert np.isfinite([found.reconstruction, *found.energy, *found.parzen]).all()


@pytest.mark.parametrize("missing", ["train_labels", "test_labels"])
def test_without_labels_there_is_no_accuracy(thirty, missing):
    model, few = thirty
    assert metrics.measure(model, few._replace(**{missing: None})).neighbour_accuracy is None


@pytest.mark.parametrize(("latent", "n"), [(2, 100_000), (3, 66_666), (500, 1000)])
def test_a_prior_is_measured_by_many_draws_of_short_codes(small_model, latent, n):
    model = small_model(latent=latent)
    np.testing.assert_array_equal(metrics.prior_draws(model), model.sample_prior(n, seed=0))
    again = metrics.prior_draws(model, seed=3)
    np.testing.assert_array_equal(again, model.sample_prior(n, seed=3))


# Peeking: what is scored takes no part in a choice


@pytest.fixture
def thirty(trained):
    """The model, and its data set with 30 test images."""
    model, few, *_ = trained
    return model, few._replace(test_images=few.test_images[:30], test_labels=few.test_labels[:30])


def test_each_of_thirty_classes_has_votes():
    labels = np.repeat(np.arange(30), 10)
    codes = np.stack((labels, labels), axis=1).astype(float)
    assert metrics.neighbour_accuracy(codes, labels, codes, labels) == 1


def test_each_of_three_hundred_neighbours_has_a_vote():
    labels = np.repeat([0, 1], [100, 200])
    codes = np.zeros((300, 2))
    assert (
        metrics.neighbour_accuracy(codes, labels, codes[:1], np.ones(1, int), neighbours=300) == 1
    )


def test_moments_leave_the_codes_as_they_are():
    codes = np.arange(6.0).reshape(3, 2)
    moments(codes)
    np.testing.assert_array_equal(codes, np.arange(6.0).reshape(3, 2))


def test_the_division_that_is_given_is_one_of_those_of_the_threshold():
    x = np.arange(20.0)[:, None]
    found = energy_test(x, x + 1e4, permutations=1)  # the quantile lies between the two divisions
    assert found.threshold > 0.8 * found.distance


def test_each_seed_has_its_own_draws_of_the_prior_and_its_own_samples(thirty):
    one, other = (metrics.measure(*thirty, seed=seed) for seed in (0, 1))
    assert one.energy.distance != other.energy.distance
    assert one.parzen.mean != other.parzen.mean
    assert one.training_parzen == other.training_parzen


@pytest.mark.parametrize("which", ["parzen", "training_parzen"])
def test_the_images_that_are_scored_do_not_choose_the_width(thirty, which):
    model, few = thirty
    samples = {"parzen": model.sample(30, seed=0), "training_parzen": few.train_images[:30]}[which]
    like_the_narrowest = few._replace(test_images=samples)
    widths = [
        getattr(metrics.measure(model, each), which).width for each in (few, like_the_narrowest)
    ]
    assert widths[0] == widths[1] > metrics.WIDTHS[0]


def test_the_labels_that_are_scored_change_the_share_of_right_votes_and_nothing_else(thirty, rng):
    model, few = thirty
    other = few._replace(test_labels=rng.permutation(few.test_labels))
    found, expected = (metrics.measure(model, each) for each in (other, few))
    assert found.neighbour_accuracy != expected.neighbour_accuracy
    for name in ("reconstruction", "energy", "parzen", "training_parzen"):
        assert getattr(found, name) == getattr(expected, name)
