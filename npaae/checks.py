"""The exceptions that npaae raises, and the checks of user input.

Every exception derives from `UserError`, so that a program can tell a user's mistake (print the
message) from a bug (show the traceback). Each also derives from the built-in exception that a
Python programmer expects.
"""

import operator
from math import isfinite, isqrt, nan
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # backend itself raises the exceptions of this module
    from .backend import Array, HostArray

REAL, WHOLE = "fiu", "iu"  # the kinds of NumPy's types that hold real numbers and integers


class UserError(Exception):
    """A mistake that the user can fix: the message names the argument or file, rule and value."""


class InvalidInput(UserError, ValueError):
    """An argument outside its range, or an array of the wrong shape, type or values."""


class BadFile(UserError, ValueError):
    """A file that is truncated, altered or in another format."""


class CannotWrite(UserError, OSError):
    """A file that cannot be written, as on a full disk. The old file is intact."""


class Unavailable(UserError, RuntimeError):
    """A data set or an array library that this machine does not have."""


class Diverged(UserError, ArithmeticError):
    """A loss or a parameter has become NaN or infinite during training."""


def one_line(error: Exception) -> str:
    """The message of an exception on one line."""
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


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


def host_array(name: str, values: Any) -> "HostArray":
    """`np.asarray(values)`; raises InvalidInput if they do not form an array."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInput(f"{name} must be an array, got rows of unequal lengths") from error
    except (TypeError, RuntimeError) as error:  # another library's array
        kind = type(values).__name__
        reason = one_line(error)
        raise InvalidInput(f"{name} must be a NumPy array, got {kind} ({reason})") from error


def as_rows(images: "Array", visible: int) -> "Array":
    """The images as a view of shape (n, visible), n ≥ 1: an image per row, pixels in reading order.

    Accepts uint8 in 0 … 255 or floats in [0, 1], of shape (n, visible) or, if `visible` is a
    square, (n, side, side). Checks only shape and type, so it costs nothing on either backend.
    Raises InvalidInput for anything else.
    """
    side = isqrt(visible)
    shapes = [(visible,)] + ([(side, side)] if side * side == visible else [])
    rule = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InvalidInput(f"images must be uint8, or floats in [0, 1], got {images.dtype}")
    if images.ndim < 2 or images.shape[1:] not in shapes or len(images) == 0:
        raise InvalidInput(f"images must have shape {rule} with n at least 1, got {images.shape}")
    return images.reshape(len(images), visible)


def checked_rows(images: Any, visible: int) -> "HostArray":
    """`as_rows` for user input, on the host; also raises InvalidInput for floats outside [0, 1]."""
    rows: HostArray = as_rows(host_array("images", images), visible)
    if rows.dtype != np.uint8:  # uint8 cannot leave its range
        low, high = float(rows.min()), float(rows.max())  # NaN if any pixel is
        if not (low >= 0 and high <= 1):
            raise InvalidInput(
                f"images must be uint8, or floats in [0, 1] without NaN, got {low:g} to {high:g}"
            )
    return rows


def unit_interval(rows: "Array", dtype: np.dtype[Any]) -> "Array":
    """The rows as `dtype` in [0, 1]: uint8 divided by 255, floats as they are."""
    if rows.dtype != np.uint8:
        return rows.astype(dtype, copy=False)
    values = rows.astype(dtype)
    values /= 255
    return values
