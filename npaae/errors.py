"""What can go wrong outside the code: exceptions whose message is one sentence, and the checks of single numbers.

Every exception here derives from `UserError`, so that a program can tell what its user can mend (print the sentence)
from a defect (show the traceback). Each is also the built-in exception that a Python caller would expect.
"""

import operator
from math import isfinite, nan
from numbers import Real
from typing import Any


class UserError(Exception):
    """Something its reader can mend: the message says what came, what was wanted and what to do."""


class InvalidInput(UserError, ValueError):
    """An argument outside its range, or an array of the wrong shape, type or values."""


class PriorRefused(InvalidInput):
    """A prior that does not do what a prior must."""


class BadFile(UserError, ValueError):
    """A file that is not what its name promises: truncated, altered, or of another kind."""


class CannotWrite(UserError, OSError):
    """A file that cannot be written: a full disk, a folder that is not writable. What it held before is whole."""


class Unavailable(UserError, RuntimeError):
    """A data set or an array library that cannot be had on this machine."""


class Diverged(UserError, ArithmeticError):
    """Training has left the finite numbers: a loss or a parameter is NaN or infinite."""


def one_line(error: Exception) -> str:
    """What an exception says, on one line; a missing key in words."""
    return f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())


def whole_number(name: str, value: Any, least: int) -> int:
    """`value` as an int; raises InvalidInput, naming it, unless it is a whole number of at least `least`."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InvalidInput(f"{name}={value!r} came; it must be a whole number of at least {least}")
    return number


def positive_number(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput, naming it, unless it is positive and finite."""
    number = _number(value)
    if not (number > 0 and isfinite(number)):
        raise InvalidInput(f"{name}={value!r} came; it must be a positive, finite number")
    return number


def learning_rate(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput, naming it, unless it is above 0 and at most 1.

    Adam moves a parameter by about the learning rate a step, and parameters begin below 1: more would be no learning.
    """
    number = _number(value)
    if not 0 < number <= 1:
        raise InvalidInput(f"{name}={value!r} came; it must be a number above 0 and at most 1")
    return number


def fraction(name: str, value: Any) -> float:
    """`value` as a float; raises InvalidInput, naming it, unless it is at least 0 and below 1."""
    number = _number(value)
    if not 0 <= number < 1:
        raise InvalidInput(f"{name}={value!r} came; it must be a number of at least 0 and below 1")
    return number


def _number(value: Any) -> float:
    """`value` as a float, or NaN, which no range holds, for what is no number (a string and a bool are none)."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    except OverflowError:
        return nan
