"""The report's figures and more, as matplotlib Figures; saving them is up to the caller.

No other file imports matplotlib. pyplot is not used, so there are no windows, no global state and
nothing to close.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from math import ceil, isqrt, log
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib import style as style  # for callers who draw in a style of their own
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from . import checks
from .backend import SAMPLE, HostArray, random_stream, to_host
from .categorical import CategoricalAutoencoder
from .errors import InvalidInput
from .images import checked_rows, unit_interval
from .metrics import prior_draws
from .model import AdversarialAutoencoder
from .priors import PriorWithParts, gaussian
from .training import Record

TRAIN, TEST, WRONG = "#1f4e8c", "#d9822b", "#d62728"
INK: dict[str, Any] = {"cmap": "gray_r", "vmin": 0, "vmax": 1}  # dark on white
COLOURS = tuple(map(colormaps["tab10"], range(10)))  # label k has the one of its last digit
MARKERS = "o^sDvP*X<>"  # label k has the one of its tens digit
UNLABELLED = "black"  # a grey would be label 7's
PRIOR_POINTS = 5000  # draws that show a prior
CELL = 60  # dots for an image and the gap to the next, unless it has more pixels
WIDEST = 1600  # dots, of a grid of images


class Figure(matplotlib.figure.Figure):
    """A matplotlib Figure that a notebook shows if it is the last value of a cell."""

    def _repr_png_(self) -> bytes:
        self.savefig(file := BytesIO(), format="png")
        return file.getvalue()


def losses(
    history: Iterable[Record],
    model: AdversarialAutoencoder | None = None,
    *,
    test: str = "test",
    others: Sequence[Sequence[Record]] = (),
) -> Figure:
    """The losses over the epochs (the report's Figure 1), a panel for each phase.

    Dotted lines mark the losses at which the discriminator cannot tell codes from the prior.
    model: shows whether dropout or noise is on in training and off in testing. test: the name of
    the test images in the legend. others: the histories of runs with other seeds, whose range is
    shaded.
    """
    history = [*history]
    names = ["reconstruction", "discriminator", "generator"]
    further = ("classification", "smoothness") if history else ()
    names += [name for name in further if getattr(history[-1], name) is not None]
    figure = Figure(figsize=(10 / 3 * len(names), 3.6), layout="constrained")
    epochs = [record.epoch for record in history]
    marker = "." if len(history) == 1 else ""  # a single point makes no line
    config = {} if model is None else model.config
    weight = "KL − w I" if config.get("information_weight") else "KL"
    units = {"classification": "−ln y (nats)", "smoothness": f"{weight} (nats)"}
    equilibria = {"discriminator": (2 * log(2), "2 ln 2"), "generator": (log(2), "ln 2")}
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        adversarial = name in equilibria
        on = [] if name == "smoothness" or not config.get("noise") else ["noise"]
        if config.get("dropout") or (adversarial and config.get("discriminator_dropout")):
            on.insert(0, "dropout")
        what = " and ".join(on)
        training, testing = (
            f"{label} ({what} {state})" if on else label
            for label, state in (("training", "on"), (test, "off"))
        )
        values = [getattr(record, name) for record in history]
        axes.plot(epochs, values, marker=marker, color=TRAIN, label=training)
        if others:
            runs = [[getattr(record, name) for record in run] for run in (history, *others)]
            shared = min(map(len, runs))
            band = np.array([run[:shared] for run in runs], float)
            label = f"range of {len(runs)} seeds"
            axes.fill_between(
                epochs[:shared], band.min(axis=0), band.max(axis=0), color=TRAIN, alpha=0.2,
                linewidth=0, label=label,
            )  # fmt: skip
        if adversarial:
            value, label = equilibria[name]
            axes.axhline(value, color="grey", linestyle=":", label=f"{label}: equilibrium")
        elif name == "reconstruction" and history and history[0].test_reconstruction is not None:
            values = [record.test_reconstruction for record in history]
            axes.plot(epochs, values, marker=marker, color=TEST, linestyle="--", label=testing)
        axes.set(title=name.capitalize(), xlabel="epoch", ylabel=units.get(name))
        axes.autoscale(axis="y")  # axhline leaves no margin, and its line may lie on the frame
        if len(epochs) > 1:
            axes.set_xlim(epochs[0], epochs[-1])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("mean BCE (nats)")
    return figure


def samples(
    model: AdversarialAutoencoder, *, seed: int = 0, size: tuple[int, int] | None = None
) -> Figure:
    """10 × 10 novel images: decoded draws from the prior (the report's Figure 2).

    size: (height, width) of an image; by default images are square. Raises InvalidInput if the
    model's images have another number of pixels.
    """
    images = model.sample(100, seed=seed)
    return image_grid(images, columns=10, size=size, xlabel="a hundred draws of the prior, decoded")


def manifold(
    model: AdversarialAutoencoder, *, side: int = 20, size: tuple[int, int] | None = None
) -> Figure:
    """side × side decoded codes, on a grid over the first two dimensions of the prior.

    Each code stands for a cell of equal probability under the prior, and is the cell's median:
    columns divide the draws by z₀, and rows divide each column by z₁. All other dimensions are at
    their medians. A one-dimensional code fills the grid in reading order, and so does a prior with
    parts, at equal steps along it. size: as in `samples`. Raises InvalidInput for a model with
    categories, or if size does not fit.
    """
    _refuse_categories(model)
    codes = _grid(model, side)
    if isinstance(model.prior, PriorWithParts) or model.latent == 1:
        axes = {"xlabel": "along the prior at equal steps, row by row"}
        return image_grid(model.decode(codes), columns=side, size=size, **axes)
    first = np.median(codes[:, 0].reshape(side, side), axis=0)
    return image_grid(
        model.decode(codes),
        columns=side,
        size=size,
        xlabel="$z_0$, each column a share of the prior",
        ylabel="$z_1$ rises, each row a share of its column",
        columns_named=[f"{value:.2g}" for value in first],
    )


def _refuse_categories(model: AdversarialAutoencoder) -> None:
    """Their codes are not points of a plane; `styles`, `clusters` and `plane` show them."""
    if isinstance(model, CategoricalAutoencoder):
        raise InvalidInput(f"model must have no categories, got {model.categories}")


def _grid(model: AdversarialAutoencoder, side: int) -> HostArray:
    """The side² codes of `manifold`, in reading order."""
    if isinstance(model.prior, PriorWithParts):  # a plain grid would also lie between its parts
        return _draws_along(model, model.prior, side * side)
    draws = prior_draws(model).astype(np.float64)
    if model.latent == 1:
        return np.quantile(draws, _levels(side * side), axis=0)
    codes = np.tile(np.median(draws, axis=0), (side, side, 1))
    by_first = draws[draws[:, 0].argsort(), :2]
    for column, part in enumerate(np.array_split(by_first, side)):
        cells = np.array_split(part[part[:, 1].argsort()], side)
        for row, cell in enumerate(reversed(cells)):  # upwards, as on the latent plane
            codes[row, column, :2] = np.median(cell, axis=0)
    return codes.reshape(side * side, -1)


def _levels(n: int) -> HostArray:
    """The middles of n equal parts of [0, 1]."""
    return (np.arange(n) + 0.5) / n


def _draws_along(model: AdversarialAutoencoder, prior: PriorWithParts, n: int) -> HostArray:
    """n draws of the model's prior, at equal steps along it."""
    rng = random_stream(model.xp, 0, SAMPLE)
    return to_host(prior.sample_at(rng, model.xp.asarray(_levels(n))))


def latent(
    model: AdversarialAutoencoder,
    images: HostArray,
    labels: HostArray | None = None,
    label_names: Sequence[str] = (),
) -> Figure:
    """The codes of images over the prior, coloured by label if there are labels.

    Each label has a colour and, from the eleventh on, a marker; its name is at the median of its
    codes. Images without labels are black, and so are those labelled −1, "unlabelled". A Gaussian
    prior is shown as circles of one and two standard deviations, any other as grey draws. Only the
    first two dimensions are shown. Codes of one dimension are spread out by label.

    Raises InvalidInput for labels that do not fit the images or the names, and for a model with
    categories.
    """
    _refuse_categories(model)
    labels = _checked(labels, len(images), label_names)
    codes, draws = model.encode(images), prior_draws(model).astype(np.float64)
    mean, std = draws.mean(axis=0), draws.std(axis=0)
    if model.latent == 1:
        heights = np.zeros(len(codes)) if labels is None else labels
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(codes))
        points = np.column_stack((codes[:, 0], heights + jitter))
        figure, axes = _plane(points, labels, label_names, named=False)
        axes.set(xlabel="$z_0$", ylabel="label")
        every = max(1, -(-len(label_names) // 30))  # as many as there is room for
        axes.set_yticks(range(len(label_names))[::every], _texts(label_names[::every]))
        axes.set_title("Encoded test set; lines at the prior's ±1σ, ±2σ")
        for k in (-2, -1, 1, 2):
            axes.axvline(mean[0] + k * std[0], color="black", linestyle="--", linewidth=1)
        return figure
    circles = isinstance(model.prior, gaussian)
    around = mean[:2] + 2.1 * std[:2] * [[-1], [1]] if circles else draws[:PRIOR_POINTS, :2]
    figure, axes = _plane(codes[:, :2], labels, label_names, around=around)
    axes.set(xlabel="$z_0$", ylabel="$z_1$")
    if not circles:
        axes.scatter(*around.T, color="lightgrey", s=4, linewidths=0, zorder=0)
        axes.set_title("Encoded test set over draws from the prior")
        return figure
    for k in (1, 2):
        width, height = 2 * k * std[:2]
        axes.add_patch(Ellipse(mean[:2], width, height, fill=False, linestyle="--", linewidth=1))
        axes.text(mean[0], mean[1] + height / 2, f"{k}σ", ha="center", va="center", bbox=_BOX)
    axes.set_title("Encoded test set over the prior's 1σ and 2σ")
    return figure


_BOX = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}


def _plane(
    points: HostArray,
    labels: HostArray | None,
    label_names: Sequence[str],
    *,
    around: HostArray | None = None,
    named: bool = True,
) -> tuple[Figure, Any]:
    """A figure of planar points by label, with a legend, and its axes.

    The axes are square, and show a square that holds all points and `around`, if that is given.
    named: whether label names are drawn among the points, if there are not too many.
    """
    names: list[str] = []
    if labels is not None:
        names = _texts(label_names or [str(k) for k in range(max(labels) + 1)])
    left, bottom, side, top = 0.85, 0.55, 4.75, 0.35  # inches
    width, height = left + side + 0.15 + _legend_width(names), bottom + side + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    _scatter(axes, points, labels, size=9 if len(points) <= 3000 else 4)
    if around is not None:
        every = np.concatenate((points, around))
        low, high = every.min(axis=0), every.max(axis=0)
        (x, y), reach = (low + high) / 2, 0.53 * max(*(high - low), 1e-9)
        axes.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach))
    if labels is not None and named and len(names) <= 40:
        for k in np.unique(labels[labels >= 0]):
            x, y = np.median(points[labels == k], axis=0)
            axes.text(x, y, names[k], ha="center", va="center", fontsize=8, bbox=_BOX)
    _legend(figure, names, (left + side + 0.05) / width)
    return figure, axes


def _legend_style(names: Sequence[str]) -> tuple[int, int]:
    """(columns, size of the font) of a legend; no columns for more names than there is room for."""
    columns = -(-len(names) // 25) if len(names) <= 100 else 0
    return columns, 10 if columns <= 1 else 7


def _legend_width(names: Sequence[str]) -> float:
    """The inches that the legend of labels with these names takes up."""
    columns, font = _legend_style(names)
    return columns and columns * (4 * font / 72 + _inches(names, font)) + 2 * font / 72


def _inches(texts: Sequence[str], font: int) -> float:
    """The width of the longest text at this font size, 0 if there is none.

    A tenth is added, because letters are drawn in whole dots.
    """
    paths = [TextPath((0, 0), text, size=font) for text in texts if text]
    return 1.1 * max((path.get_extents().width / 72 for path in paths), default=0.0)


def _legend(figure: Figure, names: Sequence[str], left: float) -> None:
    """A legend of all labels, even if the images lack some, from `left` of the figure's width."""
    columns, font = _legend_style(names)
    if columns:
        dots = [_dot(k) for k in range(len(names))]
        options = {"frameon": False, "ncols": columns, "fontsize": font, "columnspacing": 1}
        figure.legend(dots, names, loc="center left", bbox_to_anchor=(left, 0.5), **options)


def _checked(labels: Any, n: int, names: Sequence[str]) -> HostArray | None:
    """The labels as an array; raises InvalidInput unless n images have one, and each has a name."""
    if labels is None:
        return None
    array = checks.labels("labels", labels, n)
    if names and array.max() >= len(names):
        raise InvalidInput(
            f"label_names must name every label, got {len(names)} names and label {array.max()}"
        )
    return array


def _scatter(axes: Any, points: HostArray, labels: HostArray | None, size: float) -> None:
    """Points by label, in a random order, so that no label hides another."""
    order = np.random.default_rng(0).permutation(len(points))
    known = np.full(len(points), -1) if labels is None else labels.astype(int)
    colours = np.where(known[:, None] < 0, to_rgba(UNLABELLED), np.array(COLOURS)[known % 10])
    markers = known.clip(0) // 10 % len(MARKERS)
    for k, marker in enumerate(MARKERS):
        some = order[markers[order] == k]
        if len(some):
            style = {"marker": marker, "s": size * (1 if marker == "o" else 1.5)}
            axes.scatter(*points[some].T, color=colours[some], alpha=0.5, linewidths=0, **style)


def _dot(label: int) -> Line2D:
    """The symbol of a label in a legend."""
    marker = MARKERS[label // 10 % len(MARKERS)]
    return Line2D([], [], color=COLOURS[label % 10], marker=marker, linestyle="")


def _texts(names: Sequence[str]) -> list[str]:
    """Names as matplotlib shows them: not empty or long, and a $ does not begin a formula.

    A character that no font in use has is shown as its escape, so that names stay different.
    """
    texts = [" ".join(name.split()) or "–" for name in names]
    if not "".join(texts).isascii():
        fonts = (findfont(FontProperties(family=[name])) for name in rcParams["font.family"])
        known = set().union(*(get_font(font).get_charmap() for font in fonts))
        texts = ["".join(c if ord(c) in known else ascii(c)[1:-1] for c in text) for text in texts]
    short = (text if len(text) <= 20 else f"{text[:12]}…{text[-7:]}" for text in texts)
    return [text.replace("$", r"\$") for text in short]


def priors(
    models: Mapping[str, AdversarialAutoencoder],
    images: HostArray,
    labels: HostArray | None = None,
    label_names: Sequence[str] = (),
    *,
    size: tuple[int, int] | None = None,
) -> Figure:
    """Three panels for each named model: draws from its prior, codes by label, and decoded codes.

    images, labels, label_names: as in `latent`. size: of an image as in `samples`; without one,
    images that are not square are not decoded. The draws of a prior with parts are coloured by
    part: in a model with classes each part has the colour of its label; otherwise there are ten
    parts. Draws of a prior without parts are black. The decoded codes are those of `manifold`.
    Only the first two dimensions of a code are shown.

    Raises InvalidInput if a code has a single dimension.
    """
    for name, model in models.items():
        if model.latent == 1:
            raise InvalidInput(
                f"models must have codes of two or more dimensions, got 1 in {name!r}"
            )
    labels = _checked(labels, len(images), label_names)
    some = next(iter(models.values()))
    pictures = size is not None or isqrt(some.visible) ** 2 == some.visible
    kinds = ("prior", "codes of the test set", "decoded")[: 3 if pictures else 2]
    across = len(models) if len(models) <= 4 else -(-len(models) // 2)
    blocks, rows = -(-len(models) // across), len(kinds)
    names = [] if labels is None else _texts(label_names)
    beside, height = _legend_width(names), (2.1 * rows + 0.25) * blocks + 0.3  # inches
    width = 2.15 * across + 0.25 + beside
    figure = Figure(figsize=(width, height), layout="compressed")
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1 - beside / width, 1))
    grid = figure.subplots(rows * blocks, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (name, model) in enumerate(models.items()):
        top, column = rows * (place // across), place % across
        panels = grid[top : top + rows, column]
        n = min(len(images), PRIOR_POINTS)
        parts: HostArray | None = None
        if isinstance(model.prior, PriorWithParts):
            draws = _draws_along(model, model.prior, n)
            parts = np.floor((model.classes or 10) * _levels(n)).astype(int)
        else:
            draws = model.sample_prior(n, seed=0)
        reach = 1.15 * np.abs(draws).max()
        known = None if labels is None else labels[:n]
        for axes, codes, colours in (
            (panels[0], draws, parts),
            (panels[1], model.encode(images[:n]), known),
        ):
            _scatter(axes, codes[:, :2], colours, size=2)
            axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        if pictures:
            canvas = _canvas(model.decode(_grid(model, 10)), 10, _size(model.visible, size))
            panels[2].imshow(canvas, **INK)
            panels[2].set_frame_on(False)
        for axes, kind in zip(panels, kinds, strict=True):
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[], ylabel=kind if column == 0 else "")
        panels[0].set_title(name)
    epochs, seeds = ({getattr(m, what) for m in models.values()} for what in ("epoch", "seed"))
    figure.suptitle(
        f"{_range(epochs)} epoch{'' if epochs == {1} else 's'}, seed {_range(seeds)}; "
        "black: a prior without parts",
        fontsize=10,
    )
    _legend(figure, names, 1 - beside / width)
    return figure


def _range(numbers: set[int]) -> str:
    return "–".join(map(str, sorted({min(numbers), max(numbers)})))


def reconstructions(
    model: AdversarialAutoencoder, images: HostArray, *, size: tuple[int, int] | None = None
) -> Figure:
    """Two strips of ten images, each above its reconstructions; one strip if there are under 20.

    images: as in `AdversarialAutoencoder.encode`. size: as in `samples`.
    """
    shown = images[: 20 if len(images) >= 20 else 10]
    originals = unit_interval(checked_rows(shown, model.visible), np.dtype(np.float64))
    pairs = (originals, model.reconstruct(shown))
    strips = [part[i : i + 10] for i in range(0, len(originals), 10) for part in pairs]
    columns = min(10, len(originals))
    names = ["image", "decoded"] * (len(strips) // 2)
    return image_grid(np.concatenate(strips), columns=columns, size=size, rows_named=names)


def styles(
    model: CategoricalAutoencoder,
    images: HostArray,
    label_names: Sequence[str] = (),
    *,
    size: tuple[int, int] | None = None,
) -> Figure:
    """Ten rows, each an image followed by its style decoded in every category.

    label_names: the names of the categories; by default, their numbers. size: as in `samples`.
    """
    k, shown = model.categories, images[:10]
    style = model.encode(shown)[:, k:]
    codes = np.hstack((np.tile(np.eye(k), (len(shown), 1)), np.repeat(style, k, axis=0)))
    decoded = model.decode(codes).reshape(len(shown), k, -1)
    originals = unit_interval(checked_rows(shown, model.visible), decoded.dtype)[:, None]
    rows = np.concatenate((originals, np.zeros_like(originals), decoded), axis=1)
    names = label_names if len(label_names) == k else [str(category) for category in range(k)]
    return image_grid(
        rows.reshape(-1, model.visible),
        columns=k + 2,
        size=size,
        columns_named=["image", "", *names],
        xlabel="the style of the image, decoded in each category; the two are only partly separate",
    )


def clusters(
    model: CategoricalAutoencoder,
    images: HostArray,
    labels: HostArray | None = None,
    label_names: Sequence[str] = (),
    names: HostArray | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> Figure:
    """A block for each category: its head, decoded with style 0, and its ten most certain images.

    labels, label_names: as in `latent`. names: the label that each category is named after; if
    given, images with other labels are framed. The title of a block is the category's name and the
    number of its images. size: as in `samples`.
    """
    labels = _checked(labels, len(images), label_names)
    others, size = model.other_probability(images), _size(model.visible, size)
    heads = model.decode(np.eye(model.categories, model.code_size))
    pixels = unit_interval(checked_rows(images, model.visible), heads.dtype)
    own = others.argmin(axis=1)
    texts = _texts(label_names)
    across = min(3, -(-model.categories // 10)) if model.categories < 60 else 4
    down = -(-model.categories // across)
    tall, wide = (side + 2 for side in _shown(size))  # pixels of an image and the gap
    height = 3.4 / 12 * tall / wide + 0.22  # inches; an image takes up 3.4 / 12
    figure = Figure(figsize=(3.5 * across, min(height, 1.5) * down + 0.1), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.T.flat:
        axes.set_axis_off()
    for k, axes in zip(range(model.categories), grid.T.flat, strict=False):
        members = np.flatnonzero(own == k)
        surest = members[np.argsort(others[members, k])][:10]
        row = np.zeros((12, model.visible))  # blank if the category has fewer
        row[0], row[2 : 2 + len(surest)] = heads[k], pixels[surest]
        axes.imshow(_canvas(row, 12, size), **INK)
        name = f"category {k}"
        if names is not None and labels is not None:
            name = texts[names[k]] if names[k] < len(texts) else str(names[k])
            for place, image in enumerate(surest):
                if labels[image] != names[k]:
                    corner = (2 + place) * wide - 1.5, -1.5
                    frame = Rectangle(corner, wide, tall, fill=False, color=WRONG)
                    axes.add_patch(frame).set_clip_on(False)
        plural = "" if len(members) == 1 else "s"
        axes.set_title(f"{name}: {len(members):,} image{plural}", fontsize=7, loc="left", pad=2)
    return figure


def plane(
    model: CategoricalAutoencoder,
    images: HostArray,
    labels: HostArray | None = None,
    label_names: Sequence[str] = (),
) -> Figure:
    """Embedded images by label, with the number of each category at its cluster head.

    labels, label_names: as in `latent`.
    """
    heads = model.embed_codes(np.eye(model.categories, model.code_size))[:, :2]
    points, labels = model.embed(images)[:, :2], _checked(labels, len(images), label_names)
    figure, axes = _plane(points, labels, label_names, around=heads, named=False)
    for k, (x, y) in enumerate(heads):
        axes.text(x, y, str(k), ha="center", va="center", weight="bold", bbox=_BOX)
    axes.set(xlabel="$e_0$", ylabel="$e_1$")
    axes.set_title("Encoded images; bold: the heads of the categories")
    return figure


def image_grid(
    rows: HostArray,
    *,
    columns: int,
    size: tuple[int, int] | None = None,
    xlabel: str = "",
    ylabel: str = "",
    rows_named: Sequence[str] = (),
    columns_named: Sequence[str] = (),
) -> Figure:
    """Images, (n, height · width) in [0, 1], in reading order, with ink dark on white.

    size: (height, width); by default the images are square. xlabel, ylabel: below and beside the
    grid. rows_named, columns_named: beside and above its rows and columns. Saved at 100 dots per
    inch, a pixel takes up a whole number of dots if an image is small. An image with one side more
    than eight times as long as the other is stretched.

    Raises InvalidInput for images of another size.
    """
    size = _size(rows.shape[1], size)
    canvas, (height, width) = _canvas(rows, columns, size), _shown(size)
    cell = max(height, width) + 2
    zoom = max(1, round(CELL / cell)) if cell <= 2 * CELL else 2 * CELL / cell
    zoom = min(zoom, WIDEST / canvas.shape[1])
    inner = zoom * canvas.shape[1] / 100, zoom * canvas.shape[0] / 100  # inches
    names = [name and _texts([name])[0] for name in columns_named]
    pitch = zoom * (width + 2) / 100
    longest = _inches(names, 8)
    upright = longest > zoom * width / 100  # then each name stands above its column
    every = max(1, ceil(0.14 / pitch)) if upright else 1  # every name, or as many as fit
    aside, above = max(0.1 * upright, _overhang(xlabel, inner[0])), _overhang(ylabel, inner[1])
    left = max(aside, 0.3 * bool(ylabel) + 0.65 * bool(rows_named))
    bottom = max(above, 0.35 * bool(xlabel))
    top = max(above, (longest + 0.1 if upright else 0.25) * bool(names))
    whole = max(left + inner[0] + aside, 2.0), max(bottom + inner[1] + top, 0.5)
    figure = Figure(figsize=whole, dpi=100)
    box = (left / whole[0], bottom / whole[1], inner[0] / whole[0], inner[1] / whole[1])
    axes = figure.add_axes(box)
    how = "nearest" if zoom >= 1 else "antialiased"
    axes.imshow(canvas, aspect="auto", interpolation=how, **INK)
    axes.set_frame_on(False)
    axes.tick_params(length=0, pad=2, labelsize=8)
    axes.xaxis.tick_top()
    across = np.arange(len(columns_named)) * (width + 2) + (width - 1) / 2
    down = np.arange(len(rows_named)) * (height + 2) + (height - 1) / 2
    axes.set_xticks(across[::every], names[::every], rotation=90 if upright else 0)
    axes.set_yticks(down, _texts(rows_named))
    axes.set_xlabel(xlabel, fontsize=9)
    axes.xaxis.set_label_position("bottom")
    axes.set_ylabel(ylabel, fontsize=9)
    return figure


def _overhang(label: str, side: float) -> float:
    """The inches, in whole dots, by which a label in the middle of a side exceeds either end."""
    return max(0, ceil(50 * (_inches([label], 9) + 0.1 - side))) / 100


def _size(visible: int, size: tuple[int, int] | None) -> tuple[int, int]:
    """The (height, width) of images of this many pixels; raises InvalidInput if there is none."""
    height, width = (isqrt(visible),) * 2 if size is None else size
    if height * width != visible:
        rule = "square, or size must be given" if size is None else f"{height} × {width}"
        raise InvalidInput(f"images must be {rule}, got {visible} pixels")
    return height, width


def _shown(size: tuple[int, int]) -> tuple[int, int]:
    """The size with pixels repeated until no side is longer than eight times the other."""
    height, width = size
    return height * max(1, -(-width // (8 * height))), width * max(1, -(-height // (8 * width)))


def _canvas(rows: HostArray, columns: int, size: tuple[int, int]) -> HostArray:
    """Images set in reading order with two blank pixels between them, each as large as `_shown`."""
    (height, width), gap = _shown(size), 2
    down, across = height // size[0], width // size[1]
    lines = -(-len(rows) // columns)
    canvas = np.zeros((lines * (height + gap) - gap, columns * (width + gap) - gap))
    for k, row in enumerate(rows):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        image = row.reshape(size).repeat(down, axis=0).repeat(across, axis=1)
        canvas[top : top + height, left : left + width] = image
    return canvas
