"""The student's process: it receives files as text, arrays and names, calls, and returns arrays.

It knows no formula and compares nothing. Limits of time, memory and files and a list of refused
imports keep a student's code in its place. They protect the machine, and the `meter` that tells a
derivation from a difference quotient. Whether an array is right does not depend on them.
"""

import builtins
import importlib
import os
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

import numpy as np

from . import meter, protocol, rules

MEMORY = 2 * 2**30  # bytes of address space
SECONDS = 60  # of processor time
FILE = 2**20  # bytes of a file
NOBODY = 65534

# What a running homework must not do, by the names of Python's audit events: PEP 578.
REFUSED = (
    "_thread.", "ctypes.", "fcntl.", "gc.", "marshal.", "mmap.", "open", "os.", "pickle.", "pty.",
    "resource.", "shutil.", "signal.", "socket.", "sqlite3.", "subprocess.",
    "syslog.", "tempfile.", "webbrowser.", "winreg.",
)  # fmt: skip
IMPORTING = ("os.listdir", "os.scandir")  # which a module of the standard library needs to load
SCALARS = frozenset(np.sctypeDict.values())
LOADING = {"points": 20, "numbers": 10_000}  # what importing a file may compute: constants
SUFFIXES = (".py", ".pyc", ".so", ".pyd")


class Student:
    """The files, objects and caches of one student."""

    def __init__(self) -> None:
        self.modules: dict[str, types.ModuleType] = {}
        self.objects: dict[int, Any] = {}
        self.kept: list[Any] = []
        self.files: set[str] = set()
        self.is_running = False
        self.meter = meter.Meter()
        sys.addaudithook(self._refuse)

    def load(self, name: str, text: str, library: list[str]) -> dict[str, Any]:
        """Run a file. library: the modules that it may import beyond those of the rules."""
        self.files.add(f"{name}.py")
        module = types.ModuleType(name)
        refused = rules.BUILTINS - rules.REFLECTION if library else rules.BUILTINS
        given = {k: v for k, v in vars(builtins).items() if k not in refused}
        given["__import__"] = rules.importer(library, self.modules)
        if library:  # practice, which is not graded
            code = compile(text, f"{name}.py", "exec", dont_inherit=True)
        else:
            code = meter.metered(text, f"{name}.py")
            given |= self.meter.names()
            self.allow(**LOADING)
        vars(module)["__builtins__"] = given
        sys.modules[name] = module  # where dataclasses look up the module of a class
        with self.running():
            exec(code, vars(module))
        self.modules[name] = module
        self.allow(inf, inf)
        return {}

    def allow(self, points: float, numbers: float, own: Any = ()) -> dict[str, Any]:
        """Limit what the code may compute from now on: see `meter.Meter.allow`."""
        self.meter.allow(points, numbers, own)
        return {}

    def make(self, key: int, code: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Construct an object, which owns copies of the arrays that it is given."""
        arguments = [self._decoded(value) for value in args]
        arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        keywords = {name: self._decoded(value) for name, value in kwargs.items()}
        with self.running():
            self.objects[key] = self._find(code)(*arguments, **keywords)
        return {}

    def call(
        self,
        code: str,
        args: list[Any],
        kwargs: dict[str, Any],
        key: int | None = None,
        keep: bool = False,
        state: dict[str, Any] | None = None,
        back: tuple[str, ...] = (),
        errors: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Call a function, or a method of an object, after setting the object's `state`.

        Returns its value; with `keep`, a number for the second of its two values, the cache. `back`
        names the attributes to return, as the arrays that they were before the call. errors: for
        `np.errstate`.
        """
        owner = None if key is None else self.objects[key]
        arguments = [self._decoded(value) for value in args]
        keywords = {name: self._decoded(value) for name, value in kwargs.items()}
        answer: dict[str, Any] = {}
        with self.running():  # all that may run the student's code, as a property does
            before = self._set(owner, state or {})
            function = self._find(code, owner)
            with np.errstate(**(errors or {})):
                value = function(*arguments, **keywords)
            if keep:
                if type(value) is not tuple or len(value) != 2:
                    kind = _kind(value)
                    raise TypeError(f"{code} must return two values, y and a cache, got {kind}")
                value, cache = value
                self.kept.append(cache)
                answer["kept"] = len(self.kept) - 1
            answer["value"] = _plain(value)
            after = {name: self._find(name, owner) for name in back}
            answer["rebound"] = [
                name for name in back if after[name] is not before.get(name, after[name])
            ]
            answer["state"] = {name: _plain(before.get(name, after[name])) for name in back}
        generators = [value for value in arguments if isinstance(value, np.random.Generator)]
        answer["generators"] = [_numbers(rng.bit_generator.state) for rng in generators]
        return answer

    def clear(self) -> dict[str, Any]:
        self.objects, self.kept = {}, []
        return {}

    def _find(self, code: str, owner: Any = None) -> Any:
        """A dotted name, from one of the files or from an object."""
        first, *rest = code.split(".")
        found: Any = self.modules[first] if owner is None else getattr(owner, first)
        for name in rest:
            found = found[int(name)] if name.isdigit() else getattr(found, name)
        return found

    def _set(self, owner: Any, state: dict[str, Any]) -> dict[str, Any]:
        """Fill the arrays of an object, or bind its numbers; returns the arrays."""
        arrays = {}
        for path, value in state.items():
            parent, _, name = path.rpartition(".")
            holder = self._find(parent, owner) if parent else owner
            if not isinstance(value, np.ndarray):
                setattr(holder, name, value)
                continue
            current = getattr(holder, name, None)
            if type(current) is np.ndarray and current.shape == value.shape:
                current[...] = value
            else:
                setattr(holder, name, value.copy())
            arrays[path] = getattr(holder, name)
        return arrays

    def _decoded(self, value: Any) -> Any:
        """An argument. Arrays are read-only, because arguments must not change."""
        if isinstance(value, np.ndarray):
            return value  # of bytes, which NumPy does not let anyone write to
        if isinstance(value, list):
            return [self._decoded(part) for part in value]
        match value:
            case {"kept": number}:
                return self.kept[number]
            case {"object": number}:
                return self.objects[number]
            case {"module": "numpy"}:
                return np
            case {"prior": config}:
                from npaae import priors

                return priors.from_config(config)
            case {"generator": state}:
                rng = np.random.default_rng()
                rng.bit_generator.state = state
                return rng
        return value

    @contextmanager
    def running(self) -> Iterator[None]:
        """While a student's code runs: refuse what homework must not do."""
        self.is_running = True
        try:
            yield
        finally:
            self.is_running = False

    def _refuse(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook, which nothing can remove."""
        if self.is_running and event.startswith(REFUSED) and event not in IMPORTING:
            if event == "open" and str(arguments[0]).endswith(SUFFIXES) and arguments[1] == "rb":
                return
            raise PermissionError(f"{event} must not be used in homework")


def _plain(value: Any) -> Any:
    """A value as it can be sent: numbers and arrays themselves, anything else by what it is."""
    if type(value) is np.ndarray or type(value) in SCALARS:  # no subclass, which may run code
        if value.nbytes > protocol.LARGEST:
            raise TypeError(f"an array must have a sensible size, got {value.nbytes} bytes")
        array = np.array(value, copy=True)
        if array.dtype.name not in protocol.TYPES:
            raise TypeError(f"an array of float64 is expected, got one of {array.dtype}")
        return array
    if value is None or type(value) in (bool, float, str):
        return value
    if type(value) is int and abs(value) < 2**63:
        return value
    if type(value) in (tuple, list):
        return [_plain(part) for part in value]
    return {"other": _kind(value)}


def _kind(value: Any) -> str:
    return type(value).__name__


def _numbers(state: Any) -> Any:
    """The state of a generator, with Python's integers for NumPy's."""
    if isinstance(state, dict):
        return {name: _numbers(part) for name, part in state.items()}
    return state if isinstance(state, str) else int(state)


def fault(error: BaseException, files: set[str]) -> dict[str, Any]:
    """What was raised, and in which line of the student's files."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    own = [(name, line) for name, line in places if name in files]
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    answer = {"error": type(error).__name__, "message": " ".join(message.split())[:300]}
    return answer | (dict(zip(("file", "line"), own[-1], strict=True)) if own else {})


def limit() -> None:
    """Limits of memory, time, files and processes, on systems that have them."""
    with suppress(ImportError):
        import resource

        for kind, most in {
            "AS": MEMORY, "CPU": SECONDS, "FSIZE": FILE, "CORE": 0, "NPROC": 0
        }.items():  # fmt: skip
            with suppress(AttributeError, ValueError, OSError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (most, most))
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # whom NPROC and permissions do not stop
        with suppress(OSError):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


def main() -> None:
    inlet, outlet = os.dup(0), os.dup(1)
    if os.name == "nt":
        import msvcrt

        for descriptor in (inlet, outlet):
            msvcrt.setmode(descriptor, os.O_BINARY)  # type: ignore[attr-defined]
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", np.exceptions.ComplexWarning)

    def receive(count: int) -> bytes:
        data = bytearray()
        while len(data) < count and (piece := os.read(inlet, min(count - len(data), 2**20))):
            data += piece
        return bytes(data)

    def send(frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(outlet, rest) :]

    student = Student()
    with suppress(EOFError):
        for module in (*sorted(rules.MODULES), "numpy.random", *protocol.read(receive)):
            importlib.import_module(module)  # now, because the limits may hide the library
        limit()
        send(protocol.pack({}))
        while True:
            request = protocol.read(receive)
            try:
                answer = getattr(student, request.pop("do"))(**request)
                frame = protocol.pack(answer)
            except BaseException as error:  # sys.exit and the like too
                with student.running():  # its message may be computed by the student's code
                    frame = protocol.pack(fault(error, student.files))
            send(frame)


if __name__ == "__main__":
    main()
