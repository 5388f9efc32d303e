"""What homework may import and name, and a sentence for what it may not.

The judge reads a student's file by these rules before it runs, and the student's process applies
them once more as it runs. They make cheating harder than deriving. What keeps the verdict right is
that no student's code runs in the judge's process.
"""

import ast
from collections.abc import Container, Iterator

import numpy as np

MODULES = {
    "__future__", "abc", "collections", "collections.abc", "dataclasses", "enum", "functools",
    "itertools", "math", "numbers", "numpy", "numpy.linalg", "numpy.typing", "typing",
}  # fmt: skip
BUILTINS = {
    "__import__", "breakpoint", "compile", "complex", "delattr", "dir", "eval", "exec", "exit",
    "getattr", "globals", "help", "input", "locals", "memoryview", "open", "quit", "setattr",
    "vars",
}  # fmt: skip
REFLECTION = {"delattr", "dir", "getattr", "globals", "locals", "setattr", "vars"}
OWN = {"__init__", "__name__", "__all__", "__future__"}  # the double underscores of an honest file
# Attributes that lead out of mathematics: to files, modules and frames, or to complex numbers and
# long ones, with which a derivative can be computed to the last bit without deriving it.
ATTRIBUTES = {
    "base", "conj", "conjugate", "ctypes", "data", "dump", "dumps", "imag", "iscomplex", "modules",
    "os", "real", "setfield", "getfield", "sys", "_sys", "tofile", "view",
}  # fmt: skip
NUMPY = {
    "angle", "asfarray", "busdaycalendar", "cdouble", "clongdouble", "complex128", "complex256",
    "complex64", "complexfloating", "csingle", "DataSource", "dtype", "emath", "float128",
    "fromfile", "frompyfunc", "genfromtxt", "getbufsize", "gradient", "imag", "info", "load",
    "loadtxt", "longdouble", "memmap", "real", "real_if_close", "roots", "save", "savetxt",
    "savez", "savez_compressed", "setbufsize", "seterrcall", "source", "typecodes",
}  # fmt: skip
FRAMES = ("tb_", "f_", "gi_", "cr_", "ag_", "co_", "func_")
TYPE_NAMES = {"complex", "complex64", "complex128", "longdouble", "float128", "clongdouble"}


def refused_import(module: str, own: Container[str] = ()) -> str:
    """Why a module may not be imported; "" if it may. own: others that may."""
    if module in MODULES or module in own:
        return ""
    if module.partition(".")[0] == "npaae":
        return f"{module} must not be imported: it holds the answers, and homework is to find them"
    return f"{module} must not be imported: NumPy and math are enough"


def imports(text: str, own: Container[str]) -> Iterator[tuple[int, str]]:
    """(line, sentence) for every import in a file that is refused."""
    for node in _nodes(text):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
                # `import npaae.checks` would give all of npaae.
                found = [refused_import(n, () if n.startswith("npaae") else own) for n in names]
            case ast.ImportFrom(module="npaae", level=0):
                found = [refused_import(f"npaae.{alias.name}", own) for alias in node.names]
            case ast.ImportFrom():
                found = [refused_import("." * node.level + (node.module or ""), own)]
            case _:
                continue
        yield from ((node.lineno, sentence) for sentence in found if sentence)


def breaches(text: str) -> Iterator[tuple[int, str]]:
    """(line, sentence) for everything in a graded file that the rules refuse."""
    yield from imports(text, ())
    nodes = list(_nodes(text))
    numpy_names = {"np", "numpy"}
    for node in nodes:
        if isinstance(node, ast.Import):
            numpy_names |= {a.asname for a in node.names if a.name == "numpy" and a.asname}
    for node in nodes:
        match node:
            case ast.ImportFrom(module="numpy"):
                found = [_refused_of_numpy(alias.name) for alias in node.names]
            case ast.Name(id=name):
                found = [_refused_name(name)]
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in numpy_names:
                found = [_refused_of_numpy(name)]
            case ast.Attribute(attr=name):
                found = [_refused_attribute(name)]
            case ast.Constant(value=complex()):
                found = ["complex numbers must not be used: derive on paper"]
            case ast.Constant(value=str(name)) if name in TYPE_NAMES:
                found = [_refused_of_numpy(name)]
            case ast.FunctionDef(name="backward" | "parameter_gradients"):
                calls = [part for part in ast.walk(node) if isinstance(part, ast.Attribute)]
                is_called = any(part.attr == "forward" for part in calls)
                found = ["a backward pass must not call forward"] if is_called else []
            case _:
                continue
        yield from ((node.lineno, sentence) for sentence in found if sentence)


def _nodes(text: str) -> Iterator[ast.AST]:
    """All of a file, or nothing if it is no Python: importing it will say so."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield from ast.walk(tree)


def _refused_name(name: str) -> str:
    is_hidden = name.startswith("__") and name not in OWN
    return f"{name} must not be used in homework" if name in BUILTINS or is_hidden else ""


def _refused_attribute(name: str) -> str:
    is_hidden = name.startswith(("__", *FRAMES)) and name not in OWN
    return f".{name} must not be used in homework" if name in ATTRIBUTES or is_hidden else ""


def _refused_of_numpy(name: str) -> str:
    kind = type(getattr(np, name, None)).__name__
    if name in NUMPY | TYPE_NAMES or name == "*" or (kind == "module" and name != "linalg"):
        return f"numpy.{name} must not be used in homework"
    return _refused_attribute(name)
