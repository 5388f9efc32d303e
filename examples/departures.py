"""Print the effect of each departure from the report's published setting, from finished runs.

The runs must be of `report.py`, on one data set and with the same number of epochs: some as its
author ran it, and others with --departure, --batch-size, --hidden, --latent or --prior-std. Each
row has the means over the seeds of one setting and, after ±, the standard deviations. "codes' std"
is that of the test set's codes, divided by that of the prior.
"""

from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np
from report import CODES, DEPARTURES, LOSSES  # in the same folder

from npaae import InvalidInput, metrics
from npaae.experiment import Parser, launch, read_config, read_history, reopen


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type="folder", nargs="+", metavar="RUN_DIR", help="a finished run")
    parser.add_data_flags()
    flags = parser.parse_args()
    rows: dict[str, list[Any]] = {}
    kinds, seen = set(), set()
    for folder in flags.runs:
        config = read_config(folder)
        departure, name = (config["settings"].get(key) for key in ("departure", "data"))
        if departure not in DEPARTURES or name not in CODES:
            raise InvalidInput(
                f"{folder} must hold a run of report.py, got one of {config['name']}"
            )
        kind = DEPARTURES[departure]
        _, model, dataset = reopen(folder, flags.data_dir, kind=kind)
        kinds.add((config["data_sha256"], model.epoch))
        if len(kinds) > 1:
            raise InvalidInput(f"{folder} must have the data set and the epochs of the other runs")
        latent, std = CODES[name]
        setting = {  # of the run, and as published
            "departure": (departure, "none"),
            "batch size": (config["batch_size"], 256),
            "hidden": (model.config["hidden"], (1000, 1000)),
            "latent": (model.latent, latent),
            "prior's std": (getattr(model.prior, "std", None), std),
        }
        differs = [f"{k} {own}" for k, (own, published) in setting.items() if own != published]
        last, n = read_history(folder, model)[-1], len(dataset.test_images)
        draws = model.sample_prior(n, seed=1)
        energy = metrics.energy_test(model.encode(dataset.test_images), draws).distance
        losses = [getattr(last, loss) for loss in LOSSES]
        width = np.mean(last.code_std) / draws.std()
        label, seed = ", ".join(differs) or "as published", model.config["seed"]
        if (label, seed) in seen:
            raise InvalidInput(f"{folder} must have a seed that no other run of its setting has")
        seen.add((label, seed))
        rows.setdefault(label, []).append([*losses, last.test_reconstruction, energy, width])

    columns = [*LOSSES, "test BCE", "energy distance", "codes' std"]
    print(f"| setting | seeds | {' | '.join(columns)} |\n|---|--:|{'--:|' * len(columns)}")
    for label, values in rows.items():
        cells = [f"{mean:.4f}" for mean in np.mean(values, axis=0)]
        if len(values) > 1:
            spreads = np.std(values, axis=0, ddof=1)
            cells = [f"{cell} ± {s:.4f}" for cell, s in zip(cells, spreads, strict=True)]
        print(f"| {label} | {len(values)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    launch(main)
