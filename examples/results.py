"""Print a table of finished runs that differ only in their seeds: mean and standard deviation.

For a single run it shows the numbers themselves, as `mnist.py --evaluate` does. A run on 60,000
images takes about forty seconds on two cores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np

from npaae import AdversarialAutoencoder, InvalidInput, Record, metrics
from npaae.data import Dataset
from npaae.experiment import Parser, launch, read_history, reopen


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type="folder", nargs="+", metavar="RUN_DIR", help="a finished run")
    parser.add_data_flags()
    flags = parser.parse_args()
    print_results(flags.runs, flags.data_dir)


def print_results(folders: Sequence[Path], data_dir: Path | None, **where: Any) -> None:
    """Print the table. data_dir, where: the further arguments of `reopen`."""
    columns, kinds, seeds = [], [], []
    for folder in folders:
        config, model, dataset = reopen(folder, data_dir, **where)
        if not model.epoch:
            raise InvalidInput(f"{folder} holds a run without a whole epoch; --resume continues it")
        settings = model.config | {"seed": None, "batch_size": config["batch_size"]}
        kinds.append((model.epoch, settings, config["data_sha256"]))
        if kinds[-1] != kinds[0] or model.seed in seeds:
            raise InvalidInput(
                f"{folder} must differ from {folders[0]} in its seed, and only in it"
            )
        seeds.append(model.seed)
        columns.append(measures(model, dataset, read_history(folder, model)[-1]))

    several = len(folders) > 1
    seed = f"seed{'s' if several else ''} {', '.join(map(str, seeds))}"
    heading = "mean ± standard deviation" if several else "value"
    print(f"| {config['dataset']}, {model.epoch} epochs, {seed} | {heading} |\n|---|---|")
    for measure in columns[0]:
        values = np.array([column[measure] for column in columns]).reshape(len(columns), -1)
        spread = [f" ± {v.std(ddof=1):.3f}" if several else "" for v in values.T]
        cells = [f"{v.mean():.3f}{s}" for v, s in zip(values.T, spread, strict=True)]
        print(f"| {measure} | {', '.join(cells)} |")


def measures(model: AdversarialAutoencoder, dataset: Dataset, last: Record) -> dict[str, Any]:
    """The rows of one run, each a number or a vector. last: the record of its last epoch."""
    found, off_diagonal = metrics.measure(model, dataset), np.triu_indices(model.latent, 1)
    rows: dict[str, Any] = {
        "reconstruction loss, training": last.reconstruction,
        "discriminator loss (1.386 if codes and prior look alike)": last.discriminator,
        "generator loss (0.693 if codes and prior look alike)": last.generator,
        "reconstruction BCE, test set (nats a pixel)": found.reconstruction,
        "codes of the test set, mean": found.code_mean,
        "prior, mean": found.prior_mean,
        "codes of the test set, variances": np.diag(found.code_covariance),
        "prior, variances": np.diag(found.prior_covariance),
        "codes of the test set, covariances": found.code_covariance[off_diagonal],
        "prior, covariances": found.prior_covariance[off_diagonal],
        "energy distance of codes and prior": found.energy.distance,
        "95 % permutation threshold of that": found.energy.threshold,
    }
    if found.neighbour_accuracy is not None:
        rows["10-nearest-neighbour accuracy (%)"] = 100 * found.neighbour_accuracy
    tried = f"{metrics.WIDTHS[0]} … {metrics.WIDTHS[-1]} tried"
    scores = {"samples": found.parzen, "training images": found.training_parzen}
    for what, score in scores.items():
        rows[f"Parzen log-likelihood under {what} (nats an image)"] = score.mean
        rows[f"standard error of that, {what}"] = score.error
        rows[f"width of the Parzen windows, {what} ({tried})"] = score.width
    return {label: numbers for label, numbers in rows.items() if np.size(numbers)}


if __name__ == "__main__":
    launch(main)
