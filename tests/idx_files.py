"""IDX files, written from the format's description."""

import gzip
import struct

import numpy as np

PARTS, KINDS = ("train", "t10k"), ("images-idx3", "labels-idx1")
STEMS = tuple(f"{part}-{kind}-ubyte" for part in PARTS for kind in KINDS)
CODES = {"uint8": 8, "int8": 9, "int16": 0xB, "int32": 0xC, "float32": 0xD, "float64": 0xE}


def idx(array):
    """The bytes of an IDX file."""
    header = struct.pack(">BBBB", 0, 0, CODES[array.dtype.name], array.ndim)
    header += struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_set(folder, train=6, test=3, compress=True, **replaced):
    """Four IDX files of a tiny data set, with other arrays for those named in `replaced`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, n in zip(PARTS, (train, test), strict=True):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 10, n, dtype=np.uint8)
    arrays |= replaced
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        path = folder / (f"{stem}.gz" if compress else stem)
        path.write_bytes(gzip.compress(idx(array)) if compress else idx(array))
    return arrays
