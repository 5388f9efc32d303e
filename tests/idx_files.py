"""IDX files, written from the format's description."""

import gzip
import struct

import numpy as np

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array):
    """The bytes of an IDX file."""
    header = struct.pack(">BBBB", 0, 0, CODES[array.dtype.name], array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_set(folder, train=6, test=3, compress=True, **replaced):
    """Four IDX files of a tiny data set; `replaced` gives other arrays or bytes by the stem's first words."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train_images": rng.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "train_labels": rng.integers(0, 10, train, dtype=np.uint8),
        "t10k_images": rng.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "t10k_labels": rng.integers(0, 10, test, dtype=np.uint8),
    } | replaced
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        content = idx(array)
        path = folder / (f"{stem}.gz" if compress else stem)
        path.write_bytes(gzip.compress(content) if compress else content)
    return arrays
