"""Checks of parts 1 to 4 against the package's own results, to the last digits.

They explain what the audit's rows find, notice a difference quotient, which those accept, and ask
some things one at a time: Adam's m, v and first steps, a frozen network, a loss outside its domain.
Each takes a random generator and raises Wrong.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import audit
import numpy as np

import npaae
from npaae import priors

from .formula import Formula
from .sandbox import Fault
from .stand_ins import LIMIT, Array, Rng, audited, compare
from .verdicts import Wrong, require


def refuses(rng: Rng) -> None:
    """Require that p outside (0, 1) is refused, by any exception. NaN is nobody's homework."""
    for p in (0.0, 1.0, -0.5, 1.5):
        try:
            audited("losses").bce(np, np.array([0.5, p]), 1.0)
        except (Fault, ValueError) as refused:  # of the student's code, and of the package
            if getattr(refused, "error", "") == "NotImplementedError":
                raise
            continue
        raise Wrong(f"p = {p:g} must be refused with an exception, because L is not defined there")


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


def chain(rng: Rng) -> None:
    """A network without dropout against the package's, to the last digits."""
    theirs, ours, x, dy = a_perceptron(rng)
    (dx, found), (truth, gradients) = passes(theirs, x, dy), passes(ours, x, dy)
    compare("dx", dx, truth)
    for label, gradient in gradients.items():
        layer, _, name = label.partition(".")
        if np.isnan(found[label]).all():
            raise Wrong(f"d{name} of layer {layer} is not written: call its parameter_gradients")
        compare(f"d{name} of layer {layer}", found[label], gradient)


def frozen(rng: Rng) -> None:
    theirs, ours, x, dy = a_perceptron(rng)
    dx, gradients = passes(theirs, x, dy, parameters=False)
    compare("dx with parameters=False", dx, passes(ours, x, dy)[0])
    for label, gradient in gradients.items():
        if not np.isnan(gradient).all():
            raise Wrong(f"with parameters=False, the gradient of {label} must not be written")


def stops_early(rng: Rng) -> None:
    theirs, _, x, dy = a_perceptron(rng)
    if passes(theirs, x, dy, inputs=False)[0] is not None:
        raise Wrong("with inputs=False, dx is not wanted: return None, and save a matrix product")


ALGORITHM = {  # 1 of Kingma and Ba
    "m": "b1 * m + (1 - b1) * g",
    "v": "b2 * v + (1 - b2) * g**2",
    "c": "m / (1 - b1**t)",
    "d": "sqrt(v / (1 - b2**t)) + e",
    "theta": "theta - a * c / d",
}


def adam(**changed: str) -> Formula:
    """Algorithm 1, with some lines changed."""
    return Formula([f"{name} = {line}" for name, line in (ALGORITHM | changed).items()])


ADAM_SLIPS = {
    "Algorithm 1 without bias correction": adam(c="m", d="sqrt(v) + e"),
    "Algorithm 1 without the bias correction of m": adam(c="m"),
    "Algorithm 1 without the bias correction of v": adam(d="sqrt(v) + e"),
    "Algorithm 1 with ε inside the root": adam(d="sqrt(v / (1 - b2**t) + e)"),
    "Algorithm 1 without the root": adam(d="v / (1 - b2**t) + e"),
    "Algorithm 1 without ε": adam(d="sqrt(v / (1 - b2**t))"),
    "the paper's other form, where ε is not corrected": adam(d="(sqrt(v) + e) / sqrt(1 - b2**t)"),
    "Algorithm 1 with t one too large: t must be 1 in the first step":
        adam(c="m / (1 - b1**(t + 1))", d="sqrt(v / (1 - b2**(t + 1))) + e"),
    "Algorithm 1 with t one too late: increase t before it is used":
        adam(c="m / (1 - b1**(t - 1))", d="sqrt(v / (1 - b2**(t - 1))) + e"),
    "Algorithm 1 with 1 − β in place of 1 − βᵗ":
        adam(c="m / (1 - b1)", d="sqrt(v / (1 - b2)) + e"),
    "Algorithm 1 with 1 − β₁ in place of 1 − β₁ᵗ": adam(c="m / (1 - b1)"),
    "Algorithm 1 with its sign reversed: θ climbs": adam(theta="theta + a * c / d"),
    "Algorithm 1 with g in place of m": adam(c="g"),
    "a step against m alone: v is not used": adam(d="1"),
    "gradient descent: neither m nor v is used": adam(c="g", d="1"),
}  # fmt: skip


def adam_part(rng: Rng, part: str) -> None:
    """m, v, or the move of θ in the first or the second step."""
    scale = 10 ** rng.uniform(-1, 1)
    a, b1, b2 = rng.uniform((0.01, 0.6, 0.7), (0.1, 0.9, 0.99)).tolist()
    constants = {"a": a, "b1": b1, "b2": b2, "e": scale * rng.uniform(0.3, 1)}
    gradients, begin = scale * rng.standard_normal((2, 6)), a * rng.standard_normal(6)
    theta, gradient, steps = begin.copy(), gradients[0].copy(), 2 if part == "second" else 1
    theirs = audited("optim").Adam(np, theta, gradient, *constants.values())
    for gradient[:] in gradients[:steps]:
        start = theta.copy()
        theirs.step()
    g = gradients[0]
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
        require(f"{part} after the first step", getattr(theirs, part), truth, limit=LIMIT,
                slips=slips, derived=False)  # fmt: skip
        return
    found = theta - start
    if not np.isfinite(found).all():
        raise Wrong("θ is NaN or infinite: t must be 1 in the first step, or 1 − βᵗ is 0")

    def move(formula: Formula) -> Array:
        ends = [begin, *(step["theta"] for step in formula.steps(begin, gradients, **constants))]
        return np.asarray(ends[steps] - ends[steps - 1])

    slips = [(f"equals {name}", move(formula)) for name, formula in ADAM_SLIPS.items()]
    require(f"the {part} step", found, move(adam()), limit=1e-9, floor=a, slips=slips,
            derived=False)  # fmt: skip


def phase_blocks(rng: Rng, number: int, classes: int, what: str) -> None:
    """A phase without dropout against the package's, network by network.

    The codes are made without a generator, because a rate of 0 may draw masks all the same, and the
    phase draws from the prior first.
    """
    arguments: dict[str, Any] = {
        "hidden": (4, 3), "latent": 2, "visible": 6, "classes": classes, "dtype": "float64",
        "prior": priors.gaussian_mixture(components=3) if classes else priors.gaussian(),
        "dropout": 0.0, "discriminator_dropout": 0.0, "seed": audit.a_seed(rng),
    }  # fmt: skip
    theirs, ours = (
        model(**arguments) for model in (audited("Model"), npaae.AdversarialAutoencoder)
    )
    x, labels = rng.random((5, 6)), np.array([-1, 0, 1, 2, 0]) if classes else None
    seed = audit.a_seed(rng)
    sizes = {"n, the rows": 5.0, "x.size": 30.0, "the columns of x": 6.0}

    def run(model: Any) -> tuple[Any, Array]:
        model.gradient[:] = 0
        draws, (codes, caches) = np.random.default_rng(seed), model.encoder.forward(x)
        if number == 1:
            loss = model.reconstruction_gradient(x, draws)
        elif number == 2:
            loss = model.discriminator_gradient(codes, draws, labels)
        else:
            loss = model.generator_gradient(codes, caches, draws, labels)
        return loss, model.gradient.copy()

    (loss, gradient), (right_loss, right) = run(theirs), run(ours)
    slips = []
    for sentence, changed in TARGETS.items():
        with other_targets(changed):
            slips.append((sentence, *run(ours)))
    if what == "value":
        losses = [(sentence, np.asarray(wrong)) for sentence, wrong, _ in slips]
        compare("L", loss, np.asarray(right_loss), sizes, losses)
        return
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


TARGETS: dict[str, Callable[[Any], Any]] = {
    "every target is 1": lambda t: 1.0,
    "every target is 0": lambda t: 0.0,
    "the targets 0 and 1 are exchanged": lambda t: 1 - t,
}


@contextmanager
def other_targets(changed: Callable[[Any], Any]) -> Iterator[None]:
    """While the package's phases compute their losses for other targets."""
    original = vars(npaae.model)["bce_with_logits"]
    vars(npaae.model)["bce_with_logits"] = lambda xp, logits, t: original(xp, logits, changed(t))
    try:
        yield
    finally:
        vars(npaae.model)["bce_with_logits"] = original
