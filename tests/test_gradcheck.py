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
    with pytest.raises(InvalidInput, match="must agree"):
        gradcheck.elementwise(cubes, point, np.zeros(3))
    with pytest.raises(InvalidInput, match="must agree"):
        gradcheck.along(cubes, point, point, np.zeros(3))


@pytest.mark.parametrize("bad", [[1.0, 2.0], 3.0, np.ones(3, int)])
def test_what_is_no_float64_array_is_refused(bad):
    with pytest.raises(InvalidInput, match="need a float64 array"):
        gradcheck.elementwise(cubes, bad, bad)


def test_a_list_will_do_for_a_gradient(rng):
    x = np.array([1.0, 2.0])
    assert gradcheck.elementwise(cubes, x, [3.0, 12.0]) < 1e-9


def test_a_direction_that_leads_nowhere_is_refused(point):
    with pytest.raises(InvalidInput, match="a direction of length zero"):
        gradcheck.along(cubes, point, point, np.zeros((3, 4)))


def test_the_length_of_a_direction_does_not_matter(point, rng):
    direction = rng.standard_normal(point.shape)
    for length in (1e-8, 1e8):
        assert gradcheck.along(cubes, point, 3 * point**2, length * direction) < 1e-8


def steps(check):
    """The largest distance from 1000 at which `check` evaluates its function."""
    seen = []
    check(lambda x: seen.append(float(abs(x - 1000).max())) or 0.0, np.full((1, 1), 1000.0))
    return max(seen)


def test_the_step_is_a_hundred_thousandth_of_the_point_and_with_richardson_a_thousandth():
    assert steps(gradcheck.numerical_gradient) == pytest.approx(1e-2)
    assert steps(lambda f, x: gradcheck.numerical_gradient(f, x, richardson=True)) == pytest.approx(1.0)
    assert steps(lambda f, x: gradcheck.along(f, x, x, 7 * x)) == pytest.approx(1e-2)
    assert steps(lambda f, x: gradcheck.along(f, x, x, 7 * x, richardson=True)) == pytest.approx(1.0)


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


# Kinks


def relu_sum(x):
    return ReLU(np).forward(x)[0].sum()


def test_a_kink_between_two_evaluations_is_told_not_stepped_over():
    x = np.array([-1.0, 1e-6, 2.0])
    with pytest.raises(gradcheck.Kink, match="a kink lies between"):
        gradcheck.elementwise(relu_sum, x, (x > 0).astype(float))
    with pytest.raises(gradcheck.Kink):
        gradcheck.along(relu_sum, x, (x > 0).astype(float), np.ones(3))


def test_a_kink_that_no_evaluation_reaches_is_no_matter():
    x = np.array([-1.0, 1e-4, 2.0])
    assert gradcheck.elementwise(relu_sum, x, np.array([0.0, 1.0, 1.0])) < 1e-9
    with pytest.raises(gradcheck.Kink):  # Richardson's longer step does reach it
        gradcheck.elementwise(relu_sum, x, np.array([0.0, 1.0, 1.0]), richardson=True)


def test_a_kink_of_a_users_own_function_is_told_by_its_pattern():
    x = np.array([1e-6, 1.0])
    with pytest.raises(gradcheck.Kink):
        gradcheck.elementwise(lambda x: abs(x).sum(), x, np.ones(2), pattern=lambda x: x > 0)
    assert gradcheck.elementwise(lambda x: abs(x).sum(), x + 1, np.ones(2), pattern=lambda x: x > 0) < 1e-9


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


def test_the_cotangent_is_of_order_one_and_not_the_layers_own_noise(point):
    class Spy(Noisy):
        def backward(self, dy, cache):
            assert not np.any(dy == cache)
            assert 0.3 < np.abs(dy).max() < 5
            return dy * cache

    gradcheck.layer(Spy(), point)
