"""What the audit's rows of Adam leave open: numbers by hand, blocks, the flush, types, refusals."""

from math import sqrt

import numpy as np
import pytest

from npaae import backend
from npaae.errors import InvalidInput
from npaae.optim import Adam


def test_three_steps_equal_the_numbers_worked_out_by_hand():
    # θ = 1, α = 0.1, β = (0.9, 0.999), gradients 1, 2, −1:
    #   t   m̂               v̂                         step
    #   1   0.1   / 0.1     0.001       / 0.001       0.1
    #   2   0.29  / 0.19    0.004999    / 0.001999    0.0965182
    #   3   0.161 / 0.271   0.005994001 / 0.002997001 0.0420090
    theta, gradient = np.ones(1), np.empty(1)
    adam = Adam(np, theta, gradient, learning_rate=0.1)
    for g, expected in ((1.0, 0.9), (2.0, 0.8034818), (-1.0, 0.7614729)):
        gradient[:] = g
        adam.step()
        assert theta.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("t", [1, 999, 10_001, 10**6])
def test_a_step_is_algorithm_1_however_many_there_were(t, rng):
    theta, g, m, v = rng.random((4, 5))
    adam = Adam(np, theta.copy(), g, learning_rate=0.1)
    adam.t, adam.m[:], adam.v[:] = t - 1, m, v
    adam.step()
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    unbiased = m / (1 - 0.9**t), v / (1 - 0.999**t)
    expected = theta - 0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    np.testing.assert_allclose(adam.parameters, expected, rtol=1e-12)


def test_epsilon_stands_beside_the_root():
    theta = np.zeros(1)
    Adam(np, theta, np.array([1e-8]), learning_rate=1.0).step()
    assert theta.item() == pytest.approx(-1e-8 / (sqrt(1e-16) + 1e-8), rel=1e-12)  # −1/2


def test_a_zero_gradient_from_the_start_moves_nothing():
    theta = np.ones(3)
    Adam(np, theta, np.zeros(3), learning_rate=1.0).step()
    np.testing.assert_array_equal(theta, 1)


def test_vectors_of_several_blocks_move_as_in_one(rng, monkeypatch):
    start, gradient = rng.standard_normal((2, 10))
    whole, pieces = start.copy(), start.copy()
    adam_of_one = Adam(np, whole, gradient, learning_rate=0.1)
    adam_of_one.step()
    monkeypatch.setattr(backend, "BLOCK", 4)
    adam_of_three = Adam(np, pieces, gradient, learning_rate=0.1)
    adam_of_three.step()
    np.testing.assert_array_equal(pieces, whole)
    assert not np.any(pieces == start)


@pytest.mark.parametrize(
    ("steps", "kept"), [(99, True), (100, False), (10**6 - 1, True), (10**6, False)]
)
def test_every_hundred_steps_moments_below_1e_30_become_0(steps, kept):
    adam = Adam(np, np.zeros(5), np.zeros(5), learning_rate=0.1, beta1=0.5)
    adam.t, adam.m[:] = steps - 1, [2.2e-30, 1.8e-30, -1.8e-30, 0.2, -0.2]
    adam.step()
    small = [0.9e-30, -0.9e-30] if kept else [0, 0]
    np.testing.assert_allclose(adam.m, [1.1e-30, *small, 0.1, -0.1], rtol=1e-12)


def test_a_training_without_gradient_never_reaches_denormal_numbers():
    adam = Adam(np, np.zeros(1, np.float32), np.ones(1, np.float32), learning_rate=0.1)
    adam.step()
    adam.gradient[:] = 0
    for _ in range(1000):
        adam.step()
        assert adam.m[0] == 0 or abs(adam.m[0]) >= np.finfo(np.float32).tiny
    assert adam.m[0] == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("learning_rate", {"learning_rate": -1}),
        ("learning_rate", {"learning_rate": 1.1}),
        ("beta1", {"beta1": 1}),
        ("beta2", {"beta2": 1.0}),
        ("epsilon", {"epsilon": 0}),
        ("parameters and gradient", {"gradient": np.ones(1)}),
        ("parameters and gradient", {"parameters": np.ones((3, 1)), "gradient": np.ones((3, 1))}),
    ],
)
def test_an_argument_outside_its_range_is_refused(name, arguments):
    good = {"parameters": np.ones(3), "gradient": np.ones(3), "learning_rate": 0.1}
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        Adam(np, **good | arguments)


def test_float32_stays_float32_and_the_gradient_is_left_alone():
    theta, gradient = np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    gradient.flags.writeable = False
    adam = Adam(np, theta, gradient, learning_rate=0.1)
    adam.step()
    assert theta.dtype == adam.m.dtype == adam.v.dtype == np.float32
    np.testing.assert_allclose(theta, 0.9, rtol=1e-6)


def test_a_step_of_rate_0_moves_the_moments_alone():
    theta = np.ones(3)
    adam = Adam(np, theta, np.ones(3), 0.1)
    adam.learning_rate = 0.0  # as a schedule may set it
    adam.step()
    assert adam.t == 1
    np.testing.assert_allclose(adam.m, 0.1)
    np.testing.assert_array_equal(theta, 1)
