"""What counts as a batch of images, and how it becomes the rows of numbers that the mathematics works on."""

from math import isqrt
from typing import Any

import numpy as np

from .backend import Array, HostArray
from .errors import InvalidInput


def as_rows(images: Array, visible: int) -> Array:
    """The images as a view of shape (n, visible), n ≥ 1: each row one image, its pixels in reading order.

    Accepts uint8 (0 … 255) or floats (in [0, 1]) of shape (n, visible) or, where `visible` is a square, (n, side, side).
    Only shape and type are looked at, so that it costs nothing on either backend.

    Raises InvalidInput for anything else.
    """
    side = isqrt(visible)
    shapes = [(visible,)] + ([(side, side)] if side * side == visible else [])
    wanted = " or ".join(f"({', '.join(map(str, ('n', *shape)))})" for shape in shapes)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InvalidInput(f"images of type {images.dtype} came; pass uint8 in 0 … 255 or floats in [0, 1]")
    if images.ndim < 2 or images.shape[1:] not in shapes:
        raise InvalidInput(f"images of shape {images.shape} came; pass them as {wanted}")
    if len(images) == 0:
        raise InvalidInput(f"an empty batch of shape {images.shape} came; pass at least one image, as {wanted}")
    return images.reshape(len(images), visible)


def checked_rows(images: Any, visible: int) -> HostArray:
    """`as_rows` for whatever a user passes, on the host, with the values looked at too: floats must lie in [0, 1].

    Raises InvalidInput for what is no batch of images.
    """
    rows: HostArray = as_rows(host_array("images", images), visible)
    if rows.dtype != np.uint8:  # which cannot leave its range
        low, high = float(rows.min()), float(rows.max())  # either is NaN if any pixel is
        if not (low >= 0 and high <= 1):
            raise InvalidInput(f"pixels from {low:g} to {high:g} came; pass floats in [0, 1] without NaN, or uint8 in 0 … 255")
    return rows


def host_array(what: str, values: Any) -> HostArray:
    """`np.asarray(values)`; raises InvalidInput, saying what they should have been, for what forms no array."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInput(f"rows of unequal lengths came; pass {what} as an array") from error
    except (TypeError, RuntimeError) as error:  # other libraries' arrays, on a GPU or with a gradient
        raise InvalidInput(f"{what} of type {type(values).__name__} came ({error}); pass a NumPy array") from error


def unit_interval(rows: Array, dtype: np.dtype[Any]) -> Array:
    """The rows as `dtype` in [0, 1]: uint8 divided by 255, floats as they are."""
    if rows.dtype == np.uint8:
        return rows.astype(dtype) / 255
    return rows.astype(dtype, copy=False)
