"""Put finished runs that differ in their seed alone into one table: mean and standard deviation of every measure, in Markdown.

Each is measured as --evaluate does it; half a minute a run of 60,000 images on two cores.
"""

from pathlib import Path

import numpy as np

from npaae import command_line, experiment, metrics
from npaae.errors import InvalidInput


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="folders of finished runs")
    command_line.add_source(parser, sample=False)
    flags = parser.parse_args()

    columns, models = [], []
    for folder in flags.runs:
        name, model, dataset = experiment.reopen(folder, flags.data_dir)
        models.append((name, model.epoch, model.config | {"seed": None}))
        if models[-1] != models[0]:
            raise InvalidInput(f"{folder} and {flags.runs[0]} differ in more than their seeds; name runs of one kind")
        columns.append(measures(model, dataset, experiment.read_history(folder / experiment.LOSSES, model)))

    seeds = f"{len(columns)} seed{'' if len(columns) == 1 else 's'}"
    print(f"| {name}, {model.epoch} epochs, {seeds} | mean ± standard deviation |\n|---|---|")
    for measure in columns[0]:
        values = np.array([column[measure] for column in columns])  # (seeds,) or (seeds, how many numbers the measure has)
        mean, std = (np.atleast_1d(summary) for summary in (values.mean(axis=0), values.std(axis=0)))
        print(f"| {measure} | {', '.join(f'{m:.3f} ± {s:.3f}' for m, s in zip(mean, std, strict=True))} |")


def measures(model, dataset, history):
    """What the table has of one run, each measure a number or an array of numbers."""
    found, last = metrics.report(model, dataset), history[-1]
    above_diagonal = np.triu_indices(model.latent, 1)
    return {
        "reconstruction loss, training": last.reconstruction,
        "discriminator's loss (balance at 1.386)": last.discriminator,
        "generator's loss (balance at 0.693)": last.generator,
        "reconstruction BCE, test set (nats a pixel)": found.reconstruction,
        "encoded test set, mean (prior: 0)": found.code_mean,
        f"encoded test set, variances (prior: {found.prior_covariance[0, 0]:.0f})": np.diag(found.code_covariance),
        "encoded test set, covariance (prior: 0)": found.code_covariance[above_diagonal],
        "energy distance of codes and prior": found.energy.distance,
        "what chance stays below in 95 of 100": found.energy.threshold,
        "10-nearest-neighbour accuracy (%)": 100 * found.neighbour_accuracy,
        "Parzen log-likelihood (nats an image)": found.parzen.mean,
    }


if __name__ == "__main__":
    command_line.launch(main)
