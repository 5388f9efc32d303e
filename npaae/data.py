"""Images to train on: your own files, MNIST and Fashion-MNIST.

`load` reads the files that the caller names. Without a folder, `mnist` and `fashion_mnist` read the
user's cache or a copy that a system package installed; if there is neither, they download the files
into the cache. Files from these three sources must have the published digests. The digests are
those of the *decompressed* files, because mirrors and packages compress them differently. A sample
of MNIST is part of npaae.

MNIST: Y. LeCun, C. Cortes, C. Burges, CC BY-SA 3.0. Fashion-MNIST: Zalando SE, MIT.
"""

import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from math import isqrt, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import layouts
from .backend import HostArray
from .checkpoint import replacing
from .checks import host_array, label_remedy
from .errors import BadFile, InvalidInput, Unavailable, one_line, printable
from .formats import members, stored
from .formats import read_idx as read_idx  # part of the public interface
from .images import checked_rows, image_shape, require_pixels, training_rows


class Dataset(NamedTuple):
    """Training and test images, and what is known about them.

    Images are uint8 in 0 … 255 or floats in [0, 1], of shape (n, height, width) or, if they are
    rows of features, (n, features). Labels are integers of shape (n,), or None. `label_names[k]` is
    the meaning of label k. `source` describes where the data come from, `name` is the name of the
    data set, and `path` is the path with which `load` finds it, or None.
    """

    train_images: HostArray
    train_labels: Any  # an array, or None
    test_images: HostArray
    test_labels: Any  # an array, or None
    label_names: tuple[str, ...]
    source: str
    name: str = "data"
    path: Path | None = None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width), also of rows whose length is a square; None for other rows."""
        *sizes, last = self.train_images.shape[1:]
        if sizes:
            return sizes[0], last
        side = isqrt(last)
        return (side, side) if side * side == last else None


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


def load(path: str | os.PathLike[str]) -> Dataset:
    """Your own images, from IDX or NumPy files with any of the usual names.

    path: an .npz archive; a folder of files or of subfolders, such as torchvision's; or, if a
    folder holds several data sets, any file of one. The words in the name of an array and, if they
    leave it open, of its archive and its folders below `path` say what it is: `x_train`, `XTrain`,
    `train/images.npy`, `qmnist-test-labels-idx2-int.gz`. An .npy file, or an archive of one array
    that was saved without a name, may have any name if `path` is that file: it holds images.
    Without test images, the test set is the validation images or, if there are none either, a tenth
    of the training images. `dataset` describes the images and labels that are accepted. Images are
    kept as they are in their files: those of EMNIST, for example, are transposed. If an archive has
    other arrays too, `source` says that they are left out.

    Raises Unavailable if there are no images, InvalidInput if there are several data sets, BadFile
    for a file that is damaged or does not fit, and OSError for one that cannot be read.
    """
    path = Path(path)
    found = layouts.sets(path)
    if not found:
        rule = f"images, as IDX files such as {_STEMS[0]} or an .npz archive with x_train or images"
        inside = [] if path.is_file() else [entry.name for entry in layouts.entries(path)]
        if path.is_file() and layouts.is_archive(path):
            inside = members(path)
        packed = (name for name in (path.name, *inside) if name.lower().endswith(_PACKED))
        remedy = "".join(f"; unpack {name}" for name in [*packed][:1])
        has = f"only {_some(inside)}" if inside else "none"
        raise Unavailable(f"{path} must hold {rule}, but has {has}{remedy}")
    if len(found) > 1:
        choices = dict.fromkeys(str(one.choice) for one in found if one.choice != path)
        remedy = f"name one of them: {', '.join(choices)}"
        if len(choices) < len(found):  # no path leads to each
            names = ", ".join(one.arrays[0].name for one in found)
            remedy = f"keep one of them in an archive or a folder of its own: {names}"
        raise InvalidInput(f"{path} must hold one data set, got {len(found)}; {remedy}")
    (one,) = found
    arrays, part = layouts.by_role(one), "test"
    if ("train", "images") not in arrays:
        raise BadFile(f"{path} must hold training images, but has only {one.arrays[0].name}")
    if (part, "images") not in arrays:
        part = "validation"
    read = [array for each in ("train", part) for array in _read_part(arrays, each)]
    try:
        made = dataset(*read, name=one.name, path=path)
    except InvalidInput as error:
        raise BadFile(f"{path}: {error}") from error
    left_out = layouts.unused(one, ("train", part))
    without = f", without {_some(left_out)}" if left_out else ""
    return made._replace(source=printable(f"{made.source}{without}"))


_PACKED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz")


def _some(names: Sequence[str]) -> str:
    """The names, or the first eight and the number of the others."""
    left = len(names) - 8
    others = [f"{left:,} other{'s' * (left > 1)}"] if left > 0 else []
    return ", ".join([*names[:8], *others])


def dataset(
    train_images: Any,
    train_labels: Any = None,
    test_images: Any = None,
    test_labels: Any = None,
    *,
    name: str = "data",
    path: Path | None = None,
) -> Dataset:
    """Make a Dataset from arrays.

    Images are uint8 in 0 … 255 or floats in [0, 1]. They are grey, (n, height, width), possibly
    with a channel axis of length 1, or rows of features, (n, features). Labels are a non-negative
    integer or a string for each image, or None. The distinct labels, in order, become 0, 1, 2, …
    and are the `label_names`. There are at least two images to train and two to test. Without test
    images, a tenth of the training images, at least two, is held out by a fixed draw. MNIST and
    Fashion-MNIST are recognised by their test images, and get their names.

    Raises InvalidInput for any other arrays, or if they do not fit together.
    """
    train_images = _pixels(train_images)
    test_images = None if test_images is None else _pixels(test_images)
    train_labels = _checked_labels(train_labels, train_images)
    test_labels = _checked_labels(test_labels, test_images)
    if len({part.dtype.kind for part in (train_labels, test_labels) if part is not None}) > 1:
        raise InvalidInput(
            "labels must be integers in both parts or texts in both, got one of each"
        )
    held_out = ""
    if test_images is None:
        if (n := len(train_images)) < 4:
            raise InvalidInput(f"images must be at least 4 without test images, got {n}")
        order = np.random.default_rng(0).permutation(n)
        test, train = map(np.sort, np.split(order, [max(2, n // 10)]))
        train_images, test_images = train_images[train], train_images[test]
        if train_labels is not None:
            train_labels, test_labels = train_labels[train], train_labels[test]
        held_out = ", a tenth held out"
    _require_a_pair(train_images, test_images)
    values, (train_labels, test_labels) = numbered(train_labels, test_labels)
    label_names = _texts(values)
    for published in (_MNIST, _FASHION_MNIST):
        if test_images.dtype == np.uint8 and _idx_digest(test_images) == published.digests[2]:
            name = published.title
            if label_names == _MNIST.label_names:
                label_names = published.label_names
    source = f"{name if path is None else f'{name} from {path}'}{held_out}"
    return Dataset(
        train_images, train_labels, test_images, test_labels,
        label_names, printable(source), printable(name), path,
    )  # fmt: skip


def usable(dataset: Dataset, visible: int) -> Dataset:
    """The data set as `Dataset` describes it, for a model of `visible` pixels to train and test on.

    Brings a Dataset that the caller has put together into that form: arrays without a channel axis
    or a column axis, names that are strings, a path that is a Path. One that `load` or `dataset`
    made has it already, so that only its number of pixels can be wrong.

    Raises InvalidInput if the model cannot train on it, or test it.
    """
    if dataset.test_images is None:
        raise InvalidInput(
            "test_images must not be None; npaae.data.dataset(train_images, …) holds some out"
        )
    images = [host_array("images", part) for part in (dataset.train_images, dataset.test_images)]
    train_images, test_images = (
        check(part, visible).reshape(-1, *image_shape(part.shape))
        for check, part in zip((training_rows, checked_rows), images, strict=True)
    )
    _require_a_pair(train_images, test_images)
    train_labels = _checked_labels(dataset.train_labels, train_images)
    test_labels = _checked_labels(dataset.test_labels, test_images)
    label_names = _texts(dataset.label_names)
    for labels in (train_labels, test_labels):
        if labels is None:
            continue
        text = labels.dtype.kind == "U"
        if text or labels.max() >= len(label_names):
            raise InvalidInput(
                f"labels must index the {len(label_names)} label_names, got "
                f"{'text' if text else labels.max()}; npaae.data.dataset numbers them"
            )
    path = None if dataset.path is None else Path(dataset.path)
    return Dataset(
        train_images, train_labels, test_images, test_labels,
        label_names, printable(str(dataset.source)), printable(str(dataset.name)), path,
    )  # fmt: skip


def numbered(*parts: Any) -> tuple[HostArray, tuple[Any, ...]]:
    """The distinct labels of all parts, in order, and each part's labels as their numbers.

    A part that is None stays None.
    """
    known = [labels for labels in parts if labels is not None]
    values = np.unique(np.concatenate(known)) if known else np.array([], int)
    return values, tuple(
        None
        if labels is None
        else np.searchsorted(values, labels).astype(np.min_scalar_type(len(values) - 1))
        for labels in parts
    )


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    """The values as strings; raises InvalidInput for what no figure or file could show."""
    try:
        texts = tuple(map(str, values))
        "".join(texts).encode()
    except (ValueError, SystemError) as error:  # the second for a number beyond Unicode
        raise InvalidInput(f"labels must be Unicode text: {one_line(error)}") from error
    return texts


def _require_a_pair(train_images: HostArray, test_images: HostArray) -> None:
    """Raise InvalidInput unless a model can be trained on the one and measured on the other."""
    n, m = len(train_images), len(test_images)
    if min(n, m) < 2:
        raise InvalidInput(f"images must be at least 2 to train and 2 to test, got {n} and {m}")
    if test_images.shape[1:] != train_images.shape[1:]:
        shapes = f"{train_images.shape} and {test_images.shape}"
        raise InvalidInput(f"images must have one size for training and testing, got {shapes}")


def _pixels(images: Any) -> HostArray:
    """The images as a Dataset holds them; raises InvalidInput if they cannot be trained on."""
    array = host_array("images", images)
    require_pixels(array.dtype)
    sizes = image_shape(array.shape)
    return checked_rows(array, prod(sizes)).reshape(-1, *sizes)


def _checked_labels(labels: Any, images: Any) -> Any:
    """The labels as int64 or text; raises InvalidInput unless there is one for each image."""
    if labels is None:
        return None
    if images is None:
        raise InvalidInput("test_labels must be None without test_images")
    array = host_array("labels", labels)
    if array.shape == (len(images), 1):
        array = array[:, 0]
    if array.shape != (len(images),) or array.dtype.kind not in "biuU":
        raise InvalidInput(
            f"labels must be {len(images)} integers or texts, one for each image, "
            f"got {array.dtype} {array.shape}"
            f"{label_remedy(array.shape, array.dtype, len(images))}"
        )
    if array.dtype.kind == "U":
        return array
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 2**63:
        remedy = "; npaae.train takes labels with −1 for unlabelled, a data set none" * (low == -1)
        raise InvalidInput(
            f"labels must be integers in 0 … 2**63 − 1, got {low if low < 0 else high}{remedy}"
        )
    return array.astype(np.int64)


def _read_part(arrays: Mapping[tuple[str, str], layouts.Entry], part: str) -> tuple[Any, Any]:
    """The images and the labels of a part, or None for either that is missing.

    An array with an unsuitable header is rejected before its content takes up memory.
    """
    if (part, "images") not in arrays:
        return None, None
    place = arrays[part, "images"]
    images = stored(place.file, place.member)
    try:
        require_pixels(images.dtype)
        image_shape(images.shape)
    except InvalidInput as error:
        raise BadFile(f"{images.name}: {error}") from error
    if (part, "labels") not in arrays:
        return images.read(), None
    place = arrays[part, "labels"]
    labels = stored(place.file, place.member)
    n, columns = images.shape[0], labels.shape[1:]
    origins = [(8,)] if place.idx else []  # QMNIST: class, then its origin
    if labels.shape[:1] != (n,) or columns not in [(), (1,), *origins]:
        rule = f"labels must be one for each of {n} images, got shape {labels.shape}"
        raise BadFile(f"{labels.name}: {rule}{label_remedy(labels.shape, labels.dtype, n)}")
    values = labels.read()
    return images.read(), values[:, 0] if columns else values


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
        found = _read_folder(folder, published, f"{title} from {folder}")
        for other in (_MNIST, _FASHION_MNIST):
            if other is not published and _idx_digest(found.test_images) == other.digests[2]:
                raise BadFile(f"{folder} must hold {title}, got {other.title}")
        return found._replace(path=folder)
    import platformdirs

    cache = platformdirs.user_cache_path("npaae") / title.lower()
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
    return Dataset._make([*arrays, published.label_names, source, published.title, None])


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
    return hashlib.sha256(header + np.ascontiguousarray(array).data).hexdigest()


def _download(published: _Published, cache: Path) -> None:
    """Fetch the missing files into the cache, each from the first mirror that has it."""
    print(f"Downloading {published.title} to {cache}", file=sys.stderr)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for stem, digest in zip(_STEMS, published.digests, strict=True):
            try:
                _read_file(cache, stem, digest)
            except (BadFile, Unavailable):
                content = _fetched(published, stem, digest)
                with replacing(cache / stem) as file:
                    file.write(content)
    except OSError as error:
        raise Unavailable(f"{cache} cannot be used: {one_line(error)}") from error


def _fetched(published: _Published, stem: str, digest: str) -> bytes:
    """The content of a published file, from the first mirror that has it."""
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    from .download import fetched

    failures = []
    for mirror in published.mirrors:
        try:
            packed = fetched(f"{mirror}{stem}.gz", timeout=_TIMEOUT, largest=_LARGEST_FILE)
            content = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(_LARGEST_FILE)
            if hashlib.sha256(content).hexdigest() == digest:
                return content
            failures.append(f"{mirror} (not the published file)")
        except RequestException as error:  # its message fills several lines
            reason = getattr(error.response, "status_code", type(error).__name__)
            failures.append(f"{mirror} ({reason})")
        except (HTTPError, TimeoutError) as error:
            failures.append(f"{mirror} ({type(error).__name__})")
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile):
            failures.append(f"{mirror} (not the published file)")
    raise Unavailable(
        f"{published.title} cannot be downloaded: tried {' and '.join(failures)}; connect to the "
        "network, or pass the folder of its four IDX files as data_dir"
    )
