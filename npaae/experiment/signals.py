"""How a program ends: Ctrl-C, SIGTERM, SIGHUP, and mistakes that its user can fix."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from .. import parallel
from ..errors import InvalidInput, UserError, printable
from ..parallel import SIGNALS


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, whose number it holds; it stops a program in the same way as Ctrl-C."""


def launch(main: Callable[[], None]) -> None:
    """Run `main` as a program.

    A user's mistake prints one sentence to stderr; the status is 2 for a wrong argument and 1 for
    anything else. Ctrl-C gives status 130, SIGTERM 143 and SIGHUP 129. A bug keeps its traceback.
    Under mpiexec the ranks act as one program: see `parallel.one_program`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "σ" is not an error
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup ignores SIGHUP
            stop = signal.default_int_handler if number == signal.SIGINT else _terminate
            signal.signal(number, stop)
    with _ending(), parallel.one_program(), _ending(), _no_signal_lost():
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
        _flush()
        sys.exit(128 + _number(stop))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _number(stop: KeyboardInterrupt) -> int:
    return stop.args[0] if isinstance(stop, Terminated) else signal.SIGINT


@contextmanager
def _no_signal_lost() -> Iterator[None]:
    """Send a signal again if Python had to ignore its exception, as in a weakref's callback."""
    report = sys.unraisablehook

    def hook(ignored: Any) -> None:
        if isinstance(ignored.exc_value, KeyboardInterrupt):
            # Later, because here Python would ignore it again.
            threading.Timer(0.01, signal.raise_signal, [_number(ignored.exc_value)]).start()
        else:
            report(ignored)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = report


def _fail(message: str, status: int = 1) -> NoReturn:
    _flush()
    with suppress(OSError):
        print(f"{Path(sys.argv[0]).name}: error: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def say(message: str) -> None:
    """Print to stdout or, if its reader has gone, to stderr, whose reader may have gone too."""
    try:
        print(message, flush=True)
    except OSError:
        _discard_stdout()
        with suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def _flush() -> None:
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    """Send the rest nowhere: the reader has gone, and Python would report that again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Make Ctrl-C, SIGTERM and SIGHUP wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets them
        yield
        return
    caught: list[int] = []
    previous = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, lambda number, frame: caught.append(number))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
