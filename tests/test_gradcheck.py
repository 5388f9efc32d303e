"""A checker that cannot fail proves nothing: right gradients pass, wrong ones fail, and what cannot
be decided is refused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npaae import AdversarialAutoencoder, gradcheck
from npaae.errors import InvalidInput
from npaae.gradcheck import Kink, along, elementwise
from npaae.layers import Dense, Dropout, ReLU, Sequential, flatten, perceptron

from .layer_norm import LayerNorm
from .strategies import seeds

RIGHT, WRONG = 1e-6, 1e-3


def squares(x):
    return (x**2).sum()


def cubes(x):
    return (x**3).sum()


def relu_sum(x):
    return np.maximum(x, 0).sum()


@pytest.fixture
def point(rng):
    return rng.standard_normal((3, 4))


# Verdicts


@given(seeds, st.floats(-20, 20))
def test_a_right_gradient_passes_and_one_wrong_by_a_thousandth_does_not(seed, exponent):
    rng, scale = np.random.default_rng(seed), 10**exponent
    x, direction = rng.uniform(0.1, 2, 5), rng.standard_normal(5)
    right = scale * np.cos(x) * np.exp(np.sin(x))

    def f(x):
        return scale * np.exp(np.sin(x)).sum()

    wrong = right.copy()
    wrong[3] *= 1.01 if abs(x[3] - np.pi / 2) > 0.1 else 3  # f is flat at π/2
    assert elementwise(f, x, right) < RIGHT
    assert along(f, x, right, direction) < RIGHT
    error = elementwise(f, x, wrong)
    assert error > WRONG
    assert error.where == (3,)


def test_one_entry_wrong_by_a_thousandth_is_seen_and_named(point):
    wrong = 3 * point**2
    wrong[1, 2] *= 1.001
    error = elementwise(cubes, point, wrong)
    assert error == pytest.approx(0.001 / 2.001, rel=1e-3)
    assert error.where == (1, 2)


def test_a_reversed_sign_has_error_one_and_a_factor_of_two_a_third(point, rng):
    assert elementwise(cubes, point, -3 * point**2) == pytest.approx(1)
    assert elementwise(cubes, point, 6 * point**2) == pytest.approx(1 / 3)
    assert along(cubes, point, 6 * point**2, rng.standard_normal((3, 4))) == pytest.approx(1 / 3)


def test_a_wrong_small_element_cannot_hide_behind_large_right_ones():
    x = np.array([100, 0.01])
    error = elementwise(lambda x: (x**4).sum(), x, np.array([4e6, -0.3]))
    assert error > WRONG
    assert error.where == (1,)
    assert elementwise(lambda x: (x**4).sum(), x, 4 * x**3) < RIGHT


def test_a_gradient_that_is_truly_zero_passes_and_any_other_fails():
    for f, x in ((lambda x: 5.1, np.ones(2)), (cubes, np.zeros(2)), (relu_sum, -np.ones(2))):
        assert elementwise(f, x, np.zeros(2)) == 0
        assert elementwise(f, x, np.array([0, 1e-9])) > WRONG
    rounded = np.full(2, 1e-17)  # a 0, but for the rounding of a function of order one
    assert elementwise(lambda x: 5.1, np.ones(2), rounded) < RIGHT
    assert elementwise(lambda x: 1e12 + x.sum(), np.zeros(2), np.zeros(2)) > WRONG


def test_a_random_direction_sees_what_a_constant_one_does_not(point, rng):
    reversed_order = (3 * point**2)[::-1, ::-1]
    assert along(cubes, point, reversed_order, np.ones((3, 4))) < RIGHT
    assert along(cubes, point, reversed_order, rng.standard_normal((3, 4))) > WRONG


def test_the_length_of_a_direction_does_not_matter(point, rng):
    direction = rng.standard_normal(point.shape)
    for length in (1e-8, 1e8):
        assert along(cubes, point, 3 * point**2, length * direction) < RIGHT


# Steps


def test_functions_of_another_scale_are_judged_rightly():
    assert elementwise(lambda x: np.log(x).sum(), np.full(2, 1e-4), np.full(2, 1e4)) < RIGHT
    tiny = np.full(2, 1e-9)
    with pytest.raises((InvalidInput, Kink)):
        elementwise(lambda x: np.log(x).sum(), tiny, 1 / tiny)
    assert elementwise(lambda x: np.log(x).sum(), tiny, 1 / tiny, step=1e-11) < RIGHT
    assert along(lambda x: np.log(x).sum(), tiny, 1 / tiny, np.array([1, -2]), step=1e-11) < RIGHT
    assert elementwise(lambda x: np.log(x).sum(), tiny, 1.01 / tiny, step=1e-11) > WRONG


def test_the_step_grows_with_the_coordinate():
    x = np.array([1e6, 1.0])
    assert elementwise(squares, x, 2 * x) < RIGHT
    assert elementwise(squares, x, 2.01 * x) > WRONG


def test_a_value_that_almost_cancels_is_not_taken_for_noise():
    x = np.ones(2)
    assert elementwise(lambda x: squares(x) - 2 + 1e-13, x, 2 * x) < RIGHT


def test_one_large_coordinate_does_not_set_the_step_of_the_others(rng):
    x, direction = np.array([1e5, 0.3, 0.2]), rng.standard_normal(3)

    def f(x):
        return np.sin(100 * x[1:]).sum() + x[0]

    gradient = np.array([1, *(100 * np.cos(100 * x[1:]))])
    assert along(f, x, gradient, direction) < RIGHT
    assert elementwise(f, x, gradient) < RIGHT


def test_the_truncation_error_is_of_fourth_order_in_the_step():
    error = elementwise(lambda x: np.exp(x).sum(), np.zeros(3), np.ones(3), step=1e-4)
    assert error < 3e-11  # of second order, it would be 1e-10 at least


def test_a_domain_that_ends_beside_the_point_does_not_matter():
    x = np.full(2, 1e-6)
    assert elementwise(lambda x: np.sqrt(x).sum(), x, 0.5 / np.sqrt(x)) < RIGHT
    assert elementwise(lambda x: np.sqrt(-x).sum(), -x, -0.5 / np.sqrt(x)) < RIGHT


@pytest.mark.parametrize("step", [0, -1e-5, np.nan])
def test_a_step_that_leads_nowhere_is_refused(step, point):
    for check in (elementwise, along):
        with pytest.raises(InvalidInput, match=r"^step must"):
            check(cubes, point, *[point] * (1 + (check is along)), step=step)


def test_a_step_below_the_spacing_of_numbers_is_refused():
    with pytest.raises(InvalidInput, match=r"^step must"):
        elementwise(squares, np.array([1e20]), np.array([17.0]), step=1e-3)


def test_a_gradient_at_a_huge_point_is_not_passed_unseen():
    with pytest.raises(InvalidInput, match="step"):
        along(squares, np.array([1e20]), np.array([17.0]), np.ones(1))
    assert along(squares, np.array([1e12]), np.array([17.0]), np.ones(1)) > WRONG
    assert along(squares, np.array([1e20]), np.array([2e20]), np.ones(1), step=1e15) < RIGHT


# Kinks


@pytest.mark.parametrize("distance", [1e-4, -1e-6, 1e-7, 5e-9, -5e-9, -1e-8])
def test_a_kink_beside_the_point_does_not_matter(distance):
    x = np.array([-1.0, distance, 2.0])
    right = (x > 0).astype(float)
    assert elementwise(relu_sum, x, right) < RIGHT
    assert along(relu_sum, x, right, np.array([0.5, -1, 0.3])) < RIGHT
    assert elementwise(relu_sum, x, np.array([0, 0.5, 1])) > WRONG


def test_a_kink_at_the_point_is_refused(rng):
    x = np.array([-1.0, 0.0, 2.0])
    for f in (relu_sum, lambda x: abs(x).sum(), lambda x: abs(x).sum() + 1e3 * cubes(x)):
        with pytest.raises(Kink, match=r"^f has a kink"):
            elementwise(f, x, np.array([0.0, 0.5, 1]))
        with pytest.raises(Kink):
            along(f, x, np.array([0.0, 0.5, 1]), rng.standard_normal(3))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_function_that_is_flat_on_one_side_of_a_kink_is_judged_there(sign):
    def f(x):
        return 1 + np.maximum(sign * x, 0).sum()

    x = np.array([-sign * 2e-8])
    assert elementwise(f, x, np.zeros(1)) < RIGHT
    assert elementwise(f, x, np.ones(1)) > WRONG


def test_a_pattern_tells_of_a_kink_below_the_noise():
    def f(x):
        return 1e8 * x[0] + 1e-6 * max(x[1], 0)

    x, gradient = np.array([1.0, 1e-12]), np.array([1e8, 1e-6])
    for at in (x, x * [1, -1]):
        with pytest.raises((Kink, InvalidInput)):
            elementwise(f, at, gradient, pattern=lambda x: x > 0)
    with pytest.raises((Kink, InvalidInput)):
        along(f, x, gradient, np.array([1e-9, 1]), pattern=lambda x: x > 0)
    assert elementwise(f, x + np.array([0, 1]), gradient, pattern=lambda x: x > 0) < RIGHT


# Refusals


@pytest.mark.parametrize(
    "f", [lambda x: np.nan, lambda x: np.inf * x.sum(), lambda x: 0.0 if (x == 1).all() else np.nan]
)
def test_a_function_that_is_not_finite_is_refused(f):
    for gradient in (np.zeros(3), np.full(3, np.nan)):
        with pytest.raises(InvalidInput, match=r"^f must be finite"):
            elementwise(f, np.ones(3), gradient)
        with pytest.raises(InvalidInput, match=r"^f must be finite"):
            along(f, np.ones(3), gradient, np.ones(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_has_error_inf(bad, point):
    gradient = 3 * point**2
    gradient[2, 1] = bad
    assert elementwise(cubes, point, gradient) == np.inf
    assert elementwise(cubes, point, gradient).where == (2, 1)
    assert along(cubes, point, gradient, point) == np.inf
    assert elementwise(cubes, point, np.full((3, 4), bad)).where == (0, 0)


@pytest.mark.parametrize(
    ("f", "returned"),
    [
        (lambda x: (x.astype(np.float32) ** 2).sum(), "float32"),
        (lambda x: float((x.astype(np.float32) ** 2).sum()), "values of float32"),
        (lambda x: 1.1 * float((x.astype(np.float32) ** 2).sum()), "a staircase"),
    ],
)
def test_a_function_that_computes_in_float32_is_refused(f, returned, point):
    for x in (point, np.array([0.3])):
        with pytest.raises(InvalidInput, match=f"^f must compute in float64.*, got {returned}"):
            elementwise(f, x, 2 * x)


def test_float32_is_refused_where_it_jumps_on_one_side_alone():
    for seed in range(50):
        x = np.random.default_rng(seed).standard_normal(4)
        with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
            elementwise(lambda x: 0.1 + float((x.astype(np.float32) ** 2).sum()), x, 2 * x)


def test_a_sum_in_float64_of_numbers_in_float32_is_refused(point):
    def f(x):
        return np.sin(1000 * x).astype(np.float32).astype(float).sum()

    with pytest.raises(InvalidInput, match=r"^f must compute in float64.*, got values with a rel"):
        elementwise(f, point, 1000 * np.cos(1000 * point))


def test_the_default_model_which_computes_in_float32_is_refused(rng):
    model, x = AdversarialAutoencoder(hidden=(8,)), rng.random((5, 784)).astype(np.float32)
    adam = model.reconstruction_adam

    def f(theta):
        adam.parameters[:] = theta
        return model.reconstruction_gradient(x, np.random.default_rng(0))

    theta = adam.parameters.astype(float)
    f(theta)
    with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
        along(f, theta, adam.gradient, rng.standard_normal(theta.size))


def test_a_function_that_is_not_deterministic_is_refused(point, rng):
    with pytest.raises(InvalidInput, match=r"^f must be deterministic"):
        elementwise(lambda x: cubes(x) + rng.random(), point, 3 * point**2)


def test_a_derivative_wrong_by_a_thousandth_is_seen_through_the_noise():
    error = elementwise(lambda x: 1e9 + x.sum(), np.zeros(2), np.full(2, 1.001))
    assert error == pytest.approx(0.001 / 2.001, rel=0.2)


@pytest.mark.parametrize("n", [1, 2])
def test_a_derivative_that_rounding_hides_is_refused(n):
    with pytest.raises(InvalidInput, match=r"^f must vary.* rounding"):
        elementwise(lambda x: 1e14 + x.sum(), np.zeros(n), np.ones(n))
    with pytest.raises(InvalidInput, match=r"^f must vary.* rounding"):
        along(lambda x: 1e14 + x.sum(), np.zeros(n), np.ones(n), np.ones(n))


def test_an_element_that_rounding_hides_passes_beside_one_that_it_does_not():
    for scales in ([1e14, 1.0], [1.0, 1e14]):
        scales = np.array(scales)
        assert elementwise(lambda x, a=scales: (a * x).sum(), np.ones(2), scales) < RIGHT


@pytest.mark.parametrize(
    ("x", "kind"),
    [([1.0, 2.0], "list"), (3.0, "float"), (np.ones(3, np.float32), "float32")],
)
def test_a_point_that_is_not_a_float64_array_is_refused(x, kind):
    with pytest.raises(InvalidInput, match=rf"^x must .* got {kind}$"):
        elementwise(cubes, x, x)


def test_shapes_that_differ_are_refused(point):
    for check in (elementwise, along):
        with pytest.raises(InvalidInput, match=r"^gradient must .* got \(3,\)$"):
            check(cubes, point, np.zeros(3), *[point] * (check is along))
    with pytest.raises(InvalidInput, match=r"^direction must"):
        along(cubes, point, point, np.ones(3))
    with pytest.raises(InvalidInput, match=r"^analytical must"):
        gradcheck.relative_error(np.ones((6, 1)), np.ones(6))


@pytest.mark.parametrize("nowhere", [np.zeros((3, 4)), np.full((3, 4), np.inf)])
def test_a_direction_that_leads_nowhere_is_refused(point, nowhere):
    with pytest.raises(InvalidInput, match=r"^direction must"):
        along(cubes, point, point, nowhere)


def test_of_no_elements_every_gradient_is_right_and_no_direction_leads_anywhere():
    none = np.empty(0)
    assert elementwise(lambda x: 1.5, none, none) == 0
    with pytest.raises(InvalidInput, match=r"^direction must"):
        along(lambda x: 1.5, none, none, none)


# What f and layers may do to what they are handed


def test_f_may_overwrite_what_it_is_handed(point, rng):
    theta, gradient = point.copy(), 3 * point**2

    def f(x):
        theta[:], gradient[:] = x, 3 * x**2
        value = cubes(x)
        x[:] = 0
        return value

    assert elementwise(f, theta, gradient) < RIGHT
    theta[:], gradient[:] = point, 3 * point**2
    assert along(f, theta, gradient, rng.standard_normal((3, 4))) < RIGHT
    point.flags.writeable = False
    assert elementwise(cubes, point, 3 * point**2) < RIGHT


class InPlace:
    """y = 3x, in place both ways."""

    def __init__(self, derivative):
        self.derivative = derivative

    def forward(self, x, rng=None):
        x *= 3
        return x, None

    def backward(self, dy, cache):
        dy *= self.derivative
        return dy


@pytest.mark.parametrize(("derivative", "right"), [(3.0, True), (-3.0, False), (1.0, False)])
def test_a_layer_that_works_in_place_is_judged_rightly_and_spoils_nothing(point, derivative, right):
    before = point.copy()
    assert (gradcheck.layer(InPlace(derivative), point) < RIGHT) == right
    np.testing.assert_array_equal(point, before)


def test_a_layers_noise_is_frozen_by_its_seed(point):
    class Cubed(Dropout):
        def backward(self, dy, cache):
            return super().backward(dy, cache) ** 3

    wrong = Cubed(np, 0.5)
    assert gradcheck.layer(Dropout(np, 0.5), point, seed=3) < RIGHT
    assert gradcheck.layer(wrong, point) == gradcheck.layer(wrong, point, seed=0) > WRONG
    assert gradcheck.layer(wrong, point) != gradcheck.layer(wrong, point, seed=1)


class Logarithm:
    def forward(self, x, rng=None):
        return np.log(x), x

    def backward(self, dy, cache):
        return dy / cache


def test_a_layer_is_checked_with_the_step_that_is_given():
    tiny = np.full((2, 2), 1e-9)
    with pytest.raises((InvalidInput, Kink)):
        gradcheck.layer(Logarithm(), tiny)
    assert gradcheck.layer(Logarithm(), tiny, step=1e-11) < RIGHT


def test_a_layer_is_checked_with_the_pattern_that_is_given():
    x = np.ones((2, 2))
    assert gradcheck.layer(Logarithm(), x) < RIGHT
    with pytest.raises(InvalidInput):
        gradcheck.layer(Logarithm(), x, pattern=lambda x: x)  # a kink everywhere


def test_four_threads_check_at_once_and_leave_everything_as_it_was(rng):
    def check(seed):
        x, network = np.random.default_rng(seed).standard_normal((4, 6)), networks[seed]
        return gradcheck.layer(network, x), gradcheck.parameters(network, x)

    networks = [random_network(rng) for _ in range(4)]
    before = dict(vars(ReLU)), [network.layers[0].W.copy() for network in networks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(check, range(4)))
    assert together == [check(seed) for seed in range(4)]
    assert dict(vars(ReLU)) == before[0]
    for network, W in zip(networks, before[1], strict=True):
        np.testing.assert_array_equal(network.layers[0].W, W)


# Parameters


def random_network(rng):
    network = perceptron(np, (6, 5, 3), 0.3, np.float64)
    network.layers.insert(1, LayerNorm(5, np.float64))
    theta, _ = flatten(np, [network])
    theta[:] = rng.standard_normal(theta.size)
    return network


def test_every_parameter_of_a_network_is_checked_by_its_name(rng):
    network, x = random_network(rng), rng.standard_normal((7, 6))
    before = [layer.W.copy() for layer in network.layers if isinstance(layer, Dense)]
    errors = gradcheck.parameters(network, x)
    assert list(errors) == ["0.W", "0.b", "1.gamma", "1.beta", "4.W", "4.b"]
    assert max(errors.values()) < RIGHT
    after = [layer.W for layer in network.layers if isinstance(layer, Dense)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_layer_that_has_no_gradients_yet_is_given_them(rng):
    errors = gradcheck.parameters(LayerNorm(5, np.float64), rng.standard_normal((7, 5)))
    assert max(errors.values()) < RIGHT


class Planted(Dense):
    """Its parameters' gradients are changed by a function of the layer."""

    def __init__(self, rng, fan_in, fan_out, change):
        super().__init__(np, 100 * rng.standard_normal((fan_in, fan_out)), np.zeros(fan_out))
        self.change = change

    def parameter_gradients(self, dy, cache):
        super().parameter_gradients(100 * dy, cache)
        self.dW /= 100
        self.db /= 100
        self.change(self)


def scale(name, factor, where=...):
    def change(layer):
        getattr(layer, f"d{name}")[where] *= factor

    return change


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (scale("W", 1), {}),
        (scale("b", 0), {"b": ()}),
        (scale("b", 17), {"b": ()}),
        (scale("W", 0), {"W": ()}),
        (scale("W", 1.001, (2, 1)), {"W": (2, 1)}),
        (scale("W", np.nan, (1, 0)), {"W": (1, 0)}),
        (lambda layer: setattr(layer, "dW", layer.dW.copy()), {}),
        (scale("b", -1, 1), {"b": (1,)}),
    ],
)
def test_a_wrong_parameter_gradient_is_seen_in_its_own_name(change, wrong, rng):
    network = Sequential([Dense(np, np.eye(4), np.zeros(4)), Planted(rng, 4, 3, change)])
    errors = gradcheck.parameters(network, rng.standard_normal((6, 4)))
    for label, error in errors.items():
        _, name = label.split(".")
        place = wrong.get(name) if label.startswith("1.") else None
        assert (error < RIGHT) if place is None else (error > 4e-4)
        assert not place or error.where == place


def test_a_gradient_that_is_not_written_into_its_array_has_error_inf(rng):
    class Rebinding(Dense):
        def parameter_gradients(self, dy, cache):
            self.dW, self.db = cache.T @ dy, dy.sum(axis=0)

    layer = Rebinding(np, rng.standard_normal((3, 2)), np.zeros(2))
    assert set(gradcheck.parameters(layer, rng.standard_normal((4, 3))).values()) == {np.inf}


def test_a_check_of_parameters_is_fixed_by_its_seed(rng):
    def change(layer):
        layer.db += 1

    layer, x = Planted(rng, 40, 20, change), rng.standard_normal((6, 40))
    first, same, other = (
        gradcheck.parameters(layer, x, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert first == same
    assert first["b"] != other["b"]


def test_a_check_leaves_the_gradients_in_the_flat_vector(rng):
    network = random_network(rng)
    _, gradient = flatten(np, [network])
    gradcheck.parameters(network, rng.standard_normal((7, 6)))
    assert np.shares_memory(network.layers[0].dW, gradient)
    assert np.isfinite(gradient).all()


def test_large_parameters_are_checked_along_directions(rng):
    x = rng.standard_normal((5, 40))
    for change, right in ((scale("W", 1), True), (scale("W", 0, (slice(20, None),)), False)):
        errors = gradcheck.parameters(Planted(rng, 40, 20, change), x)
        assert (errors["W"] < RIGHT) == right
        assert errors["W"] < RIGHT or errors["W"] > WRONG
        assert errors["b"] < RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["reconstruction", "discriminator", "generator"])
def test_at_real_size_twenty_directions_tell_a_right_gradient_from_a_reversed_layer(phase, rng):
    model, x = AdversarialAutoencoder(dtype="float64"), rng.random((100, 784))
    adam = model.adams()[f"{phase}_adam"]

    def f(theta):
        adam.parameters[:] = theta
        draws = np.random.default_rng(1)
        if phase == "reconstruction":
            return model.reconstruction_gradient(x, draws)
        codes, caches = model.encoder.forward(x, draws)
        if phase == "discriminator":
            return model.discriminator_gradient(codes, draws)
        return model.generator_gradient(codes, caches, draws)

    theta = adam.parameters.copy()
    f(theta)
    right = adam.gradient.copy()
    network = model.discriminator if phase == "discriminator" else model.encoder
    network.layers[3].dW *= -1
    wrong = adam.gradient.copy()
    directions = rng.standard_normal((20, theta.size))
    assert max(along(f, theta, right, direction) for direction in directions) < RIGHT
    assert max(along(f, theta, wrong, direction) for direction in directions) > WRONG


# Whole arrays


def test_a_relative_error_is_right_at_any_scale_and_inf_if_anything_is_not_finite(point):
    for scale in (1e-165, 1e160):
        error = gradcheck.relative_error(3 * scale * point, scale * point)
        assert error == pytest.approx(0.5)
    assert gradcheck.relative_error(np.zeros(3), np.zeros(3)) == 0
    assert gradcheck.relative_error(np.empty(0), np.empty(0)) == 0
    assert gradcheck.relative_error(np.zeros(3), np.full(3, np.nan)) == np.inf
    assert gradcheck.relative_error(np.full(3, np.inf), np.full(3, np.inf)) == np.inf
