import numpy as np
import pytest
from hypothesis import given

from npaae import gradcheck
from npaae.errors import InvalidInput
from npaae.layers import Sigmoid, sigmoid
from npaae.losses import bce, bce_with_logits

from .strategies import seeds, shapes


def far_from(rng, p):
    """Targets in [0, 1] at least 0.1 from p: where the two meet the gradient vanishes, and a relative error means nothing."""
    return np.where(p < 0.5, rng.uniform(0.6, 1.0, p.shape), rng.uniform(0.0, 0.4, p.shape))


def test_bce_is_the_mean_over_every_element():
    p, t = np.array([[0.25, 0.5], [0.5, 0.75]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    loss, _ = bce(np, p, t)
    assert loss == pytest.approx((2 * np.log(4 / 3) + 2 * np.log(2)) / 4, rel=1e-15)


def test_bce_gradient_has_the_values_worked_out_by_hand():
    _, gradient = bce(np, np.array([0.25, 0.5]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(gradient, [(1 / 0.75) / 2, (-1 / 0.5) / 2], rtol=1e-15)


@given(seeds, shapes)
def test_bce_gradient_agrees_with_finite_differences(seed, shape):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.9, shape)
    t = far_from(rng, p)
    assert gradcheck.elementwise(lambda p: bce(np, p, t)[0], p, bce(np, p, t)[1]) < 1e-7


@pytest.mark.parametrize("p", [0.0, 1.0, -0.5, float("nan")])
def test_bce_refuses_what_is_no_open_probability(p):
    with pytest.raises(
        InvalidInput, match=r"^probabilities must lie strictly between 0 and 1; where they may not, use bce_with_logits$"
    ):
        bce(np, np.array([0.5, p]), 1.0)


@given(seeds, shapes)
def test_bce_with_logits_gradient_agrees_with_finite_differences(seed, shape):
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-4, 4, shape)
    t = far_from(rng, sigmoid(np, logits))
    _, gradient = bce_with_logits(np, logits, t)
    assert gradcheck.elementwise(lambda logits: bce_with_logits(np, logits, t)[0], logits, gradient) < 1e-7


@given(seeds, shapes)
def test_sigmoid_then_bce_equals_the_fused_form_in_loss_and_gradient(seed, shape):
    rng = np.random.default_rng(seed)
    logits, t = rng.standard_normal(shape), rng.random(shape)
    layer = Sigmoid(np)
    p, cache = layer.forward(logits)
    loss, dp = bce(np, p, t)
    fused_loss, fused_gradient = bce_with_logits(np, logits, t)
    assert loss == pytest.approx(fused_loss, rel=1e-12)
    assert gradcheck.relative_error(layer.backward(dp, cache), fused_gradient) < 1e-12


@pytest.mark.parametrize(
    ("logit", "target", "loss", "gradient"),
    [(1e4, 1.0, 0.0, 0.0), (1e4, 0.0, 1e4, 1.0), (-1e4, 1.0, 1e4, -1.0), (-1e4, 0.0, 0.0, 0.0), (0.0, 1.0, np.log(2), -0.5)],
)
def test_bce_with_logits_is_right_at_the_extremes_in_float32(logit, target, loss, gradient):
    got_loss, got_gradient = bce_with_logits(np, np.array([[logit]], np.float32), target)
    assert got_loss == pytest.approx(loss, rel=1e-6)
    assert got_gradient.item() == gradient


def test_losses_keep_float32_and_leave_their_arguments_alone():
    logits, t = np.full((2, 3), 0.5, np.float32), np.ones((2, 3), np.float32)
    logits.flags.writeable = t.flags.writeable = False
    for function in (bce, bce_with_logits):
        loss, gradient = function(np, logits, t)
        assert loss.dtype == gradient.dtype == np.float32
