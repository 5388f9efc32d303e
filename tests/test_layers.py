"""What the audit's rows of the layers leave open: known values, types, edges and networks."""

import numpy as np
import pytest
from hypothesis import given

from npaae.categorical.layers import BatchNorm
from npaae.errors import InvalidInput
from npaae.layers import (
    Dense,
    Dropout,
    ReLU,
    Sequential,
    Sigmoid,
    flatten,
    named_parameters,
    parameter_count,
    perceptron,
    sigmoid,
)

from .strategies import rates, seeds, shapes, sizes

SIZES = (6, 5, 4, 3)


def dense(rng, fan_in, fan_out, dtype=np.float64):
    W, b = rng.standard_normal((fan_in, fan_out)), rng.standard_normal(fan_out)
    return Dense(np, W.astype(dtype), b.astype(dtype))


def test_dense_has_the_values_and_gradients_worked_out_by_hand():
    layer = Dense(np, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0]))
    x, dy = np.array([[1.0, 1.0], [0.0, -1.0]]), np.array([[1.0, 0.0], [0.0, 10.0]])
    y, cache = layer.forward(x)
    layer.parameter_gradients(dy, cache)
    np.testing.assert_array_equal(y, [[14, 26], [7, 16]])
    np.testing.assert_array_equal(layer.backward(dy, cache), [[1, 3], [20, 40]])
    np.testing.assert_array_equal(layer.dW, [[1, 0], [1, -10]])
    np.testing.assert_array_equal(layer.db, [1, 10])


def test_dense_draws_its_weights_alike_in_both_types():
    wide, narrow = (Dense(np, np.empty((9, 5), t), np.empty(5, t)) for t in (float, np.float32))
    for layer in (wide, narrow):
        layer.initialise(np.random.default_rng(1))
    np.testing.assert_array_equal(narrow.W, wide.W.astype(np.float32))
    np.testing.assert_array_equal(narrow.b, wide.b.astype(np.float32))


def test_relu_passes_positives_and_its_derivative_at_zero_is_zero():
    y, cache = ReLU(np).forward(np.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(y, [0, 0, 2])
    np.testing.assert_array_equal(ReLU(np).backward(np.array([5.0, 5.0, 5.0]), cache), [0, 0, 5])


def test_sigmoid_has_its_known_values():
    x = np.array([0.0, np.log(3), -np.log(3)])
    np.testing.assert_allclose(sigmoid(np, x), [0.5, 0.75, 0.25], rtol=1e-15)


def test_sigmoid_of_huge_numbers_neither_overflows_nor_loses_the_small_side():
    with np.errstate(all="raise", under="ignore"):
        y = sigmoid(np, np.array([-1e4, -80.0, 80.0, 1e4], np.float32))
    np.testing.assert_array_equal(y[[0, 2, 3]], [0, 1, 1])
    np.testing.assert_allclose(y[1], np.exp(-80), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.75, 0.25, 1 - 2**-16])
def test_dropout_scales_what_it_keeps_to_the_last_bit(rate, dtype, rng):
    y, _ = Dropout(np, rate).forward(np.ones(2**18, dtype), rng)
    assert set(y.tolist()) == {0.0, dtype(1 / (1 - rate))}


def test_dropout_rounds_its_rate_to_a_multiple_of_one_in_65536(rng):
    y, _ = Dropout(np, 0.1).forward(np.ones(1000), rng)
    assert y.max() == 65536 / (65536 - 6554)


@pytest.mark.parametrize("rate", [0, 2**-18])
def test_dropout_at_rate_zero_draws_nothing(rate, rng):
    x, before = np.arange(3.0), rng.bit_generator.state
    y, cache = Dropout(np, rate).forward(x, rng)
    np.testing.assert_array_equal(y, x)
    assert cache is None
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, np.nan, "0.5", 1 - 2**-18])
def test_dropout_refuses_a_rate_that_is_not_a_fraction(rate):
    with pytest.raises(InvalidInput, match=r"^rate must"):
        Dropout(np, rate)


def test_dropout_refuses_integers_whose_scale_would_be_rounded(rng):
    with pytest.raises(InvalidInput, match=r"^x must"):
        Dropout(np, 0.25).forward(np.ones(3, int), rng)
    assert Dropout(np, 0.25).forward(np.ones(3, int))[0].tolist() == [1, 1, 1]  # off, all is well


@given(seeds, shapes, sizes, rates)
def test_in_float32_every_gradient_is_float64s_to_its_precision(seed, shape, fan_out, rate):
    rng = np.random.default_rng(seed)
    wide = dense(rng, shape[1], fan_out)
    narrow = Dense(np, wide.W.astype(np.float32), wide.b.astype(np.float32))
    x, dy = rng.standard_normal(shape), rng.standard_normal((shape[0], fan_out))
    pairs = [(wide, narrow, dy)]
    pairs += [(layer, layer, x) for layer in (Sigmoid(np), Dropout(np, rate))]
    for layer, single, output in pairs:
        _, cache = layer.forward(x, np.random.default_rng(seed))
        expected = layer.backward(output, cache)
        _, cache = single.forward(x.astype(np.float32), np.random.default_rng(seed))
        found = single.backward(output.astype(np.float32), cache)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layer_keeps_the_type_and_leaves_its_arguments_alone(dtype, rng):
    for layer in (dense(rng, 4, 4, dtype), ReLU(np), Sigmoid(np), Dropout(np, 0.3)):
        x, dy = rng.standard_normal((2, 3, 4)).astype(dtype)
        x.flags.writeable = dy.flags.writeable = False
        y, cache = layer.forward(x, rng)
        assert y.dtype == layer.backward(dy, cache).dtype == dtype


def test_parameters_are_named_by_their_place_in_nested_networks(rng):
    network = Sequential([dense(rng, 4, 3), ReLU(np), Sequential([dense(rng, 3, 2)])])
    assert [label for label, *_ in named_parameters(network)] == ["0.W", "0.b", "2.0.W", "2.0.b"]
    assert network.size == 4 * 3 + 3 + 3 * 2 + 2


def test_flatten_makes_every_parameter_and_gradient_a_view_of_one_vector(rng):
    networks = [Sequential([dense(rng, 6, 5), ReLU(np)]), Sequential([dense(rng, 5, 2)])]
    first, last = networks[0].layers[0], networks[1].layers[0]
    expected = np.concatenate([first.W.ravel(), first.b, last.W.ravel(), last.b])
    theta, gradient = flatten(np, networks)
    np.testing.assert_array_equal(theta, expected)
    np.testing.assert_array_equal(gradient, 0)
    theta[:] = gradient[:] = np.arange(theta.size)
    for matrix, vector in ((first.W, first.b), (first.dW, first.db)):
        np.testing.assert_array_equal(matrix, np.arange(30).reshape(6, 5))
        np.testing.assert_array_equal(vector, np.arange(30, 35))
    last.db[:] = -7
    assert gradient[-2:].tolist() == [-7, -7]


# Networks


@pytest.fixture
def trained_once(rng):
    """A perceptron after a forward pass: it, its flat gradient, the caches and a cotangent."""
    network = perceptron(np, SIZES, 0.4, np.float64)
    theta, gradient = flatten(np, [network])
    theta[:], gradient[:] = rng.standard_normal(theta.size), np.nan
    _, caches = network.forward(rng.standard_normal((8, 6)), rng)
    return network, gradient, caches, rng.standard_normal((8, 3))


def test_a_perceptron_has_relu_and_dropout_after_all_but_the_last_layer():
    kinds = [type(layer) for layer in perceptron(np, SIZES, 0.2, np.float32).layers]
    assert kinds == [Dense, ReLU, Dropout, Dense, ReLU, Dropout, Dense]


def test_the_parameter_count_is_weights_plus_biases():
    expected = 784 * 256 + 256 + 256 * 128 + 128 + 128 * 2 + 2
    assert parameter_count((784, 256, 128, 2)) == expected
    assert perceptron(np, (784, 256, 128, 2), 0, np.float32).size == expected


def test_a_network_initialises_its_layers_in_order():
    network, rng = perceptron(np, SIZES, 0.2, np.float64), np.random.default_rng(2)
    network.initialise(np.random.default_rng(2))
    for layer in network.layers[::3]:
        W, b = layer.W.copy(), layer.b.copy()
        layer.initialise(rng)
        np.testing.assert_array_equal(layer.W, W)
        np.testing.assert_array_equal(layer.b, b)


def test_a_frozen_network_passes_the_same_gradient_and_writes_none(trained_once):
    network, gradient, caches, dy = trained_once
    frozen = network.backward(dy, caches, parameters=False)
    assert np.isnan(gradient).all()
    np.testing.assert_array_equal(frozen, network.backward(dy, caches))
    assert np.isfinite(gradient).all()


def test_without_inputs_the_parameters_have_the_same_gradient(trained_once):
    network, gradient, caches, dy = trained_once
    network.backward(dy, caches)
    expected = gradient.copy()
    gradient[:] = np.nan
    assert network.backward(dy, caches, inputs=False) is None
    np.testing.assert_array_equal(gradient, expected)


def by_columns(make, x, dy):
    """(y, dx, statistics) of a layer of x's width, side by side with those of its columns."""
    whole, pieces = make(x.shape[1]), [make(1) for _ in x.T]

    def passes(layer, x, dy):
        y, cache = layer.forward(x, np.random.default_rng(0))
        return [y, layer.backward(dy, cache), *(getattr(layer, n) for n in layer.statistics)]

    columns = [passes(one, x[:, [k]], dy[:, [k]]) for k, one in enumerate(pieces)]
    return passes(whole, x, dy), [
        np.concatenate(parts, axis=-1) for parts in zip(*columns, strict=True)
    ]


@pytest.mark.parametrize("make", [ReLU, Sigmoid, BatchNorm])
def test_a_layer_of_a_thousand_columns_is_each_of_them(make, rng):
    def made(k):
        layer = make(np, k, float) if make is BatchNorm else make(np)
        layer.statistics = getattr(layer, "statistics", ())
        return layer

    for whole, columns in zip(*by_columns(made, *rng.standard_normal((2, 600, 1100))), strict=True):
        np.testing.assert_allclose(whole, columns, rtol=1e-9, atol=1e-12)


def test_a_nested_network_computes_no_gradient_that_nobody_needs(rng, monkeypatch):
    network = Sequential([perceptron(np, (3, 4), 0.0, float), ReLU(np)])
    network.initialise(rng)
    y, caches = network.forward(rng.standard_normal((5, 3)))
    monkeypatch.delattr(Dense, "backward")
    assert network.backward(y, caches, inputs=False) is None


def test_every_parameter_of_a_perceptron_has_the_type_asked_for():
    network = perceptron(np, (3, 4, 2), 0.5, np.float32)
    parameters = [getattr(layer, name) for _, layer, name in named_parameters(network)]
    assert [parameter.dtype for parameter in parameters] == [np.float32] * 4
