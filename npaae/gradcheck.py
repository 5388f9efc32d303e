"""Is a hand-written gradient right? Finite differences, for any scalar function of an array, yours or ours.

Every check takes a function f, a point x and the gradient that somebody derived for f at x, and returns a relative error

    ‖a − n‖ / (‖a‖ + ‖n‖)

between that gradient a and the central difference n: 0 is perfect, 0.7 unrelated, 1 opposite. In float64 a correct gradient
stays below 1e-7 where f is smooth on the scale of max(1, |x|) and not much larger than its changes there; a wrong one is
mostly above 1e-3. The measure has no absolute tolerance, in which a gradient that is small everywhere could hide.

The step is h = 1e-5 · max(1, |x|). The central difference (f(x + h) − f(x − h)) / 2h is off by h² f‴/6 from truncation and
by about 1e-16 |f| / h from rounding; their sum is least near h = ∛1e-16 ≈ 5e-6, and flat around it. The factor keeps the
step well above the spacing of the floating-point numbers around x. With `richardson`, two differences D(h) and D(h/2)
combine to (4 D(h/2) − D(h)) / 3, in which the h² cancels; what is left is of order h⁴, so that h = 1e-3 · max(1, |x|) is best
and a correct gradient comes out about a hundred times better, for twice the evaluations.

At a kink a finite difference is wrong, not the gradient. So kinks are looked for, and `Kink` is raised where two evaluations
lie on two sides of one: npaae's own ReLUs are watched, and `pattern` tells of others. Randomness in f must be frozen: make a
fresh generator of one seed in each call, and dropout is checked *on*.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from .backend import Generator
from .backend import HostArray as Array
from .checks import InvalidInput, UserError
from .layers import ReLU

Function: TypeAlias = Callable[[Array], Any]

STEP, RICHARDSON_STEP = 1e-5, 1e-3


class Kink(UserError, ArithmeticError):
    """The evaluations that a difference is made of lie on two sides of a kink: it says nothing; take another point."""


def elementwise(f: Function, x: Array, gradient: Array, *, pattern: Function | None = None, richardson: bool = False) -> float:
    """The relative error of `gradient` against `numerical_gradient`, which takes the same arguments.

    Raises InvalidInput where x is not float64 or the gradient's shape is not x's, and Kink.
    """
    _require_alike(x, gradient=gradient)
    return relative_error(gradient, numerical_gradient(f, x, pattern=pattern, richardson=richardson))


def along(
    f: Function, x: Array, gradient: Array, direction: Array, *, pattern: Function | None = None, richardson: bool = False
) -> float:
    """The relative error of the derivative ⟨gradient, direction⟩ along one direction: two evaluations of f, at any size.

    With a random direction a wrong gradient is missed with probability 0, so this suits whole networks. The step's longest
    component is the h above.

    Raises InvalidInput where x is not float64, the shapes differ or the direction is zero, and Kink.
    """
    direction = np.asarray(direction)
    _require_alike(x, gradient=gradient, direction=direction)
    longest = float(np.abs(direction).max(initial=0))
    if longest == 0:
        raise InvalidInput("a direction of length zero came; pass one that leads somewhere")
    h = (RICHARDSON_STEP if richardson else STEP) * max(1.0, float(np.abs(x).max())) / longest
    return relative_error(np.vdot(gradient, direction), _difference(f, x, h * direction, pattern, richardson) / h)


def layer(layer: Any, x: Array, *, seed: int = 0, pattern: Function | None = None, richardson: bool = False) -> float:
    """The relative error of a layer's `backward`, or a whole network's, at the input x; its dropout on, its mask frozen.

    A layer is anything with y, cache = forward(x, rng) and dx = backward(dy, cache). To make a scalar of its output, that is
    projected onto a random cotangent of order one: the gradient of ⟨dy, forward(x)⟩ is backward(dy).

    The layer is handed copies, for it may be one that works in place. Raises InvalidInput where x is not float64, and Kink.
    """
    _require_alike(x)
    y, cache = layer.forward(x.copy(), _rng(seed))
    dy = np.random.default_rng([seed, 1]).standard_normal(y.shape)
    gradient = layer.backward(dy.copy(), cache)
    return elementwise(
        lambda x: np.vdot(dy, layer.forward(x, _rng(seed))[0]), x, gradient, pattern=pattern, richardson=richardson
    )


def numerical_gradient(f: Function, x: Array, *, pattern: Function | None = None, richardson: bool = False) -> Array:
    """df/dx_i ≈ (f(x + h e_i) − f(x − h e_i)) / 2h for every element of x; the result has x's shape.

    x is float64, of any shape; f takes such an array and returns a scalar. x itself is neither passed on nor written to.
    pattern: tells on which side of its kinks f is, as an array that is equal at two points if no kink lies between them;
    not needed for npaae's own layers. richardson: the better formula, for twice the evaluations.

    Raises InvalidInput for an x of another type, and Kink.
    """
    _require_alike(x)
    step = RICHARDSON_STEP if richardson else STEP
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        displacement = np.zeros_like(x)
        displacement[i] = h = step * max(1.0, abs(float(x[i])))
        gradient[i] = _difference(f, x, displacement, pattern, richardson) / h
    return gradient


def relative_error(analytical: Any, numerical: Any) -> float:
    """‖a − n‖ / (‖a‖ + ‖n‖) in the Euclidean norm over all elements; 0 where both vanish."""
    a, n = np.asarray(analytical), np.asarray(numerical)
    largest = max(float(np.abs(a).max(initial=0)), float(np.abs(n).max(initial=0)))
    if largest == 0:
        return 0.0
    a, n = a / largest, n / largest  # lest the squares of tiny numbers vanish, or those of huge ones overflow
    return float(np.linalg.norm(a - n) / (np.linalg.norm(a) + np.linalg.norm(n)))


def _difference(f: Function, x: Array, step: Array, pattern: Function | None, richardson: bool) -> float:
    """⟨∇f(x), step⟩ ≈ (f(x + step) − f(x − step)) / 2; the error is of third order in the step, of fifth with Richardson."""
    if richardson:
        half = 2 * _difference(f, x, step / 2, pattern, False)
        return (4 * half - _difference(f, x, step, pattern, False)) / 3
    above, sides_above = _evaluate(f, x + step, pattern)
    below, sides_below = _evaluate(f, x - step, pattern)
    if len(sides_above) != len(sides_below) or not all(map(np.array_equal, sides_above, sides_below)):
        raise Kink("a kink lies between two evaluations, where a finite difference is wrong; take another point")
    return (above - below) / 2


def _evaluate(f: Function, x: Array, pattern: Function | None) -> tuple[float, list[Any]]:
    """f(x), and on which sides of its kinks x lies."""
    with _watched_relus() as sides:
        value = float(f(x.copy()))
    return value, sides if pattern is None else [*sides, pattern(x.copy())]


@contextmanager
def _watched_relus() -> Iterator[list[Array]]:
    """While the block lasts, note which units each forward pass of any ReLU leaves active."""
    sides: list[Array] = []
    forward = ReLU.forward

    def noting(self: ReLU, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        sides.append(x > 0)
        return forward(self, x, rng)

    ReLU.forward = noting  # type: ignore[method-assign]
    try:
        yield sides
    finally:
        ReLU.forward = forward  # type: ignore[method-assign]


def _rng(seed: int) -> Generator:
    return np.random.default_rng(seed)


def _require_alike(x: Array, **others: Array) -> None:
    if getattr(x, "dtype", None) != np.float64:
        raise InvalidInput(f"x of type {getattr(x, 'dtype', type(x))} came; finite differences need a float64 array")
    for name, other in others.items():
        if np.shape(other) != x.shape:
            raise InvalidInput(f"x of shape {x.shape} and a {name} of shape {np.shape(other)} came; the two must agree")
