"""Images as rows of pixels: what a model accepts, and how it is converted."""

from math import prod
from typing import Any

import numpy as np

from .backend import Array, HostArray
from .checks import host_array
from .errors import InvalidInput

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # by how much a computed 0 or 1 may be off


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(height, width) of images, or (features,) of rows, stored in an array of this shape.

    The array's first axis counts the images. A channel axis of length 1, second or last, is
    dropped. Raises InvalidInput for another number of axes, more channels, or no images.
    """
    one, *sizes = shape if shape else (0,)
    if len(sizes) == 3 and 1 in (sizes[0], sizes[2]):
        sizes.remove(1)
    if len(sizes) == 3 and {3, 4} & {sizes[0], sizes[2]}:
        axis = 3 if sizes[2] in (3, 4) else 1
        raise InvalidInput(
            f"images must be grey, got colours of shape {shape}; average them with "
            f".mean(axis={axis}), and divide by 255 if they are bytes"
        )
    if len(sizes) not in (1, 2) or 0 in (one, *sizes):
        rule = "(n, height, width) or (n, features), with n at least 1"
        raise InvalidInput(f"images must have shape {rule}, got {shape}")
    return tuple(sizes)


def require_pixels(dtype: np.dtype[Any]) -> None:
    """Raise InvalidInput unless pixels may have this type."""
    if dtype != np.uint8 and dtype.kind != "f":
        remedies = {
            "b": "; convert them with .astype(np.float32)",
            "i": "; convert 0 … 255 with .astype(np.uint8), or divide by the highest value",
            "U": "; npaae.data.load reads images from a file or a folder",
        }
        remedy = remedies.get(dtype.kind.replace("u", "i"), "")
        raise InvalidInput(f"images must be uint8, or floats in [0, 1], got {dtype}{remedy}")


def as_rows(images: Array, visible: int) -> Array:
    """The images as a view of shape (n, visible), n ≥ 1: an image per row, pixels in reading order.

    Accepts uint8 in 0 … 255 or floats in [0, 1], of shape (n, visible) or (n, height, width), or
    with a channel axis of length 1. Checks only shape and type, so it costs nothing on either
    backend. Raises InvalidInput for anything else.
    """
    require_pixels(images.dtype)
    if images.ndim and images.shape[0] > 1 and prod(images.shape) == visible:
        raise InvalidInput(
            f"images must have a first axis that counts them, got shape {images.shape}; "
            "add one with images[None] if this is a single image"
        )
    if (size := prod(image_shape(images.shape))) != visible:
        raise InvalidInput(
            f"images must have {visible} pixels each to fit the model, got shape {images.shape}; "
            f"make the model with visible={size}"
        )
    return images.reshape(len(images), visible)


def checked_rows(images: Any, visible: int) -> HostArray:
    """`as_rows` for user input, on the host; also raises InvalidInput for floats outside [0, 1].

    Floats that miss the interval by rounding are moved into it.
    """
    rows: HostArray = as_rows(host_array("images", images), visible)
    if rows.dtype == np.uint8:  # which cannot leave its range
        return rows
    low, high = float(rows.min()), float(rows.max())  # NaN if any pixel is
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        found = f"{low:g} to {high:g}"
        if low >= 0 and 1 < high <= 255:
            remedy = f"divide by {255 if high > 127 else high:g}"
        elif np.isfinite((low, high)).all():
            features = ", each feature with axis=0" * (np.ndim(images) == 2)
            remedy = (
                f"scale them with (x - x.min()) / (x.max() - x.min()){features}, because the "
                "binary cross-entropy needs that range"
            )
        else:
            found = "NaN" if np.isnan(low) else "infinity"
            remedy = "fill in these pixels, or leave out their images"
        raise InvalidInput(f"images must be uint8, or floats in [0, 1], got {found}; {remedy}")
    return rows if low >= 0 and high <= 1 else rows.clip(0, 1)


def training_rows(images: Any, visible: int) -> HostArray:
    """`checked_rows` for images to learn from; also raises InvalidInput if all bytes are below 128.

    Bytes mean 0 … 255. If no pixel of a whole training set reaches 128, the highest bit is never
    used, and they almost certainly mean something else: 0 and 1, 0 … 16 or percentages. Divided by
    255, they would train a model of nearly black images.
    """
    rows = checked_rows(images, visible)
    if rows.dtype == np.uint8 and 0 < (high := int(rows.max())) < 128:
        raise InvalidInput(
            f"images of uint8 must use the range 0 … 255, got a maximum of {high}; "
            f"pass images / {high}, or images / 255 if they are that dark"
        )
    return rows


def unit_interval(rows: Array, dtype: np.dtype[Any]) -> Array:
    """The rows as `dtype` in [0, 1]: uint8 divided by 255, floats as they are."""
    if rows.dtype != np.uint8:
        return rows.astype(dtype, copy=False)
    values = rows.astype(dtype)
    values /= 255
    return values
