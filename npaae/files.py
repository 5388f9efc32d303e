"""Writing files so that nobody ever finds half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes `path`'s place, all at once, when the block ends well.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are then renamed; a reader, an error
    in the block or a crash at any moment leaves either the old file or the new one. Raises OSError as `open` does.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # KeyboardInterrupt too: nothing half-written may stay
        temporary.unlink(missing_ok=True)
        raise
