"""A student's own four formulas, drawn by ID: an activation, a loss, a layer and an optimiser.

Everything drawn comes from SHA-256 of the ID, so an ID has the same sheet on any machine. All
sheets need the same rules of differentiation, but with different functions and constants, and each
has its own kink.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from npaae import InvalidInput

from .formula import MEANINGS, Formula

T = TypeVar("T")


class Design(NamedTuple):
    """A formula to be implemented: the name of its file, and the class or function in it."""

    name: str
    code: str
    formula: Formula
    constants: dict[str, float]  # where the kink is, and how targets are smoothed


class Draw:
    """A stream of choices from the digest of a text."""

    def __init__(self, text: str) -> None:
        self.text, self.count = text, 0

    def integer(self, least: int, most: int) -> int:
        self.count += 1
        digest = hashlib.sha256(f"{self.count}:{self.text}".encode()).digest()
        return least + int.from_bytes(digest, "big") % (most - least + 1)

    def of(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def number(self, least: float, most: float, digits: int = 2) -> float:
        """A number with so many digits after the point, the last of which is not 0."""
        scale = 10**digits
        while True:
            units = self.integer(round(least * scale), round(most * scale))
            if units % 10:
                return float(units / scale)


def student_id(text: str) -> str:
    """An ID as it is hashed. Raises InvalidInput if a file name cannot contain it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", text.strip()):
        raise InvalidInput(
            f"the ID must be at most 64 letters, digits and . _ @ + -, got {text[:80]!r}"
        )
    return text.strip().lower()


def sheet(student: str) -> list[Design]:
    """The four designs of a student."""
    makers = {"activation": _activation, "loss": _loss, "layer": _layer, "optimiser": _optimiser}
    return [maker(Draw(f"npaae {name} {student_id(student)}")) for name, maker in makers.items()]


def _shifted(name: str, place: float) -> str:
    return f"{name} {'-' if place > 0 else '+'} {abs(place):g}"


def _activation(draw: Draw) -> Design:
    """A product on one side of the kink, a function on the other; both vanish there."""
    c, b = draw.of((-1, 1)) * draw.number(0.2, 0.9), draw.number(0.6, 1.9)
    a, d = draw.number(0.4, 0.6), draw.number(0.5, 0.6)  # the slopes differ at the kink
    above = draw.of([
        f"sigmoid({b:g} * u)", f"tanh({b:g} * u)", f"arctan({b:g} * u)", f"exp(-{b:g} * u)",
        f"log(1 + {b:g} * u)", f"sqrt(1 + {b:g} * u)",
    ])  # fmt: skip
    below = draw.of([
        f"tanh({d:g} * u)", f"arctan({d:g} * u)", f"(exp({d:g} * u) - 1)", f"log(1 - {d:g} * u)",
        f"(sqrt(1 - {d:g} * u) - 1)",
    ])  # fmt: skip
    lines = [f"u = {_shifted('x', c)}", f"y = u * {above} if u > 0 else {a:g} * {below}"]
    return Design("activation", "Activation", Formula(lines), {"kink": c})


def _loss(draw: Draw) -> Design:
    """Smoothed targets, a core for small residuals and a tail for large ones."""
    smoothing = draw.number(0.05, 0.25)
    keep, add = round(1 - smoothing, 4), round(smoothing * draw.number(0.2, 0.8, 1), 4)
    b, w, e = draw.number(0.3, 0.9), draw.number(0.6, 1.0), draw.number(1.1, 1.9)
    d = draw.number(0.7, 1.3)
    core = draw.of([
        f"log(1 + {b:g} * r**2)", f"(sqrt(1 + {b:g} * r**2) - 1)", f"(1 - exp(-{b:g} * r**2))",
        f"r * tanh({b:g} * r)", f"r * arctan({b:g} * r)",
    ])  # fmt: skip
    value = Formula([f"l = {w:g} * {core}"]).values({"r": np.float64(d)})["l"]
    tail = draw.of([
        f"log(1 + {e:g} * (abs(r) - {d:g}))", f"(sqrt(1 + {e:g} * (abs(r) - {d:g})) - 1)",
        f"arctan({e:g} * (abs(r) - {d:g}))", f"tanh({e:g} * (abs(r) - {d:g}))",
        f"(1 - exp(-{e:g} * (abs(r) - {d:g})))",
    ])  # fmt: skip
    steep = 2.5 if tail.startswith("(sqrt") else 1.5  # so that the slopes differ at the kink
    v = draw.number(steep, steep + 0.5)
    mean = draw.of(["mean(l)", "sum(l) / n"])
    lines = [
        f"s = {keep:g} * t + {add:g}",
        "r = y - s",
        f"l = {w:g} * {core} if abs(r) <= {d:g} else {value:.3f} + {v:g} * {tail}",
        f"L = {mean}",
    ]
    return Design("loss", "loss", Formula(lines), {"kink": d, "keep": keep, "add": add})


def _layer(draw: Draw) -> Design:
    """A quotient by a statistic of the row, a kink, a skip, and two vectors of parameters."""
    e, c, a = draw.number(0.02, 0.4), draw.number(0.2, 0.8), draw.number(0.3, 1.7)
    statistic = draw.of([
        f"sqrt({e:g} + row_mean(x**2))", f"{e:g} + row_mean(sqrt(1 + x**2))",
        f"log({2 + e:g} + row_mean(x**2))", f"{e:g} + row_mean(log(2 + x**2))",
        f"{e:g} + row_mean(x * tanh(x))", f"{e:g} + row_mean(x * arctan(x))",
    ])  # fmt: skip
    c *= draw.of((-1, 1))
    kink = draw.of([f"abs({_shifted('x', c)})", f"max(x, {c:g})", f"min(x, {c:g})"])
    lines = [f"m = {statistic}", f"y = gamma * x / m + beta * {kink} + {a:g} * x"]
    return Design("layer", "Layer", Formula(lines), {"kink": c})


def _optimiser(draw: Draw) -> Design:
    """Weight decay, momentum, a scale of the gradient, a corrected step and a schedule."""
    decay, rate = draw.number(0.011, 0.089, 3), draw.number(0.011, 0.049, 3)
    mu, rho, epsilon = draw.number(0.61, 0.95), draw.number(0.71, 0.98), draw.number(0.11, 0.39)
    m = draw.of([f"m = {mu:g} * m + {round(1 - mu, 2):g} * g", f"m = {mu:g} * m + g"])
    v, scale = draw.of([
        (f"v = {rho:g} * v + {round(1 - rho, 2):g} * g**2", f"s = sqrt(v) + {epsilon:g}"),
        (f"v = {rho:g} * v + {round(1 - rho, 2):g} * g**2", f"s = sqrt(v + {epsilon:g})"),
        (f"v = {rho:g} * v + {round(1 - rho, 2):g} * abs(g)", f"s = v + {epsilon:g}"),
        (f"v = max({rho:g} * v, abs(g))", f"s = v + {epsilon:g}"),
    ])  # fmt: skip
    d = draw.of([f"d = m / (1 - {mu:g}**t)", f"d = {mu:g} * m + g"])
    a = draw.of([
        f"a = {rate:g} / sqrt(t)", f"a = {rate:g} / (1 + {rho:g} * (t - 1))",
        f"a = {rate:g} * {rho:g}**(t - 1)", f"a = {rate:g} * min(1, t / {draw.integer(4, 9)})",
    ])  # fmt: skip
    lines = [f"g = g + {decay:g} * theta", m, v, d, scale, a, "theta = theta - a * d / s"]
    return Design("optimiser", "Optimiser", Formula(lines), {})


# What a student finds in the folder

SKELETONS = {
    "activation": '''
class Activation:
    """Elementwise: x and y have the same shape, which may be any."""

    def forward(self, x, rng=None):
        """Return y, and a cache: whatever your backward pass needs."""
        raise NotImplementedError("activation.Activation.forward")

    def backward(self, dy, cache):
        """Return dL/dx, of x's shape, from dy = dL/dy."""
        raise NotImplementedError("activation.Activation.backward")
''',
    "loss": '''
def loss(y, t):
    """Return L, a number, and dL/dy. y and t are (n, k)."""
    raise NotImplementedError("loss.loss")
''',
    "layer": '''
class Layer:
    """x and y are (n, k), gamma and beta (k,)."""

    parameters = ("gamma", "beta")

    def __init__(self, k):
        self.gamma, self.beta = np.ones(k), np.zeros(k)
        self.dgamma, self.dbeta = np.empty(k), np.empty(k)

    def forward(self, x, rng=None):
        """Return y, and a cache: whatever your backward pass needs."""
        raise NotImplementedError("layer.Layer.forward")

    def backward(self, dy, cache):
        """Return dL/dx, (n, k). Every element of a row moves m."""
        raise NotImplementedError("layer.Layer.backward")

    def parameter_gradients(self, dy, cache):
        """Write dL/dgamma into `dgamma` and dL/dbeta into `dbeta`, in place."""
        raise NotImplementedError("layer.Layer.parameter_gradients")
''',
    "optimiser": '''
class Optimiser:
    """Updates `theta` in place. theta, gradient, m and v are vectors of one size."""

    def __init__(self, theta, gradient):
        self.theta, self.gradient = theta, gradient
        self.m, self.v = np.zeros_like(theta), np.zeros_like(theta)
        self.t = 0

    def step(self):
        """Make one step: g starts as `gradient`, and t is 1 in the first step."""
        raise NotImplementedError("optimiser.Optimiser.step")
''',
}


def bodies(name: str) -> list[str]:
    """What is to be written in a design's file."""
    return re.findall(r'NotImplementedError\("(.+)"\)', SKELETONS[name])


TITLES = {
    "activation": "activation.py: y = f(x), elementwise, and dL/dx",
    "loss": "loss.py: L, and dL/dy. y and t are (n, k)",
    "layer": "layer.py: y, dL/dx, dL/dgamma and dL/dbeta. x is (n, k), gamma and beta (k,)",
    "optimiser": "optimiser.py: a step, line by line. g starts as the gradient; t = 1, 2, ...",
}
SHEET = """Student: {student}

Four designs of your own. Derive their backward passes on paper and write both passes in NumPy. The
formulas are in Python's notation: u**2 is a power, and "a if c else b" chooses element by element.
{meanings}

At a kink, take the derivative of the branch that the formula uses at that point.
Arguments must not change. Only NumPy, math, itertools, functools, collections, dataclasses, numbers
and abc may be imported. A derivative is right to its last digits and evaluates functions where the
formula has values, which tells it from a difference quotient. Your files may be read too. Check as
often as you like.

{designs}"""


def text(student: str) -> str:
    """The text of a student's sheet."""
    designs = sheet(student)
    lines = [line for design in designs for line in design.formula.lines]
    meanings = [m for name, m in MEANINGS.items() if any(f"{name}(" in line for line in lines)]
    shown = ["\n".join([TITLES[d.name], "", *(f"    {line}" for line in d.formula.lines), ""])
             for d in designs]  # fmt: skip
    return SHEET.format(
        student=student_id(student),
        meanings="\n".join(f"{meaning}." for meaning in meanings),
        designs="\n".join(shown),
    )


def files(student: str) -> dict[str, str]:
    """What `start` writes for a student, by file name."""
    written = {"sheet.txt": text(student)}
    for design in sheet(student):
        formula = "\n".join(f"    {line}" for line in design.formula.lines)
        title = f'"""The {design.name} of {student_id(student)}:\n\n{formula}\n"""'
        skeleton = SKELETONS[design.name]
        written[f"{design.name}.py"] = f"{title}\n\nimport numpy as np\n\n{skeleton}"
    return written
