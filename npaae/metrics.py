"""How well a model does, in numbers: is the prior met, do the codes keep the classes apart, how likely are unseen images.

Everything is computed on the host in float64, in pieces of bounded memory, from plain arrays: codes and images as rows.
`report` puts the numbers of a trained model together.
"""

from collections.abc import Iterator, Sequence
from math import log, pi, sqrt
from typing import NamedTuple

import numpy as np

from . import data
from .backend import HostArray as Array
from .checks import InvalidInput, integer, positive
from .checks import checked_rows, host_array, unit_interval
from .model import AdversarialAutoencoder
from .training import evaluate

DISTANCES_AT_ONCE = 2**22  # 32 MiB of float64
PRIOR_NUMBERS = 200_000  # drawn to know the prior's moments
WIDTHS = tuple(np.linspace(0.1, 0.3, 21).round(2).tolist())  # of Parzen windows, in units of a pixel's range


def moments(codes: Array) -> tuple[Array, Array]:
    """Mean, (dim,), and covariance, (dim, dim), of codes, (n, dim): C = 1/n Σ (z − z̄)(z − z̄)ᵀ, in the code's units squared."""
    z = _points("codes", codes)
    mean = z.mean(axis=0)
    return mean, (z - mean).T @ (z - mean) / len(z)


class EnergyTest(NamedTuple):
    """distance: the energy distance, in units of the code. threshold: what samples of one distribution stay below 95 times
    in 100. p: how often samples of one distribution would be at least as far apart.
    """

    distance: float
    threshold: float
    p: float


def energy_test(x: Array, y: Array, *, permutations: int = 199, seed: int = 0) -> EnergyTest:
    """Do x, (n, dim), and y, (m, dim), come from one distribution? The energy distance, with its permutation threshold:

        E = 2/(nm) Σ |xᵢ − yⱼ| − 1/n² Σ |xᵢ − xⱼ| − 1/m² Σ |yᵢ − yⱼ|

    E ≥ 0, and its limit is 0 only where the distributions are equal. With z the two samples in a row, weights w = 1/n on x and
    −1/m on y, and D the matrix of distances, E = −wᵀ D w; under the hypothesis that they are of one distribution, any
    permutation of w is as likely, so that one pass over D serves every permutation.

    Source: G. Székely, M. Rizzo, "Energy statistics", J. Statistical Planning and Inference 143 (2013). Raises InvalidInput
    for arrays that are no two samples of one dimension.
    """
    x, y = _points("x", x), _points("y", y)
    permutations = integer("permutations", permutations, 1)
    if x.shape[1] != y.shape[1]:
        raise InvalidInput(f"samples of {x.shape[1]} and of {y.shape[1]} dimensions came; pass two of the same")
    z = np.concatenate((x, y))
    w = np.concatenate((np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))))
    rng = np.random.default_rng(seed)
    weights = np.stack([w, *(rng.permutation(w) for _ in range(permutations))], axis=1)  # (n + m, 1 + permutations)
    energies = np.zeros(1 + permutations)
    for rows, squared in _squared_distances(z, z):
        energies -= np.sum(weights[rows] * (np.sqrt(squared) @ weights), axis=0)
    distance = float(energies[0])
    # The observed order is one of those that chance might have given; so p is never 0.
    return EnergyTest(distance, float(np.quantile(energies, 0.95)), float(np.mean(energies >= distance)))


def neighbour_accuracy(
    train_codes: Array, train_labels: Array, test_codes: Array, test_labels: Array, *, neighbours: int = 10
) -> float:
    """The share of test codes whose label is the commonest among the `neighbours` nearest training codes (Euclidean).

    Of labels that are equally common, the smallest is taken. Unless the model has classes, nobody told it of labels: this
    asks how far the code keeps them apart all the same. Codes are (n, dim), labels whole numbers, (n,).

    Raises InvalidInput where labels do not fit their codes, or there are fewer training codes than neighbours.
    """
    train, test = _points("train_codes", train_codes), _points("test_codes", test_codes)
    train_labels, test_labels = host_array("train_labels", train_labels), host_array("test_labels", test_labels)
    if train.shape[1] != test.shape[1]:
        raise InvalidInput(f"codes of {train.shape[1]} and of {test.shape[1]} dimensions came; pass two sets of the same")
    if train_labels.dtype.kind not in "iu" or test_labels.dtype.kind not in "iu":
        raise InvalidInput(f"labels of types {train_labels.dtype} and {test_labels.dtype} came; pass whole numbers")
    if train_labels.shape != (len(train),) or test_labels.shape != (len(test),):
        raise InvalidInput(
            f"{train_labels.shape} and {test_labels.shape} labels came for {len(train)} and {len(test)} codes; pass one each"
        )
    if integer("neighbours", neighbours, 1) > len(train):
        raise InvalidInput(f"neighbours={neighbours} came, and {len(train)} training codes; ask for fewer neighbours")
    right = 0
    for rows, squared in _squared_distances(test, train):
        nearest = np.argpartition(squared, neighbours - 1, axis=1)[:, :neighbours]
        votes = train_labels[nearest]  # (rows, neighbours)
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)  # how many share each neighbour's label
        commonest = np.where(counts == counts.max(axis=1, keepdims=True), votes, np.iinfo(votes.dtype).max).min(axis=1)
        right += int(np.sum(commonest == test_labels[rows]))
    return right / len(test)


def parzen_log_likelihood(points: Array, samples: Array, width: float) -> Array:
    """The Parzen-window log-likelihood of each point, (n,) in nats: the density of normal windows about the samples,

        ln p(x) = ln 1/N Σᵢ exp(−|x − sᵢ|² / 2h²) − dim/2 · ln(2πh²),        h = width

    points: (n, dim). samples: (N, dim). Source: I. Goodfellow et al., "Generative Adversarial Nets" (2014), section 5, after
    O. Breuleux et al. (2011). It says as much of how blurred and how dense the samples are as of how good: see L. Theis et
    al., "A note on the evaluation of generative models" (2016), where k-means centres beat every model and the data itself.

    Raises InvalidInput for arrays that do not fit, and a width that is not positive and finite.
    """
    likelihoods: Array = _parzen(points, samples, [width])[0]
    return likelihoods


def parzen_width(held_out: Array, samples: Array, widths: Sequence[float]) -> float:
    """That of the widths under which held-out points, seen by neither model nor test, are likeliest on average."""
    return widths[int(np.argmax(_parzen(held_out, samples, widths).mean(axis=1)))]


def _parzen(points: Array, samples: Array, widths: Sequence[float]) -> Array:
    """`parzen_log_likelihood` for each width, (len(widths), n), from one pass over the distances."""
    points, samples = _points("points", points), _points("samples", samples)
    if points.shape[1] != samples.shape[1]:
        raise InvalidInput(f"points of {points.shape[1]} and samples of {samples.shape[1]} dimensions came; pass the same")
    widths = [positive("width", width) for width in widths]
    dim = points.shape[1]
    likelihoods = np.empty((len(widths), len(points)))
    for rows, squared in _squared_distances(points, samples):
        least = squared.min(axis=1)
        squared -= least[:, None]  # lest every exponential be 0
        for i, h in enumerate(widths):
            windows = np.exp(squared / (-2 * h * h)).mean(axis=1)
            likelihoods[i, rows] = np.log(windows) - least / (2 * h * h) - dim / 2 * log(2 * pi * h * h)
    return likelihoods


def _squared_distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """|xᵢ − yⱼ|² = |xᵢ|² − 2 xᵢ·yⱼ + |yⱼ|², (rows, m), for some rows of x at a time, as (rows, distances)."""
    origin = y.mean(axis=0)  # near which the difference of large numbers loses least
    x, y = x - origin, y - origin
    y_squared = np.sum(y * y, axis=1)
    step = max(1, DISTANCES_AT_ONCE // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        squared = x[rows] @ (-2 * y.T)
        squared += y_squared
        squared += np.sum(x[rows] ** 2, axis=1)[:, None]
        yield rows, np.maximum(squared, 0, out=squared)


def _points(name: str, points: Array) -> Array:
    """Rows of finite numbers as float64; raises InvalidInput for anything else."""
    points = host_array(name, points)
    if points.ndim != 2 or not points.size or points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        raise InvalidInput(f"{name} of shape {points.shape} and type {points.dtype} came; pass rows of finite numbers")
    return points.astype(np.float64)


class Parzen(NamedTuple):
    """The mean log-likelihood of an image, in nats, its standard error, and the width of the windows."""

    mean: float
    error: float
    width: float


def parzen(scored: Array, held_out: Array, samples: Array, widths: Sequence[float] = WIDTHS) -> Parzen:
    """The Parzen-window log-likelihood of scored images, in windows of the width that suits held-out images best."""
    width = parzen_width(held_out, samples, widths)
    likelihoods = parzen_log_likelihood(scored, samples, width)
    return Parzen(float(likelihoods.mean()), float(likelihoods.std() / sqrt(len(likelihoods))), width)


class Report(NamedTuple):
    """A trained model in numbers, on a data set that has its test images unseen.

    reconstruction: BCE a pixel on the test set, in nats. code_mean, code_covariance: of the encoded test set; prior_mean,
    prior_covariance: of 100,000 draws of a planar prior, fewer where codes are longer. energy: the encoded test set against
    as many draws. neighbour_accuracy: with ten neighbours, test codes among training codes. parzen: of the second half of
    the test set, under as many samples of the model as there are test images, with the first half held out.
    training_parzen: the same with as many training images in place of the samples, which is what memory without any model
    comes to.
    """

    reconstruction: float
    code_mean: Array
    code_covariance: Array
    prior_mean: Array
    prior_covariance: Array
    energy: EnergyTest
    neighbour_accuracy: float
    parzen: Parzen
    training_parzen: Parzen


def report(model: AdversarialAutoencoder, dataset: data.Dataset, *, seed: int = 0) -> Report:
    """Measure a trained model; `seed` is that of the prior's draws."""
    n = len(dataset.test_images)
    train, test = (checked_rows(images, model.visible) for images in (dataset.train_images, dataset.test_images))
    reconstruction, *_ = evaluate(model, model.xp.asarray(test))
    train_codes, codes = model.encode(train), model.encode(test)
    neighbours = min(10, len(train))
    pixels, train_pixels = (unit_interval(rows[:n], np.dtype(np.float64)) for rows in (test, train))
    held_out, scored = pixels[: n // 2], pixels[n // 2 :]
    return Report(
        reconstruction,
        *moments(codes),
        *moments(model.sample_prior(max(PRIOR_NUMBERS // model.latent, 1000), seed=seed)),
        energy_test(codes, model.sample_prior(n, seed=seed + 1)),
        neighbour_accuracy(train_codes, dataset.train_labels, codes, dataset.test_labels, neighbours=neighbours),
        parzen(scored, held_out, model.sample(n, seed=seed)),
        parzen(scored, held_out, train_pixels),
    )
