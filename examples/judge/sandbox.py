"""The student's process, as the judge sees it: ask, and get arrays or a fault."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from . import protocol

LIMIT = 10.0  # seconds for a call, which takes milliseconds
START = 60.0  # seconds until the process is ready
TOTAL = 120.0  # seconds for all calls, if nothing else is said
EXAMPLES = Path(__file__).resolve().parents[1]
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Fault(Exception):
    """What a student's code has raised, or how its process has ended.

    `message` is one line of printable text; `file` and `line` are the place in the student's files,
    if there is one; `error` is the name of the exception, or "" if the process has ended.
    """

    def __init__(self, message: str, error: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.message, self.error, self.file, self.line = message, error, file, line

    @property
    def place(self) -> str:
        return f" ({self.file}, line {self.line})" if self.file else ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.error, self.message))) + self.place


class Answer(NamedTuple):
    """What a call has given, checked to be of the kind that the judge can compare."""

    value: Any
    cache: dict[str, int]  # stands for what the student's process keeps
    state: dict[str, Any]
    rebound: list[str]
    generators: list[Any]


class Sandbox:
    """A process for a student's code, with nothing in it that decides a verdict.

    It runs in a session of its own, which is killed as a whole, in an empty folder, and with limits
    of memory, files, processes and processor time where the system has them. It talks to the judge
    over a pipe that its standard streams know nothing of. Use it in a `with` block.
    """

    def __init__(self, modules: Sequence[str] = (), total: float = TOTAL) -> None:
        self.modules = list(modules)  # of the library, imported before the limits hold
        self.total = total
        self.loaded: list[dict[str, Any]] = []
        self.is_open = False
        self.waited = 0.0

    def __enter__(self) -> "Sandbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        os.chmod(self.folder.name, 0o777)  # the process may change to another user
        program = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); "
        program += "from judge.worker import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder.name,
            env=os.environ | ONE_THREAD,
            start_new_session=True,
        )
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.wanted = threading.Semaphore(0)
        listener = (self.process, self.wanted, self.answers)
        threading.Thread(target=self._listen, args=listener, daemon=True).start()
        self.is_open = True
        self._ask(self.modules, START)

    def stop(self) -> None:
        """Kill the process and whatever it has started."""
        self.is_open = False
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.wanted.release()  # the thread reads the end
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        self.folder.cleanup()

    def load(self, name: str, text: str, library: Sequence[str] = ()) -> None:
        """Import a student's file. Raises Fault."""
        request = {"do": "load", "name": name, "text": text, "library": list(library)}
        self.ask(request)
        self.loaded.append(request)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request: a method of `worker.Student` and its arguments. Raises Fault."""
        if self.waited > self.total:
            self.stop()
            raise Fault("all calls together take too long")
        is_new = not self.is_open
        if is_new:
            self.start()
        begun = time.monotonic()
        try:
            for file in self.loaded if is_new else ():
                self._ask(file, LIMIT)
            return self._ask(request, LIMIT)
        finally:
            self.waited += time.monotonic() - begun

    def call(self, code: str, *args: Any, **options: Any) -> Answer:
        """The answer to a call: see `worker.Student.call` for the options. Raises Fault."""
        request = {"do": "call", "code": code, "args": args, "kwargs": {}, **options}
        found = self.ask(request)
        kept, state = found.get("kept", 0), found.get("state", {})
        rebound, generators = found.get("rebound", []), found.get("generators", [])
        sent = {k: v for k, v in options.get("state", {}).items() if isinstance(v, np.ndarray)}
        is_answer = (
            "value" in found
            and type(kept) is int
            and isinstance(state, dict)
            and set(state) == set(options.get("back", ()))
            and all(_like(state[name], sent[name]) for name in sent.keys() & state.keys())
            and isinstance(rebound, list)
            and all(isinstance(name, str) for name in rebound)
            and isinstance(generators, list)
        )
        if not is_answer:
            raise Fault("what the process has sent is not an answer")
        return Answer(found["value"], {"kept": kept}, state, rebound, generators)

    def _ask(self, request: Any, limit: float) -> dict[str, Any]:
        answer: Any = None
        ending = "the code ended its process"
        try:
            self._send(protocol.pack(request), limit)
            self.wanted.release()
            answer = self.answers.get(timeout=limit)
        except Empty:
            ending = f"no answer after {limit:g} seconds: is there an endless loop?"
        except OSError:
            pass
        if not isinstance(answer, dict):
            self.stop()
            raise Fault(ending)
        if "error" in answer:
            raise Fault(
                printable(answer.get("message")),
                printable(answer["error"]),
                printable(answer.get("file", "")),
                answer["line"] if type(answer.get("line")) is int else 0,
            )
        return answer

    def _send(self, frame: bytes, limit: float) -> None:
        """Write to a process that may not read: what a pipe holds does not wait for it."""
        timer = threading.Timer(limit, self.process.kill) if len(frame) > 4096 else None
        if timer:
            timer.start()
        try:
            self.process.stdin.write(frame)  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        finally:
            if timer:
                timer.cancel()

    @staticmethod
    def _listen(
        process: "subprocess.Popen[bytes]",
        wanted: threading.Semaphore,
        answers: "SimpleQueue[Any]",
    ) -> None:
        """Read a frame when one is wanted, in a thread, because it may never become whole."""
        with process.stdout as pipe:  # type: ignore[union-attr]
            with suppress(EOFError, protocol.Garbled, OSError, ValueError):
                while wanted.acquire():
                    answers.put(protocol.read(pipe.read))
            answers.put(None)


def _like(value: Any, array: Any) -> bool:
    return isinstance(value, np.ndarray) and (value.shape, value.dtype) == (
        array.shape,
        array.dtype,
    )


def printable(text: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(text)[:300])
