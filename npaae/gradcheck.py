"""Is a hand-written gradient right? Finite differences, for any scalar function of an array.

Both checks take a function f, a point x and the gradient that somebody derived for f at x, and return a relative error

    ‖a − n‖ / (‖a‖ + ‖n‖)

between that gradient a and the central difference n: 0 is perfect, 1 is unrelated. In float64 a correct gradient of a
smooth function stays below 1e-7 or so; a wrong one is mostly above 1e-3. The measure has no absolute tolerance, in which a
gradient that is small everywhere could hide.

The step is h = 1e-5 · max(1, |x|). The central difference (f(x + h) − f(x − h)) / 2h is off by h² f'''/6 from truncation and
by about 1e-16 |f| / h from rounding; their sum is least near h = ∛1e-16 ≈ 5e-6, and flat around it. The factor |x| keeps
the step well above the spacing of the floating-point numbers around x.

f must be smooth along the step: at a ReLU's kink a finite difference is wrong, not the gradient. Randomness in f must be
frozen: make a fresh generator of one seed in each call, and dropout is checked *on*.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .backend import HostArray as Array
from .errors import InvalidInput

Function: TypeAlias = Callable[[Array], Any]

STEP = 1e-5


def numerical_gradient(f: Function, x: Array) -> Array:
    """df/dx_i ≈ (f(x + h e_i) − f(x − h e_i)) / 2h for every element of x; the result has x's shape.

    x is float64, of any shape; f takes such an array and returns a scalar. x itself is neither passed on nor written to.
    Raises InvalidInput for an x of another type.
    """
    _require_float64(x)
    gradient = np.empty_like(x)
    point = x.copy()
    for i in np.ndindex(x.shape):
        h = STEP * max(1.0, abs(float(x[i])))
        above, below = x[i] + h, x[i] - h
        point[i] = above
        f_above = float(f(point.copy()))
        point[i] = below
        f_below = float(f(point.copy()))
        point[i] = x[i]
        gradient[i] = (f_above - f_below) / (above - below)  # the step as rounded, not as meant
    return gradient


def elementwise(f: Function, x: Array, gradient: Array) -> float:
    """The relative error of `gradient` against `numerical_gradient(f, x)`: 2 x.size evaluations of f.

    Raises InvalidInput where x is not float64 or the gradient's shape is not x's.
    """
    if gradient.shape != x.shape:
        raise InvalidInput(f"a gradient of shape {gradient.shape} came for x of shape {x.shape}; the two must agree")
    return relative_error(gradient, numerical_gradient(f, x))


def along(f: Function, x: Array, gradient: Array, direction: Array) -> float:
    """The relative error of the derivative ⟨gradient, direction⟩ along one direction: two evaluations of f, at any size.

    With a random direction a wrong gradient is missed with probability 0, so this suits whole networks.
    Raises InvalidInput where x is not float64 or the shapes differ.
    """
    _require_float64(x)
    if not (gradient.shape == direction.shape == x.shape):
        raise InvalidInput(
            f"x of shape {x.shape}, a gradient of {gradient.shape} and a direction of {direction.shape} came; "
            "the three must agree"
        )
    h = STEP * max(1.0, float(np.abs(x).max())) / float(np.abs(direction).max())
    numerical = (float(f(x + h * direction)) - float(f(x - h * direction))) / (2 * h)
    return relative_error(np.vdot(gradient, direction), numerical)


def relative_error(analytical: Any, numerical: Any) -> float:
    """‖a − n‖ / (‖a‖ + ‖n‖) in the Euclidean norm over all elements; 0 where both vanish."""
    scale = float(np.linalg.norm(analytical) + np.linalg.norm(numerical))
    return float(np.linalg.norm(np.subtract(analytical, numerical))) / scale if scale else 0.0


def _require_float64(x: Array) -> None:
    if getattr(x, "dtype", None) != np.float64:
        raise InvalidInput(f"x of type {getattr(x, 'dtype', type(x))} came; finite differences need float64 arrays")
