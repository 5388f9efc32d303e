"""Downloads that always end: a mirror that is silent, slow or endless is abandoned."""

import sys
import threading
import time

from requests import get
from tqdm import tqdm

PIECE = 2**20  # bytes
SLOWEST = 2**14  # bytes a second that a mirror must deliver on average …
PATIENCE = 20.0  # … after so many seconds


class Transfer(threading.Thread):
    """Downloads a URL in a thread, which the caller may abandon. Decompresses nothing."""

    def __init__(self, url: str, timeout: float, largest: int) -> None:
        super().__init__(daemon=True)
        self.url, self.timeout, self.largest = url, timeout, largest
        self.content, self.length = bytearray(), 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with get(self.url, stream=True, timeout=self.timeout) as response:
                response.raise_for_status()
                self.length = int(response.headers.get("Content-Length", 0))
                # The raw bytes: decompressing them, as requests does, may multiply their number.
                while piece := response.raw.read1(PIECE, decode_content=False):
                    self.content += piece
                    if len(self.content) > self.largest:
                        raise ValueError("the file is longer than any published one")
        except Exception as error:
            self.error = error


def fetched(url: str, *, timeout: float, largest: int) -> bytearray:
    """The bytes at `url`, at most `largest` of them.

    timeout: in seconds, for one answer of the server. Raises OSError or urllib3's HTTPError if the
    server cannot be reached, fails or delivers fewer than `SLOWEST` bytes a second, and ValueError
    if it delivers more than `largest` bytes.
    """
    start, transfer = time.monotonic(), Transfer(url, timeout, largest)
    transfer.start()
    shown = bool(sys.stderr and sys.stderr.isatty())  # stderr is None if it was closed
    with tqdm(unit="B", unit_scale=True, disable=not shown) as bar:
        while transfer.is_alive():
            transfer.join(0.1)
            received, bar.total = len(transfer.content), transfer.length or None
            bar.update(received - bar.n)
            if received < SLOWEST * (time.monotonic() - start - PATIENCE):
                raise TimeoutError(f"{url} is too slow")
    if transfer.error:
        raise transfer.error
    return transfer.content
