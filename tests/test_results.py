import re

import numpy as np
import pytest

import npaae
from npaae import metrics

from .running import rows, run_here

ROW = re.compile(r"^\| (?P<measure>.*) \| (?P<values>[-0-9., ±]+) \|$")


@pytest.fixture(scope="module")
def two_runs(digits, tmp_path_factory):
    folders = [tmp_path_factory.mktemp("results") / f"seed-{seed}" for seed in (1, 2)]
    for seed, folder in enumerate(folders, 1):
        small = ["--epochs", 2, "--hidden", 8, "--seed", seed]
        assert run_here("--data-dir", digits, *small, "--out", folder).returncode == 0
    return folders


def table(process):
    found = (ROW.match(line) for line in process.stdout.splitlines())
    return {match["measure"]: re.findall(r"-?[0-9.]+", match["values"]) for match in found if match}


def test_the_table_has_mean_and_standard_deviation_over_the_runs(two_runs):
    process = run_here(*two_runs, example="results.py")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("| mnist, 2 epochs, seeds 1, 2 | mean ± standard deviation |\n|---|---|\n")
    losses = [float(rows(folder)[-1]["reconstruction"]) for folder in two_runs]
    assert table(process)["reconstruction loss, training"] == [f"{np.mean(losses):.3f}", f"{np.std(losses, ddof=1):.3f}"]


def test_each_measure_stands_under_its_own_name(two_runs, digits):
    model, last = npaae.AdversarialAutoencoder.load(two_runs[0] / "model.npz"), rows(two_runs[0])[-1]
    report = metrics.report(model, npaae.data.mnist(digits))
    variances, covariance = np.diag(report.code_covariance), report.code_covariance[0, 1]
    expected = {
        "reconstruction loss, training": [float(last["reconstruction"])],
        "discriminator's loss (balance at 1.386)": [float(last["discriminator"])],
        "generator's loss (balance at 0.693)": [float(last["generator"])],
        "reconstruction BCE, test set (nats a pixel)": [report.reconstruction],
        "encoded test set, mean (prior: 0)": report.code_mean,
        "encoded test set, variances (prior: 25)": variances,
        "encoded test set, covariance (prior: 0)": [covariance],
        "energy distance of codes and prior": [report.energy.distance],
        "what chance stays below in 95 of 100": [report.energy.threshold],
        "10-nearest-neighbour accuracy (%)": [100 * report.neighbour_accuracy],
        "Parzen log-likelihood (nats an image)": [report.parzen.mean],
    }
    found = table(run_here(two_runs[0], example="results.py"))
    assert found == {measure: [f"{value:.3f}" for value in values] for measure, values in expected.items()}


def test_runs_that_differ_in_more_than_their_seeds_have_no_common_table(two_runs, finished):
    process = run_here(two_runs[0], finished[0], example="results.py")
    assert process.returncode == 2
    assert "must differ from" in process.stderr


def test_a_run_counts_once(two_runs):
    process = run_here(two_runs[0], two_runs[0], example="results.py")
    assert process.returncode == 2
    assert "in its seed and in nothing else" in process.stderr


def test_runs_of_other_batches_have_no_common_table(two_runs, digits, tmp_path):
    flags = ["--epochs", 2, "--hidden", 8, "--seed", 3, "--batch-size", 50]
    assert run_here("--data-dir", digits, *flags, "--out", tmp_path).returncode == 0
    assert run_here(two_runs[0], tmp_path, example="results.py").returncode == 2


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    process = run_here(tmp_path, example="results.py")
    assert process.returncode == 2
    assert process.stderr == (
        f"results.py: error: {tmp_path} holds no run, for it has no config.json; name the folder of one, or start one there\n"
    )
