"""What a student's code computes, counted: this tells a derivation from a difference quotient.

A derivation evaluates the functions of a formula where the formula itself has values. A quotient
does so around x: at a few points it has a few digits, and every further digit takes more points. So
the judge asks for all digits and limits two counts:

    points     the distinct arguments, up to sign, of exp, tanh, … and of powers, but for the values
               of the formula's parts, and half and twice these, as in tanh u = 1 - 2 / (1 + e²ᵘ)
    numbers    all that is computed, which is far more in code that does without these functions

Complex, long and large integer numbers, with which two points suffice, are refused.

For this a file is rewritten before it is compiled. Every value that an expression has is handed to
a `Meter`, whether a variable keeps it or not, and functions of NumPy and other compiled ones are
replaced where they are imported or read. The meter runs beside the student's code and is as safe as
the fences around it: see `worker`.
"""

import ast
import builtins
import math
import types
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

import numpy as np
from numpy import asarray, generic, ndarray, ufunc  # here, homework cannot replace them

from . import rules

REFUSED = (complex, np.complexfloating, np.longdouble, np.object_)
LONGEST = 2**63  # of integers
NEAR = 1e-12  # the relative difference of two ways to compute one number
INTERNAL = (types.FrameType, types.CodeType, types.TracebackType)
MAKERS = (type, types.FunctionType)  # of classes and functions that no text of the file defines
POWERS = (np.power, builtins.pow)
INSIDE = {  # functions of NumPy that evaluate others, or tables, beside those of numpy.linalg
    "corrcoef", "i0", "interp", "nanstd", "polyfit", "polyval", "roots", "sinc", "std",
}  # fmt: skip
COMPILED = (np.ufunc, types.BuiltinFunctionType, types.MethodDescriptorType, type(np.sum))
NAME = "__meter__"  # in the file's builtins; the rules refuse such a name in the file


class Meter:
    """Sees what a file computes, counts, and raises PermissionError if something is refused."""

    def __init__(self) -> None:
        self.allow(inf, inf)

    def allow(self, points: float, numbers: float, own: Iterable[float] = ()) -> None:
        """Count from 0 to new limits. own: the formula's values, without sign, in order."""
        self.limit, self.left, self.own = points, numbers, [*map(float, own), inf]
        self.points: set[float] = set()

    def names(self) -> dict[str, Any]:
        """The builtins that a metered file needs; `type` without its other use, to make classes."""
        return {NAME: self, "type": lambda value: type(value)}

    def seen(self, value: Any) -> Any:
        """A value; for a function of a library, one that does the same and counts."""
        kind = value if isinstance(value, type) else type(value)
        if isinstance(value, ndarray):
            kind = ndarray.dtype.__get__(value).type  # a subclass may claim another
        if issubclass(kind, REFUSED):
            raise PermissionError(f"{kind.__name__} numbers must not be used: derive on paper")
        if kind is int and value is not int and abs(value) > LONGEST:
            raise PermissionError("integers must have at most 64 bits: derive on paper")
        if isinstance(value, types.ModuleType):  # so that its members are seen
            raise PermissionError(f"{value.__name__} must be used as {value.__name__}.something")
        if issubclass(kind, INTERNAL) or (value is kind and issubclass(kind, MAKERS)):
            raise PermissionError(f"a {kind.__name__} must not be used in homework")
        return self._counting(value) if _is_of_library(value) else value

    def imported(self, value: Any) -> Any:
        """What a `from … import` gives, which may be a module: its members are seen in turn."""
        if isinstance(value, types.ModuleType):
            return value
        counted = self.seen(value)
        if counted is not value:  # reduce, outer, …, which are seen when they are read
            public = [name for name in dir(value) if not name.startswith("_")]
            vars(counted).update({name: getattr(value, name) for name in public})
        return counted

    def owner(self, value: Any, name: str) -> Any:
        """What an attribute is taken of."""
        if not isinstance(value, types.ModuleType):
            self.seen(value)
        elif refused := rules.refused_member(value, name):
            raise PermissionError(refused)
        return value

    def computed(self, value: Any) -> Any:
        """A value that has been computed."""
        self.left -= _size(value)
        if self.left < 0:
            raise PermissionError("too much is computed for a derivation")
        return self.seen(value)

    def power(self, base: Any, exponent: Any) -> Any:
        self._raised(base, exponent)
        return self.computed(base**exponent)

    def _raised(self, base: Any, exponent: Any, *_: Any, **__: Any) -> None:
        if not (isinstance(exponent, int | float) and float(exponent).is_integer()):
            self._evaluated(base, exponent)

    def _evaluated(self, *arguments: Any, **_: Any) -> None:
        """Note the arguments of a function."""
        self.points.update(p for p in map(abs, _numbers(arguments)) if not self._is_own(p))
        if len(self.points) > self.limit:
            raise PermissionError(
                f"functions may be evaluated at {self.limit} points that are not values of the "
                "formula, got more, as in a difference quotient: derive it"
            )

    def _is_own(self, point: float) -> bool:
        near = ((one * (1 - NEAR), one * (1 + NEAR)) for one in (point, point / 2, 2 * point))
        return any(self.own[bisect_left(self.own, least)] <= most for least, most in near)

    def _counting(self, function: Any) -> Callable[..., Any]:
        owner = getattr(function, "__self__", None)  # math of math.exp, and np.exp of np.exp.outer
        note: Callable[..., None] | None = None
        if any(function is power for power in POWERS):
            note = self._raised
        elif owner is math or any(map(_is_evaluation, (function, owner))):
            note = self._evaluated
        elif function.__name__ in INSIDE or getattr(function, "__module__", "") == "numpy.linalg":

            def note(*arguments: Any, **named: Any) -> None:
                self._evaluated(owner, *arguments, *named.values())

        def counting(*arguments: Any, **named: Any) -> Any:
            if note:  # what is noted is what is used: no sequence that changes
                arguments = _plain(arguments)
                named = {name: _plain(value) for name, value in named.items()}
                note(*arguments, **named)
            value = function(*arguments, **named)
            if value is None:  # it has changed an argument
                self.computed(arguments)
            return self.computed(value)

        return counting


def _is_of_library(value: Any) -> bool:
    """Whether a function is compiled, or is one of NumPy that is written in Python."""
    if isinstance(value, types.FunctionType | types.MethodType):
        return str(getattr(value, "__module__", "")).startswith("numpy")
    return isinstance(value, COMPILED)


def _is_evaluation(function: Any) -> bool:
    """Whether a function of NumPy is not arithmetic: it has no version for integers or times."""
    if not isinstance(function, ufunc):
        return False
    return function is np.power or not {*"?bhilqm"} & {t[0] for t in function.types}


def _size(value: Any) -> int:
    if isinstance(value, ndarray):
        return int(ndarray.size.__get__(value))
    return sum(map(_size, value)) if type(value) in (list, tuple) else 1


def _plain(value: Any) -> Any:
    """An argument, with an array for a sequence of any class but a tuple."""
    if type(value) is tuple:
        return tuple(map(_plain, value))
    is_sequence = hasattr(type(value), "__getitem__") and not isinstance(value, generic | str)
    return asarray(value) if is_sequence and not isinstance(value, ndarray) else value


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, ndarray):
        yield from map(float, asarray(value).ravel().tolist())
    elif isinstance(value, float | int | generic):
        yield float(value)
    elif type(value) is tuple:
        for part in value:
            yield from _numbers(part)


def metered(text: str, file: str) -> types.CodeType:
    """The code of a file in which every expression tells `NAME`, a meter, what it gives."""
    tree = _Hooks().visit(ast.parse(text, file))
    return compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)


class _Hooks(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        match node:
            case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
                return _hook("power", node, base, exponent)
            case ast.BinOp() | ast.UnaryOp() | ast.Compare():
                return _hook("computed", node, node)
            case ast.Call() | ast.Constant(value=complex()):
                return _hook("seen", node, node)
            case ast.Name(ctx=ast.Load()):
                return _hook("seen", node, node)
            case ast.AugAssign():
                node.value = _hook("computed", node.value, node.value)
        return node

    def visit_Attribute(self, node: ast.Attribute | ast.Subscript) -> ast.AST:
        node = self._within(node)
        return _hook("seen", node, node) if isinstance(node.ctx, ast.Load) else node

    visit_Subscript = visit_Attribute

    def _within(self, node: Any) -> Any:
        """A node whose value is not used itself, but a part of it: np in np.exp, x in x[0]."""
        match node:
            case ast.Name():
                return node
            case ast.Attribute(value=value, attr=name):
                node.value = _hook("owner", value, self._within(value), ast.Constant(name))
            case ast.Subscript():
                node.value, node.slice = self._within(node.value), self.visit(node.slice)
            case _:
                return self.visit(node)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """The import, and a line for each name that hands what it stands for to the meter."""
        names = [] if node.module == "__future__" else [a.asname or a.name for a in node.names]
        return [node, *(_assigned(name, node) for name in names if name != "*")]

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """All of the case but its pattern, in which Python allows no call."""
        pattern, node.pattern = node.pattern, ast.MatchAs()
        self.generic_visit(node)
        node.pattern = pattern
        return node


def _assigned(name: str, place: ast.stmt) -> ast.stmt:
    value = _hook("imported", place, ast.Name(name, ast.Load()))
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), place)


def _hook(method: str, place: ast.expr | ast.stmt, *arguments: ast.expr) -> ast.expr:
    meter = ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load())
    return ast.copy_location(ast.Call(meter, list(arguments), []), place)
