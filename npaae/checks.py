"""The checks of arguments: each returns the value, converted, or raises InvalidInput."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """{name: value} of a model's settings, checked; raises InvalidInput for the first bad one.

    Settings that are unknown here, such as those of a subclass, are not checked.
    """
    return {
        name: _SETTINGS[name](name, value) if name in _SETTINGS else value
        for name, value in values.items()
    }


def _widths(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) == 0:
        raise InvalidInput(f"{name} must be a sequence of positive integers, got {value!r}")
    return tuple(integer(name, width, 1) for width in value)


def _dtype(name: str, value: Any) -> str:
    if str(value) not in ("float32", "float64"):
        raise InvalidInput(f'{name} must be "float32" or "float64", got {value!r}')
    return str(value)


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be True or False, got {value!r}")
    return value


def _number(value: Any) -> float:
    """`value` as a float, or NaN, which is in no range, if it is not a real number."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    except OverflowError:
        return nan


def host_array(name: str, values: Any) -> HostArray:
    """`np.asarray(values)`; raises InvalidInput for masked values and for what is not an array."""
    if fields := getattr(values, "_fields", None):  # of a named tuple, such as a Dataset
        kind = type(values).__name__
        raise InvalidInput(f"{name} must be an array, got {kind}; pass its .{fields[0]}")
    pieces = values if isinstance(values, (list, tuple)) else [values]
    if any(isinstance(p, np.ma.MaskedArray) and b"\1" in p.mask.tobytes() for p in pieces):
        raise InvalidInput(f"{name} must have no masked values; fill them with .filled(…)")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInput(f"{name} must be an array, got rows of unequal lengths") from error
    except (TypeError, RuntimeError) as error:  # another library's array
        kind = type(values).__name__
        reason = one_line(error)
        raise InvalidInput(f"{name} must be a NumPy array, got {kind} ({reason})") from error


def labels(name: str, values: Any, n: int) -> HostArray:
    """`values` as an array; raises InvalidInput unless it holds n integers."""
    array = host_array(name, values)
    if array.shape != (n,) or array.dtype.kind not in WHOLE:
        raise InvalidInput(
            f"{name} must be {n} integers, got {array.dtype} {array.shape}"
            f"{label_remedy(array.shape, array.dtype, n)}"
        )
    return array


def label_remedy(shape: tuple[int, ...], dtype: np.dtype[Any], n: int) -> str:
    """The end of a message on labels of this shape and type, if n of them were expected."""
    if len(shape) == 2 and shape[0] == n:
        several = "use .argmax(axis=1) if they are one-hot, or leave them out"
        return f"; {several if shape[1] > 1 else 'use .ravel()'}"
    if shape != (n,):
        return ""
    remedies = {
        **dict.fromkeys("bf", ".astype(int)"),
        "O": ".astype(int) or .astype(str)",
        **dict.fromkeys("ST", ".astype(str)"),
        "U": "np.unique(labels, return_inverse=True)[1]",
    }
    return f"; convert them with {remedies[dtype.kind]}" if dtype.kind in remedies else ""


_non_negative_integer, _positive_integer = partial(integer, least=0), partial(integer, least=1)
_SETTINGS: dict[str, Callable[[str, Any], Any]] = {
    "hidden": _widths,
    "latent": _positive_integer,
    "visible": _positive_integer,
    "classes": _non_negative_integer,
    "categories": _positive_integer,
    "dropout": fraction,
    "discriminator_dropout": fraction,
    "noise": non_negative,
    "perturbation": non_negative,
    "information_weight": non_negative,
    "head_distance": non_negative,
    "joint": _boolean,
    "lr_reconstruction": learning_rate,
    "lr_regularization": learning_rate,
    "lr_discriminator": learning_rate,
    "lr_generator": learning_rate,
    "lr_classification": learning_rate,
    "lr_smoothness": learning_rate,
    "beta1": fraction,
    "dtype": _dtype,
    "seed": _non_negative_integer,
}
