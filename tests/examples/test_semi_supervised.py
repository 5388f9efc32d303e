"""semi_supervised.py and the three programs that are it with other settings."""

import numpy as np
import pytest
import semi_supervised

import npaae
from npaae import CategoricalAutoencoder, InvalidInput
from npaae.experiment import Run

from ..layouts import npz_layout, some_images
from ..running import FILES_WITH_CATEGORIES, KEPT, assert_refused, files, rows, run_here

PROGRAMS = ("semi_supervised.py", "clustering.py", "style.py", "reduction.py")


@pytest.fixture(scope="module")
def sample():
    return npaae.data.mnist_sample()


@pytest.fixture
def small(digits, tmp_path):
    """The flags of a small run."""
    shape = ("--hidden", 8, 6, "--epochs", 2, "--labels", 50)
    return ("--data-dir", digits, *shape, "--out", tmp_path / "run")


@pytest.fixture
def undrawn(monkeypatch):
    """Runs draw no figures, which takes the most of their time."""
    monkeypatch.setattr(Run, "draw", lambda run: None)


# The data


def test_the_held_out_images_are_the_last_sixth_and_not_trained_on(sample):
    kept = semi_supervised.without_a_sixth(sample)
    assert (len(kept.train_images), len(kept.test_images)) == (8_334, 1_666)
    both = np.concatenate((kept.train_images, kept.test_images))
    np.testing.assert_array_equal(both, sample.train_images)
    labels = np.concatenate((kept.train_labels, kept.test_labels))
    np.testing.assert_array_equal(labels, sample.train_labels)


def test_of_images_in_the_order_of_their_labels_every_class_is_held_out():
    labels = np.repeat(np.arange(6), 40)
    rows = np.arange(240, dtype=np.uint8)[:, None]
    kept = semi_supervised.without_a_sixth(npaae.data.dataset(rows, labels, rows, labels))
    assert (len(kept.train_images), len(kept.test_images)) == (200, 40)
    assert set(kept.test_labels) == set(range(6))
    np.testing.assert_array_equal(kept.train_images[:, 0] // 40, kept.train_labels)
    np.testing.assert_array_equal(kept.test_images[:, 0] // 40, kept.test_labels)


def test_two_images_at_least_are_held_out_and_two_kept():
    images = np.random.default_rng(0).random((4, 9))
    kept = semi_supervised.without_a_sixth(npaae.data.dataset(images, None, images))
    assert (len(kept.train_images), len(kept.test_images)) == (2, 2)
    with pytest.raises(InvalidInput, match=r"^images must be at least 4"):
        semi_supervised.without_a_sixth(npaae.data.dataset(images))


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_as_many_images_of_each_digit_are_labelled_with_their_own_labels(sample, count):
    labels = semi_supervised.draw_labels(sample, count, seed=0)
    known = labels >= 0
    np.testing.assert_array_equal(np.bincount(labels[known]), [count // 10] * 10)
    np.testing.assert_array_equal(labels[known], sample.train_labels[known])
    assert (labels[~known] == -1).all()


def test_labels_are_drawn_from_a_set_as_large_as_mnist():
    digits = npaae.data.mnist_sample()._replace(train_labels=np.arange(60_000) % 10)
    chosen = np.flatnonzero(semi_supervised.draw_labels(digits, 100, seed=0) >= 0)
    assert len(chosen) == 100
    assert chosen.min() < 15_000 < 45_000 < chosen.max()


def test_the_seed_draws_the_labelled_images(sample):
    first, again, other = (semi_supervised.draw_labels(sample, 100, s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_labels_are_none_and_as_many_as_there_are_are_all(sample):
    assert semi_supervised.draw_labels(sample, 0, seed=0) is None
    assert semi_supervised.draw_labels(sample, 10_000, seed=0) is sample.train_labels


@pytest.mark.parametrize("count", [15, 9_990, 10_001, 10**8])
def test_labels_that_cannot_be_of_every_class_alike_are_refused(sample, count):
    with pytest.raises(InvalidInput, match=r"^--labels must"):
        semi_supervised.draw_labels(sample, count, seed=0)


def test_the_refusal_names_the_rarest_label():
    rare = npaae.data.dataset(np.ones((40, 9)), ["often"] * 37 + ["rarely"] * 3, np.ones((2, 9)))
    with pytest.raises(InvalidInput, match="up to 6 because 'rarely' is the label of 3 images"):
        semi_supervised.draw_labels(rare, 8, seed=0)


# Training


def a_model(**options):
    return CategoricalAutoencoder(hidden=(8, 6), latent=2, **options)


@pytest.mark.parametrize(
    ("labels", "smoothness"), [(None, [1, 0.75, 0.5, 0.25]), ((), [0, 0.5, 1, 0.5])]
)
def test_learning_rates_fall_linearly_and_with_labels_that_of_phase_5_rises_first(
    labels, smoothness, sample, monkeypatch
):
    rates = []

    def epoch(model, *_, **__):
        rates.append([adam.learning_rate for adam in model.adams().values()])
        model.epoch += 1
        yield None

    monkeypatch.setattr(npaae, "train", epoch)
    list(semi_supervised.train(a_model(), sample, labels, 4))
    falling = np.outer([1, 0.75, 0.5, 0.25], [5e-4, 1e-4, 5e-4, 5e-4])
    expected = np.column_stack((falling, 5e-4 * np.array(smoothness)))
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_a_resumed_training_ends_as_if_it_had_never_stopped(sample, tmp_path):
    few = sample._replace(train_images=sample.train_images[:300], train_labels=None)
    few = few._replace(test_images=sample.test_images[:50])
    labels = np.where(np.arange(300) < 20, sample.train_labels[:300].astype(int), -1)
    whole, half = a_model(), a_model()
    *_, expected = semi_supervised.train(whole, few, labels, 3)
    next(semi_supervised.train(half, few, labels, 3))
    half.save(tmp_path / "model.npz")
    resumed = CategoricalAutoencoder.load(tmp_path / "model.npz")
    *_, record = semi_supervised.train(resumed, few, labels, 3)
    assert record._replace(seconds=0) == expected._replace(seconds=0)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array)


# The measure


def test_with_labels_a_category_is_the_digit_of_its_number(sample, monkeypatch):
    model, labels = a_model(), np.array([3, 1, 4, 1])
    monkeypatch.setattr(model, "classify", lambda images: np.array([3, 1, 4, 2]))
    assert semi_supervised.error_rate(model, sample, None, labels, labelled=100) == 0.25


def test_without_labels_it_is_named_by_the_surest_held_out_image(sample, monkeypatch):
    model = a_model(categories=2)
    y = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    few = sample._replace(test_images=np.zeros((3, 784)), test_labels=np.array([7, 5, 2]))
    monkeypatch.setattr(model, "encode", lambda images: y)
    labels = np.array([7, 5, 2])
    assert semi_supervised.error_rate(model, few, few.test_images, labels, labelled=0) == 1 / 3


def test_the_surest_of_images_whose_confidence_is_rounded_to_1_is_found(sample, monkeypatch):
    model, labels = a_model(categories=2), np.array([7, 5])
    y = np.array([[1, 1e-9], [1, 1e-20]], np.float32)
    few = sample._replace(test_images=np.zeros((2, 784)), test_labels=labels)
    monkeypatch.setattr(model, "encode", lambda images: y)
    assert semi_supervised.error_rate(model, few, few.test_images, np.array([5, 5]), 0) == 0


def test_what_is_scored_names_no_category(sample, monkeypatch):
    model, held_out = a_model(categories=2), np.array([[0.9, 0.1], [0.2, 0.8]])
    few = sample._replace(test_images=held_out, test_labels=np.array([7, 5]))
    monkeypatch.setattr(model, "encode", lambda images: images)
    scored = np.array([[1.0, 0.0], [0.0, 1.0]])  # which are surer than those that are held out
    for labels, expected in (([7, 5], 0), ([5, 7], 1)):
        assert semi_supervised.error_rate(model, few, scored, np.array(labels), 0) == expected


# The programs


def test_a_run_keeps_the_losses_of_all_phases_and_its_figures(small, tmp_path):
    process = run_here(*small, example="semi_supervised.py", pictures=True)
    assert process.returncode == 0, process.stderr
    assert files(tmp_path / "run") == FILES_WITH_CATEGORIES
    assert [*rows(tmp_path / "run")[0]][-2:] == ["classification", "smoothness"]
    assert process.stdout.splitlines()[-1].endswith("held-out images are classified wrongly")


@pytest.mark.usefixtures("undrawn")
def test_evaluating_measures_the_test_set_and_leaves_the_folder_as_it_was(small, digits, tmp_path):
    run_here(*small, example="semi_supervised.py")
    folder = tmp_path / "run"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    process = run_here("--evaluate", "--out", folder, example="semi_supervised.py")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    test = npaae.data.load(digits)
    model = CategoricalAutoencoder.load(folder / "model.npz")
    error = np.mean(model.classify(test.test_images) != test.test_labels)
    expected = f"{error:.2%} of {len(test.test_labels)} test images are classified wrongly"
    assert (process.stdout.strip(), process.stderr) == (expected, "")


@pytest.mark.usefixtures("undrawn")
def test_the_test_images_are_evaluated_by_the_names_that_held_out_images_give(
    small, digits, tmp_path
):
    run_here(*small, "--labels", 0, example="semi_supervised.py")
    process = run_here("--evaluate", "--out", tmp_path / "run", example="semi_supervised.py")
    model = CategoricalAutoencoder.load(tmp_path / "run" / "model.npz")
    whole = npaae.data.load(digits)
    held_out = semi_supervised.without_a_sixth(whole)
    doubts = model.other_probability(held_out.test_images)
    names = held_out.test_labels[doubts.argmin(axis=0)]
    error = np.mean(names[model.classify(whole.test_images)] != whole.test_labels)
    assert process.stdout.startswith(f"{error:.2%} of 100 test images")


@pytest.mark.usefixtures("undrawn")
def test_a_run_on_the_sample_is_evaluated_on_the_sample(tmp_path):
    line = ("--sample", "--hidden", 8, "--epochs", 1, "--out", tmp_path / "run")
    assert run_here(*line, example="semi_supervised.py").returncode == 0
    process = run_here("--evaluate", "--out", tmp_path / "run", example="semi_supervised.py")
    assert "of 1,000 test images" in process.stdout


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_not_evaluated_on_other_data(small, tmp_path):
    run_here(*small, example="semi_supervised.py")
    other = ("--evaluate", "--sample", "--out", tmp_path / "run")
    assert_refused(run_here(*other, example="semi_supervised.py"), 2, "not the same data")


@pytest.mark.usefixtures("undrawn")
def test_a_batch_has_the_size_that_the_flag_says(small, tmp_path, monkeypatch):
    sizes, step = [], CategoricalAutoencoder.step
    monkeypatch.setattr(
        CategoricalAutoencoder,
        "step",
        lambda m, x, *rest: sizes.append(len(x)) or step(m, x, *rest),
    )
    run_here(*small, "--epochs", 1, "--batch-size", 125, example="semi_supervised.py")
    assert sizes == [125, 125]


def test_fewer_categories_than_digits_are_refused_before_anything_is_written(small, tmp_path):
    process = run_here(*small, "--categories", 5, example="semi_supervised.py")
    assert_refused(process, 2, "--categories must be at least 10")
    assert not (tmp_path / "run").exists()


def test_images_of_other_labels_have_as_many_categories_and_ten_labels_of_each(tmp_path):
    path = npz_layout("x", "y")(tmp_path, some_images(classes=3, train=120))
    line = ("--data-dir", path, "--hidden", 8, "--epochs", 1, "--out", tmp_path / "run")
    process = run_here(*line, example="semi_supervised.py")
    assert process.returncode == 0, process.stderr
    assert files(tmp_path / "run") == FILES_WITH_CATEGORIES
    model = CategoricalAutoencoder.load(tmp_path / "run" / "model.npz")
    assert (model.categories, model.visible) == (3, 20)
    again = ("--resume", "--out", tmp_path / "run")
    assert run_here(*again, example="semi_supervised.py").returncode == 0
    process = run_here("--evaluate", "--out", tmp_path / "run", example="semi_supervised.py")
    assert process.stdout.endswith("of 12 test images are classified wrongly\n")


@pytest.mark.parametrize("size", [(5, 4), (7,)])
def test_images_without_labels_are_clustered_and_their_error_is_not_measured(tmp_path, size):
    path = npz_layout("x")(tmp_path, some_images(size, train=60))
    line = ("--data-dir", path, "--hidden", 8, "--epochs", 1, "--out", tmp_path / "run")
    process = run_here(*line, example="clustering.py")
    assert process.returncode == 0, process.stderr
    assert "no labels" in process.stdout.splitlines()[-1]
    drawn = FILES_WITH_CATEGORIES if len(size) == 2 else KEPT | {"losses.png"}
    assert files(tmp_path / "run") == drawn
    refused = run_here(*line[:-1], tmp_path / "new", example="semi_supervised.py")
    assert_refused(refused, 2, "--labels", "without labels")
    assert not (tmp_path / "new").exists()


FLAGS = [("--labels", 100), ("--categories", 11), ("--hidden", 8), ("--epochs", 2)]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("flags", FLAGS)
def test_a_flag_that_contradicts_the_run_is_refused(small, tmp_path, flags):
    run_here(*small, "--epochs", 1, example="semi_supervised.py")
    again = ("--resume", "--out", tmp_path / "run", *flags)
    assert_refused(run_here(*again, example="semi_supervised.py"), 2, flags[0], "contradicts")


def test_the_help_says_that_a_run_cannot_become_longer():
    """Its rates have fallen to 0 at the end; with more epochs they would jump up again."""
    process = run_here("--help", example="semi_supervised.py")
    assert "learning rates fall: --resume takes no others" in " ".join(process.stdout.split())


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_one_program_is_not_continued_by_another(small, tmp_path):
    run_here(*small, "--epochs", 1, example="semi_supervised.py")
    for other in ("clustering.py", "mnist.py"):
        process = run_here("--resume", "--out", tmp_path / "run", example=other)
        assert_refused(process, 2, "semi-supervised")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_trains_on_the_bundled_sample(program, tmp_path):
    line = ("--sample", "--hidden", 16, 16, "--epochs", 1, "--out", tmp_path / "run")
    process = run_here(*line, example=program, pictures=True)
    assert process.returncode == 0, process.stderr
    extra = {"plane.png"} if program == "reduction.py" else set()
    assert files(tmp_path / "run") == FILES_WITH_CATEGORIES | extra


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("labels", "weight"), [(50, 0), (0, 0.3)])
def test_the_information_weight_is_positive_only_without_labels(labels, weight, small, tmp_path):
    run_here(*small, "--labels", labels, "--perturbation", 1, example="semi_supervised.py")
    config = CategoricalAutoencoder.load(tmp_path / "run" / "model.npz").config
    assert (config["information_weight"], config["perturbation"]) == (weight, 1)
