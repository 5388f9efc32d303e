"""What the judge and a student's process say to each other: JSON, and arrays as raw bytes.

A frame is the length of the JSON, the length of all arrays, and both. Nothing in it is code: an
array has one of the types below, and an object that is none of these values cannot be sent.
"""

import json
import struct
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

LENGTHS = struct.Struct("<QQ")
LONGEST, LARGEST = 2**23, 2**27  # bytes of the JSON, and of all arrays
TYPES = ("float64", "float32", "int64", "int32", "uint8", "bool")


class Garbled(ValueError):
    """Bytes that are not a frame."""


def pack(message: Any) -> bytes:
    """The frame of a message. Raises TypeError if it holds anything but plain values and arrays."""
    arrays: list[bytes] = []

    def plain(value: Any) -> dict[str, Any]:
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            if array.dtype.name not in TYPES:
                raise TypeError(f"an array must hold float64 numbers, got {array.dtype}")
            arrays.append(np.ascontiguousarray(array).tobytes())
            return {"array": array.dtype.name, "shape": array.shape}
        raise TypeError(f"an array or a number is expected, got {type(value).__name__}")

    text = json.dumps(message, default=plain).encode()
    size = sum(map(len, arrays))
    if len(text) > LONGEST or size > LARGEST:
        raise TypeError(f"an answer must have a sensible size, got {len(text) + size} bytes")
    return b"".join([LENGTHS.pack(len(text), size), text, *arrays])


def read(receive: Callable[[int], bytes]) -> Any:
    """The next message, from a function that returns so many bytes, or fewer at the end.

    Raises EOFError at the end and Garbled for anything that is not a frame.
    """
    lengths = receive(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        raise EOFError
    of_text, of_arrays = LENGTHS.unpack(lengths)
    if of_text > LONGEST or of_arrays > LARGEST:
        raise Garbled
    text, data = receive(of_text), receive(of_arrays)
    if len(text) + len(data) < of_text + of_arrays:
        raise EOFError
    start = 0

    def value(found: dict[str, Any]) -> Any:
        nonlocal start
        if "array" not in found:
            return found
        name, shape = found["array"], found["shape"]
        if name not in TYPES or not all(type(size) is int and size >= 0 for size in shape):
            raise Garbled
        stop = start + prod(shape) * np.dtype(name).itemsize
        if stop > len(data):
            raise Garbled
        array = np.frombuffer(data[start:stop], name).reshape(shape)
        start = stop
        return array if shape else array[()]

    try:
        return json.loads(text, object_hook=value)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Garbled from error
