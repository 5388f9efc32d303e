"""Put finished runs that differ in their seed alone into one table: mean and standard deviation of every measure, in Markdown.

Each is measured as --evaluate does it; some forty seconds a run of 60,000 images on two cores.
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

    columns, kinds, seeds = [], [], []
    for folder in flags.runs:
        name, model, dataset = experiment.reopen(folder, flags.data_dir)
        config = experiment.read_config(folder)
        kinds.append((name, model.epoch, model.config | {"seed": None}, config["data_sha256"], config["flags"]["batch_size"]))
        if kinds[-1] != kinds[0] or model.seed in seeds:
            raise InvalidInput(f"{folder} must differ from {flags.runs[0]} in its seed and in nothing else; name another run")
        if not model.epoch:
            raise InvalidInput(f"{folder} holds a run of no whole epoch; go on with it by --resume")
        seeds.append(model.seed)
        columns.append(measures(model, dataset, experiment.read_history(folder / experiment.LOSSES, model)))

    several = len(columns) > 1
    spread = " ± standard deviation" if several else ""
    print(f"| {name}, {model.epoch} epochs, seeds {', '.join(map(str, seeds))} | mean{spread} |\n|---|---|")
    for measure in columns[0]:
        values = np.array([column[measure] for column in columns])  # (seeds,) or (seeds, how many numbers the measure has)
        values = values.reshape(len(columns), -1)
        numbers = [f"{v.mean():.3f}" + (f" ± {v.std(ddof=1):.3f}" if several else "") for v in values.T]
        print(f"| {measure} | {', '.join(numbers)} |")


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
