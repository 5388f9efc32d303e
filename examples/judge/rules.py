"""What homework may import and name, and a sentence for what it may not.

The judge reads a student's file by these rules before it runs. The student's process applies those
of imports and of modules as it runs, because only then is it known what a name stands for. They
close the easy ways around a derivation, not every way. What keeps the verdict right is that no
student's code runs in the judge's process.
"""

import ast
import builtins
import importlib.util
from collections.abc import Callable, Container, Iterator, Mapping
from types import ModuleType
from typing import Any

MODULES = {
    "__future__", "abc", "collections", "collections.abc", "dataclasses", "functools", "itertools",
    "math", "numbers", "numpy", "numpy.linalg",
}  # fmt: skip
BUILTINS = {
    "__import__", "breakpoint", "compile", "complex", "delattr", "dir", "eval", "exec", "exit",
    "getattr", "globals", "help", "input", "locals", "memoryview", "open", "quit", "setattr",
    "vars",
}  # fmt: skip
REFLECTION = {"delattr", "dir", "getattr", "globals", "locals", "setattr", "vars"}
OWN = {"__init__", "__name__", "__all__", "__future__"}  # the double underscores of an honest file
GIVEN = {  # those that it may define
    "__all__", "__call__", "__getitem__", "__init__", "__iter__", "__len__", "__post_init__",
    "__repr__",
}  # fmt: skip
# What leads out of mathematics, to files and bits, or evaluates a function at many points unseen by
# `meter`: as attributes of anything, because a name says nothing about a value, and as members of
# modules.
ATTRIBUTES = {
    "base", "ctypes", "data", "dump", "dumps", "format", "format_map", "getfield", "setfield",
    "tobytes", "tofile", "view",
}  # fmt: skip
MEMBERS = ATTRIBUTES | {
    "DataSource", "frombuffer", "fromfile", "fromregex", "fromstring", "genfromtxt", "geomspace",
    "load", "loadtxt", "logspace", "make_dataclass", "memmap", "poly1d", "save", "savetxt", "savez",
    "savez_compressed", "seterrcall", "singledispatch", "singledispatchmethod", "test",
    "update_wrapper", "wraps",
}  # fmt: skip
LARGEST = 100_000  # characters of a file, which takes a few thousand


def refused_import(module: str, library: Container[str]) -> str:
    """Why a module may not be imported; "" if it may. library: what practice imports beyond."""
    if module in MODULES or module in library:
        return ""
    if module.partition(".")[0] == "npaae":
        return f"{module} must not be imported: it holds the answers, and homework is to find them"
    return f"{module} must not be imported: NumPy and math are enough"


def importer(library: Container[str], own: Mapping[str, ModuleType]) -> Callable[..., ModuleType]:
    """An `__import__` by these rules. library: see `refused_import`. own: the student's files."""
    real = builtins.__import__

    def guarded(
        name: str, of: Any = None, by: Any = None, names: Any = None, level: int = 0
    ) -> ModuleType:
        if name in own and not level:
            return own[name]
        if not isinstance(names, list):  # as NumPy's compiled code has it
            whole = "." * level + name
            wanted = [f"npaae.{part}" for part in names] if whole == "npaae" and names else [whole]
            is_whole = name.startswith("npaae.") and not names  # which gives all of npaae
            known = () if is_whole else library
            refused = [refused_import(one, known) for one in wanted]
            if not library and not any(refused):
                module = importlib.import_module(name)
                refused = [refused_member(module, part) for part in names or ()]
            if any(refused):
                raise ImportError(next(filter(None, refused)))
        return real(name, of, by, names, level)

    return guarded


def breaches(text: str) -> Iterator[tuple[int, str]]:
    """(line, sentence) for everything in a graded file that the rules refuse before it runs."""
    if len(text) > LARGEST:
        yield 1, f"a file must have at most {LARGEST} characters, got more"
        return
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # importing it will say so
        return
    except (RecursionError, MemoryError):  # which may not happen where it is to be run
        yield 1, "a file must not be nested so deeply"
        return
    given = {name for node in nodes for name in _given(node)}
    for node in nodes:
        hidden = [name for name in _given(node) if name.startswith("__") and name not in GIVEN]
        found = [f"{name} must not be defined in homework" for name in hidden]
        for sentence in filter(None, [*found, *_of(node, given)]):
            yield getattr(node, "lineno", 0), sentence


def _given(node: ast.AST) -> Iterator[str]:
    """The names that a node gives to something."""
    fields = (getattr(node, field, None) for field in ("name", "asname", "rest", "arg"))
    yield from (name for name in fields if isinstance(name, str))
    match node:
        case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
            yield name


def _of(node: ast.AST, given: Container[str]) -> list[str]:
    """What is wrong with one node of a file that gives some names."""
    match node:
        case ast.Name(id=name):
            return [_refused_name(name)]
        case ast.Attribute(attr=name):
            return [_refused_attribute(name, given)]
        case ast.AnnAssign(target=ast.Name(id=name)):  # a field, which a data class reads
            return [_refused_attribute(name, given)]
        case ast.AugAssign(op=ast.Pow()):
            return ["**= must not be used in homework: write u = u**p"]
        case ast.MatchClass():
            return ["a class pattern must not be used in homework: it reads attributes by name"]
        case ast.FunctionDef(name="backward" | "parameter_gradients"):
            parts = [part for part in ast.walk(node) if isinstance(part, ast.Attribute)]
            if any(part.attr == "forward" for part in parts):
                return ["a backward pass must not call forward: derive on paper"]
    return []


def _refused_name(name: str) -> str:
    is_hidden = name.startswith("__") and name not in OWN
    return f"{name} must not be used in homework" if name in BUILTINS or is_hidden else ""


def _refused_attribute(name: str, given: Container[str]) -> str:
    is_hidden = name.startswith("_") and name not in (OWN if name.startswith("__") else given)
    return f".{name} must not be used in homework" if name in ATTRIBUTES or is_hidden else ""


def refused_member(module: ModuleType, name: str) -> str:
    """Why a name of a module may not be used; "" if it may."""
    whole = f"{module.__name__}.{name}"
    if name in vars(module):
        is_module = isinstance(vars(module)[name], ModuleType)
    else:  # one that is imported when it is used
        is_module = hasattr(module, "__path__") and importlib.util.find_spec(whole) is not None
    is_hidden = name == "*" or (name.startswith("_") and name not in OWN)
    if name in MEMBERS or is_hidden or (is_module and whole not in MODULES):
        return f"{whole} must not be used in homework"
    return ""
