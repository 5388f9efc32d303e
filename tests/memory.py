"""How much memory a block of code takes."""

import tracemalloc
from contextlib import contextmanager


@contextmanager
def at_most(limit):
    """Fail unless the block, which may raise, allocates at most `limit` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= limit
