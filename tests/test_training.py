import copy
import time

import numpy as np
import pytest

import npaae
from npaae import (
    AdversarialAutoencoder,
    CategoricalAutoencoder,
    Diverged,
    InvalidInput,
    backend,
    training,
)
from npaae.backend import NOISE, SHUFFLE, random_stream
from npaae.priors import gaussian, gaussian_mixture
from npaae.training import evaluate

from .fake_ranks import Rank
from .layer_norm import NormalisedAutoencoder

SMALL = {"hidden": (7, 5), "visible": 9, "dtype": "float64", "seed": 3}

CLASSES = {"prior": gaussian_mixture(components=3), "classes": 3}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)


# Epochs and batches


@pytest.mark.parametrize("options", [{}, CLASSES], ids=["without labels", "with labels"])
def test_an_epoch_is_a_step_for_each_batch_of_a_seeded_order(small_model, images, options):
    model, by_hand = small_model(**options), small_model(**options)
    labels = np.arange(25) % 4 - 1 if options else None
    records = list(npaae.train(model, images, labels=labels, epochs=2, batch_size=10))
    for epoch, record in enumerate(records, 1):
        rng = random_stream(np, 3, NOISE, epoch)
        order = random_stream(np, 3, SHUFFLE, epoch).permutation(25)
        losses = [
            by_hand.step(images.reshape(25, 9)[batch], rng, labels[batch] if options else None)
            for batch in (order[:10], order[10:20], order[20:])
        ]
        means = np.average(losses, axis=0, weights=[10, 10, 5])  # over images, not over batches
        np.testing.assert_allclose(record[:4], [epoch, *means], rtol=1e-12)
    np.testing.assert_array_equal(model.theta, by_hand.theta)


def test_by_default_it_trains_for_100_epochs_in_batches_of_100(small_model):
    model = small_model()
    assert len(list(npaae.train(model, np.full((201, 9), 0.5)))) == 100
    assert model.reconstruction_adam.t == 300


def test_no_epochs_are_no_records_and_move_nothing(small_model, images):
    model = small_model()
    before = model.theta.copy()
    assert list(npaae.train(model, images, epochs=0)) == []
    np.testing.assert_array_equal(model.theta, before)


@pytest.mark.parametrize("epochs", [1, 2])
def test_training_that_nobody_reads_warns_and_says_how_to_read_it(small_model, images, epochs):
    advice = r"loop over what it returns: for record in npaae\.train\(…\): …$"
    with pytest.warns(RuntimeWarning, match=f"trained nothing; {advice}"):
        npaae.train(small_model(), images, epochs=epochs)


def test_no_epochs_need_not_be_read(small_model, images):
    npaae.train(small_model(), images, epochs=0)


@pytest.mark.parametrize("use", [next, list, npaae.training.Records.close])
def test_training_that_is_read_or_closed_does_not_warn(small_model, images, use):
    use(npaae.train(small_model(), images, epochs=2))


def test_records_cannot_be_copied_and_the_attempt_leaves_no_trace(small_model, images):
    records = npaae.train(small_model(), images, epochs=2)
    with pytest.raises(TypeError):
        copy.deepcopy(records)
    assert len(list(records)) == 2


def test_the_length_is_the_number_of_records_left(small_model, images):
    records = npaae.train(small_model(), images, epochs=2)
    assert len(records) == 2
    for left in (1, 0):
        next(records)
        assert len(records) == left
    assert next(records, "the end") == "the end"


def test_no_records_are_left_of_training_that_is_closed(small_model, images):
    records = npaae.train(small_model(), images, epochs=2)
    records.close()
    assert len(records) == 0


@pytest.mark.parametrize("images", [np.eye(9, dtype=np.uint8), np.full((2, 9), 16, np.uint8)])
def test_bytes_of_a_small_scale_are_refused_before_training(small_model, images):
    with pytest.raises(InvalidInput, match=r"^images"):
        npaae.train(small_model(), images)


def test_the_same_seed_trains_the_same_and_another_does_not(small_model, images):
    def final(seed):
        model = small_model(seed=seed)
        model.theta[:] = 0.1  # so that only training is left to differ
        list(npaae.train(model, images, epochs=1, batch_size=10))
        return model.theta

    np.testing.assert_array_equal(final(0), final(0))
    assert not np.array_equal(final(0), final(1))


def test_two_generators_over_one_model_count_on_from_each_other(small_model, images):
    model = small_model()
    first, second = (npaae.train(model, images, epochs=2) for _ in range(2))
    epochs = [next(records).epoch for records in (first, second, first, second)]
    assert epochs == [1, 2, 3, 4]
    assert model.epoch == 4


def test_training_on_after_loading_equals_not_having_stopped(small_model, images, tmp_path):
    whole, halves = small_model(), small_model()
    expected = list(npaae.train(whole, images, epochs=4, batch_size=10))[-1]
    list(npaae.train(halves, images, epochs=3, batch_size=10))
    halves.save(tmp_path / "model.npz")
    resumed = AdversarialAutoencoder.load(tmp_path / "model.npz")
    (record,) = npaae.train(resumed, images, epochs=1, batch_size=10)
    assert record._replace(seconds=0) == expected._replace(seconds=0)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array, err_msg=name)


def test_images_train_the_same_as_bytes_and_as_floats_and_are_not_written_to(small_model, images):
    a, b, floats = small_model(), small_model(), images / 255
    images.flags.writeable = floats.flags.writeable = False
    list(npaae.train(a, images, test_images=images, epochs=1))
    list(npaae.train(b, floats, test_images=floats, epochs=1))
    np.testing.assert_array_equal(a.theta, b.theta)


@pytest.mark.parametrize("kind", [AdversarialAutoencoder, npaae.CategoricalAutoencoder])
def test_test_images_take_no_part_in_training(kind, images):
    models = [kind(**SMALL) for _ in range(3)]
    for model, test_images in zip(models, (None, images[:7], images[::-1]), strict=True):
        list(npaae.train(model, images, test_images=test_images, epochs=2, batch_size=10))
        for name, array in models[0].arrays().items():
            np.testing.assert_array_equal(model.arrays()[name], array, err_msg=name)


# Ranks; `test_parallel` has several


@pytest.fixture
def one_rank(monkeypatch):
    monkeypatch.setattr(backend, "one_blas_thread", lambda: None)  # other tests may use two
    return Rank()


@pytest.mark.parametrize("options", [{}, CLASSES], ids=["without labels", "with labels"])
def test_a_single_rank_trains_as_one_process_does(small_model, images, one_rank, options):
    alone, ranked = small_model(**options), small_model(**options, comm=one_rank)
    arguments = {"labels": np.arange(25) % 4 - 1} if options else {}
    arguments |= {"test_images": images, "epochs": 2, "batch_size": 10}
    pairs = zip(
        *(npaae.train(model, images, **arguments) for model in (alone, ranked)), strict=True
    )
    assert all(a[:7] == b[:7] for a, b in pairs)  # all but the seconds
    np.testing.assert_array_equal(ranked.theta, alone.theta)


def test_a_model_can_be_loaded_for_ranks(small_model, one_rank, tmp_path):
    small_model().save(tmp_path / "model.npz")
    model = AdversarialAutoencoder.load(tmp_path / "model.npz", comm=one_rank)
    assert model.ranks.comm is one_rank


def test_ranks_compare_all_that_they_are_handed(small_model, images, one_rank):
    model, labels = small_model(**CLASSES, comm=one_rank), np.zeros(25, int)
    usual = {"labels": labels, "test_images": images, "epochs": 1, "batch_size": 10}
    others = {"labels": labels + 1, "test_images": images[1:], "epochs": 2, "batch_size": 11}
    npaae.train(model, images, **usual).close()
    npaae.train(model, images[::-1], **usual).close()
    for name, value in others.items():
        npaae.train(model, images, **usual | {name: value}).close()
    assert len(set(one_rank.sent)) == 6


# Records


def test_the_test_set_is_measured_after_the_epoch(small_model, images):
    model, test_images = small_model(), np.random.default_rng(1).random((7, 9))
    for record in npaae.train(model, images, test_images=test_images, epochs=2):
        assert record[4:7] == evaluate(model, test_images)


def test_each_of_more_images_than_are_evaluated_at_once_counts_alike(small_model):
    model, rows = small_model(), np.random.default_rng(0).random((2300, 9))
    rows[2000:] *= 0.1  # so that an average over pieces of unequal size is another
    codes, p = model.encode(rows), model.reconstruct(rows)
    expected = -np.mean(rows * np.log(p) + (1 - rows) * np.log(1 - p))
    loss, mean, std = evaluate(model, rows)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose((mean, std), (codes.mean(axis=0), codes.std(axis=0)), rtol=1e-12)


def test_the_codes_of_float32_are_averaged_in_double(small_model, images):
    model, rows = small_model(dtype="float32"), images.reshape(25, 9)
    codes = model.encode(rows).astype(np.float64)
    assert evaluate(model, rows)[1:] == (tuple(codes.mean(axis=0)), tuple(codes.std(axis=0)))


def test_without_a_test_set_its_figures_are_absent(small_model, images):
    (record,) = npaae.train(small_model(), images, epochs=1)
    assert (record.test_reconstruction, record.code_mean, record.code_std) == (None, (), ())


def test_a_record_holds_python_numbers(small_model, images):
    model = small_model(dtype="float32")
    (record,) = npaae.train(model, images, test_images=images, epochs=1)
    numbers = (*record[1:5], *record.code_mean, *record.code_std, record.seconds)
    assert (type(record.epoch), {type(number) for number in numbers}) == (int, {float})


def test_the_seconds_are_those_of_the_epochs_without_what_the_caller_does_between(
    small_model, images
):
    start, seconds, pause = time.perf_counter(), [], 0.05
    for record in npaae.train(small_model(), images, epochs=2):
        seconds.append(record.seconds)
        time.sleep(pause)
    assert min(seconds) > 0
    assert sum(seconds) <= time.perf_counter() - start - 2 * pause


# Errors


@pytest.mark.parametrize(
    ("options", "arguments", "name"),
    [
        ({}, {"epochs": -1}, "epochs"),
        ({}, {"epochs": 1.5}, "epochs"),
        ({}, {"batch_size": 0}, "batch_size"),
        ({}, {"train_images": np.zeros((3, 8))}, "images"),
        ({}, {"test_images": np.zeros((0, 9))}, "images"),
        ({}, {"test_images": np.full((1, 9), 2.0)}, "images"),
        ({}, {"labels": [0] * 25}, "labels"),
        (CLASSES, {}, "labels"),
        (CLASSES, {"labels": [0] * 24}, "labels"),
        (CLASSES, {"labels": [[0]] * 25}, "labels"),
        (CLASSES, {"labels": [0.0] * 25}, "labels"),
        (CLASSES, {"labels": [4] * 25}, "labels"),
        (CLASSES, {"labels": [3] * 25}, "labels"),
        (CLASSES, {"labels": [-2] * 25}, "labels"),
        (CLASSES, {"labels": [[0], [1, 2]]}, "labels"),
    ],
)
def test_bad_arguments_are_refused_at_the_call_by_name(
    small_model, images, options, arguments, name
):
    model = small_model(**options)
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        npaae.train(model, **{"train_images": images} | arguments)


@pytest.mark.parametrize(
    ("options", "labels", "values"),
    [
        ({}, [0] * 25, "got labels with classes=0"),
        (CLASSES, None, "got no labels with classes=3"),
        (CLASSES, np.eye(25), r"\.argmax\(axis=1\) .*"),
        (CLASSES, [[1]] * 25, r"use \.ravel\(\)"),
        (CLASSES, [1.0] * 25, r"\.astype\(int\)"),
        (CLASSES, ["a"] * 25, r"np\.unique\(.*"),
        (CLASSES, np.full(25, 255, np.uint8), r"use astype\(int\)"),
        (CLASSES, [1] * 24 + [7], "in 0 … 2, or be −1 for unlabelled, got 1 … 7"),
    ],
)
def test_a_refusal_of_labels_names_their_values_or_the_remedy(
    small_model, images, options, labels, values
):
    with pytest.raises(InvalidInput, match=f"{values}$"):
        npaae.train(small_model(**options), images, labels=labels)


class Diverging(AdversarialAutoencoder):
    """Reports losses that are not finite from a phase of its fifth step on."""

    def step(self, x, rng, labels=None):
        losses = super().step(x, rng, labels)
        self.steps_left -= 1
        return losses if self.steps_left > 0 else (*losses[: self.phase], *self.bad[self.phase :])


@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training_and_is_named(images, phase, value):
    model = Diverging(**SMALL)
    model.steps_left, model.phase, model.bad = 5, phase, (np.float64(value),) * 3
    records = npaae.train(model, images, epochs=2, batch_size=10)
    assert next(records).epoch == 1
    name = ("reconstruction", "discriminator", "generator")[phase]
    what = f"epoch 2, step 2: the {name} loss is {value}; lower the learning rates"
    with pytest.raises(Diverged, match=what):
        next(records)
    assert model.epoch == 1


class Spoilt(AdversarialAutoencoder):
    """Reports finite losses and leaves an infinity in one of its arrays."""

    def step(self, x, rng, labels=None):
        losses = super().step(x, rng, labels)
        self.arrays()[self.spoilt][-1] = np.inf
        return losses


@pytest.mark.parametrize(
    "name", ["theta", "reconstruction_adam.m", "discriminator_adam.v", "generator_adam.m"]
)
def test_an_array_that_is_not_finite_stops_training_and_is_named(images, name):
    model = Spoilt(**SMALL)
    model.spoilt = name
    with pytest.raises(Diverged, match=f"epoch 1: {name} "):
        list(npaae.train(model, images, epochs=1))


def test_numbers_beyond_float32_are_one_error_without_warnings(images):
    huge = AdversarialAutoencoder(hidden=(4,), visible=9, prior=gaussian(std=1e38))
    with pytest.raises(Diverged, match=r"epoch 1.*discriminator"):
        list(npaae.train(huge, images, epochs=1, batch_size=5))
    huge.theta *= np.float32(1e30)  # which makes ∞ − ∞
    with pytest.raises(Diverged, match=r"epoch 1.*reconstruction"):
        list(npaae.train(huge, images, epochs=1, batch_size=5))


# What ends an epoch


def raising(error):
    def end(model):
        raise error

    return end


def diverging(model):
    model.theta[0] = np.nan


ENDS = {
    "Ctrl-C": (KeyboardInterrupt, raising(KeyboardInterrupt())),
    "a full memory": (MemoryError, raising(MemoryError())),
    "divergence": (Diverged, diverging),
}
MODELS = {
    "one code": lambda: AdversarialAutoencoder(**SMALL),
    "categories": lambda: CategoricalAutoencoder(**SMALL, categories=3),  # batch normalisation too
    "a layer of the user's own": lambda: NormalisedAutoencoder(**SMALL),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("kind", "end"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("after", ["the first step", "the last step", "half of the test set"])
def test_whatever_ends_an_epoch_the_model_is_that_of_the_epoch_before(
    images, make, kind, end, after, monkeypatch, tmp_path
):
    model, uninterrupted = make(), make()
    options = {"test_images": images, "batch_size": 10}
    for each in (model, uninterrupted):
        next(npaae.train(each, images, **options))
        for adam in each.adams().values():
            adam.t += 10**6  # as late in a training
    list(npaae.train(uninterrupted, images, epochs=2, **options))
    before = {name: array.copy() for name, array in model.arrays().items()}
    step, steps = model.step, iter(["the first step", "another", "the last step"])

    def step_and_end(*arguments):
        losses = step(*arguments)
        if next(steps) == after:
            end(model)
        return losses

    def measure_and_end(*arguments):
        if after == "half of the test set":
            end(model)
            raise Diverged("the mean of the codes is NaN")
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(model, "step", step_and_end)
        patch.setattr(training, "evaluate", measure_and_end)
        with pytest.raises(kind):
            next(npaae.train(model, images, **options))
    assert model.epoch == 1
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    model.save(tmp_path / "model.npz")
    for resumed in (model, type(model).load(tmp_path / "model.npz")):
        list(npaae.train(resumed, images, epochs=2, **options))
        assert resumed.epoch == 3
        for name, adam in uninterrupted.adams().items():
            assert resumed.adams()[name].t == adam.t
        for name, array in uninterrupted.arrays().items():
            np.testing.assert_array_equal(resumed.arrays()[name], array, err_msg=name)


def test_to_stop_reading_between_two_epochs_takes_nothing_back(small_model, images):
    model, other = small_model(), small_model()
    for record in npaae.train(model, images, epochs=9):
        if record.epoch == 2:
            break
    list(npaae.train(other, images, epochs=2))
    assert model.epoch == 2
    np.testing.assert_array_equal(model.theta, other.theta)


@pytest.mark.slow
def test_on_real_digits_codes_follow_the_prior_and_losses_move_as_in_the_report():
    digits = npaae.data.mnist_sample()
    arguments = {"test_images": digits.test_images, "epochs": 50}
    history = list(npaae.train(AdversarialAutoencoder(), digits.train_images, **arguments))
    first, last = history[0], history[-1]
    assert last.reconstruction < 0.195 < first.reconstruction
    assert max(1.25, first.discriminator) < last.discriminator
    assert last.generator < min(0.95, max(record.generator for record in history))
    assert all(3.5 < std < 6.5 for std in last.code_std)


def test_an_interrupt_at_the_very_end_of_an_epoch_takes_its_number_back_too(
    small_model, images, monkeypatch
):
    model = small_model()
    leave = backend._OneThread.__exit__

    def interrupted(block, *error):
        leave(block, *error)
        raise KeyboardInterrupt

    list(npaae.train(model, images, epochs=1))
    before = model.theta.copy()
    monkeypatch.setattr(backend._OneThread, "__exit__", interrupted)
    monkeypatch.setattr(backend, "THREADS_CHOSEN", False)
    with pytest.raises(KeyboardInterrupt):
        next(npaae.train(model, images))
    assert model.epoch == 1
    np.testing.assert_array_equal(model.theta, before)
