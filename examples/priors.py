"""Train a model for each of several priors, and draw them.

Any distribution that can be sampled will do, whether or not its density is known. Two of these have
parts, and each gets a second model whose discriminator is told the labels (Makhzani et al., section
2.3): each class then goes to its own part.
"""

from pathlib import Path
from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np
from semi_supervised import without_a_sixth  # in the same folder
from tqdm import tqdm

import npaae
from npaae import InvalidInput, metrics
from npaae.checkpoint import replacing
from npaae.data import usable
from npaae.experiment import Parser, import_plots, launch, load_data
from npaae.priors import gaussian, gaussian_mixture, swiss_roll, uniform_disc, uniform_square

# The codes fill a shape with gaps only if reconstruction does not outrun the adversary. If labels
# say which part an image goes to, its code must cross the gaps, which takes larger steps.
ALIKE = {"lr_reconstruction": 2e-4, "lr_regularization": 2e-4}
TOLD = {"lr_reconstruction": 5e-4, "lr_regularization": 1e-3}


def models_for(classes: int) -> dict[str, dict[str, Any]]:
    """The arguments of each model by its title. classes: of the images, 0 without labels."""
    mixture = gaussian_mixture(components=classes or 10)
    many = f"{mixture.components} Gaussian{'' if mixture.components == 1 else 's'}"
    told = TOLD | {"classes": classes}
    models = {
        "Gaussian": {"prior": gaussian(), **ALIKE},
        "disc": {"prior": uniform_disc(), **ALIKE},
        "square": {"prior": uniform_square(), **ALIKE},
        many: {"prior": mixture, **ALIKE},
        f"{many},\nwith labels": {"prior": mixture, **told},
        "Swiss roll": {"prior": swiss_roll(), **ALIKE},
        "Swiss roll,\nwith labels": {"prior": swiss_roll(), **told},
    }
    return {name: model for name, model in models.items() if model.get("classes") != 0}


def main() -> None:
    parser = Parser(description=__doc__)
    shown = "%(default)s by default"
    parser.add_argument("--epochs", type="positive integer", default=40, help=f"per model; {shown}")
    parser.add_argument("--seed", type="non-negative integer", default=0, help=shown)
    parser.add_argument("--out", type=Path, default=Path("priors.png"), help=f"the figure; {shown}")
    about = "measure on a sixth of the training images, on which to choose settings"
    parser.add_argument("--held-out", action="store_true", help=about)
    parser.add_data_flags(sample=True)
    flags = parser.parse_args()
    plots = import_plots()
    if flags.out.exists():
        raise InvalidInput(f"{flags.out} exists; move it away, or name another file with --out")
    images = load_data("MNIST", flags.data_dir, sample=flags.sample)
    images = usable(images, visible := images.train_images[0].size)
    if flags.held_out:
        images = without_a_sixth(images)
    flags.out.parent.mkdir(parents=True, exist_ok=True)

    which = "held-out" if flags.held_out else "test"
    print(f"Measured on {len(images.test_images):,} {which} images")
    models = {}
    told = images.train_labels is not None and images.test_labels is not None
    for name, arguments in models_for(len(images.label_names) if told else 0).items():
        options = {"visible": visible, "seed": flags.seed}
        models[name] = model = npaae.AdversarialAutoencoder(**arguments, **options)
        records = npaae.train(
            model,
            images.train_images,
            labels=images.train_labels if model.classes else None,
            test_images=images.test_images,
            epochs=flags.epochs,
        )
        title = f"{name:27}".replace("\n", " ")
        *_, last = tqdm(records, desc=title, total=flags.epochs, unit="epoch")
        codes = model.encode(images.test_images)
        distance, threshold, _ = metrics.energy_test(codes, model.sample_prior(len(codes), seed=1))
        print(
            f"{title} reconstruction {last.test_reconstruction:.4f}, "
            f"energy distance {distance:.3f} (95 % permutation threshold {threshold:.3f})",
            end="",
        )
        if model.classes:
            share = in_their_part(model, codes, images.test_labels)
            print(f", {100 * share:.0f} % of the images in their own part", end="")
        print(flush=True)
        # After every model, so that it can be seen, and the rest stopped, at any time.
        with replacing(flags.out) as file, plots.style.context("default"):
            tested = images.test_images, images.test_labels, images.label_names
            figure = plots.priors(models, *tested, size=images.image_size)
            figure.savefig(file, format="png", dpi=100)
    print(f"Drawn in {flags.out}")


def in_their_part(model: npaae.AdversarialAutoencoder, codes: Any, labels: Any) -> float:
    """The share of codes that lie in their label's part, by a vote of the ten nearest draws."""
    position = np.random.default_rng(0).random(20_000)
    draws = model.prior.sample_at(np.random.default_rng(1), position)  # type: ignore[attr-defined]
    parts = np.floor(position * model.classes).astype(int)
    return metrics.neighbour_accuracy(draws, parts, codes, labels)


if __name__ == "__main__":
    launch(main)
