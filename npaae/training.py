"""Epochs of shuffled mini-batches, as a generator: what to do with an epoch's record is the caller's business."""

import time
from collections.abc import Iterator
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from . import backend
from .backend import Array, HostArray, to_host
from .errors import Diverged, InvalidInput, whole_number
from .images import checked_rows, host_array, unit_interval
from .losses import bce_with_logits
from .model import ROWS_AT_ONCE, AdversarialAutoencoder, Images


class Record(NamedTuple):
    """What one epoch came to.

    epoch: counted from 1 over the model's life. reconstruction, discriminator, generator: the phases' training losses,
    dropout on, each a mean over the epoch's images (nats). test_reconstruction: the test set's BCE with dropout off, None
    without a test set. code_mean, code_std: per dimension, over the encoded test set (empty without one).
    seconds: the epoch's wall time, evaluation included.
    """

    epoch: int
    reconstruction: float
    discriminator: float
    generator: float
    test_reconstruction: float | None
    code_mean: tuple[float, ...]
    code_std: tuple[float, ...]
    seconds: float


def train(
    model: AdversarialAutoencoder,
    train_images: Images,
    *,
    labels: Any = None,
    test_images: Images | None = None,
    epochs: int = 100,
    batch_size: int = 100,
) -> Iterator[Record]:
    """Train for `epochs` more epochs, yielding a Record after each; the model is then as that epoch left it.

    Images are as in `AdversarialAutoencoder.encode`; they go to the backend once, as they are, and become numbers batch by
    batch. Each epoch visits every image once, in an order of its own; the last batch holds what is left over. Order, masks
    and the prior's draws depend on the model's seed and the epoch's number alone, so a loaded model trains on as if it
    had never stopped.

    labels: one whole number a training image where the model has classes; `model.classes` itself means "unlabelled".

    Raises InvalidInput, at the call and not at the first record, for images that `encode` refuses, labels that do not fit
    the images or the model's classes, epochs below 0 or a batch size below 1; and Diverged, in place of an epoch's record,
    where a loss or a parameter has become NaN or infinite. The model is then past use: go back to what was saved.
    """
    epochs, batch_size = whole_number("epochs", epochs, 0), whole_number("batch_size", batch_size, 1)
    rows = model.xp.asarray(checked_rows(train_images, model.visible))
    test_rows = None if test_images is None else model.xp.asarray(checked_rows(test_images, model.visible))
    row_labels = None if labels is None else model.xp.asarray(_checked_labels(labels, len(rows), model.classes))
    if row_labels is None and model.classes:
        raise InvalidInput(f"no labels came to a model of {model.classes} classes; pass labels=, one an image")
    return _epochs(model, rows, row_labels, test_rows, epochs, batch_size)


def _checked_labels(labels: Any, n: int, classes: int) -> HostArray:
    """The labels as an array; raises InvalidInput unless they are n whole numbers from 0 to `classes`."""
    if not classes:
        raise InvalidInput("labels came to a model without classes; build it with classes=, or leave them out")
    array = host_array("labels", labels)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise InvalidInput(f"labels of shape {array.shape} and type {array.dtype} came; pass {n} whole numbers, one an image")
    if array.min() < 0 or array.max() > classes:
        raise InvalidInput(
            f"labels from {array.min()} to {array.max()} came; pass 0 to {classes - 1}, or {classes} for an unlabelled image"
        )
    return array


def _epochs(
    model: AdversarialAutoencoder,
    rows: Array,
    labels: Array | None,
    test_rows: Array | None,
    epochs: int,
    batch_size: int,
) -> Iterator[Record]:
    for _ in range(epochs):
        epoch = model.epoch + 1
        start = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):  # in place of NumPy's warnings, the one error below
            losses = _one_epoch(model, rows, labels, epoch, batch_size)
            _refuse_what_is_not_finite(model, epoch, losses)
            model.epoch = epoch
            test_loss, code_mean, code_std = (None, (), ()) if test_rows is None else evaluate(model, test_rows)
        sizes = [min(batch_size, len(rows) - first) for first in range(0, len(rows), batch_size)]
        reconstruction, discriminator, generator = np.average(losses, axis=0, weights=sizes).tolist()
        seconds = time.perf_counter() - start
        yield Record(epoch, reconstruction, discriminator, generator, test_loss, code_mean, code_std, seconds)


def _one_epoch(model: AdversarialAutoencoder, rows: Array, labels: Array | None, epoch: int, batch_size: int) -> HostArray:
    """Every step of one epoch; returns their losses, (steps, 3) in float64."""
    xp, n = model.xp, len(rows)
    rng = backend.generator(xp, model.seed, backend.NOISE, epoch)
    order = xp.asarray(backend.generator(np, model.seed, backend.SHUFFLE, epoch).permutation(n))
    starts = range(0, n, batch_size)
    losses = xp.empty((len(starts), 3))  # on the backend until the epoch is over: reading a number makes a GPU wait
    for i, start in enumerate(starts):
        batch = order[start : start + batch_size]
        losses[i] = xp.stack(model.step(rows[batch], rng, None if labels is None else labels[batch]))
    return to_host(losses)


def _refuse_what_is_not_finite(model: AdversarialAutoencoder, epoch: int, losses: HostArray) -> None:
    """Raise Diverged, naming what went first, unless all losses of an epoch and the parameters it left are finite."""
    advice = "lower lr_reconstruction or lr_regularization, or look at the prior and the images, and train anew"
    wrong = np.argwhere(~np.isfinite(losses))  # in the order of time: step by step, phase by phase
    if len(wrong):
        step, phase = wrong[0].tolist()
        name = Record._fields[1 + phase]
        value = losses[step, phase]
        raise Diverged(f"training diverged: in epoch {epoch}, step {step + 1}, the {name} loss was {value}; {advice}")
    xp, arrays = model.xp, model.arrays()
    finite = to_host(xp.stack([xp.isfinite(array).all() for array in arrays.values()]))  # a GPU waits once, not for each
    for name in compress(arrays, ~finite):
        raise Diverged(f"training diverged: after epoch {epoch}, {name} holds NaN or infinity; {advice}")


def evaluate(model: AdversarialAutoencoder, rows: Array) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """(reconstruction BCE, mean of the codes, standard deviation of the codes) of image rows, dropout off.

    rows: (n, visible) on the backend. The BCE is a mean over n · visible pixels; the other two are per code dimension.
    """
    xp, codes = model.xp, []
    total = xp.zeros(())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        x = unit_interval(rows[start : start + ROWS_AT_ONCE], model.dtype)
        z, _ = model.encoder.forward(x)
        logits, _ = model.decoder.forward(z)
        loss, _ = bce_with_logits(xp, logits, x)
        total += loss * len(x)
        codes.append(z)
    z = to_host(xp.concatenate(codes)).astype(np.float64)
    return float(total) / len(rows), tuple(z.mean(axis=0).tolist()), tuple(z.std(axis=0).tolist())
