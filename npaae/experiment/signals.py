"""Ctrl-C and SIGTERM: that both stop a run alike, and when they must wait."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C stops, it stops in the same way."""


def heed_sigterm() -> None:
    """Let SIGTERM raise Terminated, as Ctrl-C raises KeyboardInterrupt. For the main thread of a program."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # where neither comes, nor handlers may be set
        yield
        return
    came: list[int] = []
    previous = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])  # to whom it was meant for
