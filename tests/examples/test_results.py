"""results.py: the table of runs that differ only in their seeds."""

import re

import numpy as np
import pytest

import npaae
from npaae import metrics
from npaae.experiment import Run

from ..running import assert_refused, rows, run_here

ROW = re.compile(r"^\| (?P<measure>.*) \| (?P<values>[-0-9., ±]+) \|$")


@pytest.fixture(scope="module")
def small_run(digits, tmp_path_factory):
    """Trains a small model for two epochs, with further flags; its folder."""

    def trained(*flags):
        folder = tmp_path_factory.mktemp("results") / "run"
        small = ("--data-dir", digits, "--epochs", 2, "--hidden", 8, "--out", folder)
        assert run_here(*small, *flags).returncode == 0
        return folder

    return trained


@pytest.fixture(scope="module")
def two_runs(small_run):
    return [small_run("--seed", seed) for seed in (1, 2)]


def table(process):
    assert (process.returncode, process.stderr) == (0, "")
    found = (ROW.match(line) for line in process.stdout.splitlines())
    return {m["measure"]: re.findall(r"-?[0-9.]+", m["values"]) for m in found if m}


def test_the_table_has_mean_and_standard_deviation_over_the_runs(two_runs):
    process = run_here(*two_runs, example="results.py")
    heading = "| digits, 2 epochs, seeds 1, 2 | mean ± standard deviation |\n|---|---|\n"
    assert process.stdout.startswith(heading)
    losses = [float(rows(folder)[-1]["reconstruction"]) for folder in two_runs]
    mean_and_deviation = [f"{np.mean(losses):.3f}", f"{np.std(losses, ddof=1):.3f}"]
    assert table(process)["reconstruction loss, training"] == mean_and_deviation


def test_each_measure_has_a_row_under_its_own_name(two_runs, digits):
    model = npaae.AdversarialAutoencoder.load(two_runs[0] / "model.npz")
    last, report = rows(two_runs[0])[-1], metrics.measure(model, npaae.data.mnist(digits))
    codes, prior, energy = report.code_covariance, report.prior_covariance, report.energy
    expected = [(f"{name} loss", float(last[name])) for name in npaae.Record._fields[1:4]]
    expected += [("BCE, test set", report.reconstruction)]
    expected += [
        ("codes of the test set, mean", report.code_mean),
        ("prior, mean", report.prior_mean),
    ]
    expected += [("variances", np.diag(codes)), ("prior, variances", np.diag(prior))]
    expected += [("covariances", codes[0, 1]), ("prior, covariances", prior[0, 1])]
    expected += [("energy distance", energy.distance), ("threshold", energy.threshold)]
    expected += [("neighbour accuracy (%)", 100 * report.neighbour_accuracy)]
    for score in (report.parzen, report.training_parzen):
        expected += zip(("Parzen log-likelihood", "standard error", "width"), score, strict=True)
    found = table(run_here(two_runs[0], example="results.py"))
    for (name, values), (words, numbers) in zip(found.items(), expected, strict=True):
        assert words in name
        assert values == [f"{number:.3f}" for number in np.atleast_1d(numbers)]


@pytest.mark.parametrize("flags", [("--seed", 1), ("--seed", 3, "--batch-size", 50)], ids=str)
def test_runs_that_do_not_differ_in_their_seed_and_only_in_it_are_refused(
    two_runs, small_run, flags
):
    process = run_here(two_runs[0], small_run(*flags), example="results.py")
    assert_refused(process, 2, "must differ", two_runs[0], "seed")


def test_a_folder_without_a_run_is_refused(tmp_path):
    assert_refused(run_here(tmp_path, example="results.py"), 2, tmp_path, "config.json")


def test_a_run_without_an_epoch_is_refused(tmp_path):
    model, sample = npaae.AdversarialAutoencoder(hidden=(4,)), npaae.data.mnist_sample()
    with Run(tmp_path, "MNIST", model, sample, epochs=1, batch_size=100):
        pass
    assert_refused(run_here(tmp_path, example="results.py"), 2, tmp_path, "without a whole epoch")
