"""Epochs of shuffled mini-batches, as an iterator: the caller decides how to use each record."""

import time
import warnings
from collections.abc import Callable, Iterator
from collections.abc import Generator as PythonGenerator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from . import backend, checks
from .backend import Array, Generator, HostArray, to_host
from .errors import Diverged, InvalidInput
from .images import checked_rows, training_rows, unit_interval
from .losses import bce_with_logits
from .model import ROWS_AT_ONCE, AdversarialAutoencoder


class Record(NamedTuple):
    """The results of one epoch.

    epoch: counted from 1 over the model's life. reconstruction, discriminator, generator: the
    training losses of the phases, dropout on, each a mean over the epoch's images (nats).
    test_reconstruction: the BCE of the test set with dropout off, None without a test set.
    code_mean, code_std: of the encoded test set, per dimension; empty without one.
    seconds: the wall time of the epoch, evaluation included.
    classification, smoothness: the training losses of phases 4 and 5 of a `CategoricalAutoencoder`,
    None for a model without that phase. Phase 4 uses labelled images or the model's own samples.
    The loss of phase 5 is KL − w I and may be negative.
    """

    epoch: int
    reconstruction: float
    discriminator: float
    generator: float
    test_reconstruction: float | None
    code_mean: tuple[float, ...]
    code_std: tuple[float, ...]
    seconds: float
    classification: float | None = None
    smoothness: float | None = None


class Records(Iterator[Record]):
    """An iterator over the records of the coming epochs: reading a record trains its epoch.

    Its length is the number of records that are left. If it is discarded before the first is read,
    nothing has been trained, and it warns, like a coroutine that was never awaited. `close`
    discards it without a warning.
    """

    _unread = False  # of an unfinished copy too, because a generator cannot be copied

    def __init__(self, epochs: PythonGenerator[Record, None, None], left: int) -> None:
        self._epochs, self._left, self._unread = epochs, left, left > 0

    def __next__(self) -> Record:
        self._unread = False
        record = next(self._epochs)
        self._left -= 1
        return record

    def __len__(self) -> int:
        return self._left

    def __repr__(self) -> str:
        return f"<{self._left} epochs to train: for record in npaae.train(…): …>"

    def close(self) -> None:
        """End the training here."""
        self._unread, self._left = False, 0
        self._epochs.close()

    def __del__(self) -> None:
        if self._unread:
            advice = "loop over what it returns: for record in npaae.train(…): …"
            warnings.warn(f"train has trained nothing; {advice}", RuntimeWarning, stacklevel=2)


def train(
    model: AdversarialAutoencoder,
    train_images: Any,
    *,
    labels: Any = None,
    test_images: Any = None,
    epochs: int = 100,
    batch_size: int = 100,
) -> Records:
    """Train for `epochs` more epochs, each when its Record is read from the result.

    Images are as in `AdversarialAutoencoder.encode`; training images of uint8 must reach 128,
    because otherwise their range is probably not 0 … 255. Images are moved to the backend once,
    unconverted, and converted batch by batch. Each epoch visits every image once, in a new order;
    the last batch may be smaller. Order, masks and the prior's draws depend only on the model's
    seed and the number of the epoch, so a loaded model continues as if training had never stopped.

    If several ranks train the model, all of them must call this with the same arguments.

    labels: an integer for each training image, −1 for "unlabelled". A model with classes needs
    them; a `CategoricalAutoencoder` uses them in phase 4, and its own samples if there are none.

    Raises InvalidInput at the call, not at the first record, for images that `encode` rejects,
    labels that do not fit, epochs below 0 or a batch size below 1; and Diverged, in place of a
    record, if a loss or a parameter has become NaN or infinite. If an exception ends an epoch,
    including Ctrl-C, the model returns to its state before that epoch. It can be saved, and further
    training gives the same model as if it had never been interrupted.
    """
    epochs = checks.integer("epochs", epochs, 0)
    batch_size = checks.integer("batch_size", batch_size, 1)
    rows = model.xp.asarray(training_rows(train_images, model.visible))
    test_rows = None
    if test_images is not None:
        test_rows = model.xp.asarray(checked_rows(test_images, model.visible))
    row_labels = _checked_labels(model, labels, len(rows))
    if model.ranks:
        model.ranks.require_agreement(
            model,
            images=rows,
            labels=row_labels,
            test_images=test_rows,
            epochs=epochs,
            batch_size=batch_size,
        )
    records = _epochs(model, rows, row_labels, test_rows, epochs, batch_size)
    return Records(records, epochs)


def _checked_labels(model: AdversarialAutoencoder, labels: Any, n: int) -> Array | None:
    """The labels on the backend; raises InvalidInput unless they fit the images and the model."""
    if labels is None and not model.classes:
        return None
    if labels is None or not model.label_count:
        raise InvalidInput(
            "labels must be given if the model has classes, and only if it has classes or "
            f"categories, got {'no ' if labels is None else ''}labels with classes={model.classes}"
        )
    array = checks.labels("labels", labels, n)
    low, high = int(array.min()), int(array.max())
    if low < -1 or high >= model.label_count:
        advice = "" if array.dtype.kind == "i" else f"; {array.dtype} has no −1, use astype(int)"
        raise InvalidInput(
            f"labels must lie in 0 … {model.label_count - 1}, or be −1 for unlabelled, "
            f"got {low} … {high}{advice}"
        )
    return model.xp.asarray(array.astype(np.int64))  # an unsigned type has no −1 to compare with


def _epochs(
    model: AdversarialAutoencoder,
    rows: Array,
    labels: Array | None,
    test_rows: Array | None,
    epochs: int,
    batch_size: int,
) -> PythonGenerator[Record, None, None]:
    sizes = [min(batch_size, len(rows) - first) for first in range(0, len(rows), batch_size)]
    labels_of = model.labels_of_batches(rows, labels, batch_size)
    for _ in range(epochs):
        epoch = model.epoch + 1
        start = time.perf_counter()
        with (
            _whole(model),
            np.errstate(over="ignore", invalid="ignore"),  # Diverged reports it instead
            backend.blas_threads(model.xp, batch_size * model.theta.size),
        ):
            losses = _one_epoch(model, rows, labels_of, epoch, batch_size)
            _require_finite(model, epoch, losses)
            test_loss, mean, std = (
                (None, (), ()) if test_rows is None else evaluate(model, test_rows)
            )
            model.epoch = epoch
        R, D, G, *others = np.average(losses, axis=0, weights=sizes).tolist()
        seconds = time.perf_counter() - start
        yield Record(epoch, R, D, G, test_loss, mean, std, seconds, *others)


@contextmanager
def _whole(model: AdversarialAutoencoder) -> Iterator[None]:
    """Restore the model to its state before the block if an exception ends the block."""
    kept = {name: array.copy() for name, array in model.arrays().items()}
    steps = {name: adam.t for name, adam in model.adams().items()}
    epoch = model.epoch
    try:
        yield
    except BaseException:
        for label, layer, name in model.declared("statistics"):
            setattr(layer, name, kept[label])  # whatever the layer has put in its place
        for name, array in model.arrays().items():
            array[...] = kept[name]
        for name, adam in model.adams().items():
            adam.t = steps[name]
        model.epoch = epoch
        raise


def _one_epoch(
    model: AdversarialAutoencoder,
    rows: Array,
    labels_of: Callable[[Array, Generator], Any],
    epoch: int,
    batch_size: int,
) -> HostArray:
    """Every step of one epoch; returns their losses, (steps, phases) in float64."""
    xp, n = model.xp, len(rows)
    rng = backend.random_stream(xp, model.seed, backend.NOISE, epoch)
    order = xp.asarray(backend.random_stream(np, model.seed, backend.SHUFFLE, epoch).permutation(n))
    starts = range(0, n, batch_size)
    losses = xp.empty((len(starts), len(model.phases)))  # on the backend: reading makes a GPU wait
    for i, start in enumerate(starts):
        batch = order[start : start + batch_size]
        losses[i] = xp.stack(model.step(rows[batch], rng, labels_of(batch, rng)))
    return to_host(losses)


def _require_finite(model: AdversarialAutoencoder, epoch: int, losses: HostArray) -> None:
    """Raise Diverged for the first loss or array that is not finite."""
    advice = "lower the learning rates, or check the prior and the images"
    bad = np.argwhere(~np.isfinite(losses))  # in chronological order: step by step, phase by phase
    if len(bad):
        step, phase = bad[0].tolist()
        raise Diverged(
            f"training diverged in epoch {epoch}, step {step + 1}: "
            f"the {model.phases[phase]} loss is {losses[step, phase]}; {advice}"
        )
    xp, arrays = model.xp, model.arrays()
    finite = to_host(xp.stack([xp.isfinite(array).all() for array in arrays.values()]))
    for name, is_finite in zip(arrays, finite, strict=True):
        if not is_finite:
            raise Diverged(
                f"training diverged in epoch {epoch}: {name} holds NaN or infinity; {advice}"
            )


def evaluate(
    model: AdversarialAutoencoder, rows: Array
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """(reconstruction BCE, mean of the codes, standard deviation of the codes), dropout off.

    rows: images, (n, visible) on the backend. The BCE is a mean over n · visible pixels in nats;
    the other two are per dimension of the code.
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
