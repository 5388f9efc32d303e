"""What homework may import and name, and a sentence for what it may not.

The judge reads a student's file by these rules before it runs, and the student's process applies
them once more as it runs. They make cheating harder than deriving. What keeps the verdict right is
that no student's code runs in the judge's process.
"""

import ast
import importlib
from collections.abc import Container, Iterator
from types import ModuleType

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
# What leads out of mathematics, to files, modules and frames, or to complex and long numbers, with
# which a derivative can be computed to the last bit without deriving it: as attributes of anything
# but `self`, and of modules.
ATTRIBUTES = {
    "base", "conj", "conjugate", "ctypes", "data", "dump", "dumps", "f_back", "f_builtins",
    "f_globals", "f_locals", "format", "format_map", "getfield", "gi_frame", "imag", "modules",
    "os", "real", "setfield", "sys", "tb_frame", "tb_next", "tobytes", "tofile", "view",
}  # fmt: skip
MEMBERS = ATTRIBUTES | {
    "angle", "cdouble", "clongdouble", "complex128", "complex192", "complex256", "complex64",
    "complexfloating", "csingle", "DataSource", "dtype", "eig", "eigvals", "float128", "float96",
    "ForwardRef", "frombuffer", "fromfile", "frompyfunc", "fromregex", "fromstring", "genfromtxt",
    "get_type_hints", "gradient", "iscomplex", "load", "loadtxt", "longdouble", "memmap",
    "real_if_close", "roots", "save", "savetxt", "savez", "savez_compressed", "sctypeDict",
    "seterrcall", "singledispatch", "singledispatchmethod", "typecodes", "update_wrapper", "wraps",
}  # fmt: skip
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
    refused = list(imports(text, ()))
    yield from refused
    if refused:
        return
    nodes = list(_nodes(text))
    modules = {name: module for node in nodes for name, module in _imported(node)}
    owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        for sentence in filter(None, _of(node, modules, owners)):
            yield getattr(node, "lineno", 0), sentence


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


def _of(node: ast.AST, modules: dict[str, ModuleType], owners: set[int]) -> list[str]:
    """What is wrong with one node of a file."""
    match node:
        case ast.ImportFrom():
            module = importlib.import_module(str(node.module))
            return [_refused_member(module, alias.name) for alias in node.names]
        case ast.Name(id=name) if name in modules and id(node) not in owners:
            return [f"{name} must be used as {name}.something"]  # so that its members are seen
        case ast.Name(id=name):
            return [_refused_name(name)]
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return [_refused_name(name)]
        case ast.Attribute(value=value, attr=name) if owner := _module(value, modules):
            return [_refused_member(owner, name)]
        case ast.Attribute(attr=name):
            return [_refused_attribute(name)]
        case ast.MatchClass(kwd_attrs=names):
            return [_refused_attribute(name) for name in names]
        case ast.Constant(value=complex()):
            return ["complex numbers must not be used: derive on paper"]
        case ast.Constant(value=str(name)) if name in TYPE_NAMES:
            return [f"{name} numbers must not be used: derive on paper"]
        case ast.FunctionDef(name="backward" | "parameter_gradients"):
            parts = [part for part in ast.walk(node) if isinstance(part, ast.Attribute)]
            if any(part.attr == "forward" for part in parts):
                return ["a backward pass must not call forward: derive on paper"]
    return []


def _module(node: ast.AST, modules: dict[str, ModuleType]) -> ModuleType | None:
    """The module that an expression names, if it does."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    found = modules.get(node.id) if isinstance(node, ast.Name) else None
    for name in reversed(names):
        member = getattr(found, name, None)
        found = member if isinstance(member, ModuleType) else None
    return found


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
    is_hidden = name.startswith("__") and name not in OWN
    return f".{name} must not be used in homework" if name in ATTRIBUTES or is_hidden else ""


def _refused_member(module: ModuleType, name: str) -> str:
    whole = f"{module.__name__}.{name}"
    is_module = isinstance(getattr(module, name, None), ModuleType) and whole not in MODULES
    if name in MEMBERS or is_module or name == "*" or (name.startswith("_") and name not in OWN):
        return f"{whole} must not be used in homework"
    return ""
