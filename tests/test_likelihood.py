import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import npaae
from npaae.errors import InvalidInput

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "likelihood.py"


@pytest.fixture
def likelihood(monkeypatch):
    """The example, on a few hundred digits."""
    specification = importlib.util.spec_from_file_location("likelihood", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "TRAINED", 200)
    return module


@pytest.mark.slow
def test_the_example_scores_a_model_a_seed_and_the_training_images(likelihood, digits, tmp_path, monkeypatch, capsys):
    arguments = ["--data-dir", digits, "--epochs", 1, "--seeds", 3, 4, "--out", tmp_path / "models"]
    monkeypatch.setattr(sys, "argv", ["likelihood.py", *map(str, arguments)])
    likelihood.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "seed 3", "seed 4", "2 seeds", "10,000 training images in place of samples",
    ]  # fmt: skip
    one, other, both, _ = (float(line.split(":")[1].split("±")[0]) for line in lines)
    assert both == pytest.approx((one + other) / 2, abs=0.1)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"1-epochs-seed-3.npz", "1-epochs-seed-4.npz"}


@pytest.mark.slow
def test_a_model_that_was_stopped_goes_on_as_if_it_never_had(likelihood, digits, tmp_path, monkeypatch):
    digits = npaae.data.mnist(digits)
    whole = likelihood.trained(digits, 2, 0, tmp_path / "whole.npz")
    save = npaae.AdversarialAutoencoder.save

    def save_and_stop(model, path):
        save(model, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(npaae.AdversarialAutoencoder, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            likelihood.trained(digits, 2, 0, tmp_path / "stopped.npz")
    stopped = likelihood.trained(digits, 2, 0, tmp_path / "stopped.npz")
    assert stopped.epoch == 2
    np.testing.assert_array_equal(stopped.theta, whole.theta)


def test_a_file_of_another_model_is_refused(likelihood, tmp_path):
    npaae.AdversarialAutoencoder(hidden=4).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"model\.npz holds another model; move it away"):
        likelihood.trained(None, 1, 0, tmp_path / "model.npz")
