"""Arrays in files: the IDX format, gzipped or not, and NumPy's .npy and .npz, never with pickle.

Files are not trusted: a header may declare more than the file holds, and a compressed file may
unpack to more than fits into memory. So the header is read first, and the caller can reject the
array. The content is read piece by piece, and never beyond what the header declares.
"""

import errno
import gzip
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .backend import HostArray
from .errors import BadFile, one_line

LARGEST_ARRAY = 2**30  # bytes, unpacked; the largest file of the MNIST family has half of that
NPY = b"\x93NUM"  # how an .npy file begins
_PIECE = 2**20
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_KINDS = "biufUS"  # of NumPy's types that are plain numbers or text


class Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Any = "C"


class Stored(NamedTuple):
    """An array in a file, of which only the header has been read.

    name: the file, and the name of the array in an archive, for messages.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    open: Callable[[], AbstractContextManager[Any]]

    def read(self) -> HostArray:
        """The array. Raises BadFile unless the file holds what its header declares."""
        with blaming(self.name), self.open() as file:
            dtype, shape, order = _header(file, self.name)
            promised = prod(shape) * dtype.itemsize
            content = bytearray()  # grows piece by piece, because the header may be wrong
            while piece := file.read(min(_PIECE, promised + 1 - len(content))):
                content += piece
            if len(content) != promised:
                found = len(content) if len(content) < promised else "more"
                raise BadFile(
                    f"{self.name} is damaged: its header declares {promised} bytes, got {found}"
                )
            array = np.frombuffer(content, dtype).reshape(shape, order=order)
        return np.asarray(array, dtype.newbyteorder("="), order="C")


def stored(path: str | os.PathLike[str], member: str | None = None) -> Stored:
    """The array in an IDX or .npy file or, if `member` names it, in an .npz archive.

    Raises BadFile if the header is damaged, has another format, declares Python objects or declares
    more bytes than both 1 GiB and the size of the file, and OSError if the file cannot be opened.
    """
    name = os.fspath(path) if member is None else f"{os.fspath(path)}: {member}"

    def opened() -> AbstractContextManager[Any]:
        return _plain(path) if member is None else _unzipped(path, member)

    with blaming(name), opened() as file:
        dtype, shape, _ = _header(file, name)
    if (promised := prod(shape) * dtype.itemsize) > max(LARGEST_ARRAY, os.path.getsize(path)):
        raise BadFile(
            f"{name} is damaged, or must be stored uncompressed: its header declares "
            f"{promised:,} bytes, more than 1 GiB"
        )
    return Stored(name, dtype, shape, opened)


def members(path: str | os.PathLike[str]) -> list[str]:
    """The names of the arrays in an .npz archive.

    Raises BadFile if it is not an archive, or two arrays have one name.
    """
    with blaming(os.fspath(path)), opened(path) as file, zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len({name.removesuffix(".npy") for name in names}) < len(names):
            raise ValueError("two of its arrays have one name")
        return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_idx(path: str | os.PathLike[str]) -> HostArray:
    """The array in an IDX file, gzipped or not.

    The format (Y. LeCun): two zero bytes, a byte for the element type, a byte for the number of
    dimensions d, then d sizes and the elements in C order, all of them big-endian.

    Raises BadFile if the file has another format, is damaged, or holds more or fewer elements than
    its header declares, and OSError if it cannot be read. Whatever the header declares, reading
    takes at most twice the memory of the file's content.
    """
    return stored(path).read()


@contextmanager
def _plain(path: str | os.PathLike[str]) -> Iterator[Any]:
    with opened(path) as raw, _unpacked(raw) as file:
        yield file


def _unpacked(raw: Any) -> Any:
    return gzip.open(raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


@contextmanager
def _unzipped(path: str | os.PathLike[str], member: str) -> Iterator[Any]:
    with opened(path) as raw, zipfile.ZipFile(raw) as archive:
        info = archive.getinfo(f"{member}.npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed by a method that NumPy does not use")
        with archive.open(info) as file:
            yield file


def _header(file: Any, name: str) -> Header:
    """Read the header of an IDX or .npy file, up to the first element."""
    start = file.read(4)
    if start == NPY:
        header = npy_header(file)
    elif len(start) == 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES:
        sizes = file.read(4 * start[3])
        if len(sizes) < 4 * start[3]:
            raise BadFile(f"{name} is damaged: it ends inside its header")
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        header = Header(np.dtype(_IDX_TYPES[start[2]]), shape)
    else:
        raise BadFile(f"{name} is not an IDX or .npy file: it begins with {start!r}")
    dtype, shape, _ = header
    if dtype.hasobject:
        raise BadFile(
            f"{name} holds Python objects, as unequal arrays and pandas' texts become; store one "
            "array of numbers, or of texts converted with .astype(str)"
        )
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise BadFile(f"{name} must hold plain numbers or text, got {dtype}")
    if len(shape) > 32 or any(not 0 <= size < 2**62 for size in shape):
        raise BadFile(f"{name} is damaged: an array cannot have shape {shape}")
    return header


def npy_header(file: Any) -> Header:
    """Read the header of an .npy file after its first four bytes, which are NPY.

    Raises ValueError, or another error of NumPy's, if it is damaged.
    """
    if file.read(4) != b"PY\x01\x00":  # others have headers of any length, for structured types
        raise ValueError("it has a version of the .npy format that plain arrays do not use")
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except MemoryError as error:  # of Python's parser, whose stack is small
        raise ValueError("its header is nested too deeply") from error
    return Header(dtype, shape, "F" if fortran_order else "C")


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading. A pipe or a device might never end.

    Raises BadFile if it is not a regular file, and OSError if it cannot be opened.
    """
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadFile(f"{os.fspath(path)} is not a regular file")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe waits for a writer


@contextmanager
def blaming(name: str, fault: str = "is damaged") -> Iterator[None]:
    """Raise BadFile in place of the dozen kinds of error that zipfile, zlib and NumPy raise.

    An error that is not the file's fault is raised unchanged: lack of memory, or a system error.
    """
    try:
        yield
    except (BadFile, MemoryError):
        raise
    except Exception as error:
        # EINVAL is a seek to before the start of the file, which is the file's fault.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, error.filename or name) from error
        raise BadFile(f"{name} {fault}: {one_line(error)}") from error
