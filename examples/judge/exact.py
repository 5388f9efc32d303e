"""Checks of parts 1 to 4 against the package's own results, to the last digits.

They explain what the audit's rows find, notice a difference quotient, which those accept, and ask
some things one at a time: Adam's m, v and first steps, a frozen network, a loss outside its domain.
Each takes a random generator and raises Wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import audit
import numpy as np

import npaae
from npaae import priors

from .sandbox import Fault
from .stand_ins import LIMIT, Array, Rng, audited
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


def compare(
    name: str,
    found: Any,
    truth: Array,
    sizes: Mapping[str, float] | None = None,
    slips: Sequence[tuple[str, Array]] = (),
) -> None:
    floor = float(np.abs(truth).max(initial=0)) or 1.0
    require(name, found, truth, limit=LIMIT, floor=floor, sizes=sizes, slips=slips)


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
    ("equals Algorithm 1 with 1 − β₁ in place of 1 − β₁ᵗ",
     lambda c, g, m, v, t: algorithm(c, g, m, v, t) * (1 - c.beta1**t) / (1 - c.beta1)),
    ("equals Algorithm 1 with its sign reversed: θ climbs",
     lambda c, g, m, v, t: -algorithm(c, g, m, v, t)),
    ("equals Algorithm 1 with g in place of m",
     lambda c, g, m, v, t: g / ((v / (1 - c.beta2**t)) ** 0.5 + c.epsilon)),
    ("equals a step against m alone: v is not used",
     lambda c, g, m, v, t: m / (1 - c.beta1**t)),
    ("equals gradient descent: neither m nor v is used", lambda c, g, m, v, t: g),
]  # fmt: skip


def adam_part(rng: Rng, part: str) -> None:
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
        return
    moves = [(text, case.run(rule)[steps - 1]) for text, rule in ADAM_SLIPS]
    found = theta - start
    if not np.isfinite(found).all():
        raise Wrong("θ is NaN or infinite: t must be 1 in the first step, or 1 − βᵗ is 0")
    require(f"the {part} step", found, case.run(algorithm)[steps - 1], limit=1e-9,
            floor=case.rate, slips=moves, derived=False)  # fmt: skip


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
