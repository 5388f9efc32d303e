"""The checks of arguments: each returns the value, converted, or raises InvalidInput."""

import operator
from math import isfinite, nan
from numbers import Real
from typing import Any

import numpy as np

from .backend import HostArray
from .errors import InvalidInput, one_line

REAL, WHOLE = "fiu", "iu"  # the kinds of NumPy's types that hold real numbers and integers


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an int; raises InvalidInput unless it is at least `least`, which is 0 or 1."""
    rule = ("a non-negative integer", "a positive integer")[least]
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InvalidInput(f"{name} must be {rule}, got {value!r}")
    return number


def positive(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput unless it is positive and finite."""
    number = _number(value)
    if not (number > 0 and isfinite(number)):
        raise InvalidInput(f"{name} must be a positive, finite number, got {value!r}")
    return number


def non_negative(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput unless it is 0, or positive and finite."""
    number = _number(value)
    if not (number >= 0 and isfinite(number)):
        raise InvalidInput(f"{name} must be a non-negative, finite number, got {value!r}")
    return number


def learning_rate(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput unless it lies in (0, 1].

    Adam moves a parameter by about the learning rate a step, and parameters start below 1, so a
    larger rate cannot learn.
    """
    number = _number(value)
    if not 0 < number <= 1:
        raise InvalidInput(f"{name} must be a number in (0, 1], got {value!r}")
    return number


def fraction(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput unless it lies in [0, 1)."""
    number = _number(value)
    if not 0 <= number < 1:
        raise InvalidInput(f"{name} must be a number in [0, 1), got {value!r}")
    return number


def _number(value: Any) -> float:
    """`value` as a float, or NaN, which is in no range, if it is not a real number."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    except OverflowError:
        return nan


def host_array(name: str, values: Any) -> HostArray:
    """`np.asarray(values)`; raises InvalidInput if they do not form an array."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInput(f"{name} must be an array, got rows of unequal lengths") from error
    except (TypeError, RuntimeError) as error:  # another library's array
        kind = type(values).__name__
        reason = one_line(error)
        raise InvalidInput(f"{name} must be a NumPy array, got {kind} ({reason})") from error
