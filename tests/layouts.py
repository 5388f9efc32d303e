"""Data sets in the files that people have: each layout of a real one, with a few random images."""

import gzip
from typing import NamedTuple

import numpy as np

from .idx_files import idx


class Images(NamedTuple):
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def some_images(size=(5, 4), classes=3, train=12, test=6):
    """Random images, in which every class occurs if there are enough."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (n, *size), dtype=np.uint8) for n in (train, test))
    labels = ((np.arange(n) % classes).astype(np.uint8) for n in (train, test))
    return Images._make(part for pair in zip(images, labels, strict=True) for part in pair)


def assert_holds(dataset, images):
    for got, expected in zip(dataset[:4], images, strict=True):
        np.testing.assert_array_equal(got, expected)


def idx_layout(train, test, label_type="idx1-ubyte", folder="", pack=False, nested=False):
    """A layout of four IDX files, `train` and `test` being the beginnings of their names."""

    def write(root, images):
        where = root / folder
        where.mkdir(parents=True, exist_ok=True)
        endings = [f"images{train[-1]}idx3-ubyte", f"labels{train[-1]}{label_type}"] * 2
        starts = [train[:-1]] * 2 + [test[:-1]] * 2
        for start, ending, array in zip(starts, endings, images, strict=True):
            if "idx2" in ending:  # QMNIST: the class, then seven numbers on its origin
                array = np.column_stack([array, *np.full((7, len(array)), 99)]).astype(np.int32)
            path = where / f"{start}-{ending}{'.gz' if pack else ''}"
            if nested:
                path = path / path.name
                path.parent.mkdir()
            path.write_bytes(gzip.compress(idx(array)) if pack else idx(array))
        return root

    return write


def npz_layout(*names, save=np.savez, column=False, axis=None):
    """A layout of one archive with the four arrays under these names."""

    def write(root, images):
        arrays = {}
        for name, array in zip(names, images, strict=False):
            if array.ndim == 1 and column:
                array = array[:, None]
            arrays[name] = np.expand_dims(array, axis) if array.ndim == 3 and axis else array
        save(root / "mine.npz", **arrays)
        return root / "mine.npz"

    return write


def kmnist(root, images):
    names = ("train-imgs", "train-labels", "test-imgs", "test-labels")
    for name, array in zip(names, images, strict=True):
        np.savez_compressed(root / f"kmnist-{name}.npz", array)
    return root


def medmnist(root, images):
    names = ("train_images", "train_labels", "test_images", "test_labels")
    arrays = dict(zip(names, images, strict=True))
    arrays = {name: a[:, None] if "labels" in name else a for name, a in arrays.items()}
    rest = {"val_images": images.test_images[::-1], "val_labels": arrays["test_labels"][::-1]}
    np.savez_compressed(root / "breastmnist.npz", **arrays, **rest)
    return root / "breastmnist.npz"


def kaggle(root, images):
    """The files as Kaggle unpacks them: with dots in their names, and again each in a folder."""
    idx_layout("train-", "t10k-", nested=True)(root, images)
    return idx_layout("train.", "t10k.")(root, images)


def npy(root, images):
    for name, array in zip(KERAS, images, strict=True):
        np.save(root / f"{name}.npy", array)
    return root


KERAS = ("x_train", "y_train", "x_test", "y_test")
LAYOUTS = {  # by the name that the data set gets; "" is the folder's
    "MNIST as published": ("", idx_layout("train-", "t10k-", pack=True)),
    "7-Zip": ("", idx_layout("train.", "t10k.")),
    "Kaggle": ("", kaggle),
    "a folder per file": ("", idx_layout("train-", "t10k-", nested=True)),
    "EMNIST": ("emnist-letters", idx_layout("emnist-letters-train-", "emnist-letters-test-")),
    "QMNIST": ("qmnist", idx_layout("qmnist-train-", "qmnist-test-", "idx2-int", pack=True)),
    "torchvision": ("KMNIST", idx_layout("train-", "t10k-", folder="KMNIST/raw")),
    "Keras": ("mine", npz_layout(*KERAS)),
    "Keras, compressed": ("mine", npz_layout(*KERAS, save=np.savez_compressed)),
    "a last unit axis": ("mine", npz_layout(*KERAS, axis=-1)),
    "a second unit axis": ("mine", npz_layout(*KERAS, axis=1)),
    "capital X": ("mine", npz_layout("X_train", "y_train", "X_test", "y_test")),
    "MedMNIST": ("breastmnist", medmnist),
    "KMNIST": ("kmnist", kmnist),
    "npy": ("", npy),
}
