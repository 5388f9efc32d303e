"""Measures of a trained model: match with the prior, separation of classes, likelihood of images.

Everything is computed on the host in float64, in pieces of bounded memory. Codes and images are
rows. `measure` computes all measures of a trained model.
"""

from collections.abc import Iterator, Sequence
from math import log, pi, sqrt
from typing import NamedTuple

import numpy as np

from . import checks, data
from .backend import HostArray as Array
from .checks import REAL, host_array, integer, positive
from .errors import InvalidInput
from .images import checked_rows, unit_interval
from .model import AdversarialAutoencoder
from .training import evaluate

DISTANCES_AT_ONCE = 2**20  # 8 MiB of float64
WIDTHS = tuple(k / 100 for k in range(10, 31))  # of Parzen windows, for pixels in [0, 1]


def moments(codes: Array) -> tuple[Array, Array]:
    """Mean, (dim,), and covariance, (dim, dim), of codes, (n, dim): C = 1/n Σ (z − z̄)(z − z̄)ᵀ."""
    z = _points("codes", codes)
    mean = z.mean(axis=0)
    z -= mean
    return mean, z.T @ z / len(z)


def block_standard_error(values: Array, block: int = 500) -> float:
    """The standard error of the mean of (n,) values that resemble their neighbours in the file.

        SE = √(K / (K − 1) · Σₖ Sₖ²) / n,        Sₖ = Σ_{i in block k} (xᵢ − x̄),    k = 1 … K

    The mean is 1/n times the sum of K sums over blocks of consecutive values. If the blocks are
    independent of each other, its variance is 1/n² times the sum of the variances of the block
    sums, whatever the correlations within a block. Sₖ² estimates each, and K / (K − 1) corrects for
    x̄, which is computed from the same values. With blocks of 1 this is the usual s / √n, which is
    right only for independent values. Blocks must be longer than the range of the correlations: in
    MNIST's test set, which is not shuffled, images some hundreds of places apart still resemble
    each other.

    There are n // block blocks of nearly equal length, but at least ten: if there are fewer than
    10 · block values, blocks are shorter and may miss correlations. The estimate has a relative
    error of about 1 / √(2 (K − 1)), which is 16 % for 20 blocks and 24 % for ten.

    To compare two models, pass the differences of their values, image by image: what makes an image
    hard for both then cancels.

    Raises InvalidInput for fewer than two values.
    """
    values = _points("values", host_array("values", values)[..., None], 2)[:, 0]
    n, block = len(values), integer("block", block, 1)
    blocks = min(n, max(10, n // block))
    sums = [part.sum() for part in np.array_split(values - values.mean(), blocks)]
    return sqrt(blocks / (blocks - 1) * float(np.square(sums).sum())) / n


class EnergyTest(NamedTuple):
    """distance: the energy distance, in units of the code; 0 on average if they are equal.
    threshold: the 95 % permutation threshold. p: the share of permutations at least as distant.
    """

    distance: float
    threshold: float
    p: float


def energy_test(x: Array, y: Array, *, permutations: int = 199, seed: int = 0) -> EnergyTest:
    """Test if x, (n, dim), and y, (m, dim), have the same distribution, by the energy distance

        E = 2/(nm) Σᵢⱼ |xᵢ − yⱼ| − 1/(n(n−1)) Σᵢⱼ |xᵢ − xⱼ| − 1/(m(m−1)) Σᵢⱼ |yᵢ − yⱼ|

    with its permutation threshold. E estimates 2 E|X − Y| − E|X − X'| − E|Y − Y'|, which is 0 if
    the two distributions are equal and positive otherwise. It is unbiased, so it may be negative.
    Some authors average over all n² and m² pairs, and so count the distance 0 of each point from
    itself. That adds E|X − X'| / n + E|Y − Y'| / m, which for two samples of 1,000 from
    N(0, 5² I) in the plane is 8.86 · 2 / 1,000 = 0.0177.

    If the distributions are equal, every division of all points into n and m is equally likely.
    `threshold` is the 95 % quantile of E over the given division and `permutations` random ones,
    and p is the share of these whose E is at least that of the given one, so p is never 0.

    Source: G. Székely, M. Rizzo, "Energy statistics", J. Statistical Planning and Inference 143
    (2013). Raises InvalidInput unless x and y have at least two rows and equally many columns.
    """
    x, y = _pair(2, x=x, y=y)
    n, m, permutations = len(x), len(y), integer("permutations", permutations, 1)
    z, rng = np.concatenate((x, y)), np.random.default_rng(seed)
    given = np.repeat([1.0, 0.0], [n, m])  # 1 for a point of x, 0 for one of y
    member = np.stack([given, *(rng.permutation(given) for _ in range(permutations))], axis=1)
    # D is the matrix of distances, and a is a column of `member`; one pass over D serves all.
    within, of_x, total = np.zeros(1 + permutations), np.zeros(1 + permutations), 0.0
    for rows, squared in _squared_distances(z, z):
        distances = np.sqrt(squared)
        sums = distances.sum(axis=1)
        within += np.sum(member[rows] * (distances @ member), axis=0)  # aᵀ D a
        of_x += sums @ member[rows]  # aᵀ D 1
        total += float(sums.sum())  # 1ᵀ D 1
    between, within_y = of_x - within, total - 2 * of_x + within
    energies = 2 / (n * m) * between - within / (n * (n - 1)) - within_y / (m * (m - 1))
    rounding = 1e-12 * total / len(z) ** 2  # keeps equal divisions equal
    p = float(np.mean(energies >= energies[0] - rounding))
    return EnergyTest(float(energies[0]), float(np.quantile(energies, 0.95)), p)


def neighbour_accuracy(
    train_codes: Array,
    train_labels: Array,
    test_codes: Array,
    test_labels: Array,
    *,
    neighbours: int = 10,
) -> float:
    """The share of test codes whose label wins the vote of the nearest training codes (Euclidean).

    `neighbours` codes vote; ties go to the smallest label. A model without classes has never seen a
    label, so this measures how well its codes separate the classes by themselves. Codes are
    (n, dim), labels (n,) integers.

    Raises InvalidInput if labels do not fit their codes, or for fewer training codes than
    neighbours.
    """
    train, test = _pair(1, train_codes=train_codes, test_codes=test_codes)
    train_labels = checks.labels("train_labels", train_labels, len(train))
    test_labels = checks.labels("test_labels", test_labels, len(test))
    if (k := integer("neighbours", neighbours, 1)) > (n := len(train)):
        raise InvalidInput(f"neighbours must be at most len(train_codes) = {n}, got {k}")
    classes, place = np.unique(train_labels, return_inverse=True)
    right = 0
    for rows, squared in _squared_distances(test, train):
        nearest = np.argpartition(squared, k - 1, axis=1)[:, :k]
        votes = (place[nearest][..., None] == np.arange(len(classes))).sum(axis=1)
        right += int(np.sum(classes[votes.argmax(axis=1)] == test_labels[rows]))
    return right / len(test)


def cluster_names(confidences: Array, labels: Array) -> Array:
    """The name of each category, (k,): the label of the image with the highest confidence in it.

    confidences: (n, k), one row per image, one column per category. labels: (n,) integers.
    Source: Makhzani et al., arXiv:1511.05644, section 6. Raises InvalidInput if they do not fit.
    """
    confidences = _points("confidences", confidences)
    names: Array = checks.labels("labels", labels, len(confidences))[confidences.argmax(axis=0)]
    return names


def parzen_log_likelihood(points: Array, samples: Array, width: float) -> Array:
    """The log-density of each point, (n,) in nats, under normal windows around the samples:

        ln p(x) = ln 1/N Σᵢ exp(−|x − sᵢ|² / 2h²) − dim/2 · ln(2πh²),        h = width

    points: (n, dim). samples: (N, dim). Source: I. Goodfellow et al., "Generative Adversarial Nets"
    (2014), section 5, after O. Breuleux et al. (2011). The measure depends on the blur of the
    samples as much as on their quality: in L. Theis et al., "A note on the evaluation of generative
    models" (2016), k-means centres score better than any model and than the data themselves.

    Raises InvalidInput for arrays that do not fit and a width that is not positive and finite.
    """
    return _parzen_log_likelihoods(points, samples, [width]).ravel()


def _parzen_log_likelihoods(points: Array, samples: Array, widths: Sequence[float]) -> Array:
    """`parzen_log_likelihood` for several widths, (widths, n), from one pass over the distances."""
    points, samples = _pair(1, points=points, samples=samples)
    widths = [positive("width", width) for width in widths]
    likelihoods = np.empty((len(widths), len(points)))
    for rows, squared in _squared_distances(points, samples):
        least = squared.min(axis=1)
        squared -= least[:, None]  # so that not every exponential underflows to 0
        for i, h in enumerate(widths):
            # At −700 an exponential is negligible next to the largest, 1; below, np.exp is slow.
            windows = np.exp(np.maximum(squared * (-0.5 / h**2), -700)).mean(axis=1)
            scale = points.shape[1] / 2 * log(2 * pi * h**2)
            likelihoods[i, rows] = np.log(windows) - 0.5 / h**2 * least - scale
    return likelihoods


class Parzen(NamedTuple):
    """mean: the log-likelihood of an image, in nats. error: its `block_standard_error` over the
    images, for these samples. width: of the windows.
    """

    mean: float
    error: float
    width: float


def parzen(
    scored: Array, held_out: Array, samples: Array, widths: Sequence[float] = WIDTHS
) -> Parzen:
    """The Parzen log-likelihood of scored images, with the window width that is best for held_out.

    scored, held_out, samples: (n, dim) each, the scored images in the order of their file.
    """
    means = _parzen_log_likelihoods(held_out, samples, widths).mean(axis=1)
    width = float(widths[int(np.argmax(means))])
    likelihoods = parzen_log_likelihood(scored, samples, width)
    return Parzen(float(likelihoods.mean()), block_standard_error(likelihoods), width)


def prior_draws(model: AdversarialAutoencoder, *, seed: int = 0) -> Array:
    """100,000 planar samples of the model's prior; fewer for a longer code, to bound the memory."""
    return model.sample_prior(max(200_000 // model.latent, 1000), seed=seed)


class Measures(NamedTuple):
    """A trained model in numbers.

    reconstruction: the test set's BCE per pixel, in nats. code_mean, code_covariance: of the test
    set's codes. prior_mean, prior_covariance: of `prior_draws`. energy: the test set's codes
    against as many draws. neighbour_accuracy: of the test codes among the training codes, with ten
    neighbours; None without labels. parzen: of the whole test set, under as many samples of the
    model. training_parzen: the same with as many training images in place of samples, the score of
    memorisation.

    Both Parzen measures use the window width that is best for the last tenth of the training
    images. The width thus does not depend on the test images, and those training images are not
    among the samples of `training_parzen`. But the model was trained on them, so the width may be
    somewhat too narrow for unseen images, which can only lower `parzen`. `examples/likelihood.py`
    therefore holds out images from training.
    """

    reconstruction: float
    code_mean: Array
    code_covariance: Array
    prior_mean: Array
    prior_covariance: Array
    energy: EnergyTest
    neighbour_accuracy: float | None
    parzen: Parzen
    training_parzen: Parzen


def measure(model: AdversarialAutoencoder, dataset: data.Dataset, *, seed: int = 0) -> Measures:
    """Measure a model trained on the data set's training images, on its test images.

    seed: of the prior's draws. Raises InvalidInput for fewer than two images of either kind.
    """
    train = checked_rows(dataset.train_images, model.visible)
    test = checked_rows(dataset.test_images, model.visible)
    n, first = len(test), len(train) - max(1, len(train) // 10)  # of the images held out
    parts = (test, train[first:], train[: min(n, first)])
    scored, held_out, memory = (unit_interval(rows, np.dtype(np.float64)) for rows in parts)
    reconstruction, *_ = evaluate(model, model.xp.asarray(test))
    codes, train_codes, neighbours = model.encode(test), model.encode(train), min(10, len(train))
    labelled = (train_codes, dataset.train_labels, codes, dataset.test_labels)
    accuracy = None
    if not any(part is None for part in labelled):
        accuracy = neighbour_accuracy(*labelled, neighbours=neighbours)
    return Measures(
        reconstruction,
        *moments(codes),
        *moments(prior_draws(model, seed=seed)),
        energy_test(codes, model.sample_prior(n, seed=seed + 1)),
        accuracy,
        parzen(scored, held_out, model.sample(n, seed=seed)),
        parzen(scored, held_out, memory),
    )


def _squared_distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """(rows, |xᵢ − yⱼ|²) for some rows of x at a time, from |xᵢ|² − 2 xᵢ·yⱼ + |yⱼ|²."""
    origin = y.mean(axis=0)  # centring loses the fewest digits to cancellation
    x, y = x - origin, y - origin
    x_squared, y_squared = np.sum(x * x, axis=1), np.sum(y * y, axis=1)
    y *= -2
    step = max(1, DISTANCES_AT_ONCE // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        squared = x[rows] @ y.T
        squared += y_squared
        squared += x_squared[rows, None]
        yield rows, np.maximum(squared, 0)


def _points(name: str, points: Array, least: int = 1) -> Array:
    """Rows of finite numbers in float64; raises InvalidInput for anything else."""
    points = host_array(name, points)
    numbers = points.ndim == 2 and points.shape[1] and points.dtype.kind in REAL
    if not numbers or len(points) < least or not np.isfinite(points).all():
        rule = f"{name} must be rows of finite numbers, at least {least} of them"
        raise InvalidInput(f"{rule}, got {points.dtype} of shape {points.shape}")
    return points.astype(np.float64)


def _pair(least: int, **arrays: Array) -> tuple[Array, Array]:
    """Two named arrays of `least` or more rows of equal length; else raises InvalidInput."""
    x, y = (_points(name, points, least) for name, points in arrays.items())
    if x.shape[1] != y.shape[1]:
        rule = f"{' and '.join(arrays)} must have the same number of columns"
        raise InvalidInput(f"{rule}, got {x.shape[1]} and {y.shape[1]}")
    return x, y
