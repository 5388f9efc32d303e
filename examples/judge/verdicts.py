"""Verdicts, and what a wrong array shows about the code that computed it."""

from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .sandbox import Fault, printable

Array = np.ndarray[Any, Any]
EQUAL = 1e-6  # the relative difference of a wrong array from the slip that explains it
DIFFERENCES = 1e-4  # a smaller error is one of precision, not of mathematics


class Verdict(NamedTuple):
    id: str
    part: str
    title: str
    code: str
    of: int  # points
    verdict: str  # right, wrong, missing or waits
    note: str = ""

    @property
    def points(self) -> int:
        return self.of if self.verdict == "right" else 0


class Wrong(Exception):
    """A wrong result, described in a sentence."""


def kind_of(claim: Any) -> str:
    """The type of a claim that is not an array."""
    kind = claim.get("other", "dict") if isinstance(claim, dict) else type(claim).__name__
    return printable(kind)[:50]


def close(a: Array, b: Array, tolerance: float = EQUAL) -> bool:
    if np.shape(a) != np.shape(b):
        return False
    scale = float(np.abs(b).max(initial=0))
    return bool(np.abs(a - b).max(initial=0) <= tolerance * scale) and scale > 0


def error_of(claim: Array, truth: Array, floor: float | Array = 0.0) -> float:
    """The worst error, element by element, relative to |truth| + floor."""
    difference = np.abs(claim - truth)
    errors = np.divide(difference, np.abs(truth) + floor, where=difference > 0,
                       out=np.zeros(difference.shape))  # fmt: skip
    return float(errors.max(initial=0))


def require(
    name: str,
    claim: Any,
    truth: Any,
    *,
    limit: float,
    floor: float | Array = 0.0,
    sizes: Mapping[str, float] | None = None,
    slips: Iterable[tuple[str, Array]] = (),
    derived: bool = True,
) -> None:
    """Raise Wrong, with the best explanation, unless a claim equals the truth.

    sizes: factors by which it may be too large or too small. slips: sentences, each with the array
    that such a mistake gives. derived: whether it is a derivative, which a difference quotient
    approximates.
    """
    truth = np.asarray(truth, float)
    if isinstance(claim, int) and abs(claim) >= 2**63:
        raise Wrong(f"{name} must be an array of shape {truth.shape}, got a huge integer")
    if not isinstance(claim, np.ndarray | np.generic | float | int):
        raise Wrong(f"{name} must be an array of shape {truth.shape}, got {kind_of(claim)}")
    claim = np.asarray(claim)
    if claim.shape != truth.shape:
        text = f"{name} must have shape {truth.shape}, got {claim.shape}"
        raise Wrong(f"{text}: it is transposed" if close(claim.T, truth) else text)
    single, claim = claim.dtype == np.float32, claim.astype(float)
    finite = np.isfinite(claim)
    if not finite.all():
        raise Wrong(
            f"{name}: {claim.size - finite.sum()} of {claim.size} numbers are NaN or infinite"
        )
    error = error_of(claim, truth, floor)
    if error <= limit:
        return
    for sentence, slip in slips:
        if close(claim, np.asarray(slip)) and not close(truth, np.asarray(slip), EQUAL):
            raise Wrong(f"{name}: {sentence}")
    if error <= DIFFERENCES:
        text = f"{name} is right only to {error:.0e}"
        if single:
            raise Wrong(f"{text}, because it is computed in float32: keep the arguments' float64")
        if derived:
            also = " or of float32" if error > 1e-9 else ""
            raise Wrong(f"{text}, the precision of a difference quotient{also}: derive it instead")
        raise Wrong(f"{text}: does every constant match the formula?")
    raise Wrong(f"{name} {_pattern(claim, truth, sizes or {})}")


def _pattern(claim: Array, truth: Array, sizes: Mapping[str, float]) -> str:
    """What a wrong array has in common with the right one."""
    if not claim.any():
        return "is 0 everywhere"
    square = float(np.sum(truth * truth))
    if square:
        factor = float(np.sum(claim * truth)) / square
        equal = _equal(factor, sizes)
        # Any two numbers have a factor, so that of a single number must be a simple one.
        if close(claim, factor * truth) and (claim.size > 1 or equal or _is_simple(factor)):
            if abs(factor + 1) < EQUAL:
                return "is −1 × the truth: its sign is reversed"
            told = f"is {factor:.6g} × the truth"
            return f"{told}, and {factor:.6g} = {equal}" if equal else told
    is_matrix = truth.ndim == 2 and min(truth.shape) > 1
    for axis, line in ((1, "row"), (0, "column")) if is_matrix else ():
        squares = np.sum(truth * truth, axis=axis, keepdims=True)
        factors = np.sum(claim * truth, axis=axis, keepdims=True) / np.where(squares, squares, 1)
        if close(claim, factors * truth):
            return f"has every {line} off by a different factor: {_few(factors)}"
    scale = np.abs(truth).max(initial=0) or 1.0
    wrong = np.abs(claim - truth) > EQUAL * (np.abs(truth) + 1e-3 * scale)
    if not wrong.any():
        wrong = np.abs(claim - truth) == np.abs(claim - truth).max()
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    reversed_sign = close(np.abs(claim), np.abs(truth))
    place = f"[{', '.join(map(str, first))}]" if first else ""
    where = f"{place} is {claim[first]:.6g} and should be {truth[first]:.6g}"
    if claim.size == 1:
        return where.lstrip()
    count = f"has {wrong.sum()} of {claim.size} numbers wrong"
    return f"{count}{', by their sign' if reversed_sign else ''}: {where}"


def _is_simple(factor: float) -> bool:
    """Whether a factor is unlikely to be chance: a whole number, or 1 over one."""
    both = (factor, 1 / factor) if factor else ()
    return any(np.isfinite(f) and abs(f - round(f)) < EQUAL * abs(f) for f in both)


def _few(values: Array) -> str:
    shown = [f"{value:.3g}" for value in values.ravel()[:4]]
    return ", ".join(shown) + (", …" if values.size > 4 else "")


def _equal(factor: float, sizes: Mapping[str, float]) -> str:
    """The name of the size, or of 1 over it, that a factor equals; "" if there is none."""
    names: dict[str, float] = {}
    for name, size in sizes.items():
        names |= {name: size, f"1 / {name}": 1 / size if size else 0.0}
    names |= {f"−{name}": -value for name, value in names.items()}
    found = (name for name, value in names.items() if value and abs(factor / value - 1) < EQUAL)
    return next(found, "")


def of_body(fault: Fault, body: str, bodies: Container[str]) -> tuple[str, str]:
    """The verdict and the note for an error raised while one of the bodies was tried."""
    if fault.error == "NotImplementedError" and fault.message in bodies:
        own = fault.message.endswith(body)
        return ("missing", "") if own else ("waits", f"for {fault.message}")
    return "wrong", of_fault(fault)


def of_fault(fault: Fault) -> str:
    """A sentence for the error that the code raised."""
    if fault.error == "ValueError" and "read-only" in fault.message:
        return f"arguments must not change, but the code writes to one{fault.place}"
    if fault.error in ("PermissionError", "ImportError"):  # with a sentence of the rules
        return f"{fault.message}{fault.place}"
    return str(fault)


def total(verdicts: Iterable[Verdict]) -> int:
    return sum(verdict.points for verdict in verdicts)
