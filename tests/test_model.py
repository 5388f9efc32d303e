"""The model: what it is made of, what it refuses, and its use after training."""

import numpy as np
import pytest

from npaae import AdversarialAutoencoder, CategoricalAutoencoder, InvalidInput, priors
from npaae.backend import SAMPLE, random_stream

from .memory import at_most

NETWORKS = ("encoder", "decoder", "discriminator")


def owners(model, name):
    """The layers of a network that have parameters."""
    return [layer for layer in getattr(model, name).layers if hasattr(layer, "parameters")]


# Construction


def test_the_networks_are_the_reports():
    model = AdversarialAutoencoder()
    assert {name: [layer.W.shape for layer in owners(model, name)] for name in NETWORKS} == {
        "encoder": [(784, 256), (256, 128), (128, 2)],
        "decoder": [(2, 128), (128, 256), (256, 784)],
        "discriminator": [(2, 256), (256, 128), (128, 1)],
    }
    assert (model.xp, model.epoch, model.theta.dtype) == (np, 0, np.float32)


def test_the_arguments_left_out_are_the_documented_ones():
    assert AdversarialAutoencoder().config == {
        "hidden": (256, 128), "latent": 2, "visible": 784, "classes": 0,
        "prior": {"name": "gaussian", "std": 5.0}, "dropout": 0.25, "discriminator_dropout": 0.2,
        "lr_reconstruction": 5e-4, "lr_regularization": 1e-4, "dtype": "float32", "seed": 0,
    }  # fmt: skip


def test_a_models_repr_says_what_it_is_in_a_line():
    assert repr(AdversarialAutoencoder(prior=priors.gaussian(std=2.0), hidden=(256, 128))) == (
        "AdversarialAutoencoder(784-256-128-2, prior gaussian(std=2.0), epoch 0, "
        "502,803 parameters)"
    )
    assert "(9-7-12, 10 categories, prior half, " in repr(
        CategoricalAutoencoder(hidden=(7,), visible=9, latent=2, prior=half)
    )
    assert "(9-7-2, 3 classes, prior " in repr(
        AdversarialAutoencoder(hidden=(7,), visible=9, classes=3, prior=priors.swiss_roll())
    )


def test_each_of_more_images_than_16_bits_can_count_is_encoded():
    model = AdversarialAutoencoder(hidden=(1,), visible=1, latent=1)
    images = np.arange(2**16 + 1, dtype=np.float32)[:, None] / 2**17
    np.testing.assert_array_equal(model.encode(images)[-9:], model.encode(images[-9:]))


def half(rng, n, dim):
    return abs(rng.standard_normal((n, dim)))


def test_the_smallest_model_has_one_of_everything():
    model = AdversarialAutoencoder(hidden=(1,), latent=1, visible=1)
    assert model.sample(1, seed=0).shape == (1, 1)


@pytest.mark.parametrize(("vector", "prefix"), [("theta", ""), ("gradient", "d")])
def test_every_parameter_is_a_view_of_a_flat_vector_in_order(small_model, vector, prefix):
    model = small_model()
    flat = getattr(model, vector)
    flat[:] = np.arange(flat.size)
    views = [
        getattr(layer, prefix + name).ravel()
        for network in NETWORKS
        for layer in owners(model, network)
        for name in layer.parameters
    ]
    np.testing.assert_array_equal(np.concatenate(views), flat)
    assert all(np.shares_memory(view, flat) for view in views)


def test_each_optimiser_owns_all_of_its_networks_and_nothing_else(small_model):
    model = small_model()
    encoder, decoder, discriminator = (getattr(model, name).size for name in NETWORKS)
    assert encoder + decoder + discriminator == model.theta.size
    for adam, start, stop in (
        (model.reconstruction_adam, 0, encoder + decoder),
        (model.discriminator_adam, encoder + decoder, model.theta.size),
        (model.generator_adam, 0, encoder),
    ):
        for view, flat in ((adam.parameters, model.theta), (adam.gradient, model.gradient)):
            flat[:] = 0
            view[:] = 1
            np.testing.assert_array_equal(np.flatnonzero(flat), np.arange(start, stop))


def test_a_dtype_may_be_numpys_own_object(small_model):
    model = small_model(dtype=np.dtype("float32"))
    assert (model.theta.dtype, model.config["dtype"]) == (np.float32, "float32")


def test_float32_and_float64_start_alike(small_model):
    single, double = small_model(dtype="float32"), small_model()
    np.testing.assert_array_equal(single.theta, double.theta.astype(np.float32))


def test_no_two_weights_start_alike(small_model):
    assert len(np.unique(small_model(hidden=(7, 7)).theta)) == small_model(hidden=(7, 7)).theta.size


def test_another_seed_gives_other_weights(small_model):
    np.testing.assert_array_equal(small_model(seed=1).theta, small_model(seed=1).theta)
    assert not np.any(small_model(seed=1).theta == small_model(seed=2).theta)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("hidden", [(), "256", 256, (256, 0), (2.5,), np.array([8, 4])]),
        ("latent", [0, 2.0]),
        ("visible", [-1, "784"]),
        ("classes", [-1, 2.5]),
        ("dropout", [1.0]),
        ("discriminator_dropout", ["half"]),
        ("lr_reconstruction", [0]),
        ("lr_regularization", [1.5]),
        ("dtype", ["float16", np.zeros(2), None]),
        ("seed", [-1, 0.5]),
        ("backend", ["jax", np.zeros(2)]),
    ],
)
def test_an_argument_outside_its_range_is_refused_by_name(argument, values):
    for value in values:
        with pytest.raises(InvalidInput, match=rf"^{argument}\b.* must"):
            AdversarialAutoencoder(**{argument: value})


def test_a_dropout_that_rounds_to_1_is_refused():
    with pytest.raises(InvalidInput, match=r"^rate must"):
        AdversarialAutoencoder(dropout=1 - 1e-9)


@pytest.mark.parametrize(
    "sizes", [{"hidden": (10**20,)}, {"latent": 10**15}, {"visible": 10**15}, {"visible": 2**55}]
)
def test_more_parameters_than_memory_holds_are_refused(sizes):
    with pytest.raises(InvalidInput, match=r"^hidden, latent and visible must"):
        AdversarialAutoencoder(**sizes)


def test_an_error_in_a_users_own_layers_is_not_taken_for_a_lack_of_memory():
    class Own(AdversarialAutoencoder):
        def network(self, sizes, dropout):
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match=r"^a mistake$"):
        Own()


# The prior


@pytest.mark.parametrize(
    "prior",
    [
        "gaussian",
        priors.gaussian,  # the class, not a prior of it
        priors.gaussian(std=1e300),  # infinite in float32
        lambda rng, n, dim: np.zeros((n, dim + 1)),
        lambda rng, n, dim: np.full((n, dim), 1j),
        lambda rng, n, dim: [[1.0], [2.0, 3.0]],
        lambda rng, n, dim: [["a", "b"]] * n,
        lambda rng, n, dim: np.full((n, dim), np.nan),
        lambda rng, n, dim: None,
    ],
)
def test_what_does_not_draw_samples_is_refused_at_construction(prior):
    with pytest.raises(InvalidInput, match=r"^prior must"):
        AdversarialAutoencoder(prior=prior)


def test_a_prior_that_fails_for_some_n_only_is_refused_when_it_does(small_model, rng):
    model = small_model(prior=lambda rng, n, dim: rng.standard_normal((min(n, 5), dim)))
    with pytest.raises(InvalidInput, match=r"^prior must"):
        model.step(np.full((6, 9), 0.5), rng)
    with pytest.raises(InvalidInput, match=r"^prior must"):
        model.sample(6)


def test_samples_that_are_not_finite_are_refused(small_model):
    model = small_model(prior=lambda rng, n, dim: np.full((n, dim), np.nan if n > 2 else 0.0))
    with pytest.raises(InvalidInput, match=r"^prior must"):
        model.sample(3)


def test_a_prior_of_the_users_own_is_tried_on_the_same_draws_every_time(small_model):
    drawn = []
    for _ in range(2):
        small_model(prior=lambda rng, n, dim: drawn.append(rng.random()) or np.zeros((n, dim)))
    assert drawn[0] == drawn[1]


# Use


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", ["encode", "reconstruct"])
def test_images_mean_the_same_in_every_accepted_form(small_model, pixels, method):
    use = getattr(small_model(), method)
    expected = use(pixels)
    rows, squares = pixels.reshape(5, 9), pixels / 255
    for same in (rows, squares, squares.reshape(5, 9), squares.tolist(), rows[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(use(same), expected)


def test_images_that_are_not_square_are_rows(small_model):
    assert small_model(visible=8).encode(np.zeros((2, 8))).shape == (2, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_comes_out_is_numpy_of_the_models_type(small_model, pixels, dtype):
    model, codes = small_model(dtype=dtype), [[0.0, 1.0]]
    for use, width in (
        (lambda: model.encode(pixels), 2),
        (lambda: model.reconstruct(pixels), 9),
        (lambda: model.decode(codes), 9),
        (lambda: model.sample(4), 9),
        (lambda: model.sample_prior(4), 2),
    ):
        result = use()
        assert (type(result), result.dtype, result.shape[1]) == (np.ndarray, dtype, width)


def test_reconstruct_is_decode_after_encode(small_model, pixels):
    model = small_model()
    expected = model.decode(model.encode(pixels))
    np.testing.assert_allclose(model.reconstruct(pixels), expected, rtol=1e-12)


def test_many_images_have_the_codes_that_each_has_alone(small_model):
    model, many = small_model(), np.random.default_rng(0).random((2001, 9))
    codes = model.encode(many)
    for i in (0, 999, 1000, 2000):
        np.testing.assert_allclose(model.encode(many[i : i + 1]), codes[i : i + 1], rtol=1e-12)
    assert codes.shape == (2001, 2)


def test_many_images_are_encoded_in_the_memory_of_a_thousand(small_model):
    model = small_model(hidden=(100,))
    with at_most(4e6):  # all activations at once are 16 MB
        assert model.encode(np.zeros((20_000, 9), np.uint8)).shape == (20_000, 2)


def test_samples_are_decoded_draws_from_the_prior_by_their_seed(small_model):
    model = small_model()
    codes = model.prior(random_stream(np, 1, SAMPLE), 4, 2)
    np.testing.assert_array_equal(model.sample_prior(4, seed=1), codes)
    np.testing.assert_array_equal(model.sample(4, seed=1), model.decode(codes))


def test_another_seed_or_none_draws_other_samples(small_model):
    model = small_model()
    draws = [model.sample_prior(1, seed=seed).tolist() for seed in (1, 2, None, None)]
    assert len(set(map(str, draws))) == 4


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 10)), np.zeros((2, 9), int), np.full((2, 9), 1.001), [[0.5, 0.5], [0.5]]],
    ids=["shape", "type", "range", "ragged"],
)
@pytest.mark.parametrize("method", ["encode", "reconstruct"])
def test_what_is_not_a_batch_of_images_is_refused(small_model, method, images):
    with pytest.raises(InvalidInput, match=r"^images must"):
        getattr(small_model(), method)(images)


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((2, 3)),
        np.zeros(2),
        np.zeros((0, 2)),
        [[np.nan, 0]],
        [["a", "b"]],
        [[1, 2], [3]],
        [[1e300, 0]],  # infinite in float32
    ],
)
def test_what_are_not_codes_is_refused(small_model, codes):
    with pytest.raises(InvalidInput, match=r"^codes must"):
        small_model(dtype="float32").decode(codes)


@pytest.mark.parametrize("method", ["sample", "sample_prior"])
@pytest.mark.parametrize(
    ("n", "seed", "name"), [(0, 1, "n"), (1.5, 1, "n"), (1, -1, "seed"), (1, "a", "seed")]
)
def test_sampling_refuses_counts_and_seeds_outside_their_range(small_model, method, n, seed, name):
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        getattr(small_model(), method)(n, seed=seed)
