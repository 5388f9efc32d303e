"""The report's figures and more, as matplotlib Figures; saving them is up to the caller.

No other file imports matplotlib. pyplot is not used, so there are no windows, no global state and
nothing to close.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import isqrt, log
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib import colormaps
from matplotlib import style as style  # for callers who draw in a style of their own
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from .backend import SAMPLE, HostArray, random_stream, to_host
from .categorical import CategoricalAutoencoder
from .errors import InvalidInput
from .images import checked_rows, unit_interval
from .metrics import prior_draws
from .model import AdversarialAutoencoder
from .priors import PriorWithParts, gaussian
from .training import Record

TRAIN, TEST = "#1f4e8c", "#d9822b"
BY_LABEL: dict[str, Any] = {"cmap": "tab10", "vmin": -0.5, "vmax": 9.5, "linewidths": 0}
INK: dict[str, Any] = {"cmap": "gray_r", "vmin": 0, "vmax": 1}  # dark on white
PRIOR_POINTS = 5000  # to show a prior


class Figure(matplotlib.figure.Figure):
    """A matplotlib Figure that shows itself as the last value of a notebook's cell."""

    def _repr_png_(self) -> bytes:
        self.savefig(file := BytesIO(), format="png")
        return file.getvalue()


def losses(history: Sequence[Record]) -> Figure:
    """The losses over the epochs (the report's Figure 1), a panel for each phase.

    Dotted lines mark the losses at which the discriminator cannot tell codes from the prior.
    """
    names = [*Record._fields[1:4]]
    if history:
        names += [name for name in Record._fields[8:] if getattr(history[-1], name) is not None]
    figure = Figure(figsize=(10 / 3 * len(names), 3.6), layout="constrained")
    epochs = [record.epoch for record in history]
    marker = "." if len(history) == 1 else ""  # a single point makes no line
    units = {"classification": "−ln y (nats)", "smoothness": "KL − w I (nats)"}
    equilibria = {"discriminator": (2 * log(2), "2 ln 2"), "generator": (log(2), "ln 2")}
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        values = [getattr(record, name) for record in history]
        axes.plot(epochs, values, marker=marker, color=TRAIN, label="training (dropout on)")
        if name in equilibria:
            value, label = equilibria[name]
            axes.axhline(value, color="grey", linestyle=":", label=f"{label}: equilibrium")
        elif name == "reconstruction" and history and history[0].test_reconstruction is not None:
            values = [record.test_reconstruction for record in history]
            axes.plot(epochs, values, marker=marker, color=TEST, label="test (dropout off)")
        axes.set(title=name.capitalize(), xlabel="epoch", ylabel=units.get(name))
        axes.autoscale(axis="y")  # axhline leaves no margin, and its line may lie on the frame
        if len(epochs) > 1:
            axes.set_xlim(epochs[0], epochs[-1])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("mean BCE (nats)")
    return figure


def samples(model: AdversarialAutoencoder, *, seed: int = 0) -> Figure:
    """10 × 10 novel images: decoded draws from the prior (the report's Figure 2)."""
    return image_grid(model.sample(100, seed=seed), columns=10)


def manifold(model: AdversarialAutoencoder, *, side: int = 20) -> Figure:
    """side × side decoded codes, on a grid over the first two dimensions of the prior.

    The grid points are percentiles, estimated from draws, so that each region takes up space in
    proportion to its probability under the prior. All other dimensions are at their medians.
    A one-dimensional code fills the grid in reading order, and so does a prior with parts, at equal
    steps along it. Raises InvalidInput for a model with categories.
    """
    _refuse_categories(model)
    return image_grid(model.decode(_grid(model, side)), columns=side)


def _refuse_categories(model: AdversarialAutoencoder) -> None:
    """Their codes are no points of a plane; `styles`, `clusters` and `plane` show them."""
    if isinstance(model, CategoricalAutoencoder):
        raise InvalidInput(f"model must have no categories, got {model.categories}")


def _grid(model: AdversarialAutoencoder, side: int) -> HostArray:
    """The side² codes of `manifold`, in reading order."""
    if isinstance(model.prior, PriorWithParts):  # a plain grid would also lie between its parts
        return _draws_along(model, model.prior, side * side)
    draws = prior_draws(model).astype(np.float64)  # percentiles accurate to a hundredth of σ
    if model.latent == 1:
        return np.quantile(draws, _levels(side * side), axis=0)
    first, second = np.quantile(draws[:, :2], _levels(side), axis=0).T
    codes = np.tile(np.median(draws, axis=0), (side * side, 1))
    codes[:, 0] = np.tile(first, side)
    codes[:, 1] = np.repeat(second[::-1], side)  # upwards, as on the latent plane
    return codes


def _levels(n: int) -> HostArray:
    """The middles of n equal parts of [0, 1]."""
    return (np.arange(n) + 0.5) / n


def _draws_along(model: AdversarialAutoencoder, prior: PriorWithParts, n: int) -> HostArray:
    """n draws of the model's prior, at equal steps along it."""
    return to_host(
        prior.sample_at(random_stream(model.xp, 0, SAMPLE), model.xp.asarray(_levels(n)))
    )


def latent(
    model: AdversarialAutoencoder, images: HostArray, labels: HostArray, label_names: Sequence[str]
) -> Figure:
    """The codes of labelled images, coloured by label, over the prior.

    A Gaussian prior is shown as circles of one and two standard deviations, another as grey draws.
    Only the first two dimensions are shown; a code of one dimension is spread out by label. Raises
    InvalidInput for a model with categories.
    """
    _refuse_categories(model)
    codes, draws = model.encode(images), prior_draws(model).astype(np.float64)
    mean, std = draws.mean(axis=0), draws.std(axis=0)
    figure = Figure(figsize=(6.6, 5.6), layout="constrained")
    axes = figure.subplots()
    x, y = (codes[:, 0], codes[:, 1]) if model.latent > 1 else (codes[:, 0], labels)
    axes.scatter(x, y, c=labels, s=9, alpha=0.6, **BY_LABEL)
    dots = [
        Line2D([], [], color=colormaps["tab10"](k), marker="o", linestyle="")
        for k in range(len(label_names))  # all of them, even if the images lack some
    ]
    axes.legend(dots, label_names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    if model.latent == 1:
        axes.set(xlabel="$z_0$", ylabel="label", yticks=range(len(label_names)))
        axes.set_title("Encoded test set; lines at the prior's ±1σ, ±2σ")
        for k in (-2, -1, 1, 2):
            axes.axvline(mean[0] + k * std[0], color="black", linestyle="--", linewidth=1)
        return figure
    axes.set(xlabel="$z_0$", ylabel="$z_1$", aspect="equal")
    if not isinstance(model.prior, gaussian):
        x, y = draws[:PRIOR_POINTS, :2].T
        axes.scatter(x, y, color="lightgrey", s=4, linewidths=0, zorder=0)
        axes.set_title("Encoded test set over draws from the prior")
        return figure
    for k in (1, 2):
        width, height = 2 * k * std[:2]
        axes.add_patch(Ellipse(mean[:2], width, height, fill=False, linestyle="--", linewidth=1))
        box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
        axes.text(mean[0], mean[1] + height / 2, f"{k}σ", ha="center", va="center", bbox=box)
    axes.set_title("Encoded test set over the prior's 1σ and 2σ")
    return figure


def priors(
    models: Mapping[str, AdversarialAutoencoder], images: HostArray, labels: HostArray
) -> Figure:
    """A column for each named model: draws from its prior, codes by label, and a decoded grid.

    images, labels: as in `latent`. The draws of a prior with parts are coloured by part: in a model
    with classes each part has the colour of its label; otherwise there are ten parts. Only the
    first two dimensions of a code are shown.

    Raises InvalidInput if a code has a single dimension.
    """
    for name, model in models.items():
        if model.latent == 1:
            raise InvalidInput(
                f"models must have codes of two or more dimensions, got 1 in {name!r}"
            )
    figure = Figure(figsize=(2 * len(models), 6.4), layout="constrained")
    grid = figure.subplots(3, len(models), squeeze=False)
    for (drawn, encoded, decoded), (name, model) in zip(grid.T, models.items(), strict=True):
        n = min(len(images), PRIOR_POINTS)
        if isinstance(model.prior, PriorWithParts):
            draws = _draws_along(model, model.prior, n)
            parts = np.floor((model.classes or 10) * _levels(n))
        else:
            draws, parts = model.sample_prior(n, seed=0), np.full(n, 7)  # grey
        reach = 1.15 * np.abs(draws).max()
        panels = ((drawn, draws, parts), (encoded, model.encode(images[:n]), labels[:n]))
        for axes, codes, colours in panels:
            axes.scatter(codes[:, 0], codes[:, 1], c=colours, s=2, **BY_LABEL)
            axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
            axes.set(xticks=[], yticks=[])
        decoded.imshow(_canvas(model.decode(_grid(model, 10)), columns=10), **INK)
        decoded.set(xticks=[], yticks=[], frame_on=False)
        drawn.set_title(name)
    for axes, row in zip(grid[:, 0], ("prior", "codes of the test set", "decoded"), strict=True):
        axes.set_ylabel(row)
    return figure


def reconstructions(model: AdversarialAutoencoder, images: HostArray) -> Figure:
    """Two strips of ten images, each above its reconstructions; one strip if there are under 20.

    images: as in `AdversarialAutoencoder.encode`.
    """
    shown = images[: 20 if len(images) >= 20 else 10]
    originals = unit_interval(checked_rows(shown, model.visible), np.dtype(np.float64))
    pairs = (originals, model.reconstruct(shown))
    strips = [part[i : i + 10] for i in range(0, len(originals), 10) for part in pairs]
    return image_grid(np.concatenate(strips), columns=min(10, len(originals)))


def styles(model: CategoricalAutoencoder, images: HostArray) -> Figure:
    """Ten rows, each an image followed by its style decoded in every category."""
    k, shown = model.categories, images[:10]
    style = model.encode(shown)[:, k:]
    codes = np.hstack((np.tile(np.eye(k), (len(shown), 1)), np.repeat(style, k, axis=0)))
    decoded = model.decode(codes).reshape(len(shown), k, -1)
    originals = unit_interval(checked_rows(shown, model.visible), decoded.dtype)[:, None]
    rows = np.concatenate((originals, np.zeros_like(originals), decoded), axis=1)
    return image_grid(rows.reshape(-1, model.visible), columns=k + 2)


def clusters(model: CategoricalAutoencoder, images: HostArray) -> Figure:
    """A row for each category: its head, decoded with style 0, and its ten most certain images."""
    other_probability, rows = model.other_probability(images), []
    heads = model.decode(np.eye(model.categories, model.code_size))
    pixels = unit_interval(checked_rows(images, model.visible), heads.dtype)
    for k, head in enumerate(heads):
        own = np.flatnonzero(other_probability.argmin(axis=1) == k)
        surest = own[np.argsort(other_probability[own, k])][:10]
        row = np.zeros((12, model.visible))  # blank if the category has fewer
        row[0], row[2 : 2 + len(surest)] = head, pixels[surest]
        rows.append(row)
    return image_grid(np.concatenate(rows), columns=12)


def plane(model: CategoricalAutoencoder, images: HostArray, labels: HostArray) -> Figure:
    """Labelled images among the cluster heads, in the plane, coloured by label."""
    (x, y), heads = model.embed(images)[:, :2].T, np.eye(model.categories, model.code_size)
    figure = Figure(figsize=(6.6, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x, y, c=labels, s=9, alpha=0.6, **BY_LABEL)
    x, y = model.embed_codes(heads)[:, :2].T
    marks: list[Any] = [axes.scatter(x, y, c="black", marker="x", label="heads")]
    marks += [
        Line2D([], [], color=colormaps["tab10"](k), marker="o", linestyle="", label=str(k))
        for k in np.unique(labels)
    ]
    axes.legend(handles=marks, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set(xlabel="$e_0$", ylabel="$e_1$", aspect="equal")
    axes.set_title("Encoded images among the cluster heads")
    return figure


def image_grid(rows: HostArray, *, columns: int) -> Figure:
    """Square images, (n, side²) in [0, 1], in reading order, with ink dark on white.

    Saved at 100 dots per inch, an image's pixel takes up 2 × 2 pixels. Raises InvalidInput if the
    images are not square.
    """
    canvas = _canvas(rows, columns)
    height, width = canvas.shape
    figure = Figure(figsize=(width / 50, height / 50), dpi=100)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(canvas, interpolation="nearest", aspect="auto", **INK)
    axes.set_axis_off()
    return figure


def _canvas(rows: HostArray, columns: int) -> HostArray:
    """Square images, (n, side²), set in reading order with two blank pixels between them."""
    n, side, gap = len(rows), isqrt(rows.shape[1]), 2
    if side * side != rows.shape[1]:
        raise InvalidInput(f"images must be square, got {rows.shape[1]} pixels")
    lines = -(-n // columns)
    canvas = np.zeros((lines * (side + gap) - gap, columns * (side + gap) - gap))
    for k, row in enumerate(rows):
        top, left = k // columns * (side + gap), k % columns * (side + gap)
        canvas[top : top + side, left : left + side] = row.reshape(side, side)
    return canvas
