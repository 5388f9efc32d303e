"""MNIST and Fashion-MNIST: the IDX file format, and where the files come from.

The sources, in this order: a folder that the caller names; the user's cache; a copy that the system's packages installed;
a download into the cache. For MNIST a sample ships inside this package. What nobody vouches for (cache, system, download)
must have the published digests, taken of the *decompressed* files, which every mirror and repackaging shares.

MNIST: Y. LeCun, C. Cortes, C. Burges, CC BY-SA 3.0. Fashion-MNIST: Zalando SE, MIT.
"""

import gzip
import hashlib
import io
import os
import sys
import tempfile
import zlib
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .backend import HostArray as Array
from .checks import BadFile, Unavailable

PathLike = str | os.PathLike[str]


class Dataset(NamedTuple):
    """Labelled images, and where they came from.

    Images are uint8 in 0 … 255 of shape (n, height, width), labels uint8 of shape (n,); `label_names[k]` says what label
    k means, and `source` is a phrase for people.
    """

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    label_names: tuple[str, ...]
    source: str


def mnist(data_dir: PathLike | None = None) -> Dataset:
    """The full MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 × 28.

    data_dir: a folder with the four IDX files, gzipped or not; they are taken as they are. Without it the sources above
    are tried in turn.

    Raises Unavailable where no source has it, BadFile for a damaged file, OSError for one that cannot be read.
    """
    return _load("mnist", data_dir)


def fashion_mnist(data_dir: PathLike | None = None) -> Dataset:
    """The full Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 × 28. As `mnist` in all else."""
    return _load("fashion-mnist", data_dir)


def mnist_sample() -> Dataset:
    """The bundled sample of MNIST: its first 10,000 training images and every tenth test image.

    The 1,000 test images are numbers 0, 10, 20, … 9990 of the test set, because its first half is
    cleaner than its second and neighbours in the file resemble each other. Needs no network.
    """
    with resources.as_file(resources.files(__package__) / "sample") as folder:
        return _read_folder(folder, "mnist", "the bundled sample of MNIST")


# The IDX format

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PIECE = 2**20
_LARGEST_ARRAY = 2**30  # bytes; the largest file of the MNIST family has half of that, a gzip bomb more


def read_idx(path: PathLike) -> Array:
    """The array in an IDX file, gzipped or not.

    The format (Y. LeCun): two zero bytes, a byte for the element type, a byte for the number of dimensions d, then d sizes
    and the elements in C order, all of them big-endian.

    Raises BadFile where the file is not that, holds fewer or more elements than it promises, or is damaged; OSError where
    it cannot be read. Whatever the header promises, no more memory is taken than twice what the file has content for.
    """
    path = Path(path)
    with open(path, "rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.open(raw) if is_gzip else raw as file:
                return _parse_idx(file, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadFile(f"{path} is damaged: {error}; get another copy") from error


def _parse_idx(file: Any, path: Path) -> Array:
    header = file.read(4)
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _IDX_TYPES:
        raise BadFile(f"{path} is not an IDX file: it begins with {header!r}; pass one in MNIST's format")
    dtype = np.dtype(_IDX_TYPES[header[2]])
    sizes = file.read(4 * header[3])
    if len(sizes) < 4 * header[3]:
        raise BadFile(f"{path} is truncated: it ends inside its header; get another copy")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    promised = prod(shape) * dtype.itemsize
    if promised > _LARGEST_ARRAY:
        raise BadFile(
            f"{path} is damaged: its header promises {promised:,} bytes, and no IDX file here has over 1 GiB; get another"
        )
    content = bytearray()
    while len(content) <= promised and (piece := file.read(min(_PIECE, promised + 1 - len(content)))):
        content += piece
    if len(content) != promised:
        what = f"only {len(content)}" if len(content) < promised else "more"
        raise BadFile(f"{path} is damaged: its header promises {promised} bytes and {what} follow; get another copy")
    try:
        return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    except ValueError as error:  # more than 64 dimensions, or sizes beyond any array's beside a 0
        raise BadFile(f"{path} is damaged: no array has shape {shape}; get another copy") from error


# The sources

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_DIGESTS = {  # SHA-256 of the decompressed files
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}
_SYSTEM = {"fashion-mnist": ("/usr/share/datasets/fashion-mnist",)}  # Debian's package dataset-fashion-mnist
_TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
_LABEL_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip
_TIMEOUT = 10.0  # seconds without a byte, after which a mirror counts as out of reach
_LARGEST = 2**26  # bytes, packed or not; the largest file unpacks to 47,040,016, and what is longer is another


def _load(name: str, data_dir: PathLike | None) -> Dataset:
    if data_dir is not None:
        dataset = _read_folder(Path(data_dir), name, f"{_TITLES[name]} from {os.fspath(data_dir)}")
        found = _digest(dataset.test_images)
        for other, digests in _DIGESTS.items():
            if other != name and found == digests["t10k-images-idx3-ubyte"]:
                raise BadFile(f"{os.fspath(data_dir)} holds {_TITLES[other]}, and {_TITLES[name]} is wanted; name its folder")
        return dataset
    import pooch

    cache = Path(pooch.os_cache("npaae")) / name
    for folder in (cache, *map(Path, _SYSTEM.get(name, ()))):
        try:
            return _read_folder(folder, name, f"{_TITLES[name]} from {folder}", _DIGESTS[name])
        except (OSError, BadFile, Unavailable):
            continue  # absent, or not to be trusted: the next source, the last of which tells why it failed
    _download(name, cache)
    return _read_folder(cache, name, f"{_TITLES[name]}, downloaded to {cache}", _DIGESTS[name])


def _read_folder(folder: Path, name: str, source: str, digests: dict[str, str] | None = None) -> Dataset:
    train_images, train_labels, test_images, test_labels = (
        _read_file(folder, stem, digests[stem] if digests else None) for stem in _FILES
    )
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if images.shape[1:] != (28, 28) or labels.ndim != 1 or images.dtype != np.uint8 or labels.dtype != np.uint8:
            raise BadFile(
                f"{folder} holds images of shape {images.shape} and type {images.dtype} and labels of shape {labels.shape} and "
                f"type {labels.dtype}; MNIST's are bytes of shapes (n, 28, 28) and (n,): get another copy"
            )
        if len(images) != len(labels) or len(images) == 0:
            raise BadFile(
                f"{folder} holds {len(images)} images and {len(labels)} labels, which must be equal and not zero; "
                "get another copy"
            )
        if labels.max() >= len(_LABEL_NAMES[name]):
            raise BadFile(f"{folder} holds a label {labels.max()}, and labels go from 0 to 9; get another copy")
    return Dataset(train_images, train_labels, test_images, test_labels, _LABEL_NAMES[name], source)


def _read_file(folder: Path, stem: str, digest: str | None) -> Array:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            array = read_idx(path)
            if digest is not None and _digest(array) != digest:
                raise BadFile(f"{path} is not the published file: its digest differs; delete it")
            return array
    wanted = ", ".join(_FILES)
    raise Unavailable(f"{folder} has no {stem}[.gz]; name a folder that holds {wanted}, gzipped or not")


def _digest(array: Array) -> str:
    """SHA-256 of the IDX file of a uint8 array: its header, then its bytes."""
    header = bytes((0, 0, 0x08, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    digest = hashlib.sha256(header)
    digest.update(array.data)
    return digest.hexdigest()


def _download(name: str, cache: Path) -> None:
    """Fetch the four files into the cache, decompressed, each from the first mirror that has the published content."""
    import pooch
    from requests.exceptions import RequestException

    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        raise Unavailable(
            f"{_TITLES[name]} cannot be downloaded to {cache} ({error.strerror}); make that folder writable, or get the four "
            "IDX files elsewhere and name their folder with --data-dir (in Python, data_dir=)"
        ) from error
    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {_TITLES[name]} to {cache}", file=sys.stderr)
    for stem, digest in _DIGESTS[name].items():
        failures = []
        for mirror in _MIRRORS[name]:
            try:
                # pooch trusts what is there already if its digest is right, writes to a temporary name, checks, then renames
                pooch.retrieve(f"{mirror}{stem}.gz", f"sha256:{digest}", stem, cache, downloader=_decompressed)
                break
            except (RequestException, OSError, ValueError, EOFError, zlib.error) as error:
                failures.append(f"{mirror} ({_reason(error)})")
        else:
            raise Unavailable(
                f"{_TITLES[name]} cannot be downloaded: tried {' and '.join(failures)}; connect to the network, "
                f"or get its four IDX files elsewhere and name their folder with --data-dir (in Python, data_dir=)"
                + (", or install Debian's package dataset-fashion-mnist" if name in _SYSTEM else "")
            )


def _decompressed(url: str, output_file: str, _: Any) -> None:
    """A pooch downloader that stores the content of a gzipped file, so that pooch checks the content's digest."""
    import pooch

    archive = _Capped()
    bar = bool(sys.stderr and sys.stderr.isatty())  # None where it was closed: 2>&-
    pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT, chunk_size=_PIECE)(url, archive, None)
    archive.seek(0)
    with gzip.open(archive) as content, open(output_file, "wb") as target:
        target.write(content.read(_LARGEST))


class _Capped(io.BytesIO):
    """Memory for a download, which may go on for ever."""

    def write(self, piece: Any, /) -> int:
        if self.tell() + len(piece) > _LARGEST:
            raise ValueError("more than any file of these data sets")
        return super().write(piece)


def _reason(error: Exception) -> str:
    """An error of a download in a few words: requests' own run over lines."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    if isinstance(error, exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke"
    if isinstance(error, exceptions.ConnectionError):
        return "no connection"
    if isinstance(error, (ValueError, EOFError, zlib.error, gzip.BadGzipFile)):
        return "not the published file"
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
