"""The autoencoder with a category beside the style; its formulas are in the audit."""

import json

import numpy as np
import pytest

import npaae
from npaae import CategoricalAutoencoder, InvalidInput, gradcheck
from npaae.categorical.layers import BatchNorm, Noise, softmax
from npaae.categorical.losses import (
    divergence,
    information,
    repulsion,
    softmax_cross_entropy,
)
from npaae.categorical.model import _unit_rows

from . import strict_device
from .fake_ranks import Rank
from .strict_device import DeviceArray

X = np.random.default_rng(1).random((6, 9))
LABELS = np.array([0, 1, 2, 0, 1, 1])
IMAGES = np.random.default_rng(0).integers(0, 256, (25, 3, 3), dtype=np.uint8)
LABELLED = np.where(np.arange(25) % 4 == 0, np.arange(25) % 3, -1)  # seven labels, 18 unknown


def small(**options):
    defaults = {"hidden": (7, 5), "categories": 3, "latent": 2, "visible": 9, "dtype": "float64"}
    return CategoricalAutoencoder(**defaults | options)


def draws():
    return np.random.default_rng(2)


# The code


def test_a_code_is_a_distribution_over_the_categories_beside_a_style():
    codes = small().encode(X)
    assert codes.shape == (6, 3 + 2)
    np.testing.assert_allclose(codes[:, :3].sum(axis=1), 1, rtol=1e-12)


def test_the_category_of_an_image_is_the_largest_of_its_distribution():
    model = small()
    np.testing.assert_array_equal(model.classify(X), model.encode(X)[:, :3].argmax(axis=1))


def test_each_of_thirty_categories_can_be_the_one_of_an_image(monkeypatch):
    model = small(categories=30)
    y = np.hstack((0.01 + 0.7 * np.eye(30), np.ones((30, 2))))
    monkeypatch.setattr(model, "encode", lambda images: y)
    np.testing.assert_array_equal(model.classify(X), np.arange(30))
    np.testing.assert_allclose(model.other_probability(X), y[:, :30].sum(axis=1)[0] - y[:, :30])


def test_a_doubt_is_precise_where_a_confidence_is_rounded_to_1(monkeypatch):
    model = small()
    y = np.array([[1, 1e-9, 0, 5, 5], [0.25, 0.25, 0.5, 5, 5]], np.float32)
    monkeypatch.setattr(model, "encode", lambda images: y)
    expected = [[1e-9, 1, 1], [0.75, 0.75, 0.5]]
    np.testing.assert_allclose(model.other_probability(X), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_doubt_about_a_category_is_the_rest_of_an_images_distribution(dtype):
    model = small(dtype=dtype)
    others = model.other_probability(X)
    np.testing.assert_allclose(others, 1 - model.encode(X)[:, :3], rtol=1e-5)
    assert others.dtype == dtype


def test_the_prior_draws_each_category_as_often_and_one_at_a_time(rng):
    codes = small().draw_prior(rng, 3000)
    five_standard_errors = 5 * np.sqrt(2 / 9 / 3000)
    np.testing.assert_allclose(codes[:, :3].mean(axis=0), 1 / 3, atol=five_standard_errors)
    assert set(codes[:, :3].sum(axis=1)) == {1.0}


def test_samples_are_decoded_draws():
    model = small()
    expected = model.decode(model.sample_prior(4, seed=1))
    np.testing.assert_array_equal(model.sample(4, seed=1), expected)


# The networks


@pytest.mark.parametrize("options", [{}, {"head_distance": 1.0}, {"joint": True}])
@pytest.mark.parametrize("name", ["encoder", "decoder", "discriminator"])
def test_every_parameter_of_a_network_passes_the_gradient_check(name, options, rng):
    model = small(**options)
    network = getattr(model, name)
    x = rng.standard_normal((6, 9 if name == "encoder" else 5))
    errors = gradcheck.parameters(network, x) | {"x": gradcheck.layer(network, x)}
    assert max(errors.values()) < 1e-6


def test_one_discriminator_learns_nothing_of_the_others_columns(rng):
    model = small()
    x, changed = rng.standard_normal((2, 6, 5))
    changed[:, :3] = x[:, :3]
    of_category, of_style = (model.discriminator.forward(each)[0] for each in (x, changed))
    np.testing.assert_array_equal(of_category[:, 0], of_style[:, 0])
    assert not np.any(of_category[:, 1] == of_style[:, 1])


def test_a_joint_discriminator_is_one_network_of_the_whole_code(rng):
    model, codes = small(joint=True, head_distance=1.0), rng.standard_normal((6, 5))
    (network,) = model.discriminator.layers
    assert network.layers[0].W.shape == (5, 7)
    np.testing.assert_array_equal(model.discriminator.forward(codes)[0], network.forward(codes)[0])


def test_each_discriminator_computes_as_if_it_were_alone(rng):
    discriminator, codes = small().discriminator, rng.standard_normal((6, 5))
    one_after_the_other = draws()
    of_category, of_style = (
        network.forward(part, one_after_the_other)[0]
        for network, part in zip(discriminator.layers, (codes[:, :3], codes[:, 3:]), strict=True)
    )
    both, _ = discriminator.forward(codes, draws())
    np.testing.assert_array_equal(both, np.hstack((of_category, of_style)))


def test_discriminators_compute_the_gradients_that_are_asked_for(rng):
    model = small()
    logits, caches = model.discriminator.forward(rng.standard_normal((6, 5)))
    model.gradient[:] = np.nan
    model.discriminator.backward(logits, caches, parameters=False)
    assert np.isnan(model.gradient).all()
    assert model.discriminator.backward(logits, caches, inputs=False) is None
    assert np.isfinite(model.discriminator_adam.gradient).all()


@pytest.mark.parametrize(("head_distance", "first"), [(0.0, (5, 5)), (1.0, (3, 2))])
def test_the_decoder_has_the_encoders_sizes_in_reverse(head_distance, first):
    layers = small(head_distance=head_distance).decoder.layers
    shapes = [layer.W.shape for layer in layers if hasattr(layer, "W")]
    rest = [(5, 7), (7, 9)] if head_distance == 0 else [(2, 5), (5, 7), (7, 9)]
    assert shapes == [first, *rest]


def test_cluster_heads_are_scattered_on_the_scale_of_their_distance():
    heads = small(categories=500, head_distance=6.0).decoder.layers[0]
    five_standard_errors = 5 * 6 / np.sqrt(2 * heads.W.size)
    assert heads.W.std() == pytest.approx(6, abs=five_standard_errors)
    assert len(np.unique(heads.W)) == heads.W.size
    assert not heads.b.any()


def test_batch_normalisation_evaluates_with_running_averages(rng):
    layer, x = BatchNorm(np, 2, float), 3 + 2 * rng.standard_normal((50, 2))
    for _ in range(1000):
        layer.forward(x, rng)
    np.testing.assert_allclose(layer.forward(x)[0], layer.forward(x, rng)[0], rtol=1e-4)


def test_batch_normalisation_is_precise_far_from_0_in_float32(rng):
    x = (1000 + rng.standard_normal((100, 3))).astype(np.float32)
    y, _ = BatchNorm(np, 3, np.float32).forward(x, rng)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("in_training", [True, False])
def test_batch_normalisation_keeps_float32(in_training, rng):
    x = rng.standard_normal((6, 3)).astype(np.float32)
    y, _ = BatchNorm(np, 3, np.float32).forward(x, rng if in_training else None)
    assert y.dtype == np.float32


def test_evaluation_does_not_move_the_running_averages(rng):
    layer = BatchNorm(np, 2, float)
    layer.forward(rng.standard_normal((50, 2)))
    assert (layer.mean.tolist(), layer.variance.tolist()) == ([0, 0], [1, 1])


def test_the_images_are_noisy_in_training_alone():
    quiet, noisy = (small(noise=noise, dropout=0) for noise in (0.0, 0.3))
    np.testing.assert_array_equal(quiet.encode(X), noisy.encode(X))
    assert not np.any(quiet.encoder.forward(X, draws())[0] == noisy.encoder.forward(X, draws())[0])


@pytest.mark.parametrize("std", [0.5, 1.0])
def test_noise_has_the_dtype_of_the_images(std):
    y, _ = Noise(std).forward(np.zeros((2, 3), np.float32), draws())
    assert y.dtype == np.float32
    assert y.all()


# The phases


@pytest.mark.parametrize("labelled", [None, (X, LABELS)])
@pytest.mark.parametrize("perturbation", [0.0, 2.0])
def test_a_step_returns_a_loss_for_each_phase(labelled, perturbation):
    model = small(perturbation=perturbation)
    assert len(model.step(X, draws(), labelled)) == len(model.phases) == 4 + (perturbation > 0)


def test_discriminators_that_know_nothing_have_the_losses_of_equilibrium():
    model = small()
    model.discriminator_adam.parameters[:] = 0
    model.discriminator_adam.learning_rate = 0  # so that they still know nothing in phase 3
    _, discriminator, generator, *_ = model.step(X, draws())
    assert discriminator == pytest.approx(2 * np.log(2), rel=1e-15)
    assert generator == pytest.approx(np.log(2), rel=1e-15)


def test_the_classification_moves_the_category_and_not_the_style():
    model = small()
    model.gradient[:] = np.nan
    model.classification_gradient(X, LABELS, draws())
    last = model.encoder.layers[-3]
    assert np.any(last.dW[:, :3])
    assert not np.any(last.dW[:, 3:])


def test_an_adversarial_perturbation_changes_the_category_more_than_a_random_one(rng):
    model = small(noise=0)
    model.theta += 0.3 * rng.standard_normal(model.theta.size)
    log_y, perturbed = model.perturb(X, rng)
    random = rng.standard_normal(X.shape)
    random *= model.config["perturbation"] / np.linalg.norm(random, axis=1, keepdims=True)
    adversarial, harmless = (
        model.smoothness_gradient(log_y, x, rng) for x in (perturbed, X + random)
    )
    assert adversarial > harmless > 0


def test_each_of_a_hundred_images_is_perturbed_by_the_same_length(rng):
    x = rng.random((100, 784))
    _, perturbed = CategoricalAutoencoder(hidden=(10,), dtype="float64").perturb(x, rng)
    np.testing.assert_allclose(np.linalg.norm(perturbed - x, axis=1), 2, rtol=1e-9)


def test_each_of_a_models_own_samples_has_the_category_that_was_drawn():
    model = small(categories=30)
    codes = model.draw_prior(draws(), 300)
    _, categories = model.own_samples(300, draws())
    np.testing.assert_array_equal(np.eye(30)[categories], codes[:, :30])


def test_an_image_without_a_gradient_is_not_perturbed():
    model = small()
    model.theta[:] = 0
    log_y, perturbed = model.perturb(X, draws())
    np.testing.assert_array_equal(perturbed, X)
    np.testing.assert_allclose(log_y, -np.log(3), rtol=1e-12)


def test_the_running_averages_count_the_passes_of_the_last_phase():
    model = small()
    dense, norm = model.encoder.layers[1:3]
    log_y, _ = model.perturb(X, draws())
    model.smoothness_gradient(log_y, X, draws())
    three_passes = (1 - 0.98**3) * (X @ dense.W + dense.b).mean(axis=0)
    np.testing.assert_allclose(norm.mean, three_passes, atol=1e-3 * abs(three_passes).max())


def test_the_search_for_a_perturbation_writes_no_gradient():
    model = small()
    model.gradient[:] = np.nan
    model.perturb(X, draws())
    assert np.isnan(model.gradient).all()


def test_heads_at_exactly_their_distance_are_not_too_close():
    loss, gradient = repulsion(np, np.array([[0.0, 0], [3, 4]]), 5.0)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


def test_heads_that_coincide_count_as_too_close_and_are_not_pushed():
    loss, dW = repulsion(np, np.zeros((3, 2)), 1.0)
    assert loss == 3
    np.testing.assert_array_equal(dW, 0)


@pytest.mark.parametrize("size", [1e-30, 1e-24, 1.0, 1e19, 1e30])
def test_rows_of_any_size_get_the_length_1_in_float32(size):
    x = np.array([[3, -4], [0, 0], [0, 1]], np.float32) * np.float32(size)
    expected = [[0.6, -0.8], [0, 0], [0, 1]]
    np.testing.assert_allclose(_unit_rows(np, x), expected, rtol=1e-6)


def test_a_small_row_gets_the_length_1_beside_a_large_one_in_float32():
    x = np.array([[3e-30, -4e-30], [3e30, 4e30]], np.float32)
    np.testing.assert_allclose(_unit_rows(np, x), [[0.6, -0.8], [0.6, 0.8]], rtol=1e-6)


def test_the_divergence_of_a_certain_row_is_finite_in_float32():
    loss, gradient = divergence(np, np.float32([[0, -200]]), np.float32([[0, 0]]))
    assert loss == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, 0.5]], rtol=1e-6)


def test_information_is_ln_k_for_one_hot_and_equally_frequent_categories():
    sure = np.kron(100 * np.eye(3), np.ones((5, 1)))
    assert information(np, sure)[0] == pytest.approx(np.log(3), rel=1e-12)


@pytest.mark.parametrize("logits", [np.zeros((4, 3)), np.tile([9.0, 0, 0], (4, 1))])
def test_information_is_0_if_all_images_have_the_same_categories(logits):
    assert information(np, logits)[0] == pytest.approx(0, abs=1e-12)


def test_a_step_leaves_its_batches_alone():
    frozen = X.copy()
    frozen.flags.writeable = False
    small().step(frozen, draws(), (frozen, LABELS))


def test_cluster_heads_end_no_nearer_than_their_distance():
    model = small(head_distance=2.0, seed=1)
    heads = model.decoder.layers[0].W
    heads[1] = heads[0] + 0.1
    model.reconstruction_adam.learning_rate = 0.05
    for _ in range(100):
        model.step(X, draws())
    assert np.linalg.norm(heads[1] - heads[0]) > 1.9


def test_heads_are_repelled_within_the_distance_that_they_have():
    model = small(head_distance=1.0)
    heads, losses = model.decoder.layers[0], []
    for heads.distance in (1.0, 100.0):
        losses.append(model.reconstruction_gradient(X, None))
    assert losses[1] > losses[0] + 0.1


def test_a_model_without_cluster_heads_does_not_embed():
    with pytest.raises(InvalidInput, match=r"^head_distance must"):
        small().embed(X)


def test_an_embedded_image_is_its_heads_place_and_its_style():
    model = small(head_distance=1.0)
    y, z = np.split(model.encode(X), [3], axis=1)
    heads = model.decoder.layers[0]
    np.testing.assert_allclose(model.embed(X), y @ heads.W + heads.b + z, rtol=1e-12)


def test_no_logit_overflows_and_no_row_vanishes():
    logits = np.array([[1e4, -1e4], [-1e4, -1e4]], np.float32)
    half = np.log(np.full((2, 2), 0.5, np.float32))
    with np.errstate(all="raise", under="ignore"):
        loss, _ = softmax_cross_entropy(np, logits, np.array([1, 0]))
        shares = softmax(np, logits)
        far, _ = divergence(np, half, logits)
        told, _ = information(np, logits)
    assert loss == pytest.approx((2e4 + np.log(2)) / 2, rel=1e-6)
    np.testing.assert_allclose(shares, [[1, 0], [0.5, 0.5]], rtol=1e-6)
    assert far == pytest.approx((1e4 - np.log(2)) / 2, rel=1e-6)
    assert told == pytest.approx((np.log(4 / 3) + (np.log(2 / 3) + np.log(2)) / 2) / 2, rel=1e-5)


def test_a_model_in_float32_computes_in_float32():
    model = small(dtype="float32", head_distance=1.0)
    codes = model.draw_prior(draws(), 4)
    embedded = model.embed_codes(codes.astype(float))
    results = (codes, embedded, *model.step(X, draws(), (X, LABELS)))
    assert {array.dtype for array in results} == {np.dtype("float32")}
    assert {array.dtype for array in model.arrays().values()} == {np.dtype("float32")}


# Training, saving


@pytest.mark.parametrize("labels", [LABELS, LABELLED - 2, LABELLED + 1, LABELLED[:, None], 7])
def test_labels_of_another_number_or_range_are_refused(labels):
    with pytest.raises(InvalidInput, match=r"^labels must"):
        npaae.train(small(), IMAGES, labels=labels)


def test_a_model_without_categories_takes_no_labels(small_model):
    with pytest.raises(InvalidInput, match=r"^labels must"):
        npaae.train(small_model(), IMAGES, labels=LABELLED)


def test_without_a_known_label_phase_4_uses_the_models_own_samples():
    losses = [
        next(npaae.train(small(), IMAGES, labels=labels))._replace(seconds=0)
        for labels in (None, np.full(25, -1))
    ]
    assert losses[0] == losses[1]


def test_a_record_has_the_mean_loss_of_the_labelled_images_over_the_images(monkeypatch):
    model, losses = small(), iter([1.0, 2.0, 4.0])
    monkeypatch.setattr(model, "step", lambda *_: (0.1, 0.2, 0.3, next(losses), 0.5))
    (record,) = npaae.train(model, IMAGES, labels=LABELLED, epochs=1, batch_size=10)
    assert record.classification == pytest.approx((10 * 1 + 10 * 2 + 5 * 4) / 25, rel=1e-12)
    assert record.smoothness == pytest.approx(0.5, rel=1e-12)


def test_a_record_has_no_loss_of_a_phase_that_its_model_lacks(small_model):
    assert next(npaae.train(small(perturbation=0), IMAGES)).smoothness is None
    record = next(npaae.train(small_model(), IMAGES))
    assert (record.classification, record.smoothness) == (None, None)


def examples_of_steps(labels, batch_size, epochs=1):
    """The labelled images, as bytes, and their labels, which each step takes."""
    model, taken = small(), []
    step = model.step
    model.step = lambda *a: taken.append((a[2][0].tolist(), a[2][1].tolist())) or step(*a)
    list(npaae.train(model, IMAGES, labels=labels, epochs=epochs, batch_size=batch_size))
    return taken


@pytest.mark.parametrize("batch_size", [10, 7])
def test_each_step_takes_all_labelled_images_that_fit_into_a_batch(batch_size):
    known = LABELLED >= 0
    expected = IMAGES.reshape(25, 9)[known].tolist(), LABELLED[known].tolist()
    assert examples_of_steps(LABELLED, batch_size) == [expected] * -(-25 // batch_size)


def test_each_step_takes_a_batch_of_more_labelled_images_each_with_its_label():
    rows = IMAGES.reshape(25, 9).tolist()
    place = {tuple(row): label for row, label in zip(rows, LABELLED, strict=True)}
    for images, labels in examples_of_steps(LABELLED, 6):  # the last batch has a single image
        assert len(images) == 6
        assert [place[tuple(image)] for image in images] == labels


def test_every_labelled_image_is_taken_and_epochs_take_different_ones():
    steps = examples_of_steps(LABELLED, 1, epochs=4)
    assert {tuple(image) for (image,), _ in steps} == {
        *map(tuple, IMAGES.reshape(25, 9)[LABELLED >= 0].tolist())
    }
    assert steps[:25] != steps[25:50]


def test_training_learns_the_labels_of_separable_images():
    images = np.kron(np.eye(3), np.ones(3)).repeat(20, axis=0)
    labels = np.arange(3).repeat(20)
    model = small(latent=1, lr_classification=0.01)
    few = np.where(np.arange(60) % 20 == 0, labels, -1)
    list(npaae.train(model, images, labels=few, epochs=40, batch_size=20))
    assert np.mean(model.classify(images) == labels) > 0.95


def test_training_without_labels_finds_separable_images():
    images = np.kron(np.eye(3), np.ones(3)).repeat(20, axis=0)
    model = small(latent=1, information_weight=1.0, lr_smoothness=0.01, perturbation=0.5)
    list(npaae.train(model, images, epochs=40, batch_size=20))
    found = model.classify(images).reshape(3, 20)
    assert sorted(found[:, 0]) == [0, 1, 2]
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize("options", [{}, {"head_distance": 1.0}, {"joint": True}])
def test_a_loaded_model_trains_on_as_if_it_had_never_stopped(tmp_path, options):
    whole, half = (small(dtype="float32", **options) for _ in range(2))
    arguments = {"labels": LABELLED, "batch_size": 10}
    *_, expected = npaae.train(whole, IMAGES, epochs=4, **arguments)
    list(npaae.train(half, IMAGES, epochs=2, **arguments))
    half.save(tmp_path / "model.npz")
    resumed = CategoricalAutoencoder.load(tmp_path / "model.npz")
    *_, record = npaae.train(resumed, IMAGES, epochs=2, **arguments)
    assert record._replace(seconds=0) == expected._replace(seconds=0)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array)
    np.testing.assert_array_equal(resumed.encode(X), whole.encode(X))


def test_its_configuration_makes_the_same_model_again():
    model = small(noise=0.1, beta1=0.7, lr_discriminator=2e-4, head_distance=1.0)
    config = json.loads(json.dumps(model.config))
    again = CategoricalAutoencoder(**config | {"prior": model.prior})
    assert again.config == model.config
    np.testing.assert_array_equal(again.theta, model.theta)
    rates = [(a.learning_rate, a.beta1) for a in model.adams().values()]
    assert [(a.learning_rate, a.beta1) for a in again.adams().values()] == rates
    assert rates == [(5e-4, 0.9), (2e-4, 0.7), (5e-4, 0.7), (5e-4, 0.9), (5e-4, 0.9)]


def test_its_configuration_is_its_arguments():
    table = {  # the default of each argument, and another value
        "hidden": ((1000, 1000), (7, 5)), "categories": (10, 3), "latent": (10, 2),
        "visible": (784, 9), "noise": (0.3, 0.1), "head_distance": (0.0, 1.0),
        "perturbation": (2.0, 1.0), "information_weight": (0.0, 0.5), "joint": (False, True),
        "dropout": (0.0, 0.3), "discriminator_dropout": (0.2, 0.4),
        "lr_reconstruction": (5e-4, 1e-3), "lr_discriminator": (1e-4, 2e-3),
        "lr_generator": (5e-4, 3e-3), "lr_classification": (5e-4, 4e-3),
        "lr_smoothness": (5e-4, 6e-3),
        "beta1": (0.5, 0.7), "dtype": ("float32", "float64"), "seed": (0, 5),
    }  # fmt: skip
    defaults, others = ({name: pair[i] for name, pair in table.items()} for i in (0, 1))
    for arguments, given in ((defaults, {}), (others, others)):
        config = dict(CategoricalAutoencoder(**given).config)
        assert dict(config.pop("prior"))["std"] == 1.0
        assert config == arguments


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("categories", 0),
        ("noise", -0.1),
        ("head_distance", float("nan")),
        ("perturbation", -1.0),
        ("information_weight", float("inf")),
        ("information_weight", "much"),
        ("lr_discriminator", 0.0),
        ("lr_generator", 2.0),
        ("lr_classification", "fast"),
        ("lr_smoothness", 0),
        ("joint", "no"),
        ("beta1", 1.0),
    ],
)
def test_an_argument_outside_its_range_is_refused_by_name(argument, value):
    with pytest.raises(InvalidInput, match=f"^{argument} must"):
        small(**{argument: value})


def test_the_weight_of_a_phase_that_is_left_out_is_refused():
    with pytest.raises(InvalidInput, match=r"^information_weight must"):
        small(perturbation=0, information_weight=0.5)


def test_a_subclass_that_passes_its_arguments_on_is_loaded(tmp_path):
    class Passing(CategoricalAutoencoder):
        def __init__(self, **arguments):
            super().__init__(**arguments)

    Passing(hidden=(7, 5), visible=9).save(tmp_path / "model.npz")
    assert Passing.load(tmp_path / "model.npz").categories == 10


def test_several_ranks_are_refused_by_load_as_the_callers_mistake(tmp_path):
    small().save(tmp_path / "model.npz")
    with pytest.raises(InvalidInput, match=r"^comm must be None"):
        CategoricalAutoencoder.load(tmp_path / "model.npz", comm=Rank())


def test_the_phases_have_gradients_with_dropout_off(rng):
    model = small()
    direction = rng.standard_normal(model.reconstruction_adam.parameters.size)
    start = model.reconstruction_adam.parameters.copy()

    def loss(parameters):
        model.reconstruction_adam.parameters[:] = parameters
        return model.reconstruction_gradient(X, None)

    loss(start)
    gradient = model.reconstruction_adam.gradient.copy()
    assert gradcheck.along(loss, start, gradient, direction) < 1e-6


def test_a_file_of_one_kind_of_model_is_not_loaded_as_the_other(tmp_path, small_model):
    small().save(tmp_path / "a.npz")
    small_model().save(tmp_path / "b.npz")
    with pytest.raises(npaae.BadFile, match="not AdversarialAutoencoder"):
        npaae.AdversarialAutoencoder.load(tmp_path / "a.npz")
    with pytest.raises(npaae.BadFile, match="not CategoricalAutoencoder"):
        CategoricalAutoencoder.load(tmp_path / "b.npz")


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"head_distance": 1.0}, {"joint": True}])
def test_training_is_the_same_on_the_device(monkeypatch, options):
    monkeypatch.setattr(npaae.backend, "_cupy_on_a_gpu", lambda: strict_device.device)
    models = [small(backend=name, **options) for name in ("numpy", "cupy")]
    assert isinstance(models[1].theta, DeviceArray)
    ours, theirs = (
        [record._replace(seconds=0) for record in npaae.train(
            model, IMAGES, labels=LABELLED, test_images=IMAGES, epochs=2, batch_size=5
        )]
        for model in models
    )  # fmt: skip
    assert ours == theirs
    np.testing.assert_array_equal(*(model.encode(X) for model in models))
