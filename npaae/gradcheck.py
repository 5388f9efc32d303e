"""Check a handwritten gradient by finite differences, for any scalar function of an array.

Every check takes a function f, a point x and the gradient that was derived for f at x. For each
element (or direction) it compares the claimed derivative a with a numerical derivative n, and
returns the worst relative error

    |a − n| / (|a| + |n|)

An error of 0 means equal, 1/3 a factor of two, and 1 a zero or a reversed sign. A gradient that is
wrong by 0.1 % has an error of 5e-4, because the denominator is about 2 |n|. In float64 the error of
a correct gradient is below 1e-6, and usually far below. The error of each element is relative to
its own size, so that a small wrong element cannot hide among large right ones.

The numerical derivative. Five values of f, at x, x ± λh and x ± h, give three estimates of it, one
from each side and one from both:

    right = (f(x + λh) − λ² f(x + h) − λ f(x)) / λ³h,      left: the same with −h
    both  = (f(x + λh) − f(x − λh) − λ³ [f(x + h) − f(x − h)]) / 2λ²h

The one-sided estimates have an error of order h², and `both` one of order h⁴. With the golden
ratio, λ = 1 − λ² = 0.618…, the weights are simple, and values that are rounded to a grid cannot
agree by chance, because λ is irrational. The three agree if f has a derivative that can be
computed. A kink or a jump between x − h and x + h, a step that is too long, and noise in f all make
them differ. So the numerical derivative is `both`, with the uncertainty

    u = 3 max |side − both| + 8 ε (|f| + |f' x|) / h,       ε = 2⁻⁵²,

whose second term is the rounding, which may be the same in all five values. The first step is
h = 1e-5 · max(1, |x|). If it is not precise enough, other steps are tried: shorter ones have less
truncation and avoid kinks near x, and longer ones have less rounding. The step with the smallest u
is used. How |side − both| depends on h shows how f behaves at x:

    it shrinks with h                         f is smooth
    it is the same at every h                 a kink
    times h it is the same at every h         a jump, if f has the same height above f(x) each time;
                                              else noise, which is added to u at every longer step
    f is steep at one h, flat at a longer     the longer one is too long, and is ignored
    f is flat at one h, steep at a longer     the longer one is too long, as there are kinks nearby;
                                              but a staircase if f is flat all along the longer one,
                                              because f computes in less than float64

What a pass means. If |a − n| ≤ u, the two agree as far as finite differences can tell, and the
error is at most 1e-8. An element is decided if u ≤ 1e-3 (|a| + |n|). If a is 0, it is decided if
u ≤ 1e-3 s, in which s is the slope of f nearby, but at least 1. If some elements are decided, the
others do not fail the check: the returned Error counts them. They are small and hidden by the
rounding of f, or they consist of rounding.

A check that cannot decide any element does not pass: it raises an exception. Kink means that f has
a kink or a jump at x; choose another point. InvalidInput means that f or the gradient does not fit
x, that f is not deterministic or not finite, that it computes in less than float64, or that
rounding or noise hides all of its derivatives. Only `pattern` can reveal a kink that rounding
hides.

Randomness in f must be frozen: create a generator with the same seed in each call. Dropout can then
be checked while it is on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf, isfinite, nan, sqrt
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .backend import HostArray as Array
from .checks import host_array, positive
from .errors import InvalidInput, UserError
from .layers import declared

Function: TypeAlias = Callable[[Array], Any]

STEP = 1e-5
SHORTER, LONGER = 16.0 ** -np.arange(1, 5), 16.0 ** np.arange(1, 4)  # in units of the first step
GOLDEN = (sqrt(5) - 1) / 2
EPSILON = float(np.finfo(float).eps)
AGREEMENT = 1e-8  # the largest error of two derivatives that agree to within the uncertainty
DECIDED = 1e-3  # the largest relative uncertainty of an element that is decided
STAIR = 1e-9  # of a jump or a stair, relative to f; a lower one may be rounding of float64
ELEMENTS = 300  # a parameter with more of them is checked along directions
DIRECTIONS = 20


class Kink(UserError, ArithmeticError):
    """The finite difference straddles a kink or a jump and is meaningless; choose another point."""


class Error(float):
    """A relative error, and how much the check could see.

    where: the index in x of the worst element. undecided: the number of elements that rounding or
    noise hides. resolution: the largest relative error that any element may hide, at most 1.
    """

    where: tuple[int, ...] = ()
    undecided: int = 0
    resolution: float = 0.0


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
    of x that returns an array, equal at two points if and only if no kink of f is between them.

    Raises InvalidInput and Kink, as the module describes. A NaN in `gradient` gives the error inf.
    """
    probe = _Probe(f, x, gradient, pattern)
    steps = STEP * np.maximum(1, np.abs(x)) if step is None else positive("step", step)
    places = np.arange(x.size).reshape(x.shape)
    return probe.check((i, steps * (places == places[i])) for i in np.ndindex(x.shape))


def along(
    f: Function,
    x: Array,
    gradient: Array,
    direction: Array,
    step: float | None = None,
    *,
    pattern: Function | None = None,
) -> Error:
    """The relative error of the derivative ⟨gradient, direction⟩: a few evaluations for any size.

    Choose the direction at random: a wrong gradient is missed if its error is nearly orthogonal to
    the direction, which is unlikely for a random one but not for `np.ones`. An error in a few of
    many elements is diluted among them, so check small parts separately. step: the first h, for the
    largest component of the displacement. The rest is as in `elementwise`.
    """
    probe = _Probe(f, x, gradient, pattern)
    direction = _real("direction", direction, x.shape)
    longest = float(np.abs(direction).max(initial=0))
    if not (longest > 0 and isfinite(longest)):
        raise InvalidInput(f"direction must be finite and not zero, got largest element {longest}")
    first = STEP if step is None else positive("step", step)
    return probe.check([((), first * (direction / longest))])


def layer(
    layer: Any,
    x: Array,
    *,
    seed: int | None = 0,
    step: float | None = None,
    pattern: Function | None = None,
) -> Error:
    """The worst relative error of dL/dx as a layer or a network computes it.

    The scalar is L = ⟨dy, forward(x)⟩ for a random dy of order one, so dL/dx is backward(dy).
    seed: the seed of the generator that each forward pass receives, which turns dropout on. With
    None there is no generator, and dropout is off. The layer receives copies, and whatever it
    declares (parameters, their gradients, statistics) is restored. The rest is as in `elementwise`.
    """
    _require_point("x", x)
    with _frozen(layer, seed) as forward:
        y, cache = forward(x)
        dy = _cotangent(y, seed)
        gradient = layer.backward(dy.copy(), cache)
        return elementwise(lambda x: np.vdot(dy, forward(x)[0]), x, gradient, step, pattern=pattern)


def parameters(layer: Any, x: Array, *, seed: int | None = 0) -> dict[str, Error]:
    """The worst relative error of every parameter of a layer or network, by name.

    The names are those that the layer declares, such as "W"; in a network "0.W", "2.gamma", and so
    on. L and seed are as in `layer`. A parameter of up to 300 elements is checked element by
    element, and a larger one along 20 random directions. The parameters must be float64; they are
    changed in place and restored, as are their gradients and the layer's statistics. A gradient
    that is added to its array or written to another one has the error inf, because an optimiser
    would not see it.
    """
    _require_point("x", x)
    errors = {}
    with _frozen(layer, seed) as forward:
        y, cache = forward(x)
        dy = _cotangent(y, seed)
        checked = []
        for label, owner, name in declared(layer, "parameters"):
            value = getattr(owner, name)
            _require_point(label, value)
            setattr(owner, f"d{name}", np.full_like(value, nan))
            checked.append((label, value, getattr(owner, f"d{name}")))
        if hasattr(layer, "layers"):
            layer.backward(dy.copy(), cache)
        elif checked:
            layer.parameter_gradients(dy.copy(), cache)
        for label, value, gradient in checked:

            def f(changed: Array, value: Array = value) -> Any:
                return np.vdot(dy, forward(x, (value, changed))[0])

            if value.size <= ELEMENTS:
                errors[label] = elementwise(f, value, gradient)
            else:
                rng = np.random.default_rng([seed or 0, 2])
                directions = (rng.standard_normal(value.shape) for _ in range(DIRECTIONS))
                displacements = (STEP * v / np.abs(v).max() for v in directions)
                probe = _Probe(f, value, gradient, None)
                errors[label] = probe.check(((), displacement) for displacement in displacements)
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


class _Look(NamedTuple):
    """What the five values of f at one step show, per unit of the displacement.

    The displacement is the first step; `step` is in units of it.
    """

    claimed: float
    numerical: float
    spread: float  # of the three estimates
    rounding: float
    slope: float  # the largest change of f
    gaps: tuple[float, float]  # the limits of f from the right and from the left, minus f(x)
    step: float

    @property
    def size(self) -> float:
        return abs(self.claimed) + abs(self.numerical)

    @property
    def uncertainty(self) -> float:
        return 3 * self.spread + self.rounding

    @property
    def error(self) -> float:
        if not isfinite(self.claimed):
            return inf
        difference = abs(self.claimed - self.numerical)
        error = difference / self.size if difference else 0.0
        return min(error, AGREEMENT) if difference <= self.uncertainty else error

    @property
    def resolution(self) -> float:
        """The error that may be hidden; that of a 0 is relative to the slope nearby, or to 1."""
        return self.uncertainty / (self.size if self.claimed else max(self.slope, STEP))

    @property
    def is_decided(self) -> bool:
        return self.resolution <= DECIDED or self.error > AGREEMENT

    @property
    def vanishes(self) -> bool:
        """Whether the claim is the rounding of a 0."""
        return abs(self.claimed) <= self.uncertainty <= DECIDED * max(self.slope, STEP)

    def differs(self, other: "_Look") -> bool:
        """Whether two steps give different derivatives, each with a small uncertainty."""
        allowed = 2 * (self.uncertainty + other.uncertainty) + 1e-3 * self.size
        return abs(self.numerical - other.numerical) > allowed

    def refutes(self, longer: "_Look") -> bool:
        """Whether f is steeper here than at a longer step, which is too long for it."""
        return self.differs(longer) and abs(self.numerical) > abs(longer.numerical)

    def is_tread(self, longer: "_Look") -> bool:
        """Whether f is flatter here than at a longer step, which sees stairs or kinks."""
        is_rough = longer.spread > STAIR / (8 * EPSILON) * longer.rounding
        return self.differs(longer) and not self.refutes(longer) and is_rough


class _Probe:
    """A function and its claimed gradient around one point."""

    def __init__(self, f: Function, x: Array, gradient: Array, pattern: Function | None) -> None:
        _require_point("x", x)
        self.f, self.pattern = f, pattern
        # Copies, because f may write to the originals.
        self.x, self.gradient = x.copy(), _real("gradient", gradient, x.shape).copy()
        self.value = self._evaluate(self.x)
        if not isfinite(self.value):
            raise InvalidInput(f"f must be finite at x, got {self.value}")
        if self._evaluate(self.x) != self.value:
            raise InvalidInput("f must be deterministic; create its random generator in each call")
        self.sides: Any = None if pattern is None else pattern(self.x.copy())

    def _evaluate(self, x: Array) -> float:
        with np.errstate(all="ignore"):
            value = host_array("f", self.f(x.copy()))
        if value.shape != () or value.dtype.kind not in "fiub":
            given = f"{value.dtype} of shape {value.shape}"
            raise InvalidInput(f"f must return a real number, got {given}")
        if value.dtype in (np.float16, np.float32):
            raise InvalidInput(f"f must compute in float64 throughout, got {value.dtype}")
        return float(value)

    def _attempt(self, x: Array) -> float:
        """f(x), or NaN if f refuses x because it is outside its domain."""
        try:
            return self._evaluate(x)
        except (ValueError, ArithmeticError):
            return nan

    def check(self, displacements: Iterable[tuple[tuple[int, ...], Array]]) -> Error:
        """The worst error along the displacements, each with its place in x."""
        found = [(place, self._best(displacement)) for place, displacement in displacements]
        errors = [(look.error, place) for place, look in found if look.error]
        worst, where = max(errors, key=lambda pair: pair[0], default=(0.0, ()))
        error = Error(worst)
        error.where, error.undecided = where, sum(not look.is_decided for _, look in found)
        error.resolution = min(1.0, max((look.resolution for _, look in found), default=0.0))
        if found and not any(look.is_decided or look.vanishes for _, look in found):
            raise InvalidInput(
                "f must vary by more than its rounding or noise around x, which hides errors up to "
                f"{error.resolution:.0e}; use a larger step"
            )
        return error

    def _best(self, displacement: Array) -> _Look:
        """The derivative along a displacement, at the best of several steps."""

        def along_line(place: float) -> float:
            return self._attempt(self.x + place * displacement)

        looks = [now := self._look(displacement, 1.0)]
        rounding_dominates = now is not None and now.spread <= now.rounding
        for step in LONGER if rounding_dominates else (*SHORTER, *LONGER):
            if now and now.claimed and max(now.error, now.resolution) <= AGREEMENT:
                break  # a claim of 0 is tried at longer steps, because a staircase is flat
            looks.append(now := self._look(displacement, step))
        found = sorted(filter(None, looks), key=lambda look: look.step)
        if not found:
            raise InvalidInput("f must be finite around x, got NaN or infinity; use a smaller step")
        # What does not shrink with the step is noise, which is in every longer step too.
        noise = np.maximum.accumulate([look.spread * look.step for look in found]).tolist()
        tried = [look._replace(spread=n / look.step) for look, n in zip(found, noise, strict=True)]
        if _jumps(found[:3]):
            raise Kink("f has a jump at x")
        # A refutation by the shortest step alone may be an accident of noise.
        doubts = [
            inf if any(shorter.refutes(look) for shorter in tried[1:i]) else look.uncertainty
            for i, look in enumerate(tried)
        ]
        for i in map(int, np.argsort(doubts, kind="stable")):
            best = tried[i]
            treads = [(shorter, best) for shorter in tried[:i] if shorter.is_tread(best)]
            risers = [(best, longer) for longer in tried[i:] if best.is_tread(longer)]
            if any(_is_staircase(along_line, *pair) for pair in treads[-1:] + risers):
                raise InvalidInput("f must compute in float64 throughout, got a staircase")
            if not treads:
                break
        if best.rounding == inf:
            raise InvalidInput("step must be large enough to change x")
        # If f changes by as much at every step, none is short enough.
        changes = [look.slope * look.step for look in found]
        is_lost = best.error > AGREEMENT and len(found) > 5 and max(changes) < 10 * min(changes)
        if _is_kink(found, tried, i) or is_lost or (i > 0 and tried[0].refutes(best)):
            raise Kink("f has a kink at x, or varies on a scale below the smallest step")
        return best._replace(slope=found[-1].slope)

    def _look(self, displacement: Array, step: float) -> _Look | None:
        """f at one step; None if f is not finite there or has a kink in between."""
        points = [self.x + part * step * displacement for part in (1, GOLDEN, -GOLDEN, -1)]
        values = [self._attempt(point) for point in points]
        if not np.isfinite(values).all() or self._crossed(points):
            return None
        far_right, right, left, far_left = (value - self.value for value in values)
        both = (right - left - GOLDEN**3 * (far_right - far_left)) / (2 * GOLDEN**2 * step)
        sides = right - GOLDEN**2 * far_right, GOLDEN**2 * far_left - left
        spread = max(abs(side / (GOLDEN**3 * step) - both) for side in sides)
        gaps = (right - GOLDEN * far_right) / GOLDEN**2, (left - GOLDEN * far_left) / GOLDEN**2
        slope = max(map(abs, (far_right, right, left, far_left))) / step
        moved = displacement != 0
        claimed = float(np.vdot(self.gradient[moved], displacement[moved]))
        of_f = 8 * EPSILON * max(map(abs, (*values, self.value)))
        of_x = 8 * EPSILON * float(np.abs(self.x[moved]).max() / np.abs(displacement).max())
        is_lost = np.array_equal(points[0], self.x)
        rounding = inf if is_lost else (of_f + of_x * slope) / step
        return _Look(claimed, both, spread, rounding, slope, gaps, step)

    def _crossed(self, points: list[Array]) -> bool:
        """Whether, according to `pattern`, a kink lies between x and one of the points."""
        if self.pattern is None:
            return False
        return not all(np.array_equal(self.pattern(point), self.sides) for point in points)


def _jumps(looks: list[_Look]) -> bool:
    """Whether a limit of f differs from f(x) by the same amount at three steps."""
    gaps = np.array([look.gaps for look in looks])  # (3, 2)
    least = np.abs(gaps).min(axis=0)
    is_same = np.ptp(gaps, axis=0) <= 0.02 * least
    rounding = min(look.rounding * look.step for look in looks)
    is_high = least > STAIR / (8 * EPSILON) * rounding
    return len(looks) == 3 and bool((is_same & is_high).any())


def _is_kink(found: Sequence[_Look], tried: Sequence[_Look], i: int) -> bool:
    """Whether the spread of the i-th look is that of a kink.

    It can be seen beside rounding. It does not shrink with the step, as that of a smooth function
    does. It is not noise, which changes f by as much at 1/256 of the step, two looks before.

    found: the looks, from the shortest step to the longest. tried: the same, whose spread is at
    least that of noise at their step.
    """
    best = tried[i]
    is_visible = best.spread > max(1e-4 * best.size, 32 * best.rounding)
    shrinks = i + 1 < len(found) and found[i + 1].spread > 3 * best.spread
    is_noise = i > 1 and 16 * tried[i - 2].spread * tried[i - 2].step > best.spread * best.step
    return is_visible and not (shrinks or is_noise)


def _is_staircase(f: Callable[[float], float], tread: _Look, longer: _Look) -> bool:
    """Whether f rises in jumps along a longer step, at which it is steeper than on a tread.

    If it rises at kinks, it has another slope than the tread at most places in between, which is
    the same for two lengths. Otherwise it has the tread's slope there, or a jump.
    """
    rise, slopes = abs(longer.numerical - tread.numerical), []
    for place in (2 * (GOLDEN * np.arange(1, 10) % 1) - 1) * longer.step:
        for length in (tread.step, GOLDEN * tread.step):
            slopes.append((f(place + length) - f(place - length)) / (2 * length))
    wide, narrow = np.array(slopes[::2]), np.array(slopes[1::2])
    is_slope = np.abs(wide - narrow) < 0.25 * rise
    is_other = np.abs(wide - tread.numerical) > 0.25 * rise
    return bool(np.median(is_slope & is_other) == 0)


@contextmanager
def _frozen(layer: Any, seed: int | None) -> Iterator[Callable[..., Any]]:
    """The forward pass as a function of x, and of a changed parameter. The layer does not change.

    Before every pass, and at the end, everything that the layer and its parts declare is restored.
    """
    owned = [
        (owner, prefix + name)
        for kind, prefix in (("parameters", ""), ("parameters", "d"), ("statistics", ""))
        for _, owner, name in declared(layer, kind)
    ]
    absent = [place for place in owned if not hasattr(*place)]  # the gradients of a new layer
    kept = [(*p, getattr(*p), np.copy(getattr(*p))) for p in owned if hasattr(*p)]

    def restore() -> None:
        for owner, name, value, before in kept:
            setattr(owner, name, value)
            if value.flags.writeable:
                value[...] = before

    def forward(x: Array, *changed: tuple[Array, Array]) -> Any:
        restore()
        for parameter, values in changed:
            parameter[...] = values
        return layer.forward(x.copy(), None if seed is None else np.random.default_rng(seed))

    try:
        yield forward
    finally:
        restore()
        for owner, name in absent:
            if hasattr(owner, name):
                delattr(owner, name)


def _cotangent(y: Array, seed: int | None) -> Array:
    _require_point("the output of the layer", y)
    return np.random.default_rng([seed or 0, 1]).standard_normal(np.shape(y))


def _require_point(name: str, x: Array) -> None:
    if getattr(x, "dtype", None) != np.float64:
        kind = getattr(x, "dtype", type(x).__name__)
        raise InvalidInput(f"{name} must be a float64 array for finite differences, got {kind}")
    if not np.isfinite(x).all():
        raise InvalidInput(f"{name} must be finite, got NaN or infinity")


def _real(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    array = host_array(name, values)
    if array.dtype.kind not in "fiub":
        raise InvalidInput(f"{name} must be an array of real numbers, got {array.dtype}")
    if array.shape != shape:
        raise InvalidInput(f"{name} must have the shape of x, {shape}, got {array.shape}")
    return array
