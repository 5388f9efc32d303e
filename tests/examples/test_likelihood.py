"""likelihood.py: which images train, choose and are scored; the schedule; that it continues."""

from contextlib import suppress

import likelihood
import numpy as np
import pytest

import npaae
from npaae import InvalidInput, backend, metrics
from npaae.experiment import locked
from npaae.training import train

from ..strict_device import device


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(likelihood, "TRAINED", 200)
    monkeypatch.setattr(likelihood, "HIDDEN", (20, 20))


@pytest.fixture
def main(monkeypatch, digits, tmp_path):
    """Runs the program on the few digits, with further arguments."""

    def run(*arguments):
        arguments = ("--data-dir", digits, "--out", tmp_path / "models", *arguments)
        monkeypatch.setattr("sys.argv", ["likelihood.py", *map(str, arguments)])
        likelihood.main()

    return run


@pytest.fixture
def epochs_trained(monkeypatch):
    """Makes each epoch two digits long; for each, the learning rates and the parameters it left."""
    epochs = []

    def noting(model, images, **_):
        rates = [adam.learning_rate for adam in model.adams().values()]
        records = list(train(model, images[:2], test_images=images[:2], epochs=1))
        epochs.append((rates, model.theta.copy()))
        return records

    monkeypatch.setattr(npaae, "train", noting)
    return epochs


@pytest.mark.usefixtures("epochs_trained")
def test_each_seed_has_its_own_samples_and_the_spread_is_that_of_a_sample(
    main, monkeypatch, capsys
):
    def sample(model, n, *, seed):
        seeds.append(seed)
        return np.zeros((n, 784))

    seeds, scores = [], iter([1.0, 3.0, 9.0])
    monkeypatch.setattr(npaae.AdversarialAutoencoder, "sample", sample)
    monkeypatch.setattr(metrics, "parzen", lambda *_: metrics.Parzen(next(scores), 0.0, 0.1))
    main("--epochs", 1, "--seeds", 3, 4)
    assert seeds == [3, 4]
    assert "2.0 ± 1.4 " in capsys.readouterr().out


@pytest.mark.slow
def test_it_scores_a_model_per_seed_and_the_training_images(main, tmp_path, capsys):
    main("--epochs", 1, "--seeds", 3, 4)
    lines = [line.split(":") for line in capsys.readouterr().out.splitlines()]
    names = ["seed 3", "seed 4", "2 seeds", "training images in place of samples"]
    assert [name for name, _ in lines] == names
    one, other, both, _ = (float(score.split("±")[0]) for _, score in lines)
    assert both == pytest.approx((one + other) / 2, abs=0.1)
    assert {path.name for path in (tmp_path / "models").glob("*.npz")} == {
        f"1-epochs-seed-{seed}{what}.npz" for seed in (3, 4) for what in ("", "-average")
    }


@pytest.mark.slow
@pytest.mark.parametrize("saves", [1, 2, 6, 7])  # of the average and of the model, in turn
def test_a_model_that_was_stopped_continues_as_if_it_never_had(
    digits, tmp_path, monkeypatch, saves
):
    digits = npaae.data.mnist(digits)
    whole = likelihood.trained(digits, 4, 0, tmp_path / "whole.npz")
    save, saved = npaae.AdversarialAutoencoder.save, []

    def save_and_stop(model, path):
        save(model, path)
        saved.append(path)
        if len(saved) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(npaae.AdversarialAutoencoder, "save", save_and_stop)
        likelihood.trained(digits, 4, 0, tmp_path / "stopped.npz")
    assert len(saved) == saves
    stopped = likelihood.trained(digits, 4, 0, tmp_path / "stopped.npz")
    assert stopped.epoch == 4
    np.testing.assert_array_equal(stopped.theta, whole.theta)


def test_each_set_of_images_has_its_own_part(main, digits, monkeypatch):
    dataset, trained, scored = npaae.data.mnist(digits), [], []

    def note_training(model, images, **_):
        trained.append(images)
        return train(model, images[:2], test_images=images[:2], epochs=1)

    def note_scoring(*sets):
        scored.append(sets)
        return metrics.Parzen(0.0, 0.0, 0.1)

    monkeypatch.setattr(npaae, "train", note_training)
    monkeypatch.setattr(metrics, "parzen", note_scoring)
    main("--epochs", 1, "--seeds", 0)
    pixels = dataset.train_images.reshape(-1, 784) / 255
    np.testing.assert_array_equal(trained[0], dataset.train_images[:200])
    (test, held_out, samples, _), (test_again, held_out_again, yardstick, _) = scored
    for images in (test, test_again):
        np.testing.assert_array_equal(images, dataset.test_images.reshape(-1, 784) / 255)
    for images in (held_out, held_out_again):
        np.testing.assert_array_equal(images, pixels[200:])
    np.testing.assert_array_equal(yardstick, pixels[:200])
    assert samples.shape == (10_000, 784)


def test_the_model_is_the_papers(tmp_path, monkeypatch):
    monkeypatch.undo()
    model = likelihood.saved_or_new(tmp_path / "model.npz", seed=0)
    assert (model.config["hidden"], model.latent) == ((1000, 1000), 8)
    assert model.prior == npaae.priors.gaussian(5.0)


def test_the_rates_fall_in_the_first_half_and_are_constant_in_the_second(
    digits, tmp_path, epochs_trained
):
    likelihood.trained(npaae.data.mnist(digits), 8, 0, tmp_path / "model.npz")
    rates = np.transpose([rates for rates, _ in epochs_trained])
    left = np.array([1, 0.75, 0.5, 0.25, 0.4, 0.4, 0.4, 0.4])
    expected = [5e-4 * left, 5e-4 * np.sqrt(left), 2e-4 * np.sqrt(left)]
    np.testing.assert_allclose(rates, expected)


def test_the_average_is_of_the_second_half_and_forgets_beyond_its_horizon(
    digits, tmp_path, monkeypatch, epochs_trained
):
    monkeypatch.setattr(likelihood, "HORIZON", 2)
    average = likelihood.trained(npaae.data.mnist(digits), 6, 0, tmp_path / "model.npz")
    *_, fourth, fifth, sixth = (theta.astype(np.float64) for _, theta in epochs_trained)
    expected = ((fourth + fifth) / 2 + sixth) / 2
    np.testing.assert_allclose(average.theta, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_it_trains_and_continues_on_the_given_backend(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "_cupy_on_a_gpu", lambda: device)
    for epochs in (1, 2):
        average = likelihood.trained(
            npaae.data.mnist(digits), epochs, 0, tmp_path / "model.npz", "cupy"
        )
        assert (average.xp, average.epoch) == (device, epochs)


@pytest.mark.parametrize("missing", ["model.npz", "model-average.npz"])
def test_an_average_of_another_run_is_refused(digits, tmp_path, epochs_trained, missing):
    dataset = npaae.data.mnist(digits)
    likelihood.trained(dataset, 2, 0, tmp_path / "model.npz")
    (tmp_path / missing).unlink()
    with pytest.raises(InvalidInput, match="not of one run"):
        likelihood.trained(dataset, 2, 0, tmp_path / "model.npz")


def test_what_a_killed_run_left_half_written_is_removed(digits, tmp_path, epochs_trained):
    for left in (".model.npz.1.partial", ".model-average.npz.1.partial", ".other.npz.1.partial"):
        (tmp_path / left).write_bytes(b"half")
    likelihood.trained(npaae.data.mnist(digits), 1, 0, tmp_path / "model.npz")
    kept = {"model.npz", "model-average.npz", ".other.npz.1.partial"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_one_model_is_not_trained_by_two_programs_at_once(main, tmp_path, epochs_trained):
    (tmp_path / "models").mkdir()
    lock = locked(tmp_path / "models" / "1-epochs-seed-0.lock")
    with lock, pytest.raises(InvalidInput, match="in use"):
        main("--epochs", 1, "--seeds", 0)
    assert not epochs_trained


def test_too_few_digits_are_refused(main, monkeypatch):
    monkeypatch.setattr(likelihood, "TRAINED", 50_000)
    with pytest.raises(InvalidInput, match="full MNIST"):
        main()


def test_a_file_of_another_model_is_refused(tmp_path):
    npaae.AdversarialAutoencoder(hidden=(4,)).save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match="another model"):
        likelihood.trained(None, 1, 0, tmp_path / "model.npz")


@pytest.mark.parametrize(("width", "edge"), [(0.1, True), (0.105, False), (0.25, True)])
def test_a_width_at_the_edge_of_those_tried_is_said_to_be_there(width, edge):
    assert ("edge" in likelihood.described(metrics.Parzen(1.0, 2.0, width))) == edge
