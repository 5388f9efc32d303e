"""Learn to classify digits from a hundred labels: section 5 of Makhzani et al.

The model sees all training images and the labels of a few. The unlabelled images teach it what
digits look like, and the labelled ones what they are called. The last sixth of the training images
is held out, and every epoch is evaluated on it. Only --evaluate uses the test set. `clustering.py`,
`style.py` and `reduction.py` are this program with other settings.

The seed determines which images are labelled; there are equally many of each digit.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

import npaae
from npaae import CategoricalAutoencoder, InvalidInput, Record, metrics
from npaae.data import Dataset
from npaae.experiment import Run, check_run, import_plots, launch, load_data, training_flags

# Without labels, training maximises the mutual information of images and categories.
WITHOUT_LABELS: dict[str, Any] = {"information_weight": 0.3, "lr_smoothness": 1e-3}


def main(
    name: str = "semi-supervised",
    *,
    about: str = __doc__.split("\n")[0],
    labels: int = 100,
    categories: int = 10,
    latent: int = 10,
    head_distance: float = 0.0,
    joint: bool = False,
) -> None:
    whole, several = {"type": "non-negative integer"}, {"type": "positive integer", "nargs": "+"}
    length = {"type": "non-negative number"}
    own = {
        "--labels": ("number of labelled images, 0 for none", labels, whole),
        "--categories": ("categories of the code", categories, {"type": "positive integer"}),
        "--hidden": ("hidden layer sizes", [500, 500], several),
        "--perturbation": ("length of the perturbations of phase 5, 0 for none", 2.0, length),
    }
    flags = training_flags(name, epochs=30, about=about, own=own, extendable=False)
    digits = load_data("MNIST", flags.data_dir, sample=flags.sample)
    kept = without_the_last_sixth(digits)
    train_labels = draw_labels(kept, flags.labels, flags.seed)
    if flags.labels and flags.categories < 10:
        raise InvalidInput(f"--categories must be at least 10 with labels, got {flags.categories}")
    comm = npaae.parallel.world()  # None, or several ranks, which the model refuses
    if flags.resume or flags.evaluate:
        path = flags.out / "model.npz"
        model = CategoricalAutoencoder.load(path, backend=flags.backend, comm=comm)
    else:
        model = CategoricalAutoencoder(
            hidden=flags.hidden,
            categories=flags.categories,
            latent=latent,
            head_distance=head_distance,
            joint=joint,
            perturbation=flags.perturbation,
            **({} if flags.labels or flags.perturbation == 0 else WITHOUT_LABELS),
            backend=flags.backend,
            seed=flags.seed,
            comm=comm,
        )
    if flags.evaluate:
        check_run(flags.out, model, kept)
        error = error_rate(model, kept, digits.test_images, digits.test_labels, flags.labels)
        print(f"{error:.2%} of {len(digits.test_images):,} test images are classified wrongly")
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
        figures=figures,
        more={
            key: getattr(flags, key) for key in ("labels", "categories", "perturbation", "sample")
        },
    ) as run:
        records = train(model, kept, train_labels, flags.epochs, flags.batch_size)
        for record in run.progress(records):
            run.record(record)
            if record.epoch % flags.figures_every == 0 and record.epoch < flags.epochs:
                run.draw()
        run.draw()
    error = error_rate(model, kept, kept.test_images, kept.test_labels, flags.labels)
    print(f"{error:.2%} of {len(kept.test_images):,} held-out images are classified wrongly")


def without_the_last_sixth(digits: Dataset) -> Dataset:
    """The data set with the last sixth of its training images as its test images."""
    n = len(digits.train_images) - len(digits.train_images) // 6
    return digits._replace(
        train_images=digits.train_images[:n],
        train_labels=digits.train_labels[:n],
        test_images=digits.train_images[n:],
        test_labels=digits.train_labels[n:],
        source=f"{digits.source}, the last sixth held out",
    )


def draw_labels(digits: Dataset, count: int, seed: int) -> Any:
    """The labels of `count` training images, equally many of each digit, or of all there are.

    The others are −1, for "unlabelled". None if count is 0. Raises InvalidInput if `count` is not a
    multiple of ten, or one digit has not enough images.
    """
    if count == 0:
        return None
    if count >= len(digits.train_labels):
        return digits.train_labels
    order = np.random.default_rng(seed).permutation(len(digits.train_labels))
    of_each = [order[digits.train_labels[order] == k][: count // 10] for k in range(10)]
    if count % 10 or min(map(len, of_each)) < count // 10:
        raise InvalidInput(
            "--labels must be a multiple of 10 with as many images of each digit, or all of "
            f"{len(digits.train_labels):,}, got {count:,}"
        )
    labels = np.full(len(digits.train_labels), -1)
    chosen = np.concatenate(of_each)
    labels[chosen] = digits.train_labels[chosen]
    return labels


def train(
    model: CategoricalAutoencoder,
    digits: Dataset,
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
            digits.train_images,
            labels=labels,
            test_images=digits.test_images,
            epochs=1,
            batch_size=batch_size,
        )


def error_rate(
    model: CategoricalAutoencoder, digits: Dataset, images: Any, labels: Any, labelled: int
) -> float:
    """The share of images whose category is not named after their label.

    With labels, category k is digit k. Without, each category is named after its surest held-out
    image.
    """
    names = np.arange(model.categories)
    if not labelled:
        names = metrics.cluster_names(
            -model.other_probability(digits.test_images), digits.test_labels
        )
    return float(np.mean(names[model.classify(images)] != labels))


def figures(run: Run) -> dict[str, Any]:
    """The figures of a run, by file name."""
    plots, model, images = import_plots(), run.model, run.dataset.test_images
    drawn = {
        "losses.png": plots.losses(run.history),
        "samples.png": plots.samples(model),
        "reconstructions.png": plots.reconstructions(model, images),
        "style.png": plots.styles(model, images),
        "clusters.png": plots.clusters(model, images),
    }
    if model.config["head_distance"]:
        drawn["plane.png"] = plots.plane(model, images, run.dataset.test_labels)
    return drawn


if __name__ == "__main__":
    launch(main)
