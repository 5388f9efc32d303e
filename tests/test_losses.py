"""What the audit's rows of the losses leave open: known values, types and refusals."""

import numpy as np
import pytest

from npaae.errors import InvalidInput
from npaae.losses import bce, bce_with_logits

both = pytest.mark.parametrize("loss", [bce, bce_with_logits])


def test_bce_is_the_mean_over_every_element():
    p, t = np.array([[0.25, 0.5], [0.5, 0.75]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    loss, gradient = bce(np, p, t)
    assert loss == pytest.approx((2 * np.log(4 / 3) + 2 * np.log(2)) / 4, rel=1e-15)
    np.testing.assert_allclose(gradient, np.array([[4 / 3, -2], [2, -4 / 3]]) / 4, rtol=1e-15)


def test_the_gradient_of_a_whole_batch_is_divided_by_all_its_elements(rng):
    logits, t = rng.standard_normal((1000, 784)), rng.random((1000, 784))
    p = 1 / (1 + np.exp(-logits))
    expected = (p - t) / 784_000
    np.testing.assert_allclose(bce_with_logits(np, logits, t)[1], expected, atol=1e-18)
    np.testing.assert_allclose(bce(np, p, t)[1], expected / (p * (1 - p)), atol=1e-18)


@both
def test_a_scalar_target_serves_every_element(loss):
    x = np.array([[0.2, 0.5], [0.6, 0.9]])
    for one, all_of_them in zip(loss(np, x, 1.0), loss(np, x, np.ones((2, 2))), strict=True):
        np.testing.assert_array_equal(one, all_of_them)


@both
@pytest.mark.parametrize("t", [np.ones(6), np.ones((1, 6)), np.ones((3, 2)), [0.0] * 6])
def test_targets_of_another_shape_are_refused(loss, t):
    with pytest.raises(InvalidInput, match=r"^t must .* \(6, 1\)"):
        loss(np, np.full((6, 1), 0.5), t)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.5, 1.5, np.nan])
def test_bce_refuses_what_has_no_logarithm(p):
    with pytest.raises(InvalidInput, match=r"^p must"):
        bce(np, np.array([0.5, p]), 1.0)


@both
def test_losses_keep_float32_and_leave_their_arguments_alone(loss):
    x, t = np.full((2, 3), 0.5, np.float32), np.ones((2, 3), np.float32)
    x.flags.writeable = t.flags.writeable = False
    value, gradient = loss(np, x, t)
    assert value.dtype == gradient.dtype == np.float32
    assert gradient.shape == x.shape
