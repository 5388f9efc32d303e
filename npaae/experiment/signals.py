"""How a program ends: Ctrl-C, SIGTERM, SIGHUP, and mistakes that its user can fix."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from queue import SimpleQueue
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
    stop = _Stop()
    with _ending():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup ignores SIGHUP
                signal.signal(number, stop)
        with parallel.one_program(), _ending(), _no_signal_lost(stop):
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
        what = f" ({error})" if str(error) else ""
        _fail(f"out of memory{what}; make the model or the data smaller")
    except KeyboardInterrupt as stop:
        _flush()
        sys.exit(128 + _number(stop))


class _Stop:
    """The handler of the signals. It raises KeyboardInterrupt or Terminated, at most once a second.

    Signals that follow within a second are the same wish: Ctrl-C pressed twice, or a signal to a
    process and one to its group. A second exception would end what the first has begun: that the
    model returns to its last epoch, that its figures are drawn, that a status is set.
    """

    def __init__(self) -> None:
        self.raised = -inf  # when

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self.raised >= 1:
            self.raised = now
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def again(self, number: int) -> None:
        """Send a signal whose exception has been ignored."""
        self.raised = -inf
        signal.raise_signal(number)


def _number(stop: KeyboardInterrupt) -> int:
    return stop.args[0] if isinstance(stop, Terminated) else signal.SIGINT


@contextmanager
def _no_signal_lost(stop: _Stop) -> Iterator[None]:
    """Send a signal again if Python had to ignore its exception, as in a weakref's callback."""
    report = sys.unraisablehook
    ignored: SimpleQueue[int | None] = SimpleQueue()

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            ignored.put(_number(unraisable.exc_value))  # not now: Python would ignore it again
        else:
            report(unraisable)

    def send_again() -> None:
        while number := ignored.get():
            time.sleep(0.01)
            stop.again(number)

    sender = threading.Thread(target=send_again, daemon=True)
    sender.start()
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = report
        ignored.put(None)
        sender.join()  # until the last is sent


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
    """Make Ctrl-C, SIGTERM and SIGHUP wait for the end of the block, however it ends.

    Between any two of these lines a signal may arrive, whose handler may raise. So nothing depends
    on all handlers being put back: outside the block, `wait` puts back its own and sends again.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets them
        yield
        return
    caught: list[int] = []
    inside, previous = True, {number: signal.getsignal(number) for number in SIGNALS}

    def wait(number: int, frame: FrameType | None) -> None:
        if inside:
            caught.append(number)
        else:
            signal.signal(number, previous[number])
            signal.raise_signal(number)

    try:
        for number in SIGNALS:
            signal.signal(number, wait)
        yield
    finally:
        inside = False
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in caught:
            signal.raise_signal(number)
