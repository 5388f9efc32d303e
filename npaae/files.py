"""Writing files so that nobody ever finds half of one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import CannotWrite

_PARTIAL = ".partial"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes `path`'s place, all at once, when the block ends well.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are then renamed; a reader, an error
    in the block or a crash at any moment leaves either the old file or the new one. Raises CannotWrite (an OSError).
    """
    path = Path(os.path.realpath(path))  # of a link, the file that it leads to
    if path.exists() and not path.is_file():
        raise CannotWrite(f"{path} is no regular file, where one is wanted; name another")
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the renaming itself must reach the disk too
            finally:
                os.close(folder)
    except BaseException as error:  # KeyboardInterrupt too: nothing half-written may stay
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            before = "what it held before is whole; " if path.is_file() else ""
            raise CannotWrite(
                f"{path} cannot be written ({error.strerror}); {before}make room or the folder writable, or name another"
            ) from error
        raise


def remove_partial(folder: Path, names: Iterable[str]) -> None:
    """Remove what processes that were killed while they wrote these files of the folder left behind."""
    for name in names:
        for path in folder.glob(f".{name}.*{_PARTIAL}"):
            with suppress(OSError):
                path.unlink()
