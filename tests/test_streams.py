"""What is random: that no two uses share a stream, and how each epoch visits the images."""

from itertools import pairwise, product

import numpy as np
import pytest

import npaae
from npaae import AdversarialAutoencoder, CategoricalAutoencoder, backend, priors
from npaae import model as model_module
from npaae.backend import NOISE, SAMPLE, SHUFFLE, WEIGHTS, random_stream, random_words
from npaae.categorical.layers import Noise

SEEDS = (0, 1, 2, 2**31, 2**32, 2**32 + 1, 2**33, 2**64, 2**64 + 1, 2**96 + 1, 2**128, 2**200)
SMALL = {"hidden": (3,), "visible": 1}


def assert_even(counts, expected):
    """Independent counts of equal expectation, by χ², whose standard deviation is √(2 · cells)."""
    counts = np.asarray(counts)
    chi_squared = np.sum((counts - expected) ** 2) / expected
    assert abs(chi_squared - counts.size) < 6 * np.sqrt(2 * counts.size)


def assert_unrelated(samples):
    """No two columns of independent rows are correlated, by more than 6 standard errors."""
    correlation = np.corrcoef(samples.T)
    np.fill_diagonal(correlation, 0)
    assert abs(correlation).max() < 6 / np.sqrt(len(samples))


# Streams


def test_no_two_seeds_streams_or_epochs_draw_the_same():
    keys = list(product(SEEDS, (WEIGHTS, SHUFFLE, NOISE, SAMPLE), (0, 1, 2, 1000, 2**20)))
    drawn = {int(random_stream(np, *key).integers(2**63)) for key in keys}
    assert len(drawn) == len(keys)


def test_equal_keys_draw_the_same():
    first, second = (random_stream(np, 2**64 + 1, NOISE, 3).random(9) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.fixture
def asked(monkeypatch):
    """The keys of all generators that a model and its training ask for, in order."""
    keys = []

    def spy(xp, *key):
        keys.append(key)
        return random_stream(xp, *key)

    for module in (model_module, backend):
        monkeypatch.setattr(module, "random_stream", spy)
    return keys


def test_each_epoch_has_an_order_and_a_noise_of_its_own(asked):
    model = AdversarialAutoencoder(**SMALL, seed=2**64)
    asked.clear()
    list(npaae.train(model, np.full((3, 1), 0.5), epochs=2))
    expected = product([2**64], (NOISE, SHUFFLE), (1, 2))
    assert sorted(asked) == sorted(expected)


def test_weights_and_samples_have_streams_of_their_own(asked):
    model = AdversarialAutoencoder(**SMALL, seed=7)
    assert set(asked) == {(7, WEIGHTS), (7, SAMPLE)}  # the second tries the prior
    asked.clear()
    model.sample_prior(1, seed=2**64)
    assert asked == [(2**64, SAMPLE)]


@pytest.mark.parametrize("kind", [AdversarialAutoencoder, CategoricalAutoencoder])
def test_all_that_is_drawn_differs_between_seeds_however_large(kind):
    seen = []
    for seed in (0, 2**32, 2**64):
        model = kind(**SMALL, dtype="float64", seed=seed)
        start = model.theta.copy()
        model.theta[:] = 0.1  # so that only training is left to differ
        list(npaae.train(model, np.linspace(0, 1, 9)[:, None], epochs=1, batch_size=4))
        seen.append((start, model.theta.copy(), model.sample_prior(2, seed=seed)))
    for arrays in zip(*seen, strict=True):
        assert len({array.tobytes() for array in arrays}) == 3


@pytest.mark.parametrize("prior", priors.PRIORS)
def test_no_two_samples_of_a_prior_repeat_each_other(prior, rng):
    samples = prior()(rng, 5000, 2)
    assert len(np.unique(samples)) == samples.size


@pytest.mark.parametrize("prior", [priors.gaussian, priors.uniform_square, priors.uniform_disc])
def test_no_two_coordinates_of_a_prior_tell_of_each_other(prior, rng):
    samples = prior()(rng, 2000, 30)
    assert len(np.unique(samples)) == samples.size
    assert_unrelated(samples)


def test_categories_and_styles_of_the_prior_do_not_tell_of_each_other(rng):
    codes = CategoricalAutoencoder(**SMALL, categories=10, latent=10).draw_prior(rng, 4000)
    for category in range(10):
        assert_unrelated(codes[:, [category, *range(10, 20)]])
    assert_even(codes[:, :10].sum(axis=0), 400)


def test_the_words_that_decide_dropout_are_uniform_and_unrelated_at_real_size(rng):
    words = random_words(np, rng, (1001, 257))
    assert_even(np.bincount(words.ravel() >> 8, minlength=256), words.size / 256)
    assert_even(np.bincount(words.ravel() & 255, minlength=256), words.size / 256)
    assert_unrelated(words)
    assert_unrelated(words.T)


def test_noise_is_normal_and_unrelated_at_real_size(rng):
    noise, _ = Noise(0.3).forward(np.zeros((1000, 784)), rng)
    assert abs(noise.mean()) < 6 * 0.3 / np.sqrt(noise.size)
    assert abs(noise.std() / 0.3 - 1) < 6 / np.sqrt(2 * noise.size)
    assert_unrelated(noise)
    assert_unrelated(noise.T)


# Epochs


class Watched:
    """Takes note of what its steps get, and does nothing else."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.steps = []

    def step(self, x, rng, labels=None):
        self.steps.append((x[:, 0].tolist(), labels))
        return (np.float32(0),) * len(self.phases)


class WatchedAutoencoder(Watched, AdversarialAutoencoder):
    pass


class WatchedCategorical(Watched, CategoricalAutoencoder):
    pass


def images_by_number(n):
    """n images of one pixel, which tells their number as i / n."""
    return np.arange(n)[:, None] / n


@pytest.fixture(scope="module")
def orders():
    """The order of 25 images in each of 800 epochs of batches of 10: (800, 25)."""
    model = WatchedAutoencoder(**SMALL, dtype="float64")
    list(npaae.train(model, images_by_number(25), epochs=800, batch_size=10))
    assert [len(x) for x, _ in model.steps] == [10, 10, 5] * 800
    pixels = np.concatenate([x for x, _ in model.steps])
    return np.rint(25 * pixels).astype(int).reshape(800, 25)


def test_each_epoch_visits_every_image_once(orders):
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(25), (800, 1)))


def test_each_of_more_images_than_16_bits_count_is_visited_once():
    n = 70_000
    model = WatchedAutoencoder(**SMALL, dtype="float64")
    list(npaae.train(model, images_by_number(n), epochs=1, batch_size=999))
    order = np.rint(n * np.concatenate([x for x, _ in model.steps])).astype(int)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_every_image_is_in_every_place_equally_often(orders):
    """The last five places, in the remainder of a batch, included."""
    counts = [np.bincount(orders[:, place], minlength=25) for place in range(25)]
    assert_even(counts, 800 / 25)


def test_every_image_follows_every_other_equally_often(orders):
    counts = np.zeros((25, 25))
    for first, second in pairwise(orders.T):
        np.add.at(counts, (first, second), 1)
    others = counts[~np.eye(25, dtype=bool)]
    assert_even(others, 800 * 24 / others.size)


def test_no_two_epochs_or_seeds_have_the_same_order(orders):
    other = WatchedAutoencoder(**SMALL, dtype="float64", seed=2**32)
    list(npaae.train(other, images_by_number(25), epochs=2, batch_size=25))
    more = [tuple(np.rint(25 * np.array(x)).astype(int)) for x, _ in other.steps]
    assert len({*map(tuple, orders), *more}) == 802


def test_each_image_keeps_its_label_in_every_order():
    labels = np.random.default_rng(0).integers(-1, 3, 25)
    model = WatchedAutoencoder(
        **SMALL, dtype="float64", latent=2, classes=3, prior=priors.gaussian_mixture(components=3)
    )
    list(npaae.train(model, images_by_number(25), labels=labels, epochs=5, batch_size=10))
    for x, given in model.steps:
        np.testing.assert_array_equal(given, labels[np.rint(25 * np.array(x)).astype(int)])


# The labelled images of phase 4


N = 3000  # of which 1,500 are labelled
LABELS = np.where(np.random.default_rng(1).permutation(N) < N / 2, np.arange(N) * 7 % 10, -1)


@pytest.fixture(scope="module")
def labelled():
    """The numbers and the labels of the labelled images that 20 epochs of 30 steps take."""
    model = WatchedCategorical(**SMALL, dtype="float64")
    list(npaae.train(model, images_by_number(N), labels=LABELS, epochs=20, batch_size=100))
    images, labels = zip(*(given for _, given in model.steps), strict=True)
    numbers = np.rint(N * np.array(images)[..., 0]).astype(int)
    return numbers.reshape(20, 30, 100), np.reshape(labels, (20, 30, 100))


def test_a_labelled_image_comes_with_its_own_label(labelled):
    numbers, labels = labelled
    assert labels.min() >= 0
    np.testing.assert_array_equal(labels, LABELS[numbers])


def test_every_labelled_image_is_taken_equally_often(labelled):
    numbers, _ = labelled
    counts = np.bincount(numbers.ravel(), minlength=N)[LABELS >= 0]
    assert counts.min() > 0
    assert_even(counts, numbers.size / (N / 2))


def test_no_two_steps_take_the_same_labelled_images(labelled):
    numbers, _ = labelled
    steps = {tuple(sorted(step)) for epoch in numbers for step in epoch}
    assert len(steps) == 20 * 30


def test_the_labelled_images_of_a_set_as_large_as_mnist_are_taken_equally_often(rng):
    model, n = npaae.CategoricalAutoencoder(hidden=(4,), visible=1), 60_000
    draw = model.labels_of_batches(np.arange(n)[:, None], np.zeros(n, int), n - 1)
    taken = draw(None, rng)[0][:, 0]
    assert_even(np.bincount(taken // 1000, minlength=60), (n - 1) / 60)
