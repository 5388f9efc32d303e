"""Stand-ins for what a student has written: the package's classes, whose methods ask the student.

The audit's rows call them like the package. A stand-in of a layer keeps the parameters in the
judge's process and sends them with each call, so a row may change them and read the gradients. It
also knows the truth, because it is the package's class: it notes what the student has claimed
beside it, so that a wrong result can be explained.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import audit
import numpy as np

import npaae
from npaae import optim, priors

from .sandbox import Answer, Fault, Sandbox
from .verdicts import Wrong, kind_of, require

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
LIMIT = 1e-10  # of a derivative, which a difference quotient does not reach
LAST = "backward uses the last forward pass: keep what it needs in the cache, not in an attribute"


class Claim(NamedTuple):
    """A result of a student's code, the truth, and what may explain a difference."""

    row: str  # which it is about
    name: str
    found: Any
    truth: Array
    sizes: Mapping[str, float] = {}
    slips: Sequence[tuple[str, Array]] = ()

    def require(self) -> None:
        derived = not self.row.endswith((".y", ".value"))
        compare(self.name, self.found, self.truth, self.sizes, self.slips, derived)


def compare(
    name: str,
    found: Any,
    truth: Array,
    sizes: Mapping[str, float] | None = None,
    slips: Sequence[tuple[str, Array]] = (),
    derived: bool = True,
) -> None:
    floor = float(np.abs(truth).max(initial=0)) or 1.0
    require(name, found, truth, limit=LIMIT, floor=floor, sizes=sizes, slips=slips, derived=derived)


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

    def make(self, code: str, *args: Any, **kwargs: Any) -> int:
        """Construct an object in the process; returns the key by which calls name it."""
        key, sent = next(self.keys), [encoded(value) for value in args]
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

    def note(self, claim: Claim) -> None:
        """Keep a claim, of the first hundred."""
        if claim.truth.dtype == np.float64 and len(self.claims) < 100:
            self.claims.append(claim)

    def require(self, row: str) -> None:
        """Raise Wrong unless the claims about a row are true; `layers.caches` is about them all."""
        for claim in self.claims:
            if claim.row == row:
                claim.require()
            elif row == "layers.caches":
                try:
                    claim.require()
                except Wrong as wrong:
                    raise Wrong(f"{claim.row.partition('.')[0]}: {wrong}") from None


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
        raise Wrong(f"{name} must be an array, got {kind_of(value)}")
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
                self._remote = student.make(f"layers.{name}", *self._args)
            return int(self._remote)

        def _call(self, method: str, *args: Any, **options: Any) -> Answer:
            key, state = self.remote(), dict(arrays(self))
            return student.call(method, *args, key=key, state=state, **options)

        def forward(self, x: Array, rng: Rng | None = None) -> tuple[Array, Pass]:
            answer = self._call("forward", x, rng, keep=True)
            y = array_of("y", answer.value)
            if kind in ("dense", "relu"):
                slips = [("the bias is not added", x @ self.W)] if kind == "dense" else []
                student.note(Claim(f"{kind}.y", "y", y, original.forward(self, x)[0], slips=slips))
            elif kind != "sequential" and y.shape != x.shape:
                raise Wrong(f"y must have shape {x.shape}, got {y.shape}")
            if kind == "dropout" and rng is not None and y.any():
                scale = np.max(y[y != 0] / x[y != 0], keepdims=True)
                truth, name = np.array([1 / (1 - self.rate)]), "the scale of what is kept"
                student.note(Claim("dropout.scale", name, scale, truth, self._sizes(x)))
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
                student.note(Claim(f"{kind}.dx", "dx", dx, self._truth(dy, cache), sizes, slips))
            return dx

        def parameter_gradients(self, dy: Array, cache: Pass) -> None:
            written = tuple(f"d{name}" for name in self.parameters)
            before = {name: getattr(self, name).copy() for name in written}
            answer = self._call("parameter_gradients", dy, cache, back=written)
            truths = self._gradients(dy, cache)
            is_last = self._last is cache or self._last.x.shape != cache.x.shape
            last = None if is_last else self._gradients(dy, self._last)
            for name in written:
                found, truth = answer.state[name], truths[name]
                is_left = np.array_equal(found, before[name], equal_nan=True)
                if is_left and not np.array_equal(found, truth):
                    raise Wrong(
                        f"{name} is not written into its array: write {name}[...] = …, because "
                        f"`self.{name} = …` and a returned value leave it as it is"
                    )
                getattr(self, name)[...] = found
                slips = [(LAST, last[name])] if last else []
                student.note(
                    Claim(f"{kind}.{name}", name, found, truth, self._sizes(cache.x), slips)
                )

        def _gradients(self, dy: Array, cache: Pass) -> dict[str, Array]:
            """The right gradients of the parameters, in arrays of their own."""
            shadow = copy(self)
            for name in self.parameters:
                setattr(shadow, f"d{name}", np.empty_like(getattr(self, name)))
            original.parameter_gradients(shadow, dy, cache.x)
            return {f"d{name}": getattr(shadow, f"d{name}") for name in self.parameters}

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


def slips_of_input(kind: str, layer: Any, dy: Array, cache: Pass) -> list[tuple[str, Array]]:
    """What dx becomes by a common mistake."""
    x, y = cache.x, cache.y
    if kind == "dense":
        is_square = layer.W.shape[0] == layer.W.shape[1]
        return [("W is not transposed", dy @ layer.W)] if is_square else []
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
        student.note(Claim(f"{name}.value", "L", found, np.asarray(truth), sizes))
        slips = []
        if kind == "logits":
            with np.errstate(all="ignore"):
                s = 1 / (1 + np.exp(-p))
                wrong = np.asarray((s - t) / (s * (1 - s) * s.size))
            slips = [("it is the derivative by the probabilities, and not by the logits", wrong)]
        student.note(Claim(f"{name}.gradient", f"dL/d{kind}", gradient, slope, sizes, slips))
        return found, array_of("the gradient", gradient)

    return loss


def adam_stand_in(student: Student) -> Any:
    class Adam(optim.Adam):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._remote = student.make("optim.Adam", *args, **kwargs)

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
            self._remote = student.make("model.AdversarialAutoencoder", **sent)
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
    vars(layers)["sigmoid"] = lambda xp, x: array_of(
        "σ(x)", student.call("layers.sigmoid", xp, x).value
    )
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
