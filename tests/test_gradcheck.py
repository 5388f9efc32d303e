import numpy as np
import pytest

from npaae import gradcheck
from npaae.errors import InvalidInput
from npaae.layers import ReLU


@pytest.fixture
def point(rng):
    return rng.standard_normal((3, 4))


def cubes(x):
    return (x**3).sum()


def test_the_numerical_gradient_of_a_known_function_is_its_gradient(point):
    np.testing.assert_allclose(gradcheck.numerical_gradient(cubes, point), 3 * point**2, rtol=1e-8, atol=1e-9)


def test_a_right_gradient_passes_both_checks(point, rng):
    assert gradcheck.elementwise(cubes, point, 3 * point**2) < 1e-9
    assert gradcheck.along(cubes, point, 3 * point**2, rng.standard_normal(point.shape)) < 1e-8


def test_one_entry_wrong_by_a_thousandth_is_seen(point, rng):
    wrong = 3 * point**2
    wrong[1, 2] *= 1.001
    assert gradcheck.elementwise(cubes, point, wrong) > 1e-6
    assert gradcheck.along(cubes, point, wrong, rng.standard_normal(point.shape)) > 1e-6


def test_a_gradient_of_the_wrong_sign_has_error_one(point):
    assert gradcheck.elementwise(cubes, point, -3 * point**2) > 0.999


def test_a_tiny_gradient_cannot_hide(point):
    assert gradcheck.elementwise(lambda x: 1e-12 * cubes(x), point, 1.01e-12 * 3 * point**2) > 1e-3


def test_the_point_is_neither_written_to_nor_passed_on(point):
    point.flags.writeable = False
    before = point.copy()

    def vandal(x):
        value = cubes(x)
        x[:] = 0
        return value

    assert gradcheck.elementwise(vandal, point, 3 * point**2) < 1e-9
    np.testing.assert_array_equal(point, before)


def test_float32_is_refused():
    with pytest.raises(InvalidInput, match="type float32 came; finite differences need a float64 array"):
        gradcheck.numerical_gradient(cubes, np.ones(3, np.float32))


def test_a_gradient_of_another_shape_is_refused(point):
    says = r"^x of shape \(3, 4\) and a gradient of shape \(3,\) came; the two must agree$"
    with pytest.raises(InvalidInput, match=says):
        gradcheck.elementwise(cubes, point, np.zeros(3))
    with pytest.raises(InvalidInput, match=says):
        gradcheck.along(cubes, point, np.zeros(3), point)
    with pytest.raises(InvalidInput, match=r"a direction of shape \(3,\)"):
        gradcheck.along(cubes, point, point, np.zeros(3))


@pytest.mark.parametrize(
    ("bad", "type_name"), [([1.0, 2.0], "<class 'list'>"), (3.0, "<class 'float'>"), (np.ones(3, int), "int64")]
)
def test_what_is_no_float64_array_is_refused(bad, type_name):
    with pytest.raises(InvalidInput, match=f"^x of type {type_name} came; finite differences need a float64 array$"):
        gradcheck.elementwise(cubes, bad, bad)


def test_a_list_will_do_for_a_gradient(rng):
    x = np.array([1.0, 2.0])
    assert gradcheck.elementwise(cubes, x, [3.0, 12.0]) < 1e-9


def test_a_direction_that_leads_nowhere_is_refused(point):
    for x, nowhere in ((point, np.zeros((3, 4))), (np.empty(0), np.empty(0))):
        with pytest.raises(InvalidInput, match=r"^a direction of length zero came; pass one that leads somewhere$"):
            gradcheck.along(cubes, x, x, nowhere)


def test_the_length_of_a_direction_does_not_matter(point, rng):
    direction = rng.standard_normal(point.shape)
    for length in (1e-8, 1e8):
        assert gradcheck.along(cubes, point, 3 * point**2, length * direction) < 1e-8


def step(check, x):
    """The largest distance from x at which `check` evaluates its function."""
    seen = []
    check(lambda y: seen.append(float(abs(y - x).max())) or 0.0, np.full((1, 1), x))
    return max(seen)


@pytest.mark.parametrize(("x", "scale"), [(1000.0, 1000.0), (1.5, 1.5), (0.5, 1.0), (-1000.0, 1000.0)])
def test_the_step_grows_with_the_point_beyond_one(x, scale):
    assert step(gradcheck.numerical_gradient, x) == pytest.approx(1e-5 * scale)
    assert step(lambda f, x: gradcheck.numerical_gradient(f, x, richardson=True), x) == pytest.approx(1e-3 * scale)
    assert step(lambda f, x: gradcheck.along(f, x, x, 7 * x), x) == pytest.approx(1e-5 * scale)
    assert step(lambda f, x: gradcheck.along(f, x, x, 7 * x, richardson=True), x) == pytest.approx(1e-3 * scale)


def test_richardsons_formula_is_exact_for_polynomials_of_fourth_degree(rng):
    x = rng.uniform(0.5, 2, 5)
    assert gradcheck.elementwise(lambda x: (x**4).sum(), x, 4 * x**3, richardson=True) < 1e-12
    assert gradcheck.along(lambda x: (x**4).sum(), x, 4 * x**3, rng.standard_normal(5), richardson=True) < 1e-11


def test_richardsons_formula_is_far_better_than_the_plain_one(rng):
    x = rng.standard_normal(50)
    plain, better = (
        gradcheck.elementwise(
            lambda x: np.exp(np.sin(3 * x)).sum(), x, 3 * np.cos(3 * x) * np.exp(np.sin(3 * x)), richardson=on
        )
        for on in (False, True)
    )
    assert better < plain / 20


def test_gradients_too_small_or_too_large_to_be_squared_are_still_told_apart(point):
    for scale in (1e-165, 1e160):
        assert gradcheck.relative_error(3 * scale * point, scale * point) == pytest.approx(0.5)
    assert gradcheck.relative_error(np.zeros(3), np.zeros(3)) == 0
    assert gradcheck.relative_error(np.empty(0), np.empty(0)) == 0


def test_a_gradient_that_is_no_number_is_no_good_gradient(point):
    assert not gradcheck.elementwise(cubes, point, np.full((3, 4), np.nan)) < 1


def test_a_direction_may_be_a_list():
    assert gradcheck.along(cubes, np.array([1.0, 2.0]), [3.0, 12.0], [1.0, -1.0]) < 1e-8


# Kinks


def relu_sum(x):
    return ReLU(np).forward(x)[0].sum()


def test_a_kink_between_two_evaluations_is_told_not_stepped_over():
    x = np.array([-1.0, 1e-6, 2.0])
    says = "^a kink lies between two evaluations, where a finite difference is wrong; take another point$"
    with pytest.raises(gradcheck.Kink, match=says):
        gradcheck.elementwise(relu_sum, x, (x > 0).astype(float))
    with pytest.raises(gradcheck.Kink):
        gradcheck.along(relu_sum, x, (x > 0).astype(float), np.ones(3))


def test_a_kink_that_no_evaluation_reaches_is_no_matter():
    x = np.array([-1.0, 1e-4, 2.0])
    assert gradcheck.elementwise(relu_sum, x, np.array([0.0, 1.0, 1.0])) < 1e-9
    with pytest.raises(gradcheck.Kink):  # Richardson's longer step does reach it
        gradcheck.elementwise(relu_sum, x, np.array([0.0, 1.0, 1.0]), richardson=True)


def test_a_kink_is_looked_for_to_the_last_bit():
    at_the_kink = np.array([1e-5])  # from which one step of 1e-5 leads to 0 exactly, where ReLU is off
    with pytest.raises(gradcheck.Kink):
        gradcheck.elementwise(relu_sum, at_the_kink, np.ones(1))
    assert gradcheck.elementwise(relu_sum, at_the_kink + 5e-10, np.ones(1)) < 1e-6


def test_a_kink_of_a_users_own_function_is_told_by_its_pattern():
    x, known = np.array([1e-6, 1.0]), {"pattern": lambda x: x > 0}
    with pytest.raises(gradcheck.Kink):
        gradcheck.elementwise(lambda x: abs(x).sum(), x, np.ones(2), **known)
    with pytest.raises(gradcheck.Kink):
        gradcheck.along(lambda x: abs(x).sum(), x, np.ones(2), np.ones(2), **known)
    with pytest.raises(gradcheck.Kink):
        gradcheck.layer(Absolute(), x, **known)
    assert gradcheck.elementwise(lambda x: abs(x).sum(), x + 1, np.ones(2), **known) < 1e-9


@pytest.mark.parametrize("kink", [0.9e-3, 0.4e-3])
def test_richardsons_formula_looks_for_kinks_at_both_of_its_steps(kink):
    def pattern(x):
        return kink < x < kink + 0.2e-3  # which of the steps, 1e-3 and 0.5e-3, only one finds to differ

    with pytest.raises(gradcheck.Kink):
        gradcheck.along(lambda x: x.sum(), np.zeros(1), np.ones(1), np.ones(1), pattern=pattern, richardson=True)


def test_a_relu_is_itself_again_after_a_check_and_after_an_error():
    forward = ReLU.forward
    gradcheck.elementwise(relu_sum, np.ones(2), np.ones(2))
    assert ReLU.forward is forward
    with pytest.raises(ZeroDivisionError):
        gradcheck.elementwise(lambda x: 1 / 0, np.ones(2), np.ones(2))
    assert ReLU.forward is forward


# Layers, anybody's


class Cube:
    def forward(self, x, rng=None):
        return x**3, x

    def backward(self, dy, cache):
        return dy * 3 * cache**2


class Absolute:
    def forward(self, x, rng=None):
        return np.abs(x), x

    def backward(self, dy, cache):
        return dy * np.sign(cache)


class WrongCube(Cube):
    def backward(self, dy, cache):
        return dy * cache**2


class Noisy(Cube):
    def forward(self, x, rng=None):
        noise = rng.standard_normal(x.shape)
        return noise * x, noise

    def backward(self, dy, cache):
        return dy * cache


def test_a_users_own_layer_is_checked_by_its_two_passes(point):
    assert gradcheck.layer(Cube(), point) < 1e-9
    assert gradcheck.layer(Cube(), point, richardson=True) < 1e-12
    assert gradcheck.layer(WrongCube(), point) > 0.3


def test_a_layers_noise_is_frozen_by_its_seed(point):
    assert gradcheck.layer(Noisy(), point, seed=3) < 1e-9
    assert gradcheck.layer(WrongCube(), point) == gradcheck.layer(WrongCube(), point, seed=0)
    assert gradcheck.layer(WrongCube(), point) != gradcheck.layer(WrongCube(), point, seed=1)


def test_a_layer_is_checked_by_the_plain_formula_unless_told(point):
    assert gradcheck.layer(Cube(), point) == gradcheck.layer(Cube(), point, richardson=False)
    assert gradcheck.layer(Cube(), point) != gradcheck.layer(Cube(), point, richardson=True)


class InPlace:
    """y = 3x, in place both ways: right, and a vandal."""

    def forward(self, x, rng=None):
        x *= 3
        return x, None

    def backward(self, dy, cache):
        dy *= self.derivative
        return dy


@pytest.mark.parametrize(("derivative", "right"), [(3.0, True), (-3.0, False), (1.0, False)])
def test_a_layer_that_works_in_place_is_judged_rightly_and_spoils_nothing(point, derivative, right):
    layer, before = InPlace(), point.copy()
    layer.derivative = derivative
    assert (gradcheck.layer(layer, point) < 1e-9) == right
    np.testing.assert_array_equal(point, before)


def test_the_cotangent_is_of_order_one_and_not_the_layers_own_noise(point):
    class Spy(Noisy):
        def backward(self, dy, cache):
            assert not np.any(dy == cache)
            assert 0.3 < np.abs(dy).max() < 5
            return dy * cache

    gradcheck.layer(Spy(), point)
