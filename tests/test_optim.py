from math import sqrt

import numpy as np
import pytest

from npaae import backend, optim
from npaae.errors import InvalidInput
from npaae.optim import Adam


def test_three_steps_equal_the_numbers_worked_out_by_hand():
    # θ = 1, α = 0.1, β = (0.9, 0.999), gradients 1, 2, −1:
    #   t   m = 0.9 m + 0.1 g   m̂                 v = 0.999 v + 0.001 g²   v̂                       α m̂ / √v̂
    #   1   0.1                 0.1 / 0.1          0.001                    0.001 / 0.001             0.1
    #   2   0.29                0.29 / 0.19        0.004999                 0.004999 / 0.001999       0.0965182
    #   3   0.161               0.161 / 0.271      0.005994001              0.005994001 / 0.002997001 0.0420090
    theta, gradient = np.ones(1), np.empty(1)
    adam = Adam(np, theta, gradient, learning_rate=0.1)
    for g, expected in ((1.0, 0.9), (2.0, 0.8034818), (-1.0, 0.7614729)):
        gradient[:] = g
        adam.step()
        assert theta.item() == pytest.approx(expected, abs=1e-7)


def test_ten_steps_equal_an_independent_writing_of_algorithm_1(rng):
    theta, gradient = rng.standard_normal(7), np.empty(7)
    expected, m, v = theta.copy(), np.zeros(7), np.zeros(7)
    adam = Adam(np, theta, gradient, learning_rate=0.01, beta1=0.8, beta2=0.95, epsilon=1e-3)
    for t in range(1, 11):
        gradient[:] = rng.standard_normal(7)
        adam.step()
        m = 0.8 * m + (1 - 0.8) * gradient
        v = 0.95 * v + (1 - 0.95) * gradient**2
        expected -= 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        np.testing.assert_allclose(theta, expected, rtol=1e-13)


def test_epsilon_stands_beside_the_root_as_in_the_paper():
    theta, gradient = np.zeros(1), np.array([1e-8])
    Adam(np, theta, gradient, learning_rate=1.0).step()
    assert theta.item() == pytest.approx(-1e-8 / (sqrt(1e-16) + 1e-8), rel=1e-12)  # −1/2; under the root it were −1e-4


def test_a_zero_gradient_from_the_start_moves_nothing():
    theta = np.ones(3)
    Adam(np, theta, np.zeros(3), learning_rate=1.0).step()
    np.testing.assert_array_equal(theta, 1)


def test_vectors_of_several_chunks_are_swept_whole(rng, monkeypatch):
    start, gradient = rng.standard_normal((2, 10))
    whole, pieces = start.copy(), start.copy()
    adam_of_one = Adam(np, whole, gradient, learning_rate=0.1)
    monkeypatch.setattr(backend, "CHUNK", 4)
    adam_of_three = Adam(np, pieces, gradient, learning_rate=0.1)
    for _ in range(3):
        adam_of_one.step()
        adam_of_three.step()
    np.testing.assert_array_equal(pieces, whole)
    assert not np.any(pieces == start)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"learning_rate": -1}, "learning_rate=-1 came; it must be a number above 0 and at most 1"),
        ({"beta1": 1}, "beta1=1 came; it must be a number of at least 0 and below 1"),
        ({"beta2": 1.0}, "beta2=1.0 came; it must be a number of at least 0 and below 1"),
        ({"epsilon": 0}, "epsilon=0 came; it must be a positive, finite number"),
        ({"gradient": np.ones(1)}, r"parameters of shape \(3,\) and a gradient of \(1,\) came; pass flat ones of one size"),
        ({"parameters": np.ones((3, 1)), "gradient": np.ones((3, 1))}, r"parameters of shape \(3, 1\)"),
    ],
)
def test_an_argument_outside_its_range_is_refused(arguments, says):
    with pytest.raises(InvalidInput, match=f"^{says}"):
        Adam(np, **({"parameters": np.ones(3), "gradient": np.ones(3), "learning_rate": 0.1} | arguments))


def test_the_sweep_is_told_where_the_vectors_lie(monkeypatch):
    told = []
    monkeypatch.setattr(optim, "sweep", lambda xp, size, function: told.append((xp, size)))
    Adam(np, np.ones(7), np.ones(7), learning_rate=0.1).step()
    assert told == [(np, 7)]


def test_float32_stays_float32_and_the_gradient_is_left_alone():
    theta, gradient = np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    gradient.flags.writeable = False
    adam = Adam(np, theta, gradient, learning_rate=0.1)
    adam.step()
    assert theta.dtype == adam.M.dtype == adam.V.dtype == np.float32
    np.testing.assert_allclose(theta, 0.9, rtol=1e-6)
