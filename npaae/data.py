"""MNIST and Fashion-MNIST: the IDX file format, and the sources of the files.

A data set is read from the folder that the caller names. Without one it is read from the user's
cache, from a copy that a system package installed, or from a download into the cache, whichever is
found first. Files from these three sources must have the published digests. The digests are those
of the *decompressed* files, because mirrors and packages compress them differently. A sample of
MNIST is part of npaae.

MNIST: Y. LeCun, C. Cortes, C. Burges, CC BY-SA 3.0. Fashion-MNIST: Zalando SE, MIT.
"""

import gzip
import hashlib
import io
import os
import sys
import zlib
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .backend import HostArray
from .errors import BadFile, Unavailable, one_line


class Dataset(NamedTuple):
    """Labelled images.

    Images are uint8 in 0 … 255 of shape (n, 28, 28), labels uint8 of shape (n,). `label_names[k]`
    is the meaning of label k, and `source` says where the data come from.
    """

    train_images: HostArray
    train_labels: HostArray
    test_images: HostArray
    test_labels: HostArray
    label_names: tuple[str, ...]
    source: str


def mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 × 28.

    data_dir: a folder with the four IDX files, gzipped or not, whose digests are not checked. None
    means the user's cache, a system package or a download, as the module's docstring describes.

    Raises Unavailable if a file is missing or cannot be downloaded, BadFile for a damaged file, and
    OSError for a file that cannot be read.
    """
    return _load(_MNIST, data_dir)


def fashion_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 × 28.

    data_dir and errors: as in `mnist`. The system package is Debian's dataset-fashion-mnist.
    """
    return _load(_FASHION_MNIST, data_dir)


def mnist_sample() -> Dataset:
    """The bundled sample of MNIST: its first 10,000 training images and every tenth test image.

    The 1,000 test images are numbers 0, 10, 20, … 9990 of the test set, because its first half is
    cleaner than its second, and neighbours in the file resemble each other. Needs no network.
    """
    with resources.as_file(resources.files(__package__) / "sample") as folder:
        return _read_folder(folder, _MNIST, "the bundled sample of MNIST")


# The IDX format

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PIECE = 2**20
_LARGEST_ARRAY = 2**30  # bytes; the largest file of the MNIST family has half of that


def read_idx(path: str | os.PathLike[str]) -> HostArray:
    """The array in an IDX file, gzipped or not.

    The format (Y. LeCun): two zero bytes, a byte for the element type, a byte for the number of
    dimensions d, then d sizes and the elements in C order, all of them big-endian.

    Raises BadFile if the file has another format, is damaged, or holds more or fewer elements than
    its header declares, and OSError if it cannot be read. Whatever the header declares, reading
    takes at most twice the memory of the file's content.
    """
    path = Path(path)
    with open(path, "rb") as raw:
        try:
            with gzip.open(raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw as file:
                return _parse_idx(file, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadFile(f"{path} is damaged: {error}") from error


def _parse_idx(file: BinaryIO | gzip.GzipFile, path: Path) -> HostArray:
    header = file.read(4)
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _IDX_TYPES:
        raise BadFile(f"{path} is not an IDX file: it begins with {header!r}")
    dtype = np.dtype(_IDX_TYPES[header[2]])
    sizes = file.read(4 * header[3])
    if len(sizes) < 4 * header[3]:
        raise BadFile(f"{path} is damaged: it ends inside its header")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    promised = prod(shape) * dtype.itemsize
    if promised > _LARGEST_ARRAY:
        raise BadFile(f"{path} is damaged: its header declares {promised:,} bytes, more than 1 GiB")
    content = bytearray()  # grows piece by piece, because the header may be wrong
    while piece := file.read(min(_PIECE, promised + 1 - len(content))):
        content += piece
    if len(content) != promised:
        found = len(content) if len(content) < promised else "more"
        raise BadFile(f"{path} is damaged: its header declares {promised} bytes, got {found}")
    try:
        array = np.frombuffer(content, dtype).reshape(shape)
    except ValueError as error:  # more than 64 dimensions, or a 0 among impossible sizes
        raise BadFile(f"{path} is damaged: an array cannot have shape {shape}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


# The sources


class _Published(NamedTuple):
    """A data set as its authors published it."""

    title: str
    digests: tuple[str, ...]  # SHA-256 of the decompressed files, in the order of _STEMS
    mirrors: tuple[str, ...]
    label_names: tuple[str, ...]
    system_folders: tuple[str, ...] = ()


_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MNIST = _Published(
    title="MNIST",
    digests=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    label_names=tuple("0123456789"),
)
_FASHION_MNIST = _Published(
    title="Fashion-MNIST",
    digests=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    system_folders=("/usr/share/datasets/fashion-mnist",),
    label_names=(
        "T-shirt", "trousers", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
)  # fmt: skip
_TIMEOUT = 10.0  # seconds without a byte, after which the next mirror is tried
_LARGEST_FILE = 2**26  # bytes, gzipped or not; the largest file unpacks to 47,040,016


def _load(published: _Published, data_dir: str | os.PathLike[str] | None) -> Dataset:
    title = published.title
    if data_dir is not None:
        folder = Path(data_dir)
        dataset = _read_folder(folder, published, f"{title} from {folder}")
        for other in (_MNIST, _FASHION_MNIST):
            if other is not published and _idx_digest(dataset.test_images) == other.digests[2]:
                raise BadFile(f"{folder} must hold {title}, got {other.title}")
        return dataset
    import pooch

    cache = Path(pooch.os_cache("npaae")) / title.lower()
    for folder in (cache, *map(Path, published.system_folders)):
        try:
            return _read_folder(folder, published, f"{title} from {folder}", published.digests)
        except (OSError, BadFile, Unavailable):
            continue  # absent or not trustworthy: try the next source
    _download(published, cache)
    return _read_folder(cache, published, f"{title}, downloaded to {cache}", published.digests)


def _read_folder(
    folder: Path, published: _Published, source: str, digests: tuple[str | None, ...] = (None,) * 4
) -> Dataset:
    """The data set in a folder, whose files must have the digests, if any are given."""
    arrays = [_read_file(folder, *file) for file in zip(_STEMS, digests, strict=True)]
    for images, labels in (arrays[:2], arrays[2:]):
        n = labels.size
        types = (images.dtype, labels.dtype)
        if types != (np.uint8, np.uint8) or (images.shape, labels.shape) != ((n, 28, 28), (n,)):
            raise BadFile(
                f"{folder} must hold uint8 images of shape (n, 28, 28) and labels of shape (n,), "
                f"got {images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
            )
        if n == 0 or labels.max() >= len(published.label_names):
            raise BadFile(f"{folder} must hold at least one image, and labels in 0 … 9")
    return Dataset._make([*arrays, published.label_names, source])


def _read_file(folder: Path, stem: str, digest: str | None) -> HostArray:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            array = read_idx(path)
            if digest is not None and _idx_digest(array) != digest:
                raise BadFile(f"{path} is not the published file: its digest differs")
            return array
    raise Unavailable(f"{folder} must hold {', '.join(_STEMS)}, gzipped or not, but has no {stem}")


def _idx_digest(array: HostArray) -> str:
    """SHA-256 of the IDX file of a uint8 array: its header, then its bytes."""
    header = bytes((0, 0, 0x08, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return hashlib.sha256(header + array.data).hexdigest()


def _download(published: _Published, cache: Path) -> None:
    """Fetch the four files into the cache, each from the first mirror that has it as published."""
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("WARNING")
    print(f"Downloading {published.title} to {cache}", file=sys.stderr)
    for stem, digest in zip(_STEMS, published.digests, strict=True):
        failures = []
        for mirror in published.mirrors:
            try:
                # pooch writes to a temporary name, checks the digest, then renames
                pooch.retrieve(f"{mirror}{stem}.gz", digest, stem, cache, downloader=_unpacked)
                break
            except RequestException as error:  # its message fills several lines
                reason = getattr(error.response, "status_code", type(error).__name__)
                failures.append(f"{mirror} ({reason})")
            except (ValueError, EOFError, zlib.error, gzip.BadGzipFile):
                failures.append(f"{mirror} (not the published file)")
            except OSError as error:
                raise Unavailable(f"{cache} cannot be written: {one_line(error)}") from error
        else:
            raise Unavailable(
                f"{published.title} cannot be downloaded: tried {' and '.join(failures)}; connect "
                "to the network, or pass the folder of its four IDX files as data_dir"
            )


def _unpacked(url: str, output_file: str, _: Any) -> None:
    """A pooch downloader that stores the decompressed file, so that pooch checks its digest."""
    import pooch

    archive = _Capped()
    bar = bool(sys.stderr and sys.stderr.isatty())  # stderr is None if it was closed
    pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT, chunk_size=_PIECE)(url, archive, None)
    archive.seek(0)
    with gzip.open(archive) as content, open(output_file, "wb") as target:
        target.write(content.read(_LARGEST_FILE))


class _Capped(io.BytesIO):
    """A buffer that rejects a download that is too long."""

    def write(self, piece: Any, /) -> int:
        if self.tell() + len(piece) > _LARGEST_FILE:
            raise ValueError("the download is longer than any published file")
        return super().write(piece)
