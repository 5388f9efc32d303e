import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npaae import gradcheck
from npaae.layers import Dense, Dropout, ReLU
from npaae.network import parameter_count, perceptron

from .strategies import off_kinks, seeds, sizes

SIZES = (6, 5, 4, 3)


@pytest.fixture
def flat(rng):
    theta = rng.standard_normal(parameter_count(SIZES))
    return theta, np.full_like(theta, np.nan)


def test_parameter_count_is_weights_plus_biases():
    assert parameter_count((784, 256, 128, 2)) == 784 * 256 + 256 + 256 * 128 + 128 + 128 * 2 + 2


def test_a_perceptron_has_relu_and_dropout_after_all_but_the_last_layer(flat):
    kinds = [type(layer) for layer in perceptron(np, SIZES, 0.2, *flat).layers]
    assert kinds == [Dense, ReLU, Dropout, Dense, ReLU, Dropout, Dense]


def test_the_parameters_are_views_of_the_flat_vector_in_order(flat):
    theta, _ = flat
    theta[:] = np.arange(theta.size)
    first, *_, last = [layer for layer in perceptron(np, SIZES, 0.2, *flat).layers if isinstance(layer, Dense)]
    np.testing.assert_array_equal(first.W, np.arange(30).reshape(6, 5))
    np.testing.assert_array_equal(first.b, np.arange(30, 35))
    assert last.b[-1] == theta.size - 1
    theta[0] = -7
    assert first.W[0, 0] == -7


@given(seeds, st.lists(sizes, min_size=2, max_size=5), st.floats(0, 0.6))
def test_the_parameter_gradient_agrees_with_finite_differences_with_dropout_on(seed, layer_sizes, rate):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(parameter_count(layer_sizes))
    gradient = np.full_like(theta, np.nan)
    network, x = perceptron(np, layer_sizes, rate, theta, gradient), rng.standard_normal((4, layer_sizes[0]))
    cotangent = rng.standard_normal((4, layer_sizes[-1]))

    def loss(theta):
        other = perceptron(np, layer_sizes, rate, theta, np.empty_like(theta))
        return np.vdot(cotangent, other.forward(x, np.random.default_rng(seed))[0])

    _, caches = network.forward(x, np.random.default_rng(seed))
    network.backward(cotangent, caches)
    assert off_kinks(gradcheck.elementwise, loss, theta, gradient) < 1e-7


@given(seeds, st.lists(sizes, min_size=2, max_size=5), st.floats(0, 0.6))
def test_the_input_gradient_agrees_with_finite_differences_with_dropout_on(seed, layer_sizes, rate):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(parameter_count(layer_sizes))
    network, x = perceptron(np, layer_sizes, rate, theta, np.empty_like(theta)), rng.standard_normal((4, layer_sizes[0]))
    assert off_kinks(gradcheck.layer, network, x, seed=seed) < 1e-7


def test_a_frozen_network_passes_the_same_gradient_and_writes_none(flat, rng):
    theta, gradient = flat
    network = perceptron(np, SIZES, 0.4, theta, gradient)
    _, caches = network.forward(rng.standard_normal((8, 6)), rng)
    dy = rng.standard_normal((8, 3))
    frozen = network.backward(dy, caches, parameters=False)
    assert np.isnan(gradient).all()
    np.testing.assert_array_equal(frozen, network.backward(dy, caches))
    assert np.isfinite(gradient).all()


def test_without_inputs_no_input_gradient_is_made_and_the_parameters_are_the_same(flat, rng):
    theta, gradient = flat
    network = perceptron(np, SIZES, 0.4, theta, gradient)
    _, caches = network.forward(rng.standard_normal((8, 6)), rng)
    dy = rng.standard_normal((8, 3))
    network.backward(dy, caches)
    expected = gradient.copy()
    gradient[:] = np.nan
    assert network.backward(dy, caches, inputs=False) is None
    np.testing.assert_array_equal(gradient, expected)


def test_a_gradient_overwrites_the_one_before(flat, rng):
    theta, gradient = flat
    network = perceptron(np, SIZES, 0, theta, gradient)
    _, caches = network.forward(rng.standard_normal((8, 6)))
    network.backward(np.zeros((8, 3)), caches)
    np.testing.assert_array_equal(gradient, 0)
