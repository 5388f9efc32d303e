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
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        f"1-epochs-seed-{seed}{what}.npz" for seed in (3, 4) for what in ("", "-average")
    }


@pytest.mark.slow
@pytest.mark.parametrize("saves", [1, 2, 6, 7])  # of the average and of the model, in turn, before it is stopped
def test_a_model_that_was_stopped_goes_on_as_if_it_never_had(likelihood, digits, tmp_path, monkeypatch, saves):
    digits = npaae.data.mnist(digits)
    whole = likelihood.trained(digits, 4, 0, tmp_path / "whole.npz")
    save, saved = npaae.AdversarialAutoencoder.save, []

    def save_and_stop(model, path):
        save(model, path)
        saved.append(path)
        if len(saved) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(npaae.AdversarialAutoencoder, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            likelihood.trained(digits, 4, 0, tmp_path / "stopped.npz")
    stopped = likelihood.trained(digits, 4, 0, tmp_path / "stopped.npz")
    assert stopped.epoch == 4
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


@pytest.fixture
def epochs_trained(monkeypatch):
    """For each epoch that the example trains, on two digits: the three learning rates, and the parameters that it leaves."""
    epochs = []

    def noting(model, images, **_):
        rates = [adam.learning_rate for adam in model._adams().values()]
        records = list(train(model, images[:2], test_images=images[:2], epochs=1))
        epochs.append((rates, model.theta.copy()))
        return records

    monkeypatch.setattr(npaae, "train", noting)
    return epochs


def test_the_model_is_the_papers(likelihood, digits, tmp_path, epochs_trained):
    model = likelihood.trained(npaae.data.mnist(digits), 1, 0, tmp_path / "model.npz")
    assert (model.config["hidden"], model.latent, model.prior) == ((1000, 1000), 8, npaae.priors.gaussian(5.0))


def test_the_rates_fall_to_nothing_in_the_first_half_and_are_constant_in_the_second(
    likelihood, digits, tmp_path, epochs_trained
):
    likelihood.trained(npaae.data.mnist(digits), 8, 0, tmp_path / "model.npz")
    reconstruction, discriminator, generator = np.transpose([rates for rates, _ in epochs_trained])
    left = [1, 0.75, 0.5, 0.25, 0.4, 0.4, 0.4, 0.4]
    np.testing.assert_allclose(reconstruction, 5e-4 * np.array(left))
    np.testing.assert_allclose(discriminator, 5e-4 * np.sqrt(left))
    np.testing.assert_allclose(generator, 2e-4 * np.sqrt(left))


def test_the_average_is_of_the_second_half_and_forgets_what_lies_beyond_its_horizon(
    likelihood, digits, tmp_path, monkeypatch, epochs_trained
):
    monkeypatch.setattr(likelihood, "HORIZON", 2)
    average = likelihood.trained(npaae.data.mnist(digits), 6, 0, tmp_path / "model.npz")
    *_, fourth, fifth, sixth = (theta.astype(np.float64) for _, theta in epochs_trained)
    np.testing.assert_allclose(average.theta, ((fourth + fifth) / 2 + sixth) / 2, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("missing", ["model.npz", "model-average.npz"])
def test_an_average_of_another_run_is_refused(likelihood, digits, tmp_path, epochs_trained, missing):
    dataset = npaae.data.mnist(digits)
    likelihood.trained(dataset, 2, 0, tmp_path / "model.npz")
    (tmp_path / missing).unlink()
    with pytest.raises(InvalidInput, match=r"model\.npz and model-average\.npz are not of one run; move both away"):
        likelihood.trained(dataset, 2, 0, tmp_path / "model.npz")


def test_too_few_digits_are_refused(likelihood, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(likelihood, "TRAINED", 50_000)
    monkeypatch.setattr(sys, "argv", ["likelihood.py", "--data-dir", str(digits), "--out", str(tmp_path)])
    with pytest.raises(InvalidInput, match="300 digits came, 50,000 are trained on; pass the full MNIST"):
        likelihood.main()


def test_a_file_of_another_model_is_refused(likelihood, tmp_path):
    npaae.AdversarialAutoencoder(hidden=4).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"model\.npz holds another model; move it away"):
        likelihood.trained(None, 1, 0, tmp_path / "model.npz")
