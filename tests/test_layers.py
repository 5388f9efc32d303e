import numpy as np
import pytest
from hypothesis import given

from npaae import gradcheck, layers
from npaae.errors import InvalidInput
from npaae.layers import Dense, Dropout, ReLU, Sigmoid, sigmoid

from .strategies import off_kinks, rates, scales, seeds, shapes, sizes


def dense(rng, fan_in, fan_out):
    return Dense(np, rng.standard_normal((fan_in, fan_out)), rng.standard_normal(fan_out))


def test_dense_computes_xw_plus_b():
    layer = Dense(np, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0]))
    y, _ = layer.forward(np.array([[1.0, 1.0], [0.0, -1.0]]))
    np.testing.assert_array_equal(y, [[14, 26], [7, 16]])


def test_dense_gradients_are_the_ones_worked_out_by_hand():
    layer = Dense(np, np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2))
    x, dy = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 10.0]])
    layer.parameter_gradients(dy, x)
    np.testing.assert_array_equal(layer.backward(dy, x), [[1, 3], [20, 40]])
    np.testing.assert_array_equal(layer.dW, [[1, 30], [2, 40]])
    np.testing.assert_array_equal(layer.db, [1, 10])


# Each of the following projects the layer's output onto a random cotangent dy of order one, and compares every element of
# the gradient of ⟨dy, y⟩ with its central difference.


@given(seeds, shapes, sizes, scales)
def test_dense_input_gradient_agrees_with_finite_differences(seed, shape, fan_out, scale):
    rng = np.random.default_rng(seed)
    assert gradcheck.layer(dense(rng, shape[1], fan_out), scale * rng.standard_normal(shape)) < 1e-7


@pytest.mark.parametrize("name", ["W", "b"])
@given(seeds, shapes, sizes)
def test_dense_parameter_gradients_agree_with_finite_differences(name, seed, shape, fan_out):
    rng = np.random.default_rng(seed)
    layer, x = dense(rng, shape[1], fan_out), rng.standard_normal(shape)
    cotangent = rng.standard_normal((shape[0], fan_out))

    def loss(parameter):
        other = Dense(np, **({"W": layer.W, "b": layer.b} | {name: parameter}))
        return np.vdot(cotangent, other.forward(x)[0])

    layer.parameter_gradients(cotangent, layer.forward(x)[1])
    assert gradcheck.elementwise(loss, getattr(layer, name), getattr(layer, f"d{name}")) < 1e-7


def test_dense_starts_within_one_over_the_root_of_fan_in():
    layer = Dense(np, np.empty((16, 200)), np.empty(200))
    layer.initialise(np.random.default_rng(0))
    for parameter in (layer.W, layer.b):
        assert 0.24 < np.abs(parameter).max() <= 0.25
        assert abs(parameter.mean()) < 0.05


@given(seeds, shapes, scales)
def test_relu_gradient_agrees_with_finite_differences(seed, shape, scale):
    x = scale * np.random.default_rng(seed).standard_normal(shape)
    assert off_kinks(gradcheck.layer, ReLU(np), x) < 1e-7


def test_relu_passes_positives_and_its_derivative_at_zero_is_zero():
    layer = ReLU(np)
    y, cache = layer.forward(np.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(y, [0, 0, 2])
    np.testing.assert_array_equal(layer.backward(np.array([5.0, 5.0, 5.0]), cache), [0, 0, 5])


@given(seeds, shapes)
def test_sigmoid_gradient_agrees_with_finite_differences(seed, shape):
    assert gradcheck.layer(Sigmoid(np), np.random.default_rng(seed).standard_normal(shape)) < 1e-7


def test_sigmoid_has_its_known_values():
    np.testing.assert_allclose(sigmoid(np, np.array([0.0, np.log(3), -np.log(3)])), [0.5, 0.75, 0.25], rtol=1e-15)


def test_sigmoid_of_huge_logits_neither_overflows_nor_loses_the_small_side():
    y = sigmoid(np, np.array([-1e4, -80.0, 80.0, 1e4], np.float32))
    np.testing.assert_array_equal(y[[0, 2, 3]], [0, 1, 1])
    np.testing.assert_allclose(y[1], np.exp(-80), rtol=1e-5)


@given(seeds, shapes, rates, scales)
def test_dropout_gradient_agrees_with_finite_differences_while_it_drops(seed, shape, rate, scale):
    x = scale * np.random.default_rng(seed).standard_normal(shape)
    assert gradcheck.layer(Dropout(np, rate), x, seed=seed) < 1e-7


@pytest.mark.parametrize("rate", [0.2, 0.25, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
    x = np.ones(100_000)
    y, _ = Dropout(np, rate).forward(x, np.random.default_rng(0))
    assert abs(np.mean(y == 0) - rate) < 5 * np.sqrt(rate * (1 - rate) / x.size)
    assert abs(y.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / x.size)  # five standard deviations of the mean


def test_dropout_scales_what_it_keeps():
    y, _ = Dropout(np, 0.75).forward(np.ones(1000), np.random.default_rng(0))
    assert set(y) == {0.0, 4.0}


def test_dropout_without_a_generator_is_the_identity():
    layer, x = Dropout(np, 0.5), np.arange(3.0)
    y, cache = layer.forward(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(layer.backward(x, cache), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_a_rate_outside_zero_to_one(rate):
    with pytest.raises(InvalidInput, match=rf"^rate={rate} came; it must be a number of at least 0 and below 1$"):
        Dropout(np, rate)


def test_dropout_at_rate_zero_draws_nothing(rng):
    x, before = np.arange(3.0), rng.bit_generator.state
    y, cache = Dropout(np, 0).forward(x, rng)
    np.testing.assert_array_equal(y, x)
    assert cache is None
    assert rng.bit_generator.state == before


class Fixed:
    """A random generator whose numbers are known, and which knows what was asked of it."""

    def random(self, shape, dtype):
        self.asked = shape, dtype
        return np.array([0.0, 0.24, 0.25, 0.99], dtype)


def test_dropout_drops_where_a_float32_draw_is_below_the_rate():
    rng = Fixed()
    y, _ = Dropout(np, 0.25).forward(np.full(4, 3.0), rng)
    np.testing.assert_array_equal(y, [0, 0, 4, 4])
    assert rng.asked == ((4,), np.float32)  # in float64 too: so that both types see the same masks


@given(seeds, shapes, sizes, rates)
def test_in_float32_every_gradient_is_float64s_to_its_precision(seed, shape, fan_out, rate):
    rng = np.random.default_rng(seed)
    wide = dense(rng, shape[1], fan_out)
    narrow = Dense(np, wide.W.astype(np.float32), wide.b.astype(np.float32))
    x, dy = rng.standard_normal(shape), rng.standard_normal((shape[0], fan_out))
    for layer, single, output in ((wide, narrow, dy), *((layer, layer, x) for layer in (Sigmoid(np), Dropout(np, rate)))):
        results = []
        for checked, dtype in ((layer, np.float64), (single, np.float32)):
            _, cache = checked.forward(x.astype(dtype), np.random.default_rng(seed))
            results.append(checked.backward(output.astype(dtype), cache))
        assert results[1].dtype == np.float32
        assert gradcheck.relative_error(results[1], results[0]) < 1e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layer_keeps_the_type_and_leaves_its_arguments_alone(dtype):
    rng = np.random.default_rng(0)
    for layer in (
        Dense(np, rng.standard_normal((4, 4)).astype(dtype), np.zeros(4, dtype)),
        ReLU(np),
        Sigmoid(np),
        Dropout(np, 0.3),
    ):
        x, dy = rng.standard_normal((2, 3, 4)).astype(dtype)
        x.flags.writeable = dy.flags.writeable = False
        y, cache = layer.forward(x, rng)
        assert y.dtype == layer.backward(dy, cache).dtype == dtype


def test_a_second_forward_pass_does_not_spoil_the_first_ones_backward_pass():
    rng = np.random.default_rng(0)
    for layer in (dense(rng, 4, 4), ReLU(np), Sigmoid(np), Dropout(np, 0.5)):
        a, b, dy = rng.standard_normal((3, 5, 4))
        _, cache_a = layer.forward(a, rng)
        expected = layer.backward(dy, cache_a)
        layer.forward(b, rng)
        np.testing.assert_array_equal(layer.backward(dy, cache_a), expected)


def test_dropout_is_fused_by_the_array_module_that_computes(monkeypatch):
    asked = []
    monkeypatch.setattr(
        layers, "fused", lambda xp, chain: asked.append((xp, chain)) or (lambda *arguments: chain(xp, *arguments))
    )
    Dropout(np, 0.5).forward(np.ones((2, 2)), np.random.default_rng(0))
    assert asked == [(np, layers._drop)]
