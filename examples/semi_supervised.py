"""Learn to classify images from ten labels of each class: section 5 of Makhzani et al.

The model sees all training images and the labels of a few: a hundred of MNIST. The unlabelled
images teach it what digits look like, and the labelled ones what they are called. A sixth of the
training images is held out, and every epoch is evaluated on it. Only --evaluate uses the test set.
`clustering.py`, `style.py` and `reduction.py` are this program with other settings.

The seed determines which images are labelled; there are equally many of each class.
"""

from collections.abc import Iterator
from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np

import npaae
from npaae import CategoricalAutoencoder, InvalidInput, Record, metrics
from npaae.data import Dataset
from npaae.experiment import (
    ALL,
    Run,
    check_run,
    import_plots,
    launch,
    load_data,
    training_flags,
)

# Without labels, training maximises the mutual information of images and categories.
WITHOUT_LABELS: dict[str, Any] = {"information_weight": 0.3, "lr_smoothness": 1e-3}


TEN_OF_EACH, ONE_FOR_EACH = "ten of each class", "one for each class"


def main(
    name: str = "semi-supervised",
    *,
    about: str = "Learn to classify images from ten labels of each class",
    labels: int | str = TEN_OF_EACH,
    categories: int | str = ONE_FOR_EACH,
    latent: int = 10,
    head_distance: float = 0.0,
    joint: bool = False,
) -> None:
    several = {"type": "positive integer", "nargs": "+"}
    length = {"type": "non-negative number"}
    own = {
        "--labels": ("labelled images, 0 for none, or all", labels, {"type": "number or all"}),
        "--categories": ("categories of the code", categories, {"type": "positive integer"}),
        "--hidden": ("hidden layer sizes", [500, 500], several),
        "--perturbation": ("length of the perturbations of phase 5, 0 for none", 2.0, length),
    }
    flags = training_flags(name, epochs=30, about=about, own=own, extendable=False)
    images = load_data("MNIST", flags.data_dir, sample=flags.sample)
    kept, classes = without_a_sixth(images), len(images.label_names)
    numbers = {TEN_OF_EACH: 10 * classes, ONE_FOR_EACH: classes, ALL: len(kept.train_images)}
    labelled = numbers.get(flags.labels, flags.labels)
    parts = numbers.get(flags.categories, flags.categories)
    if (flags.labels or not parts) and kept.train_labels is None:
        rule = "--labels must be 0, and --categories a number, for images without labels"
        raise InvalidInput(f"{rule}, got {flags.labels} and {flags.categories}")
    if labelled and parts < classes:
        raise InvalidInput(f"--categories must be at least {classes} with labels, got {parts}")
    train_labels = draw_labels(kept, labelled, flags.seed)
    comm = npaae.parallel.world()  # None, or several ranks, which the model refuses
    if flags.resume or flags.evaluate:
        path = flags.out / "model.npz"
        model = CategoricalAutoencoder.load(path, backend=flags.backend, comm=comm)
    else:
        model = CategoricalAutoencoder(
            hidden=flags.hidden,
            categories=parts,
            visible=images.train_images[0].size,
            latent=latent,
            head_distance=head_distance,
            joint=joint,
            perturbation=flags.perturbation,
            **({} if labelled or flags.perturbation == 0 else WITHOUT_LABELS),
            backend=flags.backend,
            seed=flags.seed,
            comm=comm,
        )
    if flags.evaluate:
        check_run(flags.out, model, kept)
        print_error(model, kept, images.test_images, images.test_labels, labelled, "test")
        return

    with Run(
        flags.out,
        name,
        model,
        kept,
        epochs=flags.epochs,
        batch_size=flags.batch_size,
        resume=flags.resume,
        overwrite=flags.overwrite,
        bar=not flags.no_progress,
        figures=lambda run: figures(run, labelled),
        more={
            "labels": ALL if flags.labels == ALL else labelled,
            "categories": parts,
            "perturbation": flags.perturbation,
            "sample": flags.sample,
        },
    ) as run:
        records = train(model, kept, train_labels, flags.epochs, flags.batch_size)
        for record in run.progress(records):
            run.record(record)
            if record.epoch % flags.figures_every == 0 and record.epoch < flags.epochs:
                run.draw()
        run.draw()
    print_error(model, kept, kept.test_images, kept.test_labels, labelled, "held-out")


def without_a_sixth(images: Dataset) -> Dataset:
    """The data set with a sixth of its training images, at least two, as its test images.

    It is the last sixth of MNIST and Fashion-MNIST, whose authors have shuffled them, and a fixed
    draw of anybody else's images, which may be in the order of their labels.

    Raises InvalidInput for fewer than four training images.
    """
    n = len(images.train_images)
    if n < 4:
        raise InvalidInput(f"images must be at least 4 to train, of which 2 are held out, got {n}")
    order, which = np.arange(n), "the last sixth"
    if images.name not in ("MNIST", "Fashion-MNIST"):
        order, which = np.random.default_rng(0).permutation(n), "a sixth"
    kept, held = (np.sort(part) for part in np.split(order, [n - max(2, n // 6)]))
    labels = images.train_labels
    return images._replace(
        train_images=images.train_images[kept],
        train_labels=None if labels is None else labels[kept],
        test_images=images.train_images[held],
        test_labels=None if labels is None else labels[held],
        source=f"{images.source}, {which} held out",
    )


def draw_labels(images: Dataset, count: int, seed: int) -> Any:
    """The labels of `count` training images, equally many of each class, or of all there are.

    The others are −1, for "unlabelled". None if count is 0. Raises InvalidInput if `count` is not a
    multiple of the number of classes, or one class has not enough images.
    """
    labels, classes = images.train_labels, len(images.label_names)
    if count == 0:
        return None
    if count == len(labels):
        return labels
    sizes = np.bincount(labels, minlength=classes)
    if count % classes or sizes.min() < count // classes:
        rarest = f"{images.label_names[sizes.argmin()]!r} is the label of {sizes.min():,} images"
        raise InvalidInput(
            f"--labels must be {ALL}, or a multiple of {classes} up to {classes * sizes.min():,} "
            f"because {rarest}, got {count:,}"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == k][: count // classes] for k in range(classes)])
    some = np.full(len(labels), -1)
    some[chosen] = labels[chosen]
    return some


def train(
    model: CategoricalAutoencoder,
    images: Dataset,
    labels: Any,
    epochs: int,
    batch_size: int = 100,
) -> Iterator[Record]:
    """Train up to `epochs` epochs, with learning rates that fall linearly to 0.

    With labels, the rate of phase 5 instead rises linearly from 0 during the first half of the
    epochs, and then falls. At its full rate from the start, phase 5 would make the categories hard
    to change before the few labels have separated the digits.
    """
    while model.epoch < epochs:
        done = model.epoch / epochs
        for name, adam in model.adams().items():
            first = model.config[f"lr_{name.removesuffix('_adam')}"]
            adam.learning_rate = first * (1 - done)
        if labels is not None:
            adam = model.smoothness_adam
            adam.learning_rate = model.config["lr_smoothness"] * min(2 * done, 2 - 2 * done)
        yield from npaae.train(
            model,
            images.train_images,
            labels=labels,
            test_images=images.test_images,
            epochs=1,
            batch_size=batch_size,
        )


def category_names(model: CategoricalAutoencoder, images: Dataset, labelled: int) -> Any:
    """The label that each category is named after, (categories,).

    With labelled images, category k is class k. Without, it is named after its surest held-out
    image.
    """
    if labelled:
        return np.arange(model.categories)
    return metrics.cluster_names(-model.other_probability(images.test_images), images.test_labels)


def error_rate(
    model: CategoricalAutoencoder, kept: Dataset, images: Any, labels: Any, labelled: int
) -> float:
    """The share of images whose category is not named after their label."""
    names = category_names(model, kept, labelled)
    return float(np.mean(names[model.classify(images)] != labels))


def print_error(
    model: CategoricalAutoencoder,
    kept: Dataset,
    images: Any,
    labels: Any,
    labelled: int,
    what: str,
) -> None:
    if labels is None or kept.test_labels is None:
        print(f"The {what} images have no labels to compare with their categories")
        return
    error = error_rate(model, kept, images, labels, labelled)
    print(f"{error:.2%} of {len(images):,} {what} images are classified wrongly")


def figures(run: Run, labelled: int) -> dict[str, Any]:
    """The figures of a run, by file name."""
    plots, kept, model = import_plots(), run.dataset, run.model
    assert isinstance(model, CategoricalAutoencoder)
    images, size = kept.test_images, kept.image_size
    shown = images, kept.test_labels, kept.label_names
    drawn = {"losses.png": plots.losses(run.history, model, test="held out")}
    if size is not None:
        names = None if kept.test_labels is None else category_names(model, kept, labelled)
        heads = kept.label_names if labelled else ()
        drawn |= {
            "samples.png": plots.samples(model, size=size),
            "reconstructions.png": plots.reconstructions(model, images, size=size),
            "style.png": plots.styles(model, images, heads, size=size),
            "clusters.png": plots.clusters(model, *shown, names, size=size),
        }
    if model.config["head_distance"]:
        drawn["plane.png"] = plots.plane(model, *shown)
    return drawn


if __name__ == "__main__":
    launch(main)
