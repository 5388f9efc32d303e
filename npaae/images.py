"""Images as rows of pixels: what a model takes, and how it is converted."""

from math import isqrt
from typing import Any

import numpy as np

from .backend import Array, HostArray
from .checks import host_array
from .errors import InvalidInput


def as_rows(images: Array, visible: int) -> Array:
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


def checked_rows(images: Any, visible: int) -> HostArray:
    """`as_rows` for user input, on the host; also raises InvalidInput for floats outside [0, 1]."""
    rows: HostArray = as_rows(host_array("images", images), visible)
    if rows.dtype != np.uint8:  # uint8 cannot leave its range
        low, high = float(rows.min()), float(rows.max())  # NaN if any pixel is
        if not (low >= 0 and high <= 1):
            raise InvalidInput(
                f"images must be uint8, or floats in [0, 1] without NaN, got {low:g} to {high:g}"
            )
    return rows


def unit_interval(rows: Array, dtype: np.dtype[Any]) -> Array:
    """The rows as `dtype` in [0, 1]: uint8 divided by 255, floats as they are."""
    if rows.dtype != np.uint8:
        return rows.astype(dtype, copy=False)
    values = rows.astype(dtype)
    values /= 255
    return values
