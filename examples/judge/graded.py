"""Judges the designs of a sheet. The truth is the sheet's own text, evaluated by `formula`."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from . import rules, sheets
from .formula import Formula
from .sandbox import Answer, Fault, Sandbox
from .sheets import Design
from .verdicts import Verdict, Wrong, of_body, of_fault, require

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
# Limits of errors. Derivations reach 2e-14. Quotients with two points of their own reach 1e-11, and
# those with four 2e-13.
VALUE, DERIVATIVE = 1e-11, 1e-13
# Limits of what a derivation computes for each number of x: how many points that are no value of a
# part of the formula, and how many numbers for each of its operations. See `meter`.
POINTS, NUMBERS = 2, 25
BUDGET = 60.0  # seconds for all rows of a design, which take one or two


class Remote:
    """An object of a student's class, in the student's process."""

    keys = count()

    def __init__(self, sandbox: Sandbox, code: str, *args: Any) -> None:
        self.sandbox, self.key = sandbox, next(self.keys)
        sandbox.ask({"do": "make", "key": self.key, "code": code, "args": args, "kwargs": {}})

    def call(self, method: str, *args: Any, **options: Any) -> Answer:
        return self.sandbox.call(method, *args, key=self.key, **options)


class Case(NamedTuple):
    """The arrays on which a design is tried."""

    x: Array
    dy: Array

    @property
    def sizes(self) -> dict[str, float]:
        n, k = self.x.shape
        return {"n, the rows": n, "k, the columns": k, "n · k": n * k}


def cases(rng: Rng, kink: float) -> Iterator[Case]:
    """Small arrays; large numbers, for which differences lose digits; points near the kink, which
    differences straddle; and a batch of realistic size.
    """
    for shape in ((4, 3), (2, 5), (1, 4), (4, 1)):
        yield Case(1.5 * rng.standard_normal(shape), rng.standard_normal(shape))
    large = rng.uniform(20, 40, (5, 6)) * rng.choice([-1, 1], (5, 6))
    yield Case(large, rng.standard_normal((5, 6)))
    beside = 10 ** rng.uniform(-11, -5, (6, 5)) * rng.choice([-1, 1], (6, 5))
    yield Case(kink + beside, rng.standard_normal((6, 5)))
    yield Case(2 * rng.standard_normal((100, 10)), rng.standard_normal((100, 10)))


def far_away(rng: Rng) -> Iterator[Case]:
    for size in (50.0, 1e3, 1e4):
        x = size * rng.uniform(0.5, 1, (3, 4)) * rng.choice([-1, 1], (3, 4))
        yield Case(x, rng.standard_normal((3, 4)))


class Row(NamedTuple):
    id: str
    title: str
    body: str  # that the row checks
    of: int
    check: Callable[[Design, Sandbox, Rng], None]
    waits: tuple[str, ...] = ()  # rows that must be right first


def allow(design: Design, sandbox: Sandbox, size: int, *given: dict[str, Any]) -> None:
    """Let the code compute, from now on, what a derivation needs: two passes forward, one back.

    size: of x. given: the inputs of the formula, in one pass forward and in the other.
    """
    count = size + 2  # because some is computed once
    parts = [np.abs(np.ravel(part)) for one in given for part in design.formula.parts(one)]
    numbers = NUMBERS * len(design.formula.operations) * count
    own = np.unique(np.concatenate(parts).astype(float))
    own = own[np.isfinite(own)]
    sandbox.ask({"do": "allow", "points": POINTS * count, "numbers": numbers, "own": own})


class Passed(NamedTuple):
    """A forward pass of a new layer."""

    case: Case
    state: dict[str, Array]  # its parameters; an activation has none
    other: Array  # an input for another pass
    remote: Remote
    y: Any
    cache: dict[str, int]


def forwards(
    design: Design, sandbox: Sandbox, rng: Rng, tried: Iterable[Case] = ()
) -> Iterator[Passed]:
    for case in tried or cases(rng, design.constants["kink"]):
        sizes = [case.x.shape[1]] if design.name == "layer" else []
        state = {name: rng.uniform(0.5, 2, k) for k in sizes for name in ("gamma", "beta")}
        other = rng.permuted(case.x)
        allow(design, sandbox, case.x.size, {"x": case.x, **state}, {"x": other, **state})
        remote = Remote(sandbox, f"{design.name}.{design.code}", *sizes)
        answer = remote.call("forward", case.x, keep=True, state=state)
        yield Passed(case, state, other, remote, answer.value, answer.cache)


def layer_value(design: Design, sandbox: Sandbox, rng: Rng) -> None:
    for case, state, _, _, y, _ in forwards(design, sandbox, rng):
        truth = design.formula.values({"x": case.x, **state})["y"]
        require("y", y, truth, limit=VALUE, floor=1.0, sizes=case.sizes, derived=False)


def layer_input(design: Design, sandbox: Sandbox, rng: Rng) -> None:
    """Forward at x, forward elsewhere, backward at x: each pass needs its own cache."""
    formula = design.formula
    for case, state, other, remote, _, cache in forwards(design, sandbox, rng):
        remote.call("forward", other, keep=True, state=state)
        dx = remote.call("backward", case.dy, cache, state=state).value
        given = {"x": case.x, **state}
        truth = formula.derivative("y", "x", given, case.dy)
        floor = np.abs(case.dy) if design.name == "activation" else scale(case.dy, truth)
        require("dx", dx, truth, limit=DERIVATIVE, floor=floor, sizes=case.sizes,
                slips=input_slips(formula, given, other, case.dy))  # fmt: skip


def input_slips(
    formula: Formula, given: dict[str, Any], other: Array, dy: Array
) -> Iterator[tuple[str, Array]]:
    """What dx becomes with a mistake; `other` is the input of the last forward pass."""
    last = formula.derivative("y", "x", {**given, "x": other}, dy)
    yield "backward uses the last forward pass: keep the cache, not an attribute", last
    lacking = formula.derivative("y", "x", given, np.ones_like(dy))
    yield "it lacks dy, the gradient at the output", lacking
    yield from slips_of(formula, "y", "x", given, dy)


def scale(dy: Array, truth: Array) -> float:
    return float(max(np.abs(dy).max(), np.abs(truth).max()))


def slips_of(
    formula: Formula, of: str, by: str, given: dict[str, Any], dy: Any
) -> Iterator[tuple[str, Array]]:
    """What a derivative becomes if a rule is broken; for small arrays only, to save time."""
    if given[by].size <= 100:
        for slip in formula.slips(by):
            yield slip.sentence, formula.derivative(of, by, given, dy, slip)


def activation_far(design: Design, sandbox: Sandbox, rng: Rng) -> None:
    for case, _, _, remote, y, cache in forwards(design, sandbox, rng, far_away(rng)):
        truth = design.formula.values({"x": case.x})["y"]
        require("y far from 0", y, truth, limit=VALUE, floor=1.0, derived=False)
        dx = remote.call("backward", case.dy, cache).value
        truth = design.formula.derivative("y", "x", {"x": case.x}, case.dy)
        require("dx far from 0", dx, truth, limit=DERIVATIVE, floor=scale(case.dy, case.dy))


def layer_parameter(name: str) -> Callable[[Design, Sandbox, Rng], None]:
    def check(design: Design, sandbox: Sandbox, rng: Rng) -> None:
        for case, state, other, remote, _, cache in forwards(design, sandbox, rng):
            remote.call("forward", other, keep=True, state=state)
            unwritten = {f"d{own}": np.full(len(state[own]), np.nan) for own in state}
            answer = remote.call("parameter_gradients", case.dy, cache,
                                 state=state | unwritten, back=tuple(unwritten))  # fmt: skip
            found = answer.state[f"d{name}"]
            if np.isnan(found).all():
                raise Wrong(
                    f"d{name} is not written into its array: write d{name}[...] = …, because "
                    f"`self.d{name} = …` and a returned value do not change it"
                )
            given = {"x": case.x, **state}
            truth = design.formula.derivative("y", name, given, case.dy)
            require(f"d{name}", found, truth, limit=DERIVATIVE, floor=scale(case.dy, truth),
                    sizes=case.sizes)  # fmt: skip

    return check


def loss_cases(design: Design, rng: Rng) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Cases in which x is the formula's y, and the formula's inputs."""
    for case in cases(rng, 0.0):
        t = rng.integers(0, 2, case.x.shape).astype(float)
        y = case.x
        if case.x.shape == (6, 5):  # the points beside 0 become points beside the kinks
            smooth = design.constants["keep"] * t + design.constants["add"]
            y = smooth + rng.choice([-1, 1], y.shape) * (design.constants["kink"] + case.x)
        n, k = y.shape
        yield case._replace(x=y), {"y": y, "t": t, "n": n, "k": k}


def loss_called(design: Design, sandbox: Sandbox, case: Case, given: dict[str, Any]) -> list[Any]:
    allow(design, sandbox, case.x.size, given)
    value = sandbox.call("loss.loss", given["y"], given["t"]).value
    if not isinstance(value, list) or len(value) != 2:
        raise Wrong("loss must return two values, L and dL/dy")
    return value


def loss_value(design: Design, sandbox: Sandbox, rng: Rng) -> None:
    for case, given in loss_cases(design, rng):
        found, _ = loss_called(design, sandbox, case, given)
        truth = design.formula.values(given)["L"]
        hard = Formula(["s = t", *design.formula.lines[1:]]).values(given)["L"]
        require("L", found, truth, limit=VALUE, sizes=case.sizes, derived=False,
                slips=[("the targets are not smoothed", hard)])  # fmt: skip


def loss_gradient(design: Design, sandbox: Sandbox, rng: Rng) -> None:
    for case, given in loss_cases(design, rng):
        _, dy = loss_called(design, sandbox, case, given)
        truth = design.formula.derivative("L", "y", given)
        share = Formula(design.formula.lines[-1:]).derivative("L", "l", {**given, "l": truth})
        require("dL/dy", dy, truth, limit=DERIVATIVE, floor=scale(share, truth), sizes=case.sizes,
                slips=slips_of(design.formula, "L", "y", given, 1.0))  # fmt: skip


# The optimiser


def optimiser_slips(formula: Formula) -> Iterator[tuple[str, Formula]]:
    """The formula with one line changed, as by a common mistake."""
    changed = formula.changed
    yield "t is one too small: it must be 1 in the first step", changed(r"\bt\b", "(t - 1)")
    yield "t is one too large: it must be 1 in the first step", changed(r"\bt\b", "(t + 1)")
    yield "the sign is reversed: theta climbs", changed(r"theta - a", "theta + a")
    yield "the decay of theta is left out of g", Formula(formula.lines[1:])
    yield "the bias correction of m is left out", changed(r"m / \(1 - [\d.]+\*\*t\)", "m")
    yield "the look ahead is left out: d is not m", changed(r"^d = [\d.]+ \* m \+ g$", "d = m")
    yield "the schedule is left out: a changes with t", changed(r"^(a = [\d.]+).*", r"\1")
    yield "the constant is inside the root", changed(r"sqrt\(v\) \+ ([\d.]+)", r"sqrt(v + \1)")
    yield "the constant is outside the root", changed(r"sqrt\(v \+ ([\d.]+)\)", r"sqrt(v) + \1")
    yield "the root of v is left out", changed(r"^s = sqrt\(v\)", "s = v")
    yield "the constant is left out of s", changed(r" \+ [\d.]+(\)?)$", r"\1")
    yield "m is not kept from step to step", changed(r"^m = [\d.]+ \* m \+", "m =")
    yield "v is not kept from step to step", changed(r"^v = [\d.]+ \* v \+", "v =")
    yield "g takes the place of d", changed(r"a \* d", "a * g")
    yield "m takes the place of d", changed(r"a \* d", "a * m")
    yield "the division by s is left out", changed(r" / s$", "")
    yield "g**2 and abs(g) are confused", changed(r"g\*\*2", "abs(g)")
    yield "g**2 and abs(g) are confused", changed(r"abs\(g\)$", "g**2")


def optimiser_steps(name: str, steps: int) -> Callable[[Design, Sandbox, Rng], None]:
    """A check of theta, or of m and v, after so many steps."""

    def check(design: Design, sandbox: Sandbox, rng: Rng) -> None:
        for size in (6, 1000):
            theta, gradients = rng.standard_normal(size), rng.standard_normal((steps, size))
            remote = Remote(sandbox, "optimiser.Optimiser", theta, gradients[0])
            bound = {"theta": theta}
            for gradient in gradients:
                answer = remote.call("step", state=bound | {"gradient": gradient},
                                     back=("theta", "m", "v"))  # fmt: skip
                if "theta" in answer.rebound:
                    raise Wrong("theta must change in place: `theta -= …`, not `theta = theta - …`")
                bound = {"theta": answer.state["theta"]}
            truth = design.formula.steps(theta, gradients)[-1]
            for part in name.split(" and "):
                slips = ((sentence, other.steps(theta, gradients)[-1][part])
                         for sentence, other in optimiser_slips(design.formula))  # fmt: skip
                if part == "theta":  # whose steps are small beside it
                    slips = ((sentence, end - theta) for sentence, end in slips)
                    told = {1: "the first step", 2: "the second step"}.get(steps, f"{steps} steps")
                    if not np.isfinite(bound["theta"]).all():
                        raise Wrong(f"{told}: NaN or infinite: is t 1 in the first step?")
                    require(told, bound["theta"] - theta,
                            truth["theta"] - theta, limit=1e-10, floor=1e-3, slips=slips,
                            derived=False)  # fmt: skip
                else:
                    require(f"{part} after step 1", answer.state[part], truth[part],
                            limit=VALUE, floor=1e-3, slips=slips, derived=False)  # fmt: skip

    return check


ROWS = {
    "activation": [
        Row("activation.y", "y", "forward", 5, layer_value),
        Row("activation.dx", "dL/dx", "backward", 10, layer_input, ("activation.y",)),
        Row("activation.far", "both far from 0", "backward", 5, activation_far, ("activation.dx",)),
    ],
    "loss": [
        Row("loss.L", "L", "loss", 5, loss_value),
        Row("loss.dy", "dL/dy", "loss", 20, loss_gradient, ("loss.L",)),
    ],
    "layer": [
        Row("layer.y", "y", "forward", 5, layer_value),
        Row("layer.dx", "dL/dx", "backward", 20, layer_input, ("layer.y",)),
        Row("layer.dgamma", "dL/dgamma", "parameter_gradients", 5, layer_parameter("gamma"),
            ("layer.y",)),
        Row("layer.dbeta", "dL/dbeta", "parameter_gradients", 5, layer_parameter("beta"),
            ("layer.y",)),
    ],
    "optimiser": [
        Row("optimiser.m_v", "m and v", "step", 5, optimiser_steps("m and v", 1)),
        Row("optimiser.first", "the first step", "step", 5, optimiser_steps("theta", 1),
            ("optimiser.m_v",)),
        Row("optimiser.second", "the second step", "step", 5, optimiser_steps("theta", 2),
            ("optimiser.first",)),
        Row("optimiser.tenth", "ten steps", "step", 5, optimiser_steps("theta", 10),
            ("optimiser.second",)),
    ],
}  # fmt: skip


def judge(design: Design, text: str | None, seed: int) -> list[Verdict]:
    """The verdicts of one design, from the text of its file; None if there is no such file."""
    rows = ROWS[design.name]
    file = f"{design.name}.py"
    if text is None:
        return [verdict(design, row, "missing", f"{file} is missing") for row in rows]
    found = next(iter(rules.breaches(text)), None)
    if found:
        return broken(design, f"{found[1]} ({file}, line {found[0]})")
    verdicts: dict[str, Verdict] = {}
    pending, left = list(rows), BUDGET
    try:
        while pending and left > 0:  # a row that ends the process costs itself, and some of BUDGET
            with np.errstate(all="ignore"), Sandbox(total=left) as sandbox:
                try:
                    sandbox.load(design.name, text)
                except Fault as fault:
                    return broken(design, f"{file} cannot be imported: {of_fault(fault)}")
                while pending and sandbox.is_open:
                    row = pending.pop(0)
                    waits = [other for other in row.waits if verdicts[other].verdict != "right"]
                    if waits:
                        verdicts[row.id] = verdict(design, row, "waits", f"for {', '.join(waits)}")
                    else:
                        verdicts[row.id] = tried(design, row, sandbox, seed)
                left -= sandbox.waited
    except Fault as fault:  # the process did not even start
        return broken(design, str(fault))
    late = f"not tried: the rows before take {BUDGET:g} seconds"
    return [verdicts.get(row.id, verdict(design, row, "wrong", late)) for row in rows]


def tried(design: Design, row: Row, sandbox: Sandbox, seed: int) -> Verdict:
    try:
        row.check(design, sandbox, np.random.default_rng([seed, *row.id.encode()]))
    except Wrong as wrong:
        return verdict(design, row, "wrong", str(wrong))
    except Fault as fault:
        return verdict(design, row, *of_body(fault, f".{row.body}", sheets.bodies(design.name)))
    return verdict(design, row, "right")


def verdict(design: Design, row: Row, word: str, note: str = "") -> Verdict:
    code = f"{design.name}.py, {row.body}"
    return Verdict(row.id, design.name, row.title, code, row.of, word, note)


def broken(design: Design, note: str) -> list[Verdict]:
    """Verdicts of a file that cannot be run: the first has the reason, and the others wait."""
    first, *rest = ROWS[design.name]
    waiting = [verdict(design, row, "waits", f"for {design.name}.py") for row in rest]
    return [verdict(design, first, "wrong", note), *waiting]
