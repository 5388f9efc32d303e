import numpy as np
import pytest

import npaae
from npaae.backend import NOISE, SHUFFLE, generator
from npaae.errors import Diverged, InvalidInput
from npaae.losses import bce_with_logits
from npaae.priors import gaussian_mixture
from npaae.training import evaluate


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


def test_there_is_one_record_an_epoch_numbered_from_one(small_model, images):
    records = list(npaae.train(small_model(), images, epochs=3, batch_size=10))
    assert [record.epoch for record in records] == [1, 2, 3]


def test_no_epochs_are_no_records_and_move_nothing(small_model, images):
    model = small_model()
    before = model.theta.copy()
    assert list(npaae.train(model, images, epochs=0)) == []
    np.testing.assert_array_equal(model.theta, before)


def test_the_losses_are_means_over_images_the_short_last_batch_included(small_model, images):
    model, by_hand = small_model(), small_model()
    (record,) = npaae.train(model, images, epochs=1, batch_size=10)
    rng, order = generator(np, 3, NOISE, 1), generator(np, 3, SHUFFLE, 1).permutation(25)
    rows = images.reshape(25, 9)[order]
    losses = [by_hand.step(batch, rng) for batch in (rows[:10], rows[10:20], rows[20:])]
    expected = np.average(losses, axis=0, weights=[10, 10, 5])
    np.testing.assert_allclose(record[1:4], expected, rtol=1e-12)
    np.testing.assert_array_equal(model.theta, by_hand.theta)


def test_each_epoch_has_noise_of_its_own(small_model, images):
    model, noise = small_model(), []
    model.step = lambda batch, rng, labels: noise.append(rng.random()) or (np.float64(0),) * 3
    list(npaae.train(model, images, epochs=3, batch_size=25))
    assert noise == [generator(np, 3, NOISE, epoch).random() for epoch in (1, 2, 3)]
    assert len(set(noise)) == 3


def test_each_image_keeps_its_label_in_every_batch(small_model, images):
    model, seen = small_model(prior=gaussian_mixture(components=3), classes=3), []
    model.step = lambda batch, rng, labels: seen.append((batch, labels)) or (np.float64(0),) * 3
    labels = np.arange(25, dtype=np.uint8) % 4
    list(npaae.train(model, images, labels=labels, epochs=1, batch_size=10))
    label_of = {tuple(row): label for row, label in zip(images.reshape(25, 9).tolist(), labels.tolist(), strict=True)}
    pairs = [pair for batch, told in seen for pair in zip(batch.tolist(), told.tolist(), strict=True)]
    assert len(pairs) == 25
    assert all(label_of[tuple(row)] == label for row, label in pairs)


@pytest.mark.parametrize(
    ("classes", "labels", "says"),
    [
        (3, None, "no labels came to a model of 3 classes"),
        (0, [0] * 25, "labels came to a model without classes"),
        (3, [0] * 24, r"labels of shape \(24,\) and type int64 came; pass 25 whole numbers"),
        (3, [0.0] * 25, "type float64 came"),
        (3, [4] * 25, "labels from 4 to 4 came; pass 0 to 2, or 3 for an unlabelled image"),
        (3, [-1] * 25, "labels from -1 to -1 came"),
        (3, [[0], [1, 2]], "rows of unequal lengths came; pass labels as an array"),
    ],
)
def test_labels_that_do_not_fit_are_refused_at_the_call(small_model, images, classes, labels, says):
    model = small_model(prior=gaussian_mixture(components=3), classes=classes)
    with pytest.raises(InvalidInput, match=says):
        npaae.train(model, images, labels=labels, epochs=1)


def test_every_image_is_visited_once_an_epoch_in_an_order_of_its_own(small_model, images):
    model, seen = small_model(), []
    model.step = lambda batch, rng, labels: seen.append(batch) or (np.float64(0),) * 3
    list(npaae.train(model, images, epochs=2, batch_size=10))
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    everything = sorted(images.reshape(25, 9).tolist())
    assert sorted(first.tolist()) == sorted(second.tolist()) == everything
    assert first.tolist() != second.tolist()


def test_the_test_sets_figures_are_those_of_its_codes_without_dropout(small_model, images):
    model, test_images = small_model(), np.random.default_rng(1).random((7, 9))
    (record,) = npaae.train(model, images, test_images=test_images, epochs=1)
    codes = model.encode(test_images)
    logits, _ = model.decoder.forward(codes)
    assert record.test_reconstruction == pytest.approx(float(bce_with_logits(np, logits, test_images)[0]), rel=1e-12)
    np.testing.assert_allclose(record.code_mean, codes.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(record.code_std, codes.std(axis=0), rtol=1e-12)


def test_evaluating_in_pieces_equals_evaluating_at_once(small_model):
    model, rows = small_model(), np.random.default_rng(0).random((2500, 9))
    loss, mean, _ = evaluate(model, rows)
    codes, _ = model.encoder.forward(rows)
    assert loss == pytest.approx(float(bce_with_logits(np, model.decoder.forward(codes)[0], rows)[0]), rel=1e-12)
    np.testing.assert_allclose(mean, codes.mean(axis=0), rtol=1e-12)


def test_the_seconds_are_those_that_passed(small_model, images, monkeypatch):
    ticks = iter([10.0, 12.5, 20.0, 23.0])
    monkeypatch.setattr(npaae.training.time, "perf_counter", lambda: next(ticks))
    assert [record.seconds for record in npaae.train(small_model(), images, epochs=2)] == [2.5, 3.0]


def test_without_a_test_set_its_figures_are_absent(small_model, images):
    (record,) = npaae.train(small_model(), images, epochs=1)
    assert (record.test_reconstruction, record.code_mean, record.code_std) == (None, (), ())


def test_a_records_numbers_are_python_floats(small_model, images):
    (record,) = npaae.train(small_model(dtype="float32"), images, test_images=images, epochs=1)
    assert {type(number) for number in (*record[1:5], *record.code_mean, *record.code_std, record.seconds)} == {float}


def test_the_same_seed_trains_the_same_and_another_does_not(small_model, images):
    def final(seed):
        model = small_model(seed=seed)
        list(npaae.train(model, images, epochs=2, batch_size=10))
        return model.theta

    np.testing.assert_array_equal(final(0), final(0))
    assert not np.any(final(0) == final(1))


def test_two_generators_over_one_model_count_on_from_each_other(small_model, images):
    model = small_model()
    first, second = npaae.train(model, images, epochs=2), npaae.train(model, images, epochs=2)
    assert [next(generator).epoch for generator in (first, second, first, second)] == [1, 2, 3, 4]


def test_training_on_in_two_calls_equals_training_in_one(small_model, images, tmp_path):
    whole, halves = small_model(), small_model()
    list(npaae.train(whole, images, epochs=4, batch_size=10))
    list(npaae.train(halves, images, epochs=3, batch_size=10))
    halves.save(tmp_path / "model.npz")
    resumed = npaae.AdversarialAutoencoder.load(tmp_path / "model.npz")
    (record,) = npaae.train(resumed, images, epochs=1, batch_size=10)
    assert record.epoch == 4
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    np.testing.assert_array_equal(resumed.generator_adam.V, whole.generator_adam.V)


def test_the_callers_images_are_not_written_to(small_model, images):
    images.flags.writeable = False
    list(npaae.train(small_model(), images, test_images=images, epochs=1))


def test_float_images_train_as_the_bytes_they_came_from(small_model, images):
    a, b = small_model(), small_model()
    list(npaae.train(a, images, epochs=1))
    list(npaae.train(b, images / 255, epochs=1))
    np.testing.assert_array_equal(a.theta, b.theta)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"epochs": -1}, "epochs=-1 came"),
        ({"batch_size": 0}, "batch_size=0 came"),
        ({"test_images": np.zeros((0, 9))}, "empty batch"),
        ({"test_images": np.full((1, 9), 2.0)}, "pixels from 2"),
    ],
)
def test_bad_arguments_are_refused_at_the_call_not_at_the_first_record(small_model, images, arguments, says):
    with pytest.raises(ValueError, match=says):
        npaae.train(small_model(), images, **arguments)


@pytest.mark.parametrize(("phase", "name"), [(0, "reconstruction"), (1, "discriminator"), (2, "generator")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training_and_is_named_with_its_epoch_and_step(small_model, images, phase, name, value):
    model = small_model()
    losses = iter([(1.0, 1.0, 1.0)] * 4 + [tuple(value if i >= phase else 1.0 for i in range(3))] + [(np.nan,) * 3])
    model.step = lambda batch, rng, labels: tuple(np.float64(loss) for loss in next(losses))
    epochs = npaae.train(model, images, epochs=2, batch_size=10)
    assert next(epochs).epoch == 1
    with pytest.raises(Diverged, match=rf"in epoch 2, step 2, the {name} loss was {value}; lower lr_"):
        next(epochs)


@pytest.mark.parametrize("name", ["theta", "reconstruction_adam.M", "discriminator_adam.V", "generator_adam.M"])
def test_a_parameter_or_moment_that_is_not_finite_stops_training_though_every_loss_was(small_model, images, name):
    model = small_model()
    step = model.step

    def spoiling_step(*batch):
        losses = step(*batch)
        model.arrays()[name][-1] = np.inf
        return losses

    model.step = spoiling_step
    with pytest.raises(Diverged, match=f"after epoch 1, {name} holds NaN or infinity"):
        list(npaae.train(model, images, epochs=1))


def test_numbers_beyond_float32_are_one_error_without_warnings(images):
    huge = npaae.AdversarialAutoencoder(hidden=(4,), visible=9, prior=npaae.priors.gaussian(std=1e38))
    with pytest.raises(Diverged, match=r"^training diverged: (in|after) epoch 1, .*discriminator"):
        list(npaae.train(huge, images, epochs=1, batch_size=5))


@pytest.mark.slow
def test_on_real_digits_the_codes_take_the_priors_shape_and_the_losses_go_where_the_reports_do():
    digits = npaae.data.mnist_sample()
    model = npaae.AdversarialAutoencoder()
    history = list(npaae.train(model, digits.train_images, test_images=digits.test_images, epochs=50))
    first, last = history[0], history[-1]
    assert last.reconstruction < 0.195 < first.reconstruction
    assert max(1.25, first.discriminator) < last.discriminator
    assert last.generator < min(0.95, max(record.generator for record in history))
    assert all(3.5 < std < 6.5 for std in last.code_std)
