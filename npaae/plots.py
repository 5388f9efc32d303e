"""The report's figures and three more. Each function returns a matplotlib Figure; saving it is the caller's business.

The only file that imports matplotlib, and without pyplot: no window system, no global state, nothing to close.
"""

from collections.abc import Mapping, Sequence
from math import isqrt, log

import numpy as np
from matplotlib import colormaps, style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from .backend import SAMPLE, generator, to_host
from .backend import HostArray as Array
from .checks import InvalidInput
from .checks import checked_rows, unit_interval
from .model import AdversarialAutoencoder
from .priors import Divisible, gaussian
from .training import Record

__all__ = ["image_grid", "latent", "losses", "manifold", "priors", "reconstructions", "samples", "style"]

TRAIN, TEST = "#1f4e8c", "#d9822b"
PRIOR_POINTS = 5000  # drawn to show it
PRIOR_NUMBERS = 200_000  # drawn to know the prior: for a plane, 100,000 points, which place a percentile to a hundredth of σ


def losses(history: Sequence[Record]) -> Figure:
    """The three losses over the epochs (the report's Figure 1), with lines where discriminator and generator balance."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    epochs = [record.epoch for record in history]
    marker = "." if len(history) == 1 else ""  # a single point makes no line
    left.plot(epochs, [record.reconstruction for record in history], color=TRAIN, label="training (dropout on)")
    if history and history[0].test_reconstruction is not None:
        left.plot(epochs, [record.test_reconstruction for record in history], color=TEST, label="test (dropout off)")
    left.set(title="Reconstruction", ylabel="mean BCE (nats)")
    middle.plot(epochs, [record.discriminator for record in history], color=TRAIN, label="training")
    middle.axhline(2 * log(2), color="grey", linestyle=":", label="2 ln 2: codes and prior look alike")
    middle.set(title="Discriminator")
    right.plot(epochs, [record.generator for record in history], color=TRAIN, label="training")
    right.axhline(log(2), color="grey", linestyle=":", label="ln 2: codes and prior look alike")
    right.set(title="Generator")
    for axes in (left, middle, right):
        axes.lines[0].set_marker(marker)
        axes.autoscale(axis="y")  # or a line of balance just inside the curve's margin lies on the frame, unseen
        if len(epochs) > 1:
            axes.set_xlim(epochs[0], epochs[-1])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    return figure


def samples(model: AdversarialAutoencoder, *, seed: int = 0) -> Figure:
    """10 × 10 novel images: decoded draws from the prior (the report's Figure 2)."""
    return image_grid(model.sample(100, seed=seed), columns=10)


def manifold(model: AdversarialAutoencoder, *, side: int = 20) -> Figure:
    """side × side decoded codes, on a grid over the percentiles of the prior's first two dimensions.

    Percentiles, because equal steps in probability show each region as large as the prior makes it likely; they are taken
    from draws, so that any prior will do. Other dimensions stay at their median. A one-dimensional code fills the grid in
    reading order, and so do draws of a prior with parts, at equal steps along it.
    """
    return image_grid(model.decode(_grid(model, side)), columns=side)


def _grid(model: AdversarialAutoencoder, side: int) -> Array:
    """The side² codes of `manifold`, in reading order."""
    if isinstance(model.prior, Divisible):  # between whose parts a grid would show what the prior never draws
        position = (np.arange(side * side) + 0.5) / side**2
        return to_host(model.prior.at(generator(model.xp, 0, SAMPLE), model.xp.asarray(position)))
    draws = _prior_draws(model)
    cells = side if model.latent > 1 else side * side
    levels = (np.arange(cells) + 0.5) / cells
    codes = np.tile(np.median(draws, axis=0), (side * side, 1))
    first = np.quantile(draws[:, 0], levels)
    if model.latent > 1:
        second = np.quantile(draws[:, 1], levels)[::-1]  # upwards, as on the latent plane
        codes[:, 0], codes[:, 1] = np.tile(first, side), np.repeat(second, side)
    else:
        codes[:, 0] = first
    return codes


def latent(model: AdversarialAutoencoder, images: Array, labels: Array, label_names: Sequence[str]) -> Figure:
    """The codes of labelled images, coloured by label, over the prior's circles of one and two standard deviations, or, where
    the prior is not Gaussian, over draws from it in grey.

    Of a code with more than two dimensions the first two are shown; one with a single dimension is spread by its label.
    """
    codes, draws = model.encode(images), _prior_draws(model)
    figure = Figure(figsize=(7.6, 6.4), layout="constrained")
    axes = figure.subplots()
    x, y = (codes[:, 0], codes[:, 1]) if model.latent > 1 else (codes[:, 0], labels)
    axes.scatter(x, y, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=9, alpha=0.6, linewidths=0)
    colours = colormaps["tab10"]  # by label, whichever labels the set holds
    handles = [Line2D([], [], color=colours(k), marker="o", linestyle="") for k in range(len(label_names))]
    axes.legend(handles, label_names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    mean, std = draws.mean(axis=0), draws.std(axis=0)
    axes.set_xlabel("$z_0$")
    if model.latent == 1:
        axes.set(ylabel="label", yticks=range(len(label_names)), title="Encoded test set; lines at the prior's ±1σ, ±2σ")
        for k in (-2, -1, 1, 2):
            axes.axvline(mean[0] + k * std[0], color="black", linestyle="--", linewidth=1)
        return figure
    axes.set(ylabel="$z_1$", aspect="equal")
    if not isinstance(model.prior, gaussian):
        axes.scatter(draws[:PRIOR_POINTS, 0], draws[:PRIOR_POINTS, 1], color="lightgrey", s=4, linewidths=0, zorder=0)
        axes.set_title("Encoded test set over draws from the prior")
        return figure
    for k in (1, 2):
        axes.add_patch(Ellipse(mean[:2], 2 * k * std[0], 2 * k * std[1], fill=False, linestyle="--", linewidth=1))
        label = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
        axes.annotate(f"{k}σ", (mean[0], mean[1] + k * std[1]), ha="center", va="center", bbox=label)
    axes.set_title("Encoded test set over the prior's 1σ and 2σ")
    return figure


def priors(models: Mapping[str, AdversarialAutoencoder], images: Array, labels: Array) -> Figure:
    """A column for each named model: draws from its prior, the codes of images by label, and a decoded grid.

    images, labels: as in `latent`. Draws from a prior with parts have the colours of its parts, which, where the model is told
    labels, are those of the labels, and ten elsewhere. Of a longer code the first two dimensions are shown.

    Raises InvalidInput where a code has a single dimension.
    """
    for name, model in models.items():
        if model.latent == 1:
            raise InvalidInput(f"the model called {name!r} has a code of one dimension; pass models of two or more")
    figure = Figure(figsize=(2 * len(models), 6.4), layout="constrained")
    grid = figure.subplots(3, len(models), squeeze=False)
    for (drawn, encoded, decoded), (name, model) in zip(grid.T, models.items(), strict=True):
        xp, n = model.xp, min(len(images), PRIOR_POINTS)
        position = (np.arange(n) + 0.5) / n
        if isinstance(model.prior, Divisible):
            draws = to_host(model.prior.at(generator(xp, 0, SAMPLE), xp.asarray(position)))
            parts = np.floor((model.classes or 10) * position)
        else:
            draws, parts = model.sample_prior(n, seed=0), np.full(n, 7)  # grey
        for axes, codes, colours in ((drawn, draws, parts), (encoded, model.encode(images[:n]), labels[:n])):
            axes.scatter(codes[:, 0], codes[:, 1], c=colours, cmap="tab10", vmin=-0.5, vmax=9.5, s=2, linewidths=0)
            reach = 1.15 * np.abs(draws).max()
            axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
        drawn.set_title(name)
        decoded.imshow(_canvas(model.decode(_grid(model, 10)), columns=10), cmap="gray_r", vmin=0, vmax=1)
        decoded.set(xticks=[], yticks=[], frame_on=False)
    for axes, row in zip(grid[:, 0], ("prior", "codes of the test set", "decoded"), strict=True):
        axes.set_ylabel(row)
    return figure


def reconstructions(model: AdversarialAutoencoder, images: Array) -> Figure:
    """Two strips of ten images, each above its reconstruction; of fewer than twenty images, one strip.

    images: as in `AdversarialAutoencoder.encode`.
    """
    shown = images[: 20 if len(images) >= 20 else 10]
    originals = unit_interval(checked_rows(shown, model.visible), np.dtype(np.float64))
    decoded = model.reconstruct(shown)
    strips = [part[i : i + 10] for i in range(0, len(originals), 10) for part in (originals, decoded)]
    return image_grid(np.concatenate(strips), columns=min(10, len(originals)))


def _prior_draws(model: AdversarialAutoencoder) -> Array:
    """The same draws at every call, in float64; fewer of a longer code, lest they outgrow the model."""
    return model.sample_prior(max(PRIOR_NUMBERS // model.latent, 1000), seed=0).astype(np.float64)


def image_grid(rows: Array, *, columns: int) -> Figure:
    """Square images, (n, side²) in [0, 1], in reading order on one canvas: ink dark on white, a pixel an image's pixel × 2.

    Raises InvalidInput where a row's length is no square.
    """
    canvas = _canvas(rows, columns)
    height, width = canvas.shape
    figure = Figure(figsize=(width / 50, height / 50), dpi=100)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure


def _canvas(rows: Array, columns: int) -> Array:
    """Square images, (n, side²), set in reading order with two blank pixels between them."""
    n, side, gap = len(rows), isqrt(rows.shape[1]), 2
    if side * side != rows.shape[1]:
        raise InvalidInput(f"images of {rows.shape[1]} pixels came; only square ones can be drawn")
    lines = -(-n // columns)
    canvas = np.zeros((lines * (side + gap) - gap, columns * (side + gap) - gap))
    for k, row in enumerate(rows):
        top, left = k // columns * (side + gap), k % columns * (side + gap)
        canvas[top : top + side, left : left + side] = row.reshape(side, side)
    return canvas
