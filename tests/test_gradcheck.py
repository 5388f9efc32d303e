import numpy as np
import pytest

from npaae import gradcheck
from npaae.errors import InvalidInput


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
    with pytest.raises(InvalidInput, match="need float64"):
        gradcheck.numerical_gradient(cubes, np.ones(3, np.float32))


def test_a_gradient_of_another_shape_is_refused(point):
    with pytest.raises(InvalidInput, match="must agree"):
        gradcheck.elementwise(cubes, point, np.zeros(3))
    with pytest.raises(InvalidInput, match="must agree"):
        gradcheck.along(cubes, point, point, np.zeros(3))
