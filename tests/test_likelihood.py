import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import npaae
from npaae import metrics
from npaae.errors import InvalidInput
from npaae.training import train

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
        "seed 3", "seed 4", "2 seeds", "training images in place of samples",
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


def test_each_set_has_its_part_and_no_other(likelihood, digits, tmp_path, monkeypatch):
    """What is trained on, what chooses the width and what is scored, as they reach the functions that do so."""
    dataset, trained, scored = npaae.data.mnist(digits), [], []
    monkeypatch.setattr(
        npaae,
        "train",
        lambda model, images, **_: trained.append(images) or train(model, images[:2], test_images=images[:2], epochs=1),
    )
    monkeypatch.setattr(likelihood.metrics, "parzen", lambda *sets: scored.append(sets) or metrics.Parzen(0.0, 0.0, 0.1))
    monkeypatch.setattr(
        sys, "argv", ["likelihood.py", "--data-dir", str(digits), "--epochs", "1", "--seeds", "0", "--out", str(tmp_path)]
    )
    likelihood.main()
    train_pixels, test_pixels = (images.reshape(-1, 784) / 255 for images in (dataset.train_images, dataset.test_images))
    np.testing.assert_array_equal(trained[0], dataset.train_images[:200])
    (test, held_out, samples, _), (test_again, held_out_again, yardstick, _) = scored
    np.testing.assert_array_equal(test, test_pixels)
    np.testing.assert_array_equal(test_again, test_pixels)
    np.testing.assert_array_equal(held_out, train_pixels[200:])
    np.testing.assert_array_equal(held_out_again, train_pixels[200:])
    np.testing.assert_array_equal(yardstick, train_pixels[:200])
    assert samples.shape == (10_000, 784)


def test_the_model_is_the_papers_and_its_rates_fall_to_nothing(likelihood, digits, tmp_path, monkeypatch):
    dataset, rates = npaae.data.mnist(digits), []

    def noting(model, images, **arguments):
        rates.append([adam.learning_rate for adam in model._adams().values()])
        return train(model, images[:2], test_images=images[:2], epochs=1)

    monkeypatch.setattr(npaae, "train", noting)
    model = likelihood.trained(dataset, 4, 0, tmp_path / "model.npz")
    assert (model.config["hidden"], model.latent, model.prior) == ((1000, 1000), 8, npaae.priors.gaussian(5.0))
    reconstruction, discriminator, generator = np.transpose(rates)
    np.testing.assert_allclose(reconstruction, [5e-4, 3.75e-4, 2.5e-4, 1.25e-4])
    np.testing.assert_allclose(discriminator, 5e-4 * np.sqrt([1, 0.75, 0.5, 0.25]))
    np.testing.assert_allclose(generator, 2e-4 * np.sqrt([1, 0.75, 0.5, 0.25]))


def test_too_few_digits_are_refused(likelihood, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(likelihood, "TRAINED", 50_000)
    monkeypatch.setattr(sys, "argv", ["likelihood.py", "--data-dir", str(digits), "--out", str(tmp_path)])
    with pytest.raises(InvalidInput, match="300 digits came, 50,000 are trained on; pass the full MNIST"):
        likelihood.main()


def test_a_file_of_another_model_is_refused(likelihood, tmp_path):
    npaae.AdversarialAutoencoder(hidden=4).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"model\.npz holds another model; move it away"):
        likelihood.trained(None, 1, 0, tmp_path / "model.npz")
