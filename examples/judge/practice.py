"""Parts 1 to 4: the package's mathematics without its bodies, and a judge of what replaces them.

The judge is examples/audit.py. Its rows draw cases, call `layers.Dense` and so on, and return
errors. Here they call *stand-ins*: the package's own classes, whose methods ask the student's
process. A stand-in also knows the truth, because it is the package's class, so it can say what a
wrong result has in common with the right one.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import audit
import numpy as np

import npaae
from npaae import gradcheck, optim, priors

from . import rules
from .sandbox import Answer, Fault, Sandbox
from .verdicts import Verdict, Wrong, of_fault, require

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
CASES = 3  # of each formula; the audit has more
LIMIT = 1e-10  # of a derivative, which a difference quotient does not reach

# What to write, part by part, and its docstring; "" keeps the one of the package, less what CUTS
# takes out.
PARTS = {
    "part 1: layers": {
        "layers.Dense.forward": "y = x W + b, and a cache: whatever your backward pass needs.",
        "layers.Dense.backward": "dL/dx, (n, fan_in), from dy = dL/dy, (n, fan_out).",
        "layers.Dense.parameter_gradients": "Write dL/dW and dL/db over what `dW` and `db` hold.",
        "layers.ReLU.forward": "y = max(x, 0), and a cache.",
        "layers.ReLU.backward": "dL/dx, of x's shape.",
        "layers.sigmoid": "σ(x) = 1 / (1 + e⁻ˣ), elementwise. No exponential overflows, for any x.",
        "layers.Sigmoid.backward": "dL/dx, of x's shape.",
        "layers.Dropout.forward": """y = m · x, with m drawn from `rng`; without `rng`, y = x.

        Returns y and a cache. rng.random(x.shape) is uniform in [0, 1).
        """,
        "layers.Dropout.backward": "dL/dx, of x's shape, whether dropout was on or off.",
    },
    "part 2: losses and the chain rule": {
        "losses.bce": "",
        "losses.bce_with_logits": """(L, dL/dlogits) for L = bce(σ(logits), t), from the logits.

    logits has any shape, t has the same shape or is a scalar. Both results are finite and right for
    logits of any size, also in float32: nothing overflows, and no ε is added anywhere.
    """,
        "layers.Sequential.backward": "",
    },
    "part 3: Adam": {
        "optim.Adam.step": """Move `self.parameters` once, in place, by `self.gradient`.

        m is kept in `self.m`, v in `self.v` and t in `self.t`. All three are 0 before the first
        step, whose t is 1.
        """,
    },
    "part 4: the three phases": {
        "Model.reconstruction_gradient": "",
        "Model.discriminator_gradient": """Phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0), each a mean.

        Writes dL/dθ of the discriminator into `gradient` and returns L. codes: z, (n, latent),
        taken as constants. First draw z*, with `draw_prior`. `_beside` puts the labels, if there
        are any, beside z* and beside z. Then D sees both as one batch: z* above, z below.
        """,
        "Model.generator_gradient": """Phase 3: L = BCE(D(z), 1), the mean over n.

        Writes dL/dθ of the encoder into `gradient` and returns L. The gradient passes *through* the
        discriminator, of which nothing is written. codes, encoder_caches: what the encoder's
        forward pass returned. D sees the codes with their labels `_beside` them.
        """,
    },
}
CODES = [code for codes in PARTS.values() for code in codes]
FILES = ("layers", "losses", "optim", "model")

CUTS = {  # patterns of what the docstrings give away
    "layers": [
        r"   ⇒   dx = dy Wᵀ, .*? dy_ij",
        r"; dx = dy where x > 0 and 0 elsewhere",
        r"; dx = dy · y \(1 − y\)",
        r", and dx = m · dy",
    ],
    "losses": [r", +dL/dp = .*? / N"],
    "optim": [r"\n\n    With c = .*?c ε\)"],
    "model": [],
}

HEAD = """# Practice, without a grade: derive what is missing, and check as you go.
"""


# start


def files() -> dict[str, str]:
    """What `start` writes, by file name."""
    return {f"{file}.py": HEAD + source(file) for file in FILES}


def source(file: str, blanks: Any = CODES) -> str:
    """A module of the package as a file of its own, without the bodies named by `blanks`.

    A private function that is no longer called is removed too, because it holds the answer.
    """
    text = inspect.getsource(importlib.import_module(f"npaae.{file}"))
    for pattern in CUTS[file]:
        text, cuts = re.subn(pattern, "", text, flags=re.DOTALL)
        assert cuts == 1, pattern
    docstrings = {code: doc for codes in PARTS.values() for code, doc in codes.items()}
    for node, code in reversed(functions(file, text)):
        if code in blanks:
            assert isinstance(node.body[0], ast.Expr)
            doc = docstrings[code] or ast.literal_eval(node.body[0].value)
            indent = " " * node.body[0].col_offset
            body = [f'{indent}"""{doc}"""', f'{indent}raise NotImplementedError("{code}")']
            text = replaced(text, node.body[0].lineno, node.end_lineno, body)
    for node, _ in reversed(functions(file, text)):
        is_private = re.fullmatch(r"_[a-z]\w*", node.name)
        if is_private and len(re.findall(rf"\b{node.name}\b", text)) == 1:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            text = replaced(text, first, node.end_lineno, []).replace("\n\n\n\n", "\n\n")
    ours = "|".join(FILES)
    text = re.sub(rf"^from \.({ours}) import", r"from \1 import", text, flags=re.MULTILINE)
    text = re.sub(r"^from \.(\w+) import", r"from npaae.\1 import", text, flags=re.MULTILINE)
    return re.sub(r"^from \. import", "from npaae import", text, flags=re.MULTILINE).rstrip() + "\n"


def functions(file: str, text: str) -> list[tuple[ast.FunctionDef, str]]:
    """The functions and methods of a file, in order, with their names in the audit."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            found.append((node, f"{file}.{node.name}"))
        elif isinstance(node, ast.ClassDef):
            owner = f"{file}.{node.name}" if file != "model" else "Model"
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found += [(method, f"{owner}.{method.name}") for method in methods]
    return found


def replaced(text: str, first: int, last: int | None, new: list[str]) -> str:
    lines = text.splitlines()
    return "\n".join(lines[: first - 1] + new + lines[last:]) + "\n"


def library() -> list[str]:
    """What the files import as `start` writes them, and so may import."""
    found = set()
    for file in FILES:
        for node in ast.walk(ast.parse(source(file))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                package = node.module == "npaae"
                names = [f"npaae.{a.name}" for a in node.names] if package else [str(node.module)]
                found |= set(names)
    return sorted(found - set(FILES))


# The stand-ins


class Claim(NamedTuple):
    """A result of a student's code, the truth, and what may explain a difference."""

    id: str  # the row that it is about
    name: str
    found: Any
    truth: Array
    sizes: dict[str, float]
    slips: list[tuple[str, Array]]

    def require(self) -> None:
        floor = float(np.abs(self.truth).max(initial=0)) or 1.0
        derived = not self.id.endswith((".y", ".value"))
        require(self.name, self.found, self.truth, limit=LIMIT, floor=floor, sizes=self.sizes,
                slips=self.slips, derived=derived)  # fmt: skip


class Student:
    """The student's process, and what it has claimed in the row that is being judged."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.claims: list[Claim] = []
        self.keys = count()

    def clear(self) -> None:
        """Forget what one row has made."""
        self.claims.clear()
        self.sandbox.ask({"do": "clear"})

    def make(self, code: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}) -> int:
        key = next(self.keys)
        sent = [encoded(value) for value in args]
        self.sandbox.ask({"do": "make", "key": key, "code": code, "args": sent, "kwargs": kwargs})
        return key

    def call(self, code: str, *args: Any, **options: Any) -> Answer:
        errors = np.geterr()  # the audit makes overflow an error where it must not happen
        if "raise" in errors.values():
            options["errors"] = errors
        answer = self.sandbox.call(code, *map(encoded, args), **options)
        generators = [value for value in args if isinstance(value, np.random.Generator)]
        try:
            for rng, state in zip(generators, answer.generators, strict=True):
                rng.bit_generator.state = state
        except (TypeError, ValueError, KeyError, OverflowError):
            raise Fault("what the process has sent is not an answer") from None
        return answer

    def claim(self, row: str, name: str, found: Any, truth: Array, sizes: dict[str, float],
              slips: list[tuple[str, Array]]) -> None:  # fmt: skip
        if truth.dtype == np.float64 and len(self.claims) < 100:
            self.claims.append(Claim(row, name, found, truth, sizes, slips))


def encoded(value: Any) -> Any:
    """An argument as `worker` decodes it."""
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, ModuleType):
        return {"module": "numpy"}
    if isinstance(value, Pass):
        return value.cache
    if isinstance(value, list | tuple):
        return [encoded(part) for part in value]
    return {"object": value.remote()} if hasattr(value, "remote") else value


class Pass(NamedTuple):
    """A forward pass: the student's cache, and what the truth about the backward pass needs."""

    cache: dict[str, int]
    x: Array
    y: Array


def array_of(name: str, value: Any) -> Array:
    if not isinstance(value, np.ndarray):
        kind = value.get("other", "dict") if isinstance(value, dict) else type(value).__name__
        raise Wrong(f"{name} must be an array, got {str(kind)[:50]}")
    return value


def arrays(layer: Any, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """The parameters and gradients of a layer or a network, by the paths of their attributes."""
    for name in getattr(layer, "parameters", ()):
        for attribute in (name, f"d{name}"):
            yield f"{prefix}{attribute}", getattr(layer, attribute)
    for i, part in enumerate(getattr(layer, "layers", ())):
        yield from arrays(part, f"{prefix}layers.{i}.")


def stand_in(student: Student, original: Any) -> Any:
    """A class of layers whose passes are the student's."""
    name, kind = original.__name__, original.__name__.lower()

    class StandIn(original):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._args, self._remote = args, -1
            self._last: Any = None

        def remote(self) -> int:
            if self._remote < 0:
                self._remote = student.make(f"layers.{name}", self._args)
            return int(self._remote)

        def _call(self, method: str, *args: Any, **options: Any) -> Answer:
            key, state = self.remote(), dict(arrays(self))
            return student.call(method, *args, key=key, state=state, **options)

        def forward(self, x: Array, rng: Rng | None = None) -> tuple[Array, Pass]:
            answer = self._call("forward", x, rng, keep=True)
            y = array_of("y", answer.value)
            if kind in ("dense", "relu") and y.shape == original.forward(self, x)[0].shape:
                slips = [("the bias is not added", x @ self.W)] if kind == "dense" else []
                student.claim(f"{kind}.y", "y", y, original.forward(self, x)[0], {}, slips)
            if kind == "dropout" and rng is not None and y.any() and y.shape == x.shape:
                scale = np.max(y[y != 0] / x[y != 0], keepdims=True)
                truth = np.array([1 / (1 - self.rate)])
                name = "the scale of what is kept"
                student.claim("dropout.scale", name, scale, truth, self._sizes(x), [])
            self._last = Pass(answer.cache, x, y)
            return y, self._last

        def backward(self, dy: Array, cache: Pass, **how: bool) -> Any:
            gradients = dict(arrays(self))
            written = tuple(path for path in gradients if path.rpartition(".")[2].startswith("d"))
            answer = self._call("backward", dy, cache, kwargs=how, back=written)
            for path in written:
                gradients[path][...] = answer.state[path]
            if how and answer.value is None:
                return None
            dx = array_of("dx", answer.value)
            if kind != "sequential":
                sizes = self._sizes(cache.x)
                slips = slips_of_input(kind, self, dy, cache)
                if self._last is not cache and self._last.x.shape == cache.x.shape:
                    slips.append((LAST, self._truth(dy, self._last)))
                student.claim(f"{kind}.dx", "dx", dx, self._truth(dy, cache), sizes, slips)
            return dx

        def parameter_gradients(self, dy: Array, cache: Pass) -> None:
            written = tuple(f"d{name}" for name in self.parameters)
            before = {name: getattr(self, name).copy() for name in written}
            answer = self._call("parameter_gradients", dy, cache, back=written)
            shadow, last = copy(self), copy(self)
            for name in written:
                setattr(shadow, name, np.empty_like(before[name]))
                setattr(last, name, np.empty_like(before[name]))
            original.parameter_gradients(shadow, dy, cache.x)
            if self._last.x.shape == cache.x.shape:
                original.parameter_gradients(last, dy, self._last.x)
            for name in written:
                found, truth = answer.state[name], getattr(shadow, name)
                if np.array_equal(found, before[name], equal_nan=True) and not np.array_equal(
                    found, truth
                ):
                    raise Wrong(
                        f"{name} is not written into its array: write {name}[...] = …, because "
                        f"`self.{name} = …` and a returned value leave it as it is"
                    )
                getattr(self, name)[...] = found
                slips = [(LAST, getattr(last, name))] if self._last is not cache else []
                student.claim(f"{kind}.{name}", name, found, truth, self._sizes(cache.x), slips)

        def _truth(self, dy: Array, cache: Pass) -> Any:
            x, y = cache.x, cache.y
            if kind == "dropout":  # whose mask is what the student has drawn
                y = np.divide(y, x, where=x != 0, out=np.zeros(x.shape))
            return original.backward(self, dy, x if kind in ("dense", "relu") else y)

        def _sizes(self, x: Array) -> dict[str, float]:
            n, columns = x.shape[0], x.shape[-1]
            sizes = {"n, the rows": n, "the columns of x": columns, "x.size": x.size}
            if kind == "dropout":
                sizes = {"1 − p": 1 - self.rate, "p": self.rate, **sizes}
            return sizes

    StandIn.__name__ = name
    return StandIn


LAST = "backward uses the last forward pass: keep what it needs in the cache, not in an attribute"


def slips_of_input(kind: str, layer: Any, dy: Array, cache: Pass) -> list[tuple[str, Array]]:
    """What dx becomes by a common mistake."""
    x, y = cache.x, cache.y
    if kind == "dense":
        return (
            [("W is not transposed", dy @ layer.W)] if layer.W.shape[0] == layer.W.shape[1] else []
        )
    if kind == "relu":
        return [
            ("it is dy: the mask is true everywhere, as it is for y >= 0", dy),
            ("the mask is reversed", dy * (x <= 0)),
            ("it lacks dy, the gradient at the output", (x > 0) * 1.0),
        ]
    if kind == "dropout":
        return [
            ("it is dy: the mask of the forward pass is not applied", dy),
            ("the scale of the forward pass is missing in the mask", dy * (y != 0)),
        ]
    again = 1 / (1 + np.exp(-y))
    return [
        ("σ is applied to its own output: is x or y in the cache?", dy * again * (1 - again)),
        ("x is taken for y: which of the two is in the cache?", dy * x * (1 - x)),
        ("one factor of the derivative is missing", dy * y),
        ("one factor of the derivative is missing", dy * (1 - y)),
        ("it is dy: the derivative of σ is missing", dy),
        ("it lacks dy, the gradient at the output", y * (1 - y)),
    ]


def loss_stand_in(student: Student, name: str) -> Callable[..., Any]:
    original = getattr(npaae.losses, name)

    def loss(xp: ModuleType, p: Array, t: Any) -> tuple[Any, Any]:
        value = student.call(f"losses.{name}", xp, p, t).value
        if not isinstance(value, list) or len(value) != 2:
            raise Wrong(f"{name} must return two values, L and its gradient")
        found, gradient = value
        try:
            truth, slope = original(xp, p, t)
        except npaae.InvalidInput:
            return found, gradient
        n, k = (*p.shape, 1, 1)[:2]
        kind = "logits" if name == "bce_with_logits" else "p"
        sizes = {f"{kind}.size": p.size, "n, the rows": n, "the columns": k}
        student.claim(f"{name}.value", "L", found, np.asarray(truth), sizes, [])
        slips = [] if kind == "p" else [
            ("it is the derivative of bce, by the probabilities, and not by the logits",
             original_slope(p, t)),
        ]  # fmt: skip
        student.claim(f"{name}.gradient", f"dL/d{kind}", gradient, slope, sizes, slips)
        array_of("the gradient", gradient)
        return found, gradient

    return loss


def original_slope(logits: Array, t: Any) -> Array:
    with np.errstate(all="ignore"):
        p = 1 / (1 + np.exp(-logits))
        return np.asarray((p - t) / (p * (1 - p) * p.size))


def adam_stand_in(student: Student) -> Any:
    class Adam(optim.Adam):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._remote = student.make("optim.Adam", args, kwargs)

        def step(self) -> None:
            answer = student.call(
                "step", key=self._remote, back=("parameters", "m", "v", "t"),
                state={"parameters": self.parameters, "gradient": self.gradient},
            )  # fmt: skip
            take_step(self, answer, "")

    return Adam


def take_step(adam: Any, answer: Answer, prefix: str) -> None:
    """Take over what a step of the student's Adam has done."""
    if f"{prefix}parameters" in answer.rebound:
        raise Wrong(
            "θ must change in place: `parameters -= …`; `parameters = …` makes another array"
        )
    adam.parameters[...] = answer.state[f"{prefix}parameters"]
    for name in "mv":
        found = array_of(name, answer.state[f"{prefix}{name}"])
        if found.shape != adam.m.shape:
            raise Wrong(f"{name} must have shape {adam.m.shape}, got {found.shape}")
        getattr(adam, name)[...] = found
    adam.t = answer.state[f"{prefix}t"]


def model_stand_in(student: Student) -> Any:
    class Model(npaae.AdversarialAutoencoder):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            sent = {k: v for k, v in settings.items() if k != "prior"}
            if "prior" in settings:
                sent["prior"] = {"prior": priors.to_config(settings["prior"])}
            self._remote = student.make("model.AdversarialAutoencoder", (), sent)
            for name in ("encoder", "decoder", "discriminator"):
                vars(getattr(self, name))["forward"] = partial(self._forward, name)
            for name, adam in self.adams().items():
                vars(adam)["step"] = partial(self._step, name, adam)

        def _call(self, method: str, *args: Any, **options: Any) -> Answer:
            state = {"theta": self.theta, "gradient": self.gradient}
            answer = student.call(method, *args, key=self._remote, state=state, **options)
            for name in options.get("back", ()):
                if name in state:
                    state[name][...] = answer.state[name]
            return answer

        def _forward(self, name: str, x: Array, rng: Rng | None = None) -> tuple[Array, Pass]:
            answer = self._call(f"{name}.forward", x, rng, keep=True)
            y = array_of("y", answer.value)
            return y, Pass(answer.cache, x, y)

        def _step(self, name: str, adam: Any) -> None:
            back = [f"{name}.{part}" for part in ("parameters", "m", "v", "t")]
            take_step(adam, self._call(f"{name}.step", back=("theta", *back)), f"{name}.")

        def _phase(self, name: str, *args: Any) -> Any:
            value = self._call(name, *args, back=("theta", "gradient")).value
            if not isinstance(value, float | np.floating):
                raise Wrong(f"{name} must return L, a number, got {type(value).__name__}")
            return value

        def reconstruction_gradient(self, x: Array, rng: Any) -> Any:
            return self._phase("reconstruction_gradient", x, rng)

        def discriminator_gradient(self, codes: Array, rng: Any, labels: Any = None) -> Any:
            return self._phase("discriminator_gradient", codes, rng, labels)

        def generator_gradient(
            self, codes: Array, encoder_caches: Any, rng: Any, labels: Any = None
        ) -> Any:
            return self._phase("generator_gradient", codes, encoder_caches, rng, labels)

    return Model


@contextmanager
def standing_in(student: Student) -> Iterator[None]:
    """While the audit's rows call the student's code."""
    spec = importlib.util.find_spec("npaae.layers")
    assert spec is not None
    assert spec.loader is not None
    layers = importlib.util.module_from_spec(spec)  # a copy, whose `perceptron` makes stand-ins
    spec.loader.exec_module(layers)
    for name in ("Dense", "ReLU", "Sigmoid", "Dropout", "Sequential"):
        setattr(layers, name, stand_in(student, getattr(npaae.layers, name)))
    layers.sigmoid = lambda xp, x: array_of("σ(x)", student.call("layers.sigmoid", xp, x).value)  # type: ignore[attr-defined]
    losses = {name: loss_stand_in(student, name) for name in ("bce", "bce_with_logits")}
    theirs = {
        "layers": layers,
        "losses": SimpleNamespace(**losses),
        "optim": SimpleNamespace(Adam=adam_stand_in(student)),
        "Model": model_stand_in(student),
    }
    before = {name: vars(audit)[name] for name in theirs}
    vars(audit).update(theirs)
    try:
        yield
    finally:
        vars(audit).update(before)


def audited(name: str) -> Any:
    """What the audit calls by this name now: a stand-in, or the package's own."""
    return vars(audit)[name]


# Rows of practice alone: Adam step by step, and what the audit asks in one row


def refuses(rng: Rng) -> float:
    """Whether p outside (0, 1) is refused, by any exception. NaN is nobody's homework."""
    for p in (0.0, 1.0, -0.5, 1.5):
        try:
            audited("losses").bce(np, np.array([0.5, p]), 1.0)
        except (Fault, ValueError) as refused:  # of the student's code, and of the package
            if getattr(refused, "error", "") == "NotImplementedError":
                raise
            continue
        raise Wrong(f"p = {p:g} must be refused with an exception, because L is not defined there")
    return 0.0


def a_perceptron(rng: Rng) -> tuple[Any, Any, Array, Array]:
    """A network without dropout as a stand-in and as the package's, an input and a gradient."""
    networks = [
        m.perceptron(np, (3, 4, 2, 3), 0.0, float) for m in (audited("layers"), npaae.layers)
    ]
    for named in zip(*map(npaae.layers.named_parameters, networks), strict=True):
        value = rng.standard_normal(getattr(named[0][1], named[0][2]).shape)
        for _, layer, name in named:
            getattr(layer, name)[...] = value
            getattr(layer, f"d{name}")[...] = np.nan
    return *networks, rng.standard_normal((5, 3)), rng.standard_normal((5, 3))


def passes(network: Any, x: Array, dy: Array, **how: bool) -> tuple[Any, dict[str, Array]]:
    """dx and all gradients."""
    dx = network.backward(dy, network.forward(x)[1], **how)
    named = npaae.layers.named_parameters(network)
    return dx, {label: getattr(layer, f"d{name}") for label, layer, name in named}


def chain(rng: Rng) -> float:
    """A network without dropout against the package's, to the last digits."""
    theirs, ours, x, dy = a_perceptron(rng)
    (dx, found), (truth, gradients) = passes(theirs, x, dy), passes(ours, x, dy)
    compare("dx", dx, truth)
    for label, gradient in gradients.items():
        layer, _, name = label.partition(".")
        if np.isnan(found[label]).all():
            raise Wrong(f"d{name} of layer {layer} is not written: call its parameter_gradients")
        compare(f"d{name} of layer {layer}", found[label], gradient)
    return 0.0


def compare(
    name: str,
    found: Any,
    truth: Array,
    sizes: Mapping[str, float] | None = None,
    slips: Sequence[tuple[str, Array]] = (),
) -> None:
    floor = float(np.abs(truth).max(initial=0)) or 1.0
    require(name, found, truth, limit=LIMIT, floor=floor, sizes=sizes, slips=slips)


def frozen(rng: Rng) -> float:
    theirs, ours, x, dy = a_perceptron(rng)
    dx, gradients = passes(theirs, x, dy, parameters=False)
    compare("dx with parameters=False", dx, passes(ours, x, dy)[0])
    for label, gradient in gradients.items():
        if not np.isnan(gradient).all():
            raise Wrong(f"with parameters=False, the gradient of {label} must not be written")
    return 0.0


def stops_early(rng: Rng) -> float:
    theirs, _, x, dy = a_perceptron(rng)
    if passes(theirs, x, dy, inputs=False)[0] is not None:
        raise Wrong("with inputs=False, dx is not wanted: return None, and save a matrix product")
    return 0.0


class AdamCase(NamedTuple):
    """Two steps of the student's Adam, and of the paper's."""

    rate: float
    beta1: float
    beta2: float
    epsilon: float
    gradients: Array

    def run(self, rule: Callable[..., Any]) -> list[Array]:
        """How far a rule (m, v, t, …) moves θ in each step."""
        m = v = np.zeros(self.gradients.shape[1])
        moves = []
        for t, g in enumerate(self.gradients, start=1):
            m = self.beta1 * m + (1 - self.beta1) * g
            v = self.beta2 * v + (1 - self.beta2) * g**2
            with np.errstate(all="ignore"):
                move = rule(self, g, m, v, t)
            moves.append(-self.rate * move)
        return moves


def algorithm(c: AdamCase, g: Array, m: Array, v: Array, t: int) -> Array:
    return np.asarray(m / (1 - c.beta1**t) / (np.sqrt(v / (1 - c.beta2**t)) + c.epsilon))


ADAM_SLIPS: list[tuple[str, Callable[..., Any]]] = [
    ("equals Algorithm 1 without bias correction", lambda c, g, m, v, t: m / (v**0.5 + c.epsilon)),
    ("equals Algorithm 1 without the bias correction of m",
     lambda c, g, m, v, t: m / ((v / (1 - c.beta2**t)) ** 0.5 + c.epsilon)),
    ("equals Algorithm 1 without the bias correction of v",
     lambda c, g, m, v, t: m / (1 - c.beta1**t) / (v**0.5 + c.epsilon)),
    ("equals Algorithm 1 with ε inside the root",
     lambda c, g, m, v, t: m / (1 - c.beta1**t) / (v / (1 - c.beta2**t) + c.epsilon) ** 0.5),
    ("equals Algorithm 1 without the root",
     lambda c, g, m, v, t: m / (1 - c.beta1**t) / (v / (1 - c.beta2**t) + c.epsilon)),
    ("equals Algorithm 1 without ε",
     lambda c, g, m, v, t: m / (1 - c.beta1**t) / (v / (1 - c.beta2**t)) ** 0.5),
    ("equals the paper's other form, where ε is not corrected",
     lambda c, g, m, v, t: (1 - c.beta2**t) ** 0.5 / (1 - c.beta1**t) * m / (v**0.5 + c.epsilon)),
    ("equals Algorithm 1 with t one too large: t must be 1 in the first step",
     lambda c, g, m, v, t: algorithm(c, g, m, v, t + 1)),
    ("equals Algorithm 1 with t one too late: increase t before it is used",
     lambda c, g, m, v, t: algorithm(c, g, m, v, t - 1)),
    ("equals Algorithm 1 with 1 − β in place of 1 − βᵗ",
     lambda c, g, m, v, t: algorithm(c, g, m, v, 1)),
    ("equals Algorithm 1 with its sign reversed: θ climbs",
     lambda c, g, m, v, t: -algorithm(c, g, m, v, t)),
    ("equals Algorithm 1 with g in place of m",
     lambda c, g, m, v, t: g / ((v / (1 - c.beta2**t)) ** 0.5 + c.epsilon)),
    ("equals a step against m alone: v is not used",
     lambda c, g, m, v, t: m / (1 - c.beta1**t)),
    ("equals gradient descent: neither m nor v is used", lambda c, g, m, v, t: g),
]  # fmt: skip


def adam_part(rng: Rng, part: str) -> float:
    """m, v, or the move of θ in the first or the second step."""
    scale = 10 ** rng.uniform(-1, 1)
    rate, beta1, beta2 = rng.uniform((0.01, 0.6, 0.7), (0.1, 0.9, 0.99)).tolist()
    epsilon, gradients = scale * rng.uniform(0.3, 1), scale * rng.standard_normal((2, 6))
    case = AdamCase(rate, beta1, beta2, epsilon, gradients)
    theta, gradient = rng.standard_normal(6) * case.rate, case.gradients[0].copy()
    adam = audited("optim").Adam(np, theta, gradient, *case[:4])
    steps = 2 if part == "second" else 1
    for t in range(steps):
        gradient[:], start = case.gradients[t], theta.copy()
        adam.step()
    g, (b1, b2) = case.gradients[0], case[1:3]
    if part in "mv":
        truth = (1 - b1) * g if part == "m" else (1 - b2) * g**2
        slips = {
            "m": [("g is not weighted", g), ("β₁ and 1 − β₁ are exchanged", b1 * g),
                  ("β₂ takes the place of β₁", (1 - b2) * g),
                  ("m̂ is kept in the place of m", truth / (1 - b1))],
            "v": [("g² is not weighted", g**2), ("β₂ and 1 − β₂ are exchanged", b2 * g**2),
                  ("β₁ takes the place of β₂", (1 - b1) * g**2), ("g is not squared", (1 - b2) * g),
                  ("v̂ is kept in the place of v", truth / (1 - b2))],
        }[part]  # fmt: skip
        require(f"{part} after the first step", getattr(adam, part), truth, limit=LIMIT,
                slips=slips, derived=False)  # fmt: skip
        return 0.0
    moves = [(text, case.run(rule)[steps - 1]) for text, rule in ADAM_SLIPS]
    found = theta - start
    if not np.isfinite(found).all():
        raise Wrong("θ is NaN or infinite: t must be 1 in the first step, or 1 − βᵗ is 0")
    require(f"the {part} step", found, case.run(algorithm)[steps - 1], limit=1e-9,
            floor=case.rate, slips=moves, derived=False)  # fmt: skip
    return 0.0


def phase_blocks(rng: Rng, phase: audit.Phase, classes: int, what: str) -> float:
    """A phase without dropout against the package's, network by network."""
    arguments: dict[str, Any] = {
        "hidden": (4, 3), "latent": 2, "visible": 6, "classes": classes, "dtype": "float64",
        "prior": priors.gaussian_mixture(components=3) if classes else priors.gaussian(),
        "dropout": 0.0, "discriminator_dropout": 0.0, "seed": audit.a_seed(rng),
    }  # fmt: skip
    theirs, ours = (
        model(**arguments) for model in (audited("Model"), npaae.AdversarialAutoencoder)
    )
    x, seed = audit.read_only(rng.random((5, 6))), audit.a_seed(rng)
    sizes = {"n, the rows": 5.0, "x.size": 30.0, "the columns of x": 6.0}

    def run(model: Any) -> tuple[Any, Array]:
        model.gradient[:] = 0
        return phase.gradient(model, x, np.random.default_rng(seed)), model.gradient.copy()

    (loss, gradient), (right_loss, right) = run(theirs), run(ours)
    slips = []
    for sentence, changed in TARGETS.items():
        with other_targets(changed):
            slips.append((sentence, *run(ours)))
    if what == "value":
        losses = [(sentence, np.asarray(wrong)) for sentence, wrong, _ in slips]
        compare("L", loss, np.asarray(right_loss), sizes, losses)
        return 0.0
    start = 0
    for name in ("encoder", "decoder", "discriminator"):
        own = slice(start, start := start + getattr(ours, name).size)
        found, truth = gradient[own], right[own]
        if truth.any() and what == "gradient":
            if not found.any():
                raise Wrong(f"the gradient of the {name} is not written, or 0")
            gradients = [(sentence, wrong[own]) for sentence, _, wrong in slips]
            compare(f"the gradient of the {name}", found, truth, sizes, gradients)
        if not truth.any() and found.any() and what == "isolation":
            raise Wrong(f"the phase also writes the gradient of the {name}, which must not move")
    return 0.0


TARGETS: dict[str, Callable[[Any], Any]] = {
    "every target is 1": lambda t: 1.0,
    "every target is 0": lambda t: 0.0,
    "the targets 0 and 1 are exchanged": lambda t: 1 - t,
}


@contextmanager
def other_targets(changed: Callable[[Any], Any]) -> Iterator[None]:
    """While the package's phases compute their losses for other targets."""
    original = vars(npaae.model)["bce_with_logits"]
    vars(npaae.model)["bce_with_logits"] = lambda xp, l, t: original(xp, l, changed(t))  # noqa: E741
    try:
        yield
    finally:
        vars(npaae.model)["bce_with_logits"] = original


class Row(NamedTuple):
    """A row of the table: one of the audit's, or a check of practice alone, or both.

    `exact` compares with the package's own result and raises Wrong, which explains what the audit
    finds and notices a difference quotient. `blocks`: whether what needs the body waits for it.
    """

    id: str
    title: str  # without the answer
    code: str
    points: int
    exact: Callable[[Rng], float] | None = None
    hint: str = ""  # if nothing else explains an error
    blocks: bool = True

    @property
    def checks(self) -> list[audit.Row]:
        own = [] if self.exact is None else [
            audit.Row(self.id, self.title, self.code, audit.EQUAL, 0, self.exact)
        ]  # fmt: skip
        return [*(row for row in audit.ROWS if row.id == self.id and not self.replaces), *own]

    @property
    def replaces(self) -> bool:
        """Whether the row asks less than the audit's of the same name."""
        return self.id in ("bce.domain", "network.frozen")


ONE, TWO, THREE = (f"Model.{n}_gradient" for n in ("reconstruction", "discriminator", "generator"))
OVERFLOW = "the largest logits overflow, or are lost: no exponent may be positive"
ROWS = [
    Row("dense.y", "dense: y", "layers.Dense.forward", 1),
    Row("dense.dx", "dense: dx", "layers.Dense.backward", 2),
    Row("dense.dW", "dense: dW", "layers.Dense.parameter_gradients", 2),
    Row("dense.db", "dense: db", "layers.Dense.parameter_gradients", 1),
    Row("relu.y", "ReLU: y", "layers.ReLU.forward", 1),
    Row("relu.dx", "ReLU: dx", "layers.ReLU.backward", 1),
    Row("relu.zero", "ReLU: dx at 0", "layers.ReLU.backward", 1,
        hint="dx must be 0 where x is 0: x > 0, and not x >= 0", blocks=False),
    Row("sigmoid.y", "sigmoid: y", "layers.sigmoid", 1, hint="it is not 1 / (1 + e⁻ˣ)"),
    Row("sigmoid.extremes", "sigmoid: finite and right at ±1e4", "layers.sigmoid", 1,
        hint="an exponential overflows: no exponent may be positive", blocks=False),
    Row("sigmoid.dx", "sigmoid: dx", "layers.Sigmoid.backward", 1),
    Row("dropout.dx", "dropout: dx", "layers.Dropout.backward", 1),
    Row("dropout.scale", "dropout: E[y] = x", "layers.Dropout.forward", 1,
        hint="what is kept has the wrong scale: E[y] must be x"),
    Row("dropout.rate", "dropout: P(m = 0) = p", "layers.Dropout.forward", 1,
        hint="the share of zeros is not p: is p the chance to drop, or to keep?"),
    Row("dropout.independence", "dropout: each element on its own", "layers.Dropout.forward", 1,
        hint="elements are dropped together: draw one number for each"),
    Row("dropout.off", "dropout: off without rng", "layers.Dropout.forward", 1,
        hint="without rng, y must be x, and dx must be dy"),
    Row("layers.caches", "every layer: its own cache", "layers", 1,
        hint="a second forward pass changes what backward returns for the first"),
    Row("bce.value", "BCE: L", "losses.bce", 1),
    Row("bce.gradient", "BCE: dL/dp", "losses.bce", 2),
    Row("bce.domain", "BCE: refuses p outside (0, 1)", "losses.bce", 1, refuses, blocks=False),
    Row("bce_with_logits.value", "BCE of logits: L", "losses.bce_with_logits", 2),
    Row("bce_with_logits.gradient", "BCE of logits: dL/dlogits", "losses.bce_with_logits", 2),
    Row("bce_with_logits.extremes", "BCE of logits: right at ±1e4", "losses.bce_with_logits", 1,
        hint=OVERFLOW, blocks=False),
    Row("bce_with_logits.composition", "BCE of logits: as BCE after sigmoid",
        "losses.bce_with_logits", 1, hint="it differs from sigmoid and bce one after the other"),
    Row("network.dx", "network: dx", "layers.Sequential.backward", 2, chain),
    Row("network.parameters", "network: dW and db of each", "layers.Sequential.backward", 2, chain),
    Row("network.frozen", "network: parameters=False", "layers.Sequential.backward", 1, frozen),
    Row("network.early", "network: inputs=False", "layers.Sequential.backward", 1, stops_early,
        blocks=False),
    Row("adam.m", "Adam: m", "optim.Adam.step", 1, partial(adam_part, part="m"), blocks=False),
    Row("adam.v", "Adam: v", "optim.Adam.step", 1, partial(adam_part, part="v"), blocks=False),
    Row("adam.first", "Adam: the first step", "optim.Adam.step", 2,
        partial(adam_part, part="first")),
    Row("adam.second", "Adam: the second step", "optim.Adam.step", 2,
        partial(adam_part, part="second")),
    Row("adam.step", "Adam: ten steps", "optim.Adam.step", 2,
        hint="it differs from Algorithm 1 after the second step"),
    *(
        Row(f"{labels}phase{i}.{what}", f"phase {i}{', labels' if labels else ''}: {title}", code,
            points, partial(phase_blocks, phase=phase, classes=3 if labels else 0, what=what))
        for i, code, phase in ((1, ONE, audit.ONE), (2, TWO, audit.TWO), (3, THREE, audit.THREE))
        for labels in ("", "labels.")
        for what, title, points in
        (("value", "L", 1), ("gradient", "dL/dθ", 2), ("isolation", "moves nothing else", 1))
        if not labels or (i > 1 and what != "isolation")
    ),
]  # fmt: skip


def needs(row: Row) -> set[str]:
    """The bodies to be written that a row runs, found by running it on the package's code."""
    called = set()
    sys.setprofile(lambda frame, *_: called.add(frame.f_code))
    try:
        for check in row.checks:
            audit.examine(check, 1)
    finally:
        sys.setprofile(None)
    return {code for code in CODES if audit.named(code).__code__ in called}


# check


def read(folder: Path) -> dict[str, str | None]:
    """The text of each file, or None."""
    paths = {file: folder / f"{file}.py" for file in FILES}
    return {
        file: path.read_text("utf-8", "replace") if path.is_file() else None
        for file, path in paths.items()
    }


def judge(texts: Mapping[str, str | None], rows: Sequence[Row] = ROWS) -> list[Verdict]:
    """The verdicts of the rows, in the order of the table."""
    needed = {row.id: needs(row) for row in rows}
    allowed = library()
    with Sandbox([name for name in allowed if name.startswith("npaae")]) as sandbox:
        broken = load(sandbox, texts, allowed)
        verdicts: dict[str, Verdict] = {}
        wrong: set[str] = set()  # bodies that are wrong or missing
        ended: dict[str, str] = {}  # bodies that have ended the process, and how
        student = Student(sandbox)
        with standing_in(student):
            # A row that runs little comes first, so what is wrong is known before what needs it.
            for row in sorted(rows, key=lambda row: len(needed[row.id])):
                file = file_of(row.code)
                waits = sorted((needed[row.id] - {row.code}) & wrong, key=CODES.index)
                first = next((f for f in FILES[: FILES.index(file) + 1] if f in broken), None)
                if first and (first == file or file == "model"):
                    told = {v.note for v in verdicts.values()}
                    word, note = ("wrong", broken[first]) if first == file else ("waits", "")
                    if word == "waits" or note in told:
                        word, note = "waits", f"for {first}.py"
                elif waits:
                    names = waits if len(waits) < 3 else dict.fromkeys(map(part_of, waits))
                    word, note = "waits", f"for {', '.join(names)}"
                elif row.code in ended:
                    word, note = "wrong", f"not tried again: {ended[row.code]}"
                else:
                    word, note = tried(student, row)
                    if not sandbox.is_open:
                        ended[row.code] = note
                verdicts[row.id] = Verdict(
                    row.id, part_of(row.code), row.title, row.code, row.points, word, note
                )
                if word == "missing" or (word == "wrong" and row.blocks):
                    wrong.add(row.code)
    return [verdicts[row.id] for row in rows]


def load(sandbox: Sandbox, texts: Mapping[str, str | None], allowed: list[str]) -> dict[str, str]:
    """Import the files; returns why for those that cannot be."""
    broken = {}
    for file, text in texts.items():
        if text is None:
            broken[file] = f"{file}.py is missing"
            continue
        found = next(rules.imports(text, {*allowed, *FILES}), None)
        if found:
            broken[file] = f"{found[1]} ({file}.py, line {found[0]})"
        elif file != "model" or not broken:  # model.py imports all that precede it
            try:
                sandbox.load(file, text, allowed)
            except Fault as fault:
                broken[file] = f"{file}.py cannot be imported: {of_fault(fault)}"
    return broken


def file_of(code: str) -> str:
    return code.partition(".")[0].lower()


def part_of(code: str) -> str:
    parts = {part.partition(":")[0]: codes for part, codes in PARTS.items()}
    return next((part for part, codes in parts.items() if code in codes), "part 1")


def tried(student: Student, row: Row) -> tuple[str, str]:
    """A word and a note for a row that can be run."""
    try:
        student.clear()
        for check in row.checks:
            finding = audit.examine(check._replace(check=partial(heard, check)), CASES)
            for claim in student.claims:
                if claim.id == row.id or row.id == "layers.caches":
                    claim.require()
            if not finding.holds:
                if row.exact and check.check is not row.exact:
                    row.exact(np.random.default_rng(0))  # which knows more
                apart = "the gradient is right, but L is not the L that it belongs to"
                hint = row.hint or (apart if row.id.endswith(".gradient") else "")
                return "wrong", hint or meaning(check, finding)
    except Heard as heard_:
        error = heard_.error
        if isinstance(error, Wrong) and row.id != "layers.caches":
            return "wrong", explained(student, row) or str(error)
        if isinstance(error, Fault):
            if error.error == "NotImplementedError" and error.message in CODES:
                own = error.message == row.code
                return ("missing", "") if own else ("waits", f"for {error.message}")
            if error.error == "ZeroDivisionError" and row.id.startswith("adam"):
                return "wrong", f"1 − βᵗ is 0: is t 1 in the first step? {error}"
            return "wrong", of_fault(error)
        return "wrong", explained(student, row) or str(error)
    except Wrong as wrong:
        name = next((c.id for c in student.claims if fails(c)), "") if row.code == "layers" else ""
        return "wrong", f"{name.partition('.')[0]}: {wrong}" if name else str(wrong)
    except Fault as fault:
        return "wrong", of_fault(fault)
    return "right", ""


def explained(student: Student, row: Row) -> str:
    """The sentence of the first wrong claim about a row; "" if there is none."""
    for claim in student.claims:
        if claim.id == row.id:
            try:
                claim.require()
            except Wrong as wrong:
                return str(wrong)
    return ""


def fails(claim: Claim) -> bool:
    try:
        claim.require()
    except Wrong:
        return True
    return False


class Heard(BaseException):
    """Carries an error of a student's code through the audit, which would make a row of it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def heard(check: audit.Row, rng: Rng) -> float:
    try:
        return check.check(rng)
    except gradcheck.Kink:
        raise
    except Exception as error:
        raise Heard(error) from error


def meaning(row: audit.Row, finding: audit.Finding) -> str:
    """What an error says if nothing explains it."""
    if finding.fault:
        return finding.fault
    if row.how == audit.EQUAL:
        return f"{finding.worst:.0f} numbers differ"
    return f"error {finding.worst:.1e}"
