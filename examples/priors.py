"""Impose one distribution after another on the code, a model for each, and draw what came of them.

Any distribution that can be drawn from will do, whether its density is known or not. Two of these have parts, and are imposed
a second time with the discriminator told the labels (Makhzani et al., section 2.3): each digit then goes to its own part.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

import npaae
from npaae import command_line, experiment, metrics
from npaae.errors import InvalidInput
from npaae.files import replacing
from npaae.priors import gaussian, gaussian_mixture, swiss_roll, uniform_disc, uniform_square

# A shape with gaps is met only where reconstruction does not pull ahead of the adversary; and where the labels say which part
# a digit goes to, its code must cross the gaps, which takes larger steps.
ALIKE = {"lr_reconstruction": 2e-4, "lr_regularization": 2e-4}
TOLD = {"classes": 10, "lr_reconstruction": 5e-4, "lr_regularization": 1e-3}
MODELS = {
    "Gaussian": {"prior": gaussian(), **ALIKE},
    "disc": {"prior": uniform_disc(), **ALIKE},
    "square": {"prior": uniform_square(), **ALIKE},
    "ten Gaussians": {"prior": gaussian_mixture(), **ALIKE},
    "ten Gaussians,\nlabels told": {"prior": gaussian_mixture(), **TOLD},
    "Swiss roll": {"prior": swiss_roll(), **ALIKE},
    "Swiss roll,\nlabels told": {"prior": swiss_roll(), **TOLD},
}


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--epochs", type=command_line.whole(1), default=40, help="of each model (default: %(default)s)")
    parser.add_argument("--seed", type=command_line.whole(0), default=0, help="of each model (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("priors.png"), help="the figure (default: %(default)s)")
    command_line.add_source(parser, sample=True)
    flags = parser.parse_args()
    plots = experiment.import_plots()
    if flags.out.exists():
        raise InvalidInput(f"{flags.out} exists already; move it away, or name another file with --out")
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    digits = command_line.mnist(flags)

    models = {}
    for name, arguments in MODELS.items():
        models[name] = model = npaae.AdversarialAutoencoder(**arguments, seed=flags.seed)
        labels = digits.train_labels if model.classes else None
        epochs = npaae.train(model, digits.train_images, labels=labels, test_images=digits.test_images, epochs=flags.epochs)
        title = name.replace("\n", " ")
        *_, last = tqdm(epochs, desc=f"{title:27}", total=flags.epochs, unit="epoch")
        codes = model.encode(digits.test_images)
        distance, threshold, _ = metrics.energy_test(codes, model.sample_prior(len(codes), seed=1))
        found = (
            f"reconstruction {last.test_reconstruction:.4f}, energy distance {distance:.3f} (by chance below {threshold:.3f})"
        )
        if model.classes:
            found += f", {100 * in_their_part(model, codes, digits.test_labels):.0f} % of the digits in their own part"
        print(f"{title:27} {found}", flush=True)
        # After every model, so that it may be looked at, and the rest stopped, at any time.
        with replacing(flags.out) as file, plots.style.context("default"):
            plots.priors(models, digits.test_images, digits.test_labels).savefig(file, format="png", dpi=100)
    print(f"Drawn in {flags.out}")


def in_their_part(model: npaae.AdversarialAutoencoder, codes: np.ndarray, labels: np.ndarray) -> float:
    """The share of codes whose nearest draws from the prior, by the vote of ten, are of the part that is their label's."""
    position = np.random.default_rng(0).random(20_000)
    draws = model.prior.at(np.random.default_rng(1), position)
    return metrics.neighbour_accuracy(draws, np.floor(position * model.classes).astype(int), codes, labels)


if __name__ == "__main__":
    command_line.launch(main)
