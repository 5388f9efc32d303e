"""Formulas as plain text: their values, their derivatives, and common slips in deriving them.

A formula is a few lines like

    u = x - 0.3
    y = u * sigmoid(1.3 * u) if u > 0 else 0.4 * tanh(0.7 * u)

in Python's notation, elementwise, with the functions below. The text that a student reads is also
what the judge evaluates, so there is no second copy of the mathematics and no stored solution. The
derivative is computed by a complex step: f(x + ih) = f(x) + ih f'(x) − …, so the imaginary part,
divided by h = 1e-100, is f' to the last bit, because nothing is subtracted. Source: Squire and
Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40 (1998).

A *slip* is a derivative rule that is broken in one place: an inner derivative is left out, or half
of a product rule. It is the same evaluation, with the imaginary part of one node changed.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Values = Mapping[str, Any]
STEP = 1e-100


def _sigmoid(u: Any) -> Any:
    """1 / (1 + e⁻ᵘ), without an exponential that overflows."""
    e = np.exp(np.where(u.real > 0, -u, u))
    return np.where(u.real > 0, 1, e) / (1 + e)


def _choose(which: Any, a: Any, b: Any) -> Any:
    return np.where(np.real(which), a, b)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "arctan": np.arctan,
    "sigmoid": _sigmoid,
    "abs": lambda u: _choose(u.real < 0, -u, u),
    "max": lambda u, v: _choose(np.real(u) >= np.real(v), u, v),
    "min": lambda u, v: _choose(np.real(u) <= np.real(v), u, v),
    "mean": np.mean,
    "sum": np.sum,
    "row_mean": lambda u: u.mean(axis=1, keepdims=True),
}
MEANINGS = {
    "sigmoid": "sigmoid(u) = 1 / (1 + exp(-u))",
    "log": "log is the natural logarithm",
    "mean": "mean(u) is the mean over all n * k elements",
    "sum": "sum(u) is the sum over all n * k elements",
    "row_mean": "row_mean(u) is the mean over the columns of each row, of shape (n, 1)",
}
LINEAR = {"mean", "sum", "row_mean"}  # their derivatives need no rule
OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.IfExp)
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.Lt: lambda a, b: np.real(a) < np.real(b), ast.Gt: lambda a, b: np.real(a) > np.real(b),
    ast.LtE: lambda a, b: np.real(a) <= np.real(b),
}  # fmt: skip


class Slip(NamedTuple):
    """A mistake: `change` takes the place of the function of the node `at`."""

    sentence: str
    at: ast.AST
    change: Callable[..., Any]


class Formula:
    """Lines of text, each an assignment."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        self.assignments = [(str(line.partition("=")[0]).strip(), _parsed(line)) for line in lines]

    def values(self, given: Values, slip: Slip | None = None) -> dict[str, Any]:
        """The values of all names after the last line, from the given ones."""
        found = dict(given)
        with np.errstate(all="ignore"):  # the branch that is not taken may overflow
            for name, node in self.assignments:
                found[name] = _value(node, found, slip)
        return found

    def changed(self, old: str, new: str) -> "Formula":
        """Another formula, with a pattern replaced in each line."""
        return Formula([re.sub(old, new, line) for line in self.lines])

    def steps(self, theta: Array, gradients: Array, **given: Any) -> list[dict[str, Any]]:
        """All names of an optimiser's formula after each step, of which t is the number."""
        state: dict[str, Any] = given | {"theta": theta, "m": 0 * theta, "v": 0 * theta}
        steps = []
        for t, g in enumerate(gradients, start=1):
            state = self.values({**state, "g": g, "t": t})
            steps.append(state)
        return steps

    def derivative(
        self, of: str, by: str, given: Values, dy: Any = 1.0, slip: Slip | None = None
    ) -> Array:
        """d⟨dy, of⟩ / d(by), of the shape of `by`, to the last bit.

        One pass for each element, or a single one if the formula is elementwise.
        """
        x = np.asarray(given[by], complex)
        elementwise = not any(part in LINEAR for part in _names(self.assignments))
        if elementwise and np.shape(dy) == x.shape:
            return np.asarray(dy * _slope(self.values({**given, by: x + 1j * STEP}, slip)[of]))
        gradient = np.empty(x.shape)
        for i in np.ndindex(x.shape):
            moved = x.copy()
            moved[i] += 1j * STEP
            gradient[i] = np.sum(dy * _slope(self.values({**given, by: moved}, slip)[of]))
        return gradient

    def slips(self, by: str) -> Iterator[Slip]:
        """The ways to break one rule in the derivative with respect to `by`."""
        moving = {by}
        for name, node in self.assignments:
            for part in ast.walk(node):
                yield from _slips(part, moving)
            if _moves(node, moving):
                if name != self.assignments[-1][0] and _names([(name, node)]) & LINEAR:
                    yield Slip(f"{name} is held constant, but {by} moves it", node, _frozen)
                moving.add(name)

    @property
    def operations(self) -> list[ast.expr]:
        """All operations and functions."""
        nodes = [part for _, node in self.assignments for part in ast.walk(node)]
        return [node for node in nodes if isinstance(node, OPERATIONS)]

    def parts(self, given: Values) -> Iterator[Any]:
        """The values of all names and operations."""
        found = self.values(given)
        yield from found.values()
        with np.errstate(all="ignore"):
            yield from [_value(node, found, None) for node in self.operations]


def _parsed(line: str) -> ast.expr:
    return ast.parse(line.partition("=")[2].strip(), mode="eval").body


def _slope(value: Any) -> Any:
    return np.imag(value) / STEP


def _value(node: ast.expr, names: Mapping[str, Any], slip: Slip | None) -> Any:
    match node:
        case ast.Constant():
            return np.float64(node.value)  # type: ignore[arg-type]
        case ast.Name():
            return names[node.id]
        case ast.UnaryOp():
            return -_value(node.operand, names, slip)
        case ast.IfExp():
            parts = [_value(part, names, slip) for part in (node.test, node.body, node.orelse)]
            function: Callable[..., Any] = _choose
        case ast.Compare():
            parts = [_value(part, names, slip) for part in (node.left, node.comparators[0])]
            return OPERATORS[type(node.ops[0])](*parts)
        case ast.BinOp():
            parts = [_value(part, names, slip) for part in (node.left, node.right)]
            function = OPERATORS[type(node.op)]
        case ast.Call(func=ast.Name(id=name)):
            parts = [_value(part, names, slip) for part in node.args]
            function = FUNCTIONS[name]
        case _:
            raise ValueError(ast.unparse(node))
    if slip and slip.at is node:
        return slip.change(function, *parts)
    return function(*parts)


def _names(assignments: Sequence[tuple[str, ast.expr]]) -> set[str]:
    nodes = [part for _, node in assignments for part in ast.walk(node)]
    return {part.id for part in nodes if isinstance(part, ast.Name)}


def _moves(node: ast.AST, moving: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in moving for part in ast.walk(node))


# How a slip evaluates a node: the value is right, but the derivative is not


def _with(value: Any, derivative: Any) -> Any:
    return np.real(value) + 1j * derivative


def _frozen(function: Callable[..., Any], *parts: Any) -> Any:
    return np.real(function(*parts))


def _inner(function: Callable[..., Any], u: Any, *rest: Any) -> Any:
    """As if the derivative of u were 1."""
    return function(_with(u, STEP * (np.imag(u) != 0)), *map(np.real, rest))


def _first(function: Callable[..., Any], a: Any, b: Any) -> Any:
    return function(a, np.real(b))


def _second(function: Callable[..., Any], a: Any, b: Any) -> Any:
    return function(np.real(a), b)


def _sign(function: Callable[..., Any], a: Any, b: Any) -> Any:
    return function(a, np.conj(b))


def _dropped(function: Callable[..., Any], u: Any, *rest: Any) -> Any:
    """As if the derivative of the function were 1."""
    return _with(function(u, *rest), np.imag(u))


def _unweighted(function: Callable[..., Any], a: Any, b: Any) -> Any:
    """As if the factor that does not move were 1."""
    return _with(function(a, b), np.imag(a) + np.imag(b))


def _summed(function: Callable[..., Any], u: Any) -> Any:
    """As if a mean were a sum."""
    value = function(u)
    return _with(value, np.imag(value) * (np.size(u) / np.size(value)))


def _then(function: Callable[..., Any], which: Any, a: Any, b: Any) -> Any:
    return _with(function(which, a, b), np.imag(a))


def _otherwise(function: Callable[..., Any], which: Any, a: Any, b: Any) -> Any:
    return _with(function(which, a, b), np.imag(b))


def _slips(node: ast.AST, moving: set[str]) -> Iterator[Slip]:
    if not _moves(node, moving):
        return
    match node:
        case ast.BinOp(left=a, op=ast.Mult(), right=b) if _moves(a, moving) and _moves(b, moving):
            product = f"the product rule for {ast.unparse(node)} lacks a term"
            yield Slip(f"{product}: {ast.unparse(a)} moves too", node, _second)
            yield Slip(f"{product}: {ast.unparse(b)} moves too", node, _first)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factor = ast.unparse(right if _moves(left, moving) else left)
            yield Slip(f"the factor {factor} is missing", node, _unweighted)
        case ast.BinOp(op=ast.Div()) if _moves(node.right, moving):
            below = ast.unparse(node.right)
            yield Slip(f"{below} is held constant, but it moves too", node, _first)
            yield Slip(f"the term of the denominator {below} has the wrong sign", node, _sign)
        case ast.BinOp(op=ast.Pow()):
            yield Slip(f"the inner derivative of {ast.unparse(node)} is missing", node, _inner)
        case ast.Call(func=ast.Name(id=name)) if name not in LINEAR:
            text = ast.unparse(node)
            yield Slip(f"the inner derivative of {text} is missing", node, _inner)
            yield Slip(f"the derivative of {name} itself is missing in {text}", node, _dropped)
        case ast.Call(func=ast.Name(id="row_mean")):
            text = ast.unparse(node)
            yield Slip(f"{text} is taken for a sum: it is a mean", node, _summed)
        case ast.IfExp():
            test = ast.unparse(node.test)
            yield Slip(f"the branch for {test} is used everywhere", node, _then)
            yield Slip(f"the branch for {test} is used nowhere", node, _otherwise)
