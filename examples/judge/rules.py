"""What homework may import and name, and a sentence for what it may not.

The judge reads a student's file by these rules before it runs, and the student's process applies
those of imports as it runs. They close the easy ways around a derivation, not every way. What keeps
the verdict right is that no student's code runs in the judge's process.
"""

import ast
import importlib
from collections.abc import Container, Iterator
from types import ModuleType
from typing import NamedTuple

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
# What leads out of mathematics, to files, modules, frames and bits, or evaluates a function at many
# points unseen by `meter`: as attributes of anything, because a name, even `self`, says nothing
# about a value, and of modules.
ATTRIBUTES = {
    "base", "ctypes", "data", "dump", "dumps", "f_back", "f_builtins", "f_globals", "f_locals",
    "format", "format_map", "getfield", "gi_frame", "modules", "os", "setfield", "sys", "tb_frame",
    "tb_next", "tobytes", "tofile", "view",
}  # fmt: skip
MEMBERS = ATTRIBUTES | {
    "DataSource", "frombuffer", "fromfile", "fromregex", "fromstring", "genfromtxt", "geomspace",
    "load", "loadtxt", "logspace", "make_dataclass", "memmap", "poly1d", "save", "savetxt", "savez",
    "savez_compressed", "seterrcall", "singledispatch", "singledispatchmethod", "test",
    "update_wrapper", "wraps",
}  # fmt: skip
LARGEST = 100_000  # characters of a file, which takes a few thousand


def refused_import(module: str, own: Container[str] = ()) -> str:
    """Why a module may not be imported; "" if it may. own: others that may."""
    if module in MODULES or module in own:
        return ""
    if module.partition(".")[0] == "npaae":
        return f"{module} must not be imported: it holds the answers, and homework is to find them"
    return f"{module} must not be imported: NumPy and math are enough"


def imports(text: str, own: Container[str]) -> Iterator[tuple[int, str]]:
    """(line, sentence) for every import that is refused, and for a file that cannot be read."""
    if len(text) > LARGEST:
        yield 1, f"a file must have at most {LARGEST} characters, got more"
        return
    try:
        nodes = list(_nodes(text))
    except (RecursionError, MemoryError):  # which may not happen where it is to be run
        yield 1, "a file must not be nested so deeply"
        return
    for node in nodes:
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


class File(NamedTuple):
    """What the names of a file stand for."""

    modules: dict[str, ModuleType]  # by the names that imports give them
    owners: dict[int, ModuleType]  # of attributes of modules, by the nodes' ids
    qualified: set[int]  # the ids of nodes of which an attribute is taken
    given: set[str]  # the names that the file itself gives


def breaches(text: str) -> Iterator[tuple[int, str]]:
    """(line, sentence) for everything in a graded file that the rules refuse."""
    refused = list(imports(text, ()))
    yield from refused
    if refused:
        return
    nodes = list(_nodes(text))
    modules: dict[str, ModuleType] = {}
    for node in nodes:
        for name, module in _imported(node):
            if modules.setdefault(name, module) is not module:
                yield getattr(node, "lineno", 0), f"{name} must be the name of one module"
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    qualified = {id(node.value) for node in attributes}
    owners: dict[int, ModuleType] = {}
    for node in attributes:
        if id(node) not in qualified:
            owners |= _owners(node, modules)
    file = File(modules, owners, qualified, {name for node in nodes for name in _given(node)})
    for node in nodes:
        hidden = [name for name in _given(node) if name.startswith("__") and name not in GIVEN]
        found = [f"{name} must not be defined in homework" for name in hidden]
        for sentence in filter(None, [*found, *_of(node, file)]):
            yield getattr(node, "lineno", 0), sentence


def _given(node: ast.AST) -> Iterator[str]:
    """The names that a node gives to something."""
    fields = (getattr(node, field, None) for field in ("name", "asname", "rest"))
    yield from (name for name in fields if isinstance(name, str))
    match node:
        case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
            yield name


def _imported(node: ast.AST) -> Iterator[tuple[str, ModuleType]]:
    """The names that an import gives to modules."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            whole, _, _ = alias.name.partition(".")
            name = alias.name if alias.asname else whole
            yield alias.asname or whole, importlib.import_module(name)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            found = getattr(importlib.import_module(str(node.module)), alias.name, None)
            if isinstance(found, ModuleType):
                yield alias.asname or alias.name, found


def _owners(outermost: ast.Attribute, modules: dict[str, ModuleType]) -> dict[int, ModuleType]:
    """The modules that a chain of attributes goes through, by the ids of the attributes."""
    chain: list[ast.Attribute] = []
    node: ast.expr = outermost
    while isinstance(node, ast.Attribute):
        chain.append(node)
        node = node.value
    owners = {}
    found: object = modules.get(node.id) if isinstance(node, ast.Name) else None
    for link in reversed(chain):
        if not isinstance(found, ModuleType):
            break
        owners[id(link)] = found
        found = getattr(found, link.attr, None)
    return owners


def _of(node: ast.AST, file: File) -> list[str]:
    """What is wrong with one node of a file."""
    match node:
        case ast.ImportFrom():
            module = importlib.import_module(str(node.module))
            return [_refused_member(module, alias.name) for alias in node.names]
        case ast.Name(id=name) if name in file.modules and id(node) not in file.qualified:
            return [f"{name} must be used as {name}.something"]  # so that its members are seen
        case ast.Name(id=name):
            return [_refused_name(name)]
        case ast.Attribute(attr=name) if owner := file.owners.get(id(node)):
            is_whole = isinstance(getattr(owner, name, None), ModuleType)
            if refused := _refused_member(owner, name):
                return [refused]
            if is_whole and id(node) not in file.qualified:
                return [f"{name} must be used as {name}.something"]
        case ast.Attribute(attr=name):
            return [_refused_attribute(name, file.given)]
        case ast.AnnAssign(target=ast.Name(id=name)):  # a field, which a data class reads
            return [_refused_attribute(name, file.given)]
        case ast.AugAssign(op=ast.Pow()):
            return ["**= must not be used in homework: write u = u**p"]
        case ast.MatchClass():
            return ["a class pattern must not be used in homework: it reads attributes by name"]
        case ast.FunctionDef(name="backward" | "parameter_gradients"):
            parts = [part for part in ast.walk(node) if isinstance(part, ast.Attribute)]
            if any(part.attr == "forward" for part in parts):
                return ["a backward pass must not call forward: derive on paper"]
    return []


def _nodes(text: str) -> Iterator[ast.AST]:
    """All of a file, or nothing if it is no Python: importing it will say so."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    yield from ast.walk(tree)


def _refused_name(name: str) -> str:
    is_hidden = name.startswith("__") and name not in OWN
    return f"{name} must not be used in homework" if name in BUILTINS or is_hidden else ""


def _refused_attribute(name: str, given: Container[str]) -> str:
    is_hidden = name.startswith("_") and name not in (OWN if name.startswith("__") else given)
    return f".{name} must not be used in homework" if name in ATTRIBUTES or is_hidden else ""


def _refused_member(module: ModuleType, name: str) -> str:
    whole = f"{module.__name__}.{name}"
    is_module = isinstance(getattr(module, name, None), ModuleType) and whole not in MODULES
    if name in MEMBERS or is_module or name == "*" or (name.startswith("_") and name not in OWN):
        return f"{whole} must not be used in homework"
    return ""
