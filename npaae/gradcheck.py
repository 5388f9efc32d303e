"""Check a handwritten gradient by finite differences, for any scalar function of an array.

Every check takes a function f, a point x and the gradient that was derived for f at x. For each
element (or direction) it compares the claimed derivative a with a numerical derivative n, and
returns the worst relative error

    |a − n| / (|a| + |n|)

0 means equal, 1/3 a factor of two, and 1 a zero or a reversed sign. In float64 a right gradient
stays below 1e-6, usually far below, and a wrong one is above 1e-3. The error of each element is
relative to its own size, so that a small wrong element cannot hide among large right ones.

The numerical derivative. With D(h) = (f(x + h) − f(x − h)) / 2h, the combination

    n = (4 D(h/2) − D(h)) / 3

cancels the h² term of the truncation error. Its uncertainty u is estimated from the same values:

    u = |D(h) − D(h/2)| + |S(h) − 2 S(h/2)| + 4 η / h
    S(h) = (f(x + h) − 2 f(x) + f(x − h)) / h

The first term bounds the truncation error of n: the term is of order h², the error of order h⁴. The
second detects a kink: S(h) is the difference of the slopes on the two sides of x, which shrinks
with h if f is smooth and does not if the slopes differ. The third is rounding: η is the scatter of
f's values, measured at x. The step starts at h = 1e-5 · max(1, |x|); it shrinks while truncation or
a kink dominates and grows while rounding does, and the step with the smallest u is used. If
|a − n| ≤ u, the two agree as far as finite differences can tell, and the error is at most 1e-8.

A check that cannot decide does not pass: it raises an exception. InvalidInput means that f or the
gradient does not fit x, that f is not deterministic, computes in less than float64 or is not
finite, or that rounding hides all of its derivatives. Kink means that f has a kink within the
smallest step; choose another point. Only `pattern` can reveal a kink that rounding hides.

Randomness in f must be frozen: create a generator with the same seed in each call. Dropout can then
be checked while it is on.
"""

from collections.abc import Callable
from math import inf, isfinite, nan
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from .backend import Generator
from .backend import HostArray as Array
from .checks import positive
from .errors import InvalidInput, UserError
from .layers import named_parameters

Function: TypeAlias = Callable[[Array], Any]

STEP = 1e-5
AGREEMENT = 1e-8  # the largest error of two derivatives that agree to within the uncertainty
POWERS, FACTOR = range(-5, 5), 8.0  # of the steps that are tried, as multiples of the first

# The scatter of f's values is measured at these parts of the first step, by fourth differences. For
# a smooth function they vanish over such short distances. What is left is rounding, whose variance
# they multiply by 70 (Moré and Wild, "Estimating computational noise", 2011).
NEAR, ORDER, AMPLIFIED = np.arange(9) / 10_000, 4, 70
NOISE = 8  # times the scatter is hardly ever exceeded
SINGLE = 1e-10  # a relative scatter above this is that of float32
ELEMENTS = 300  # a parameter with more of them is checked along directions
DIRECTIONS = 20


class Kink(UserError, ArithmeticError):
    """The finite difference straddles a kink and is meaningless; choose another point."""


class Error(float):
    """A relative error; `where` is the index in x of the worst element."""

    where: tuple[int, ...]

    def __new__(cls, value: float, where: tuple[int, ...] = ()) -> "Error":
        error = super().__new__(cls, value)
        error.where = where
        return error


def elementwise(
    f: Function,
    x: Array,
    gradient: Array,
    step: float | None = None,
    *,
    pattern: Function | None = None,
) -> Error:
    """The worst relative error of `gradient` over all elements of x.

    f: takes an array like x and returns a scalar. x: float64, of any shape; it is not changed.
    gradient: df/dx as derived, of x's shape. step: the first h, in the units of x, for a function
    that varies on a scale other than max(1, |x|). pattern: for a function with kinks, a function
    of x that returns an array, the same at two points exactly if no kink of f lies between them.

    Raises InvalidInput and Kink, as the module describes. A NaN in `gradient` gives the error inf.
    """
    _require_alike(x, gradient=gradient)
    if step is None:
        steps = STEP * np.maximum(1, np.abs(x))
    else:
        steps = np.full_like(x, positive("step", step))
    anywhere = _cotangent(x, 0)  # because f may be flat along `steps`
    probe = _Probe(f, x, gradient, pattern, steps * anywhere)
    worst, resolved = Error(0.0), x.size == 0
    for i in np.ndindex(x.shape):
        displacement = np.zeros_like(x)
        displacement[i] = steps[i]
        comparison = probe.compare(displacement)
        resolved |= comparison.resolved
        if comparison.error > worst:
            worst = Error(comparison.error, i)
    if not resolved:
        _refuse_unresolved()
    return worst


def along(
    f: Function,
    x: Array,
    gradient: Array,
    direction: Array,
    step: float | None = None,
    *,
    pattern: Function | None = None,
) -> Error:
    """The relative error of the derivative ⟨gradient, direction⟩: a few evaluations, at any size.

    Choose the direction at random: a wrong gradient is missed if its error is nearly orthogonal to
    the direction, which is unlikely for a random one but not for `np.ones`. An error in a few of
    many elements is diluted among them, so check small parts separately. step: the first h, for the
    largest component of the displacement. The rest is as in `elementwise`.
    """
    direction = np.asarray(direction)
    _require_alike(x, gradient=gradient, direction=direction)
    longest = float(np.abs(direction).max(initial=0))
    if not (longest > 0 and np.isfinite(longest)):
        raise InvalidInput(f"direction must be finite and not zero, got largest element {longest}")
    displacement = (STEP if step is None else positive("step", step)) * direction / longest
    comparison = _Probe(f, x, gradient, pattern, displacement).compare(displacement)
    if not comparison.resolved:
        _refuse_unresolved()
    return Error(comparison.error)


def layer(
    layer: Any,
    x: Array,
    *,
    seed: int = 0,
    step: float | None = None,
    pattern: Function | None = None,
) -> Error:
    """The worst relative error of dL/dx as a layer or a network computes it; dropout is on.

    The scalar is L = ⟨dy, forward(x)⟩ for a random dy of order one, so dL/dx is backward(dy). The
    layer receives copies, so one that works in place cannot spoil the check. The rest is as in
    `elementwise`.
    """
    _require_alike(x)
    y, cache = layer.forward(x.copy(), _rng(seed))
    dy = _cotangent(y, seed)
    gradient = layer.backward(dy.copy(), cache)

    def f(x: Array) -> Any:
        return np.vdot(dy, layer.forward(x, _rng(seed))[0])

    return elementwise(f, x, gradient, step, pattern=pattern)


def parameters(layer: Any, x: Array, *, seed: int = 0) -> dict[str, Error]:
    """The worst relative error of every parameter of a layer or network, by name; dropout is on.

    The names are those that the layer declares, such as "W"; in a network "0.W", "2.gamma", and so
    on. L is as in `layer`. A parameter of up to 300 elements is checked element by element, and a
    larger one along 20 random directions. The parameters must be float64; they are changed in place
    and restored, and their gradients are left as computed. A gradient that is added to its array or
    written to another one has the error inf, because an optimiser would not see it.
    """
    _require_alike(x)
    checked = []
    for label, owner, name in named_parameters(layer):
        value = getattr(owner, name)
        _require_alike(value)
        if not hasattr(owner, f"d{name}"):
            setattr(owner, f"d{name}", np.empty_like(value))
        gradient = getattr(owner, f"d{name}")
        gradient[...] = nan
        checked.append((label, value, gradient))
    y, cache = layer.forward(x.copy(), _rng(seed))
    dy = _cotangent(y, seed)
    write = layer.backward if hasattr(layer, "layers") else layer.parameter_gradients
    write(dy.copy(), cache)
    errors = {}
    for label, value, gradient in checked:
        start = value.copy()

        def f(changed: Array, value: Array = value) -> Any:
            value[...] = changed
            return np.vdot(dy, layer.forward(x.copy(), _rng(seed))[0])

        try:
            if value.size <= ELEMENTS:
                errors[label] = elementwise(f, start, gradient)
            else:
                rng = np.random.default_rng([seed, 2])
                directions = (rng.standard_normal(value.shape) for _ in range(DIRECTIONS))
                errors[label] = max(along(f, start, gradient, v) for v in directions)
        finally:
            value[...] = start
    return errors


def relative_error(analytical: Any, numerical: Any) -> float:
    """‖a − n‖ / (‖a‖ + ‖n‖) in the Euclidean norm; 0 if both vanish, inf if either is not finite.

    This compares two arrays as a whole; the checks above compare element by element. Raises
    InvalidInput if their shapes differ.
    """
    a, n = np.asarray(analytical), np.asarray(numerical)
    if a.shape != n.shape:
        raise InvalidInput(f"analytical must have the shape {n.shape} of numerical, got {a.shape}")
    if not (np.isfinite(a).all() and np.isfinite(n).all()):
        return inf
    largest = max(float(np.abs(a).max(initial=0)), float(np.abs(n).max(initial=0)))
    if largest == 0:
        return 0.0
    a, n = a / largest, n / largest  # so that no square underflows or overflows
    return float(np.linalg.norm(a - n) / (np.linalg.norm(a) + np.linalg.norm(n)))


class _Comparison(NamedTuple):
    """The claimed derivative, the numerical one, and the uncertainty of the latter."""

    claimed: float
    numerical: float
    truncation: float  # and kinks
    rounding: float

    @property
    def size(self) -> float:
        return abs(self.claimed) + abs(self.numerical)

    @property
    def uncertainty(self) -> float:
        return self.truncation + self.rounding

    @property
    def error(self) -> float:
        if not isfinite(self.claimed):
            return inf
        difference = abs(self.claimed - self.numerical)
        error = difference / self.size if difference else 0.0
        return min(error, AGREEMENT) if difference <= self.uncertainty else error

    @property
    def resolved(self) -> bool:
        """Whether a wrong derivative could be told from a right one despite rounding."""
        return self.claimed == 0 or self.rounding <= 1e-3 * self.size or self.error > AGREEMENT


class _Probe:
    """A function and its claimed gradient around one point, and the scatter of its values there."""

    def __init__(
        self,
        f: Function,
        x: Array,
        gradient: Array,
        pattern: Function | None,
        displacement: Array,
    ):
        self.f, self.pattern = f, pattern
        self.x, self.gradient = x.copy(), np.array(gradient)  # f may write to the originals
        self.value = self._evaluate(self.x)
        if not isfinite(self.value):
            raise InvalidInput(f"f must be finite at x, got {self.value}")
        if self._evaluate(self.x) != self.value:
            raise InvalidInput("f must be deterministic: make its random generator anew each call")
        self.sides: Any = None if pattern is None else pattern(self.x.copy())
        far = self._attempt(self.x + displacement)
        largest = max(abs(self.value), abs(far) if isfinite(far) else 0.0) or 1.0
        near, scatters, self.flat = [], [], []
        for steps in (NEAR, -NEAR):  # because there may be a kink on one side
            side = [self._attempt(self.x + step * displacement) for step in steps]
            near += [value for value in side if isfinite(value)]
            self.flat.append(set(side) == {self.value})
            if all(map(isfinite, side)):
                differences = np.diff(np.array(side) / largest, ORDER)
                scatters.append(float(np.sqrt(np.mean(differences**2) / AMPLIFIED)))
        scatter = min(scatters, default=0.0)
        self.noise = max(NOISE * scatter * largest, float(np.finfo(float).eps) * abs(self.value))
        if all(map(_is_single, near)):
            raise InvalidInput("f must compute in float64 throughout, got values of float32")
        if scatter > SINGLE:
            raise InvalidInput(
                "f must compute in float64 throughout, got values with a relative scatter of "
                f"{scatter:.0e} around {self.value:g}; if it does, use a smaller step"
            )

    def _evaluate(self, x: Array) -> float:
        with np.errstate(all="ignore"):
            value = self.f(x.copy())
        if getattr(value, "dtype", None) in (np.float16, np.float32):
            raise InvalidInput(f"f must compute in float64 throughout, got {value.dtype}")
        return float(value)

    def _attempt(self, x: Array) -> float:
        """f(x), or NaN if f refuses x because it is outside its domain."""
        try:
            return self._evaluate(x)
        except (ValueError, ArithmeticError):
            return nan

    def compare(self, displacement: Array) -> _Comparison:
        """The derivative along a displacement, the first step tried; the best of several."""
        found: dict[int, _Comparison | None] = {}
        power = 0
        while power not in found and power in POWERS:
            found[power] = now = self._difference(displacement, FACTOR**power)
            if now is None or now.truncation > now.rounding:
                power -= 1  # out of the domain, or a kink, or a large third derivative
            else:
                power += 1
            if now is not None and now.uncertainty <= AGREEMENT * now.size:
                break
        finite = [comparison for comparison in found.values() if comparison is not None]
        if not finite:
            raise InvalidInput("f must be finite around x, got NaN or infinity; use a smaller step")
        best = min(finite, key=lambda comparison: comparison.uncertainty)
        if best.rounding == inf:
            raise InvalidInput("step must be large enough to change x")
        # A bend that a smaller step removes is not a kink.
        removed = 1e-4 * max(comparison.truncation for comparison in finite)
        if best.truncation > max(1e-4 * best.size, 10 * best.rounding, removed):
            raise Kink("f has a kink at x, or varies on a scale below the smallest step")
        return best

    def _difference(self, displacement: Array, scale: float) -> _Comparison | None:
        """A central difference per unit of displacement; None if f is not finite or has a kink."""
        slopes, bends, claims, is_lost = [], [], [], False
        for h in (scale, scale / 2):
            above, below = self.x + h * displacement, self.x - h * displacement
            f_above, f_below = self._attempt(above), self._attempt(below)
            if not (isfinite(f_above) and isfinite(f_below)) or self._crossed(above, below):
                return None
            # A side that is flat near x stays so up to a kink, if there is one; float32 jumps.
            ends = zip((f_above, f_below), self.flat, strict=True)
            changes = [abs(end - self.value) for end, is_flat in ends if is_flat]
            if changes and h == 1 and min(changes) > 1e5 * self.noise:
                raise InvalidInput("f must compute in float64 throughout, got a staircase")
            slopes.append((f_above - f_below) / (2 * h))
            bends.append((f_above - 2 * self.value + f_below) / h)
            # The actual displacement is rounded, which matters for a large x.
            moved = (above - below) / (2 * h)
            longest = np.abs(displacement).max()
            is_lost |= bool(np.abs(moved - displacement).max() > 0.1 * longest)
            parts = moved != 0
            claims.append(float(np.vdot(self.gradient[parts], moved[parts])))
        (wide, narrow), (wide_bend, narrow_bend), (wide_claim, claim) = slopes, bends, claims
        claimed = (4 * claim - wide_claim) / 3
        return _Comparison(
            0.0 if abs(claimed) <= STEP * self.noise else claimed,  # a 0 that was rounded
            (4 * narrow - wide) / 3,
            abs(wide - narrow) + abs(wide_bend - 2 * narrow_bend),
            inf if is_lost else 4 * self.noise / scale,
        )

    def _crossed(self, *points: Array) -> bool:
        """Whether, according to `pattern`, a kink lies between x and one of the points."""
        if self.pattern is None:
            return False
        return not all(np.array_equal(self.pattern(point), self.sides) for point in points)


def _is_single(value: float) -> bool:
    """Whether a number looks like a float32: representable as one, and not a simple number."""
    with np.errstate(over="ignore"):
        is_simple = value.is_integer() or value == float(np.float16(value))
        return float(np.float32(value)) == value and not is_simple


def _refuse_unresolved() -> NoReturn:
    raise InvalidInput("f must vary by more than its rounding noise around x; use a larger step")


def _cotangent(y: Array, seed: int) -> Array:
    return np.random.default_rng([seed, 1]).standard_normal((*y.shape,))


def _rng(seed: int) -> Generator:
    return np.random.default_rng(seed)


def _require_alike(x: Array, **others: Array) -> None:
    if getattr(x, "dtype", None) != np.float64:
        kind = getattr(x, "dtype", type(x).__name__)
        raise InvalidInput(f"x must be a float64 array for finite differences, got {kind}")
    for name, other in others.items():
        if np.shape(other) != x.shape:
            raise InvalidInput(f"{name} must have the shape of x, {x.shape}, got {np.shape(other)}")
