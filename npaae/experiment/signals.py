"""How a program ends: Ctrl-C, SIGTERM, and mistakes that its user can fix."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .. import parallel
from ..errors import InvalidInput, UserError


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a program in the same way as Ctrl-C."""


def launch(main: Callable[[], None]) -> None:
    """Run `main` as a program.

    A user's mistake prints one sentence to stderr; the status is 2 for a wrong argument and 1 for
    anything else. Ctrl-C gives status 130 and SIGTERM 143. A bug keeps its traceback. Under mpiexec
    the ranks act as one program: see `parallel.one_program`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "σ" is not an error
    signal.signal(signal.SIGTERM, _terminate)
    with _ending(), parallel.one_program(), _ending():
        main()


@contextmanager
def _ending() -> Iterator[None]:
    """End the program with a sentence and a status if the user can act on the error."""
    try:
        yield
    except UserError as error:
        _fail(str(error), status=2 if isinstance(error, InvalidInput) else 1)
    except BrokenPipeError:
        _fail("the program that read the output has ended; leave it running, or write to a file")
    except OSError as error:
        _fail(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")
    except MemoryError as error:
        _fail(f"out of memory{f' ({error})' if str(error) else ''}; make the model smaller")
    except KeyboardInterrupt as stop:
        sys.exit(143 if isinstance(stop, Terminated) else 130)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _fail(message: str, status: int = 1) -> NoReturn:
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:  # the reader has gone; Python would report that once more at exit
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    sys.exit(status)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets them
        yield
        return
    caught: list[int] = []
    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda number, frame: caught.append(number))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
