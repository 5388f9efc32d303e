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
    assert process.stdout.startswith("| mnist, 2 epochs, 2 seeds | mean ± standard deviation |\n|---|---|\n")
    losses = [float(rows(folder)[-1]["reconstruction"]) for folder in two_runs]
    assert table(process)["reconstruction loss, training"] == [f"{np.mean(losses):.3f}", f"{np.std(losses):.3f}"]


def test_each_measure_is_the_one_that_evaluate_prints(two_runs, digits):
    dataset, model = npaae.data.mnist(digits), npaae.AdversarialAutoencoder.load(two_runs[0] / "model.npz")
    report = metrics.report(model, dataset)
    found = table(run_here(two_runs[0], example="results.py"))
    assert found["energy distance of codes and prior"] == [f"{report.energy.distance:.3f}", "0.000"]
    assert found["10-nearest-neighbour accuracy (%)"] == [f"{100 * report.neighbour_accuracy:.3f}", "0.000"]
    assert found["encoded test set, mean (prior: 0)"][::2] == [f"{mean:.3f}" for mean in report.code_mean]
    assert found["encoded test set, covariance (prior: 0)"][0] == f"{report.code_covariance[0, 1]:.3f}"


def test_runs_that_differ_in_more_than_their_seeds_have_no_common_table(two_runs, finished):
    process = run_here(two_runs[0], finished[0], example="results.py")
    assert process.returncode == 2
    assert "differ in more than their seeds; name runs of one kind" in process.stderr


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    process = run_here(tmp_path, example="results.py")
    assert process.returncode == 2
    assert process.stderr == (
        f"results.py: error: {tmp_path} holds no run, for it has no config.json; name the folder of one, or start one there\n"
    )
