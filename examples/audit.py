"""Audit the mathematics: every formula, where it is, how it was checked, and its worst error.

    python examples/audit.py                 # every row, as soon as it is checked
    python examples/audit.py dense phase1    # only the rows of these; --markdown for a report

Break a formula in npaae/layers.py and run this again: its row turns red, and the exit status is 1.

Each section of this file has the checks of one part of the package. `row` adds a check to the
table. A check receives a random generator, draws a case (sizes, scales, rates, values, masks) and
returns an error. One case in twenty has the size of a real batch: 100 rows or more, and wide
layers. A row passes if the error stays within its limit in every case. Errors are of four kinds:

    derivatives      the worst relative error that `npaae.gradcheck` finds, of every element or, if
                     there are many, along a random direction through all of them
    values           the relative error against the definition, written a second time
    equal numbers    the number of numbers that differ
    random draws     a distance from the distribution, relative to what chance exceeds once in 10^9

The arguments given to the package are read-only, because it promises not to write to them. The
checks look up `layers`, `losses`, `optim` and so on by the names below when they run, so they check
whatever these names refer to: after `audit.layers = mine` they check your own layers.
"""

import argparse
import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial, reduce
from itertools import combinations
from math import erf, inf, log, nan, pi, sqrt
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np
from numpy.random import default_rng

from npaae import AdversarialAutoencoder as Model
from npaae import CategoricalAutoencoder as Categorical
from npaae import backend, categorical, gradcheck, layers, losses, metrics, optim, priors, training
from npaae.errors import InvalidInput
from npaae.experiment import Parser, launch

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
Check: TypeAlias = Callable[[Rng], float]
Adder: TypeAlias = Callable[[Check], Check]


class Row(NamedTuple):
    id: str  # never changes: "dense.dx"
    formula: str
    code: str  # what holds it, by its name in this module
    how: str
    limit: float
    check: Check


ROWS: list[Row] = []

EVERY, ALONG = "differences, every element", "difference, random direction"
AGAIN, EQUAL = "the definition, written again", "numbers that differ"
LIMITS = {EVERY: 1e-7, ALONG: 1e-6, AGAIN: 1e-12, EQUAL: 0.0}  # of random draws: 1


def row(name: str, formula: str, code: str, how: str, limit: float | None = None) -> Adder:
    """Decorate a check to add it to the table."""

    def add(check: Check) -> Check:
        most = LIMITS.get(how, 1.0) if limit is None else limit
        ROWS.append(Row(name, formula, code, how, most, check))
        return check

    return add


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def is_real(rng: Rng) -> bool:
    """Whether a case has the size of a real batch."""
    return rng.random() < 0.05


def sizes(rng: Rng, count: int, least: int = 1) -> list[int]:
    """The number of rows of a case, and so many numbers of columns."""
    if is_real(rng):
        return [int(rng.integers(100, 300)), *map(int, rng.integers(10, 130, count - 1))]
    return [*map(int, rng.integers(least, 7, count))]


def a_matrix(rng: Rng, shape: Any) -> Array:
    """Normal numbers with a scale between 1/10 and 10."""
    return read_only(10 ** rng.uniform(-1, 1) * rng.standard_normal(shape))


def a_batch(rng: Rng) -> Array:
    return a_matrix(rng, sizes(rng, 2))


def a_seed(rng: Rng) -> int:
    return int(rng.integers(2**32))


def a_length(rng: Rng) -> float:
    return float(10 ** rng.uniform(-1, 1))


def along(rng: Rng, f: Callable[[Array], Any], x: Array, gradient: Array) -> float:
    """The error along a random direction, but none in which f hardly changes.

    If differences decide nothing, which is rare, because many ReLUs change sign nearby, another
    direction and a shorter step are tried, twice.
    """
    length = float(np.linalg.norm(gradient))
    towards = 3 * gradient / length if 0 < length < inf else 0

    def error(step: float) -> float:
        direction = towards + rng.standard_normal((*x.shape,))
        return gradcheck.along(f, x, gradient, direction, step)

    for step in (1e-5, 1e-6):
        with suppress(InvalidInput):
            return error(step)
    return error(1e-7)


def slope_error(rng: Rng, f: Callable[[Array], Any], x: Array, gradient: Array) -> float:
    """The worst error of a gradient: over all elements or, if there are many, along a direction."""
    return gradcheck.elementwise(f, x, gradient) if x.size <= 36 else along(rng, f, x, gradient)


# The chance that draws of the right distribution exceed one of the bounds below. Each is a theorem,
# for any sample size. A case compares with less than a hundred of them.
RARE = 1e-11


def uniform_distance(u: Array) -> float:
    """How far samples are from uniform on [0, 1): the Kolmogorov distance.

    P(sup |Fₙ − F| > ε) ≤ 2 exp(−2 n ε²) (Dvoretzky, Kiefer, Wolfowitz; Massart). The samples of
    another continuous distribution go through its distribution function first.
    """
    u = np.sort(u, axis=None)
    steps = np.arange(u.size + 1) / u.size
    distance = max((steps[1:] - u).max(), (u - steps[:-1]).max())
    return float(distance) / sqrt(log(2 / RARE) / (2 * u.size))


def uniform_distances(*columns: Array) -> float:
    """The worst over each column, and over each given that another is below ½ (independence)."""
    halves = [u[v < 0.5] for u, v in combinations(columns, 2)]
    return max(map(uniform_distance, (*columns, *halves)))


GRID = np.linspace(-9, 9, 3001)  # between whose points the error is below 1e-6
NORMAL_CDF = [(1 + erf(value / sqrt(2))) / 2 for value in GRID]


def normal_cdf(values: Array) -> Array:
    return np.interp(values, GRID, NORMAL_CDF)


def mean_distance(values: Array, mean: float, spread: float) -> float:
    """The distance of a mean from its expectation, for values in an interval of length `spread`.

    P(|x̄ − μ| > ε) ≤ 2 exp(−2 n ε² / spread²) (Hoeffding).
    """
    return abs(float(values.mean()) - mean) / spread / sqrt(log(2 / RARE) / (2 * values.size))


def dependence(z: Array) -> float:
    """The largest autocorrelation of a matrix of mean 0, Σᵢⱼ zᵢⱼ zᵢ₊ₖ,ⱼ₊ₗ, over all k and l.

    Each is a sum of at most n martingale differences, because the later one of its two factors has
    mean 0 given all previous ones. So P(|sum| > ε) ≤ 2 exp(−ε² / (2 n max|z|⁴)) (Azuma, Hoeffding).
    """
    spectrum = np.fft.rfft2(z, [2 * size for size in z.shape])  # zeros around, so nothing wraps
    sums = np.abs(np.fft.irfft2(np.abs(spectrum) ** 2))
    sums[0, 0] = 0
    bound = sqrt(2 * z.size * log(2 * sums.size / RARE)) * float(np.abs(z).max()) ** 2
    return float(sums.max()) / bound


# Layers. A case is a layer or a network, and an input for it.

LayerCase: TypeAlias = Callable[[Rng], tuple[Any, Array]]


def layer_value(rng: Rng, case: LayerCase, definition: Any, training: bool = True) -> float:
    """Against the definition, which is given the same random draws."""
    (layer, x), seed = case(rng), a_seed(rng)
    y, _ = layer.forward(x, default_rng(seed) if training else None)
    expected = definition(layer, x, default_rng(seed) if training else None)
    return gradcheck.relative_error(y, expected)


def layer_input(rng: Rng, case: LayerCase, training: bool = True) -> float:
    (layer, x), seed = case(rng), a_seed(rng)

    def forward(x: Array) -> Any:
        return layer.forward(x, default_rng(seed) if training else None)

    y, cache = forward(x)
    dy = a_matrix(rng, y.shape)
    dx = layer.backward(dy, cache)
    return slope_error(rng, lambda x: np.vdot(dy, forward(x)[0]), x, dx)


def layer_parameters(rng: Rng, case: LayerCase, name: str = "") -> float:
    """One parameter of a layer, or all of them."""
    (layer, x), seed = case(rng), a_seed(rng)
    if name:
        theta, gradient = getattr(layer, name), getattr(layer, f"d{name}")
    else:
        theta, gradient = layers.flatten(np, [layers.Sequential([layer])])

    def forward(parameters: Array) -> Any:
        theta[...] = parameters
        return layer.forward(x, default_rng(seed))

    gradient[...] = nan  # what is not overwritten shows
    start = theta.copy()
    y, cache = forward(start)
    dy = a_matrix(rng, y.shape)
    write = layer.backward if hasattr(layer, "layers") else layer.parameter_gradients
    write(dy, cache)
    return slope_error(rng, lambda theta: np.vdot(dy, forward(theta)[0]), start, gradient)


def layer_rows(name: str, code: str, case: LayerCase, of: Any = None, **formulas: str) -> None:
    """Rows of a layer: y against its definition, dx and the gradients of its parameters."""
    for part, formula in formulas.items():
        how, method = EVERY, "parameter_gradients"
        check: Check = partial(layer_parameters, case=case, name=part.removeprefix("d"))
        if part == "y":
            how, method, check = AGAIN, "forward", partial(layer_value, case=case, definition=of)
        elif part == "dx":
            method, check = "backward", partial(layer_input, case=case)
        elif part == "parameters":  # of a network
            method, check = "backward", partial(layer_parameters, case=case)
        row(f"{name}.{part}", formula, f"{code}.{method}", how)(check)


def elementwise(layer: str) -> LayerCase:
    """The case of a layer without parameters or settings."""
    return lambda rng: (getattr(layers, layer)(np), a_batch(rng))


def a_dense(rng: Rng) -> tuple[Any, Array]:
    n, fan_in, fan_out = sizes(rng, 3)
    W, b = rng.standard_normal((fan_in, fan_out)), rng.standard_normal(fan_out)
    return layers.Dense(np, a_length(rng) * W, b), a_matrix(rng, (n, fan_in))


def a_dropout(rng: Rng, least: float = 0.1, most: float = 0.9) -> tuple[float, Any]:
    """A rate that 16 bits represent exactly, and the layer."""
    rate = int(2**16 * rng.uniform(least, most)) / 2**16
    return rate, layers.Dropout(np, rate)


def a_network(rng: Rng) -> tuple[Any, Array]:
    """A network with dropout and random parameters, and an input for it."""
    n, *widths = sizes(rng, 5)
    network = layers.perceptron(np, widths, rng.uniform(0, 0.5), float)
    for _, layer, name in layers.named_parameters(network):
        parameter = getattr(layer, name)
        parameter[...] = rng.standard_normal(parameter.shape) / sqrt(len(layer.W))
    return network, a_matrix(rng, (n, widths[0]))


def dense_y(layer: Any, x: Array, rng: Rng) -> Any:
    return (x[:, :, None] * layer.W).sum(axis=1) + layer.b


layer_rows("dense", "layers.Dense", a_dense, dense_y, y="dense: y = x W + b",
           dx="dense: dx = dy Wᵀ", dW="dense: dW = xᵀ dy", db="dense: db = Σᵢ dyᵢ")  # fmt: skip


@row("dense.initial", "initial weights: uniform on ±1/√fan_in", "layers.Dense.initialise",
     "distribution of 10,000")  # fmt: skip
def initial_weights(rng: Rng) -> float:
    """Weights and biases are uniform, and at most 1 % of the interval is empty at either end.

    If they are, a larger gap among 10,000 draws occurs in fewer than one of 10^21 cases.
    """
    fan_in, errors = int(rng.integers(1, 1000)), []
    layer = layers.Dense(np, np.empty((fan_in, -(-10_000 // fan_in))), np.empty(10_000))
    layer.initialise(rng)
    for part in (layer.W, layer.b):
        u = (part * sqrt(fan_in) + 1) / 2
        if not (u.min() >= 0 and u.max() <= 1 and np.unique(u).size > u.size - 5):
            return inf  # beyond the bound, or several copies of one draw
        errors += [uniform_distance(u), u.min() / 0.01, (1 - u.max()) / 0.01]
    return float(max(errors))


layer_rows("relu", "layers.ReLU", elementwise("ReLU"), lambda layer, x, rng: np.where(x > 0, x, 0),
           y="ReLU: y = max(x, 0)", dx="ReLU: dx = dy · [x > 0]")  # fmt: skip


@row("relu.zero", "ReLU at 0: dx = 0", "layers.ReLU.backward", EQUAL)
def relu_at_zero(rng: Rng) -> float:
    layer, dy = layers.ReLU(np), a_batch(rng)
    return float(np.sum(layer.backward(dy, layer.forward(np.zeros_like(dy))[1]) != 0))


@row("sigmoid.y", "sigmoid: y = 1 / (1 + e⁻ˣ)", "layers.sigmoid", AGAIN)
def sigmoid_value(rng: Rng) -> float:
    x = read_only(rng.uniform(-30, 30, sizes(rng, 2)))
    return float(np.abs(layers.Sigmoid(np).forward(x)[0] * (1 + np.exp(-x)) - 1).max())


@row("sigmoid.extremes", "sigmoid: finite and right at ±1e4", "layers.sigmoid",
     "values in float32", 0)  # fmt: skip
def sigmoid_extremes(rng: Rng) -> float:
    x = rng.choice(np.array([1e4, -1e4], np.float32), sizes(rng, 2))
    with np.errstate(all="raise", under="ignore"):
        return float(np.abs(layers.Sigmoid(np).forward(x)[0] - (x > 0)).max())


layer_rows("sigmoid", "layers.Sigmoid", elementwise("Sigmoid"), dx="sigmoid: dx = dy · y (1 − y)")
layer_rows("dropout", "layers.Dropout", dx="dropout: dx = m · dy",
           case=lambda rng: (a_dropout(rng, 0)[1], a_batch(rng)))  # fmt: skip


@row("dropout.scale", "dropout: m = 1 / (1 − p), so E[m x] = x", "layers.Dropout.forward",
     "the scale of what is kept", 1e-12)  # fmt: skip
def dropout_scale(rng: Rng) -> float:
    rate, layer = a_dropout(rng)
    mask = layer.forward(np.ones((200, 50)), rng)[0]
    return float(np.abs(mask[mask != 0] * (1 - rate) - 1).max())


@row("dropout.rate", "dropout: P(m = 0) = p", "layers.Dropout.forward", "share of 10,000")
def dropout_rate(rng: Rng) -> float:
    rate, layer = a_dropout(rng)
    return mean_distance(layer.forward(np.ones((200, 50)), rng)[0] == 0, rate, 1)


@row("dropout.independence", "dropout: each element on its own", "layers.Dropout.forward",
     "autocorrelation of 20,000, any lag")  # fmt: skip
def dropout_alone(rng: Rng) -> float:
    """No dependence along rows, along columns or between passes."""
    rate, layer = a_dropout(rng, 0.2, 0.8)
    passes = [layer.forward(np.ones((200, 50)), rng)[0] == 0 for _ in range(2)]
    return dependence(np.concatenate(passes) - rate)


@row("dropout.off", "dropout: off, it is the identity", "layers.Dropout.forward", EQUAL)
def dropout_off(rng: Rng) -> float:
    x, layer = a_batch(rng), a_dropout(rng)[1]
    y, cache = layer.forward(x)
    return float(np.sum(y != x) + np.sum(layer.backward(x, cache) != x))


@row("layers.caches", "every layer: backward uses its own forward", "layers", EQUAL)
def own_cache(rng: Rng) -> float:
    """Forward A, forward B, backward A: against forward A, backward A; parameters included."""
    n, k = sizes(rng, 2)
    a, b, dy = (a_matrix(rng, (n, k)) for _ in range(3))
    dense = layers.Dense(np, rng.standard_normal((k, k)), np.zeros(k))
    differing = 0

    def gradients(layer: Any, cache: Any) -> Array:
        parts = [layer.backward(dy, cache)]
        if layer is dense:
            layer.parameter_gradients(dy, cache)
            parts += [layer.dW, layer.db]
        return np.concatenate([part.ravel() for part in parts])

    for layer in (dense, layers.ReLU(np), layers.Sigmoid(np), a_dropout(rng)[1]):
        _, cache = layer.forward(a, rng)
        expected = gradients(layer, cache)
        layer.forward(b, rng)
        differing += int(np.sum(gradients(layer, cache) != expected))
    return float(differing)


def network_y(network: Any, x: Array, rng: Rng | None) -> Any:
    """The formula written out, with the same masks."""
    W1, b1, W2, b2, W3, b3 = (getattr(*named[1:]) for named in layers.named_parameters(network))

    def hidden(y: Array) -> Any:
        mask, _ = network.layers[2].forward(np.ones(y.shape), rng)
        return mask * np.where(y > 0, y, 0)

    return hidden(hidden(x @ W1 + b1) @ W2 + b2) @ W3 + b3


@row("network.y", "network: dense, ReLU, dropout, …, dense", "layers.perceptron", AGAIN)
def network_value(rng: Rng) -> float:
    """With dropout and without."""
    return max(layer_value(rng, a_network, network_y, training) for training in (True, False))


layer_rows("network", "layers.Sequential", a_network, dx="network: the chain rule, dx",
           parameters="network: the chain rule, dW and db of each")  # fmt: skip


@row("network.frozen", "network: frozen, or without dx", "layers.Sequential.backward", EQUAL)
def network_without(rng: Rng) -> float:
    """What of a backward pass is computed although nobody wants it, or lost with it."""
    network, x = a_network(rng)
    y, caches = network.forward(x)
    dx = network.backward(np.ones_like(y), caches)
    owned = [(layer, f"d{name}") for _, layer, name in layers.named_parameters(network)]
    right = [getattr(*place).copy() for place in owned]
    for place in owned:
        getattr(*place)[...] = nan
    frozen = network.backward(np.ones_like(y), caches, parameters=False)
    written = sum(not np.isnan(getattr(*place)).all() for place in owned)
    returned = network.backward(np.ones_like(y), caches, inputs=False) is not None
    differing = sum(np.sum(getattr(*p) != g) for p, g in zip(owned, right, strict=True))
    return float(np.sum(frozen != dx) + written + returned + differing)


# Losses. A case is a function x ↦ (loss, gradient), a point x, and the loss by definition.

LossCase: TypeAlias = Callable[[Rng], tuple[Callable[[Array], Any], Array, float]]


def loss_value(rng: Rng, case: LossCase) -> float:
    loss, x, expected = case(rng)
    return gradcheck.relative_error(loss(x)[0], expected)


def loss_gradient(rng: Rng, case: LossCase) -> float:
    loss, x, _ = case(rng)
    return slope_error(rng, lambda x: loss(x)[0], x, loss(x)[1])


def loss_rows(
    name: str, code: str, case: LossCase, value: str, gradient: str, limit: float | None = None
) -> None:
    row(f"{name}.value", value, code, AGAIN, limit)(partial(loss_value, case=case))
    row(f"{name}.gradient", gradient, code, EVERY)(partial(loss_gradient, case=case))


def targets(rng: Rng, p: Array) -> Array:
    """Targets in [0, 1], away from p, where the gradient vanishes and has no relative error."""
    t = np.where(p < 0.5, rng.uniform(0.6, 1, p.shape), rng.uniform(0, 0.4, p.shape))
    return read_only(t)


def cross_entropy(p: Array, t: Array) -> float:
    """The definition, element by element."""
    pairs = zip(p.flat, t.flat, strict=True)
    return float(np.mean([-t * log(p) - (1 - t) * log(1 - p) for p, t in pairs]))


def a_bce(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    p = rng.uniform(0.1, 0.9, sizes(rng, 2))
    t = targets(rng, p)
    return lambda p: losses.bce(np, p, t), read_only(p), cross_entropy(p, t)


def a_bce_with_logits(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    logits = rng.uniform(-4, 4, sizes(rng, 2))
    p = 1 / (1 + np.exp(-logits))
    t = targets(rng, p)
    return lambda x: losses.bce_with_logits(np, x, t), read_only(logits), cross_entropy(p, t)


loss_rows("bce", "losses.bce", a_bce, "BCE: L = −mean[t ln p + (1 − t) ln(1 − p)]",
          "BCE: dp = (p − t) / (p (1 − p)) / N")  # fmt: skip


@row("bce.domain", "BCE: refuses p outside (0, 1)", "losses.bce", "those let through", 0)
def closed_interval(rng: Rng) -> float:
    """The number of probabilities without a cross-entropy that are accepted."""
    p, passed = rng.uniform(0.1, 0.9, sizes(rng, 2)), 0
    place = int(rng.integers(p.size))
    for outside in (0.0, 1.0, -0.5, 1.5, nan):
        p.flat[place] = outside
        try:
            losses.bce(np, p, 1.0)
            passed += 1
        except ValueError:
            pass
    return float(passed)


loss_rows("bce_with_logits", "losses.bce_with_logits", a_bce_with_logits, "BCE of logits: L",
          "BCE of logits: dl = (σ(l) − t) / N")  # fmt: skip


@row("bce_with_logits.extremes", "BCE of logits: finite and right at ±1e4",
     "losses.bce_with_logits", "values in float32", 1e-6)  # fmt: skip
def extremes(rng: Rng) -> float:
    """In float32, at logits of ±1e4: loss and gradient of all four cases, and no overflow."""
    four = np.array([[[1e4, 1e4, -1e4, -1e4]], [[1, 0, 1, 0]]], np.float32)
    logits, t = np.repeat(four, sizes(rng, 1)[0], axis=1)
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = losses.bce_with_logits(np, logits, t)
    return float(max(abs(loss / 5000 - 1), np.abs(gradient * logits.size - [0, 1, -1, 0]).max()))


@row("bce_with_logits.composition", "BCE of logits = BCE after sigmoid",
     "losses.bce_with_logits", "gradients of the two", 1e-12)  # fmt: skip
def composition(rng: Rng) -> float:
    logits, sigmoid = read_only(rng.uniform(-4, 4, sizes(rng, 2))), layers.Sigmoid(np)
    p, cache = sigmoid.forward(logits)
    t = targets(rng, p)
    dp, dlogits = losses.bce(np, p, t)[1], losses.bce_with_logits(np, logits, t)[1]
    return gradcheck.relative_error(sigmoid.backward(dp, cache), dlogits)


# The optimiser


@row("adam.step", "Adam: θ ← θ − α m̂ / (√v̂ + ε)", "optim.Adam.step",
     "10 steps of Algorithm 1", 1e-9)  # fmt: skip
def adam_steps(rng: Rng) -> float:
    """Ten steps against Algorithm 1 as in the paper, sometimes over several blocks and a part.

    ε is drawn on the scale of the gradient, so that its place in the formula matters.
    """
    n = 2 * backend.BLOCK + 3 if is_real(rng) else 5
    rate, scale = 10 ** rng.uniform(-4, -1), 10 ** rng.uniform(-3, 1)
    beta1, beta2, epsilon = rng.uniform(0, 0.95), rng.uniform(0, 0.999), scale * rng.random()
    theta, gradient = rng.standard_normal((2, n)) * rate
    adam = optim.Adam(np, theta, gradient, rate, beta1, beta2, epsilon)
    start, expected, m, v = theta.copy(), theta.copy(), np.zeros(n), np.zeros(n)
    for t in range(1, 11):
        gradient[:] = scale * rng.standard_normal(n)
        adam.step()
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        expected -= rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return gradcheck.relative_error(theta - start, expected - start)


@row("adam.flush", "Adam: m below 1e-30 left out, ≤ α β₁ m / ((1 − β₁) ε)", "optim._flush",
     "60 steps of Algorithm 1, over the bound")  # fmt: skip
def flush(rng: Rng) -> float:
    """The largest difference that setting small moments to 0 makes, relative to its bound.

    Moments of 1e-40 to 1e-20 decay for 60 steps without a gradient. θ starts at 0, so that
    differences of 1e-26 show.
    """
    n = 2 * backend.BLOCK + 3 if is_real(rng) else 50
    t, rate, epsilon = 99, 10 ** rng.uniform(-4, -1), 10 ** rng.uniform(-8, -4)
    theta = np.zeros(n)
    adam = optim.Adam(np, theta, np.zeros(n), rate, epsilon=epsilon)
    adam.t, adam.m[:], adam.v[:] = t, 10 ** rng.uniform(-40, -20, n), 10 ** rng.uniform(-60, -40, n)
    expected, m, v = np.zeros(n), adam.m.copy(), adam.v.copy()
    for _ in range(60):
        adam.step()
        t, m, v = t + 1, 0.9 * m, 0.999 * v
        expected -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + epsilon)
    bound = rate * 0.9 * 1e-30 / ((1 - 0.9) * epsilon * (1 - 0.9**100))
    return float(np.abs(theta - expected).max()) / bound


# The three phases. A case is a model, a batch for it, and the seed of its masks and draws.

ModelCase: TypeAlias = Callable[[Rng], tuple[Any, Array, int]]


class Phase(NamedTuple):
    gradient: Callable[[Any, Array, Rng], Any]  # returns the loss and leaves its gradient behind
    loss: Callable[[Any, Array, Rng], Any]  # by definition
    adam: str  # moves what the phase moves


def phase_value(rng: Rng, phase: Phase, case: ModelCase) -> float:
    model, x, seed = case(rng)
    expected = phase.loss(model, x, default_rng(seed))
    return gradcheck.relative_error(phase.gradient(model, x, default_rng(seed)), expected)


def phase_gradient(rng: Rng, phase: Phase, case: ModelCase) -> float:
    """Along a random direction through all the parameters that the phase moves, dropout on."""
    model, x, seed = case(rng)
    own = model.adams()[phase.adam]

    def loss(parameters: Array) -> Any:
        own.parameters[:] = parameters
        return phase.gradient(model, x, default_rng(seed))

    model.gradient[:] = nan  # what is not overwritten shows
    start = own.parameters.copy()
    loss(start)
    return along(rng, loss, start, own.gradient.copy())


def phase_isolation(rng: Rng, phase: Phase, case: ModelCase) -> float:
    """How many numbers outside the phase change: parameters, gradients, moments, steps."""
    model, x, seed = case(rng)
    own = model.adams()[phase.adam]
    others = [other for other in model.adams().values() if other is not own]
    model.gradient[:] = 0
    own.gradient[:] = 1
    foreign = model.gradient == 0

    def state() -> Array:
        moments = [part for adam in others for part in (adam.m, adam.v, [adam.t])]
        return np.concatenate([model.theta[foreign], model.gradient[foreign], *moments])

    before = state()
    phase.gradient(model, x, default_rng(seed))
    own.step()
    return float(np.sum(before != state()))


def phase_rows(name: str, code: str, case: ModelCase, phase: Phase, **formulas: str) -> None:
    """Rows of a phase: its `value`, its `gradient`, and its `isolation` from the others."""
    checks = {"value": phase_value, "gradient": phase_gradient, "isolation": phase_isolation}
    kinds = {"value": AGAIN, "gradient": ALONG, "isolation": EQUAL}
    for part, formula in formulas.items():
        check = partial(checks[part], phase=phase, case=case)
        row(f"{name}.{part}", formula, code, kinds[part])(check)


def a_model(rng: Rng, labels: bool = False) -> tuple[Any, Array, int]:
    """A model with dropout; with labels, its prior has a part for each class."""
    n, classes, visible, *hidden = sizes(rng, 5, least=2)
    own: dict[str, Any] = {"latent": int(rng.integers(2, 9))}
    if labels:
        prior = priors.gaussian_mixture(components=classes)
        own = {"latent": 2, "classes": classes, "prior": prior}
    model = Model(hidden=hidden, visible=visible, **own, **rates_and_seed(rng))
    model.theta *= rng.uniform(0.5, 1.5)
    return model, read_only(rng.random((n, visible))), a_seed(rng)


def rates_and_seed(rng: Rng) -> dict[str, Any]:
    rates = {name: rng.uniform(0, 0.5) for name in ("dropout", "discriminator_dropout")}
    return rates | {"dtype": "float64", "seed": a_seed(rng)}


def labels_of(x: Array, model: Any) -> Any:
    """A label for each row, or −1, "unlabelled"; None if the model has no classes."""
    return np.arange(1, len(x) + 1) % (model.classes + 1) - 1 if model.classes else None


def entropy(logits: Array, t: Array | float) -> Any:
    """The mean of −t ln σ(l) − (1 − t) ln(1 − σ(l))."""
    return np.mean(t * np.logaddexp(0, -logits) + (1 - t) * np.logaddexp(0, logits))


def reconstruction(model: Any, x: Array, rng: Rng) -> Any:
    return model.reconstruction_gradient(x, rng)


def reconstruction_loss(model: Any, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    return entropy(model.decoder.forward(codes, rng)[0], x)


def discriminator(model: Any, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    return model.discriminator_gradient(read_only(codes), rng, labels_of(x, model))


def discriminator_loss(model: Any, x: Array, rng: Rng) -> Any:
    """Of two discriminators the mean."""
    codes, _ = model.encoder.forward(x, rng)
    if hasattr(model, "categories"):
        real = model.draw_prior(rng, len(x))
    elif model.classes:
        labels, u = labels_of(x, model), rng.random(len(x))
        position = np.where(labels < 0, u, (labels + u) / model.classes)
        both, one_hot = (model.prior.sample_at(rng, position), codes), np.eye(model.classes + 1)
        real, codes = (np.hstack((z, one_hot[labels])) for z in both)
    else:
        real = model.prior(rng, len(x), model.latent)
    logits, _ = model.discriminator.forward(np.concatenate((real, codes)), rng)
    return entropy(logits[: len(x)], 1.0) + entropy(logits[len(x) :], 0.0)


def generator(model: Any, x: Array, rng: Rng) -> Any:
    codes, caches = model.encoder.forward(x, rng)
    return model.generator_gradient(read_only(codes), caches, rng, labels_of(x, model))


def generator_loss(model: Any, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    if model.classes:
        codes = np.hstack((codes, np.eye(model.classes + 1)[labels_of(x, model)]))
    return entropy(model.discriminator.forward(codes, rng)[0], 1.0)


ONE = Phase(reconstruction, reconstruction_loss, "reconstruction_adam")
TWO = Phase(discriminator, discriminator_loss, "discriminator_adam")
THREE = Phase(generator, generator_loss, "generator_adam")
WITH_LABELS = partial(a_model, labels=True)
phase_rows("phase1", "Model.reconstruction_gradient", a_model, ONE,
           value="phase 1: L = BCE(decoder(z), x)", gradient="phase 1: dL by encoder and decoder",
           isolation="phase 1: moves nothing else")  # fmt: skip
phase_rows("phase2", "Model.discriminator_gradient", a_model, TWO,
           value="phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0)",
           gradient="phase 2: dL by discriminator",
           isolation="phase 2: moves nothing else")  # fmt: skip
phase_rows("phase3", "Model.generator_gradient", a_model, THREE,
           value="phase 3: L = BCE(D(z), 1)", gradient="phase 3: dL by encoder, through D",
           isolation="phase 3: moves nothing else, D least of all")  # fmt: skip
phase_rows("labels.phase2", "Model.discriminator_gradient", WITH_LABELS, TWO,
           value="phase 2 with labels: L",
           gradient="phase 2 with labels: dL by discriminator")  # fmt: skip
phase_rows("labels.phase3", "Model.generator_gradient", WITH_LABELS, THREE,
           value="phase 3 with labels: L",
           gradient="phase 3 with labels: dL by encoder")  # fmt: skip


def step_difference(model: Any, stepped: Any, other: Any, expected: Any) -> float:
    """How many losses and numbers of two models differ."""
    changed = sum(np.sum(array != other.arrays()[name]) for name, array in model.arrays().items())
    return float(np.sum(np.array(stepped) != np.array(expected)) + changed)


@row("step.phases", "step: phases 1, 2, 3, each then moved", "Model.step", EQUAL)
def step_order(rng: Rng) -> float:
    """A step against its three phases by hand, two of which share one encoder pass."""
    model, x, seed = a_model(rng)
    other, draws = deepcopy(model), default_rng(seed)
    expected = [other.reconstruction_gradient(x, draws)]
    other.reconstruction_adam.step()
    codes, caches = other.encoder.forward(x, draws)
    expected.append(other.discriminator_gradient(codes, draws))
    other.discriminator_adam.step()
    expected.append(other.generator_gradient(codes, caches, draws))
    other.generator_adam.step()
    return step_difference(model, model.step(x, default_rng(seed)), other, expected)


@row("model.rates", "model: its rates where they belong", "Model", EQUAL)
def rates(rng: Rng) -> float:
    """How many of a model's dropout and learning rates do not match its arguments."""
    p, q, a, b = rng.uniform(0.1, 0.9, 4)
    drop, learn = ("dropout", "discriminator_dropout"), ("lr_reconstruction", "lr_regularization")
    arguments: dict[str, Any] = dict(zip(drop + learn, (p, q, a, b), strict=True))
    model = Model(hidden=(3, 2), visible=4, **arguments)
    networks, adams = (model.encoder, model.decoder, model.discriminator), model.adams().values()
    dropouts = [part for network in networks for part in network.layers if hasattr(part, "rate")]
    found = [layer.rate for layer in dropouts] + [adam.learning_rate for adam in adams]
    found += [number for adam in adams for number in (adam.beta1, adam.beta2, adam.epsilon)]
    return float(found != [p, p, p, p, q, q, a, b, b] + 3 * [0.9, 0.999, 1e-8])


@row("decode.images", "decode: σ(decoder(z)), dropout off", "Model.decode", AGAIN)
def decoding(rng: Rng) -> float:
    """Sometimes more images than are decoded at once."""
    model, x, _ = a_model(rng)
    x = np.repeat(x, 10, axis=0) * rng.random((10 * len(x), 1))
    codes = model.encoder.forward(x)[0]
    expected = 1 / (1 + np.exp(-model.decoder.forward(codes)[0]))
    images = (model.decode(codes), model.reconstruct(x))
    return max(gradcheck.relative_error(image, expected) for image in images)


# Categories: what `CategoricalAutoencoder` adds


def a_score(rng: Rng) -> tuple[Array, Array]:
    """Logits of some rows, and a label for each."""
    n, k = sizes(rng, 2, least=2)
    return read_only(rng.uniform(-4, 4, (n, k))), read_only(rng.integers(0, k, n))


def shares(logits: Array) -> Array:
    return np.array([np.exp(row) / sum(np.exp(row)) for row in logits])


@row("log_softmax.y", "ln softmax: l − ln Σ exp(l)", "categorical.layers.log_softmax", AGAIN)
def log_softmax_value(rng: Rng) -> float:
    """Along either axis, also with logits whose exponentials would overflow or vanish."""
    (logits, _), axis, shift = a_score(rng), int(rng.integers(2)), rng.choice([0, -1e3, 1e3])
    expected = np.log(shares(logits) if axis == 1 else shares(logits.T).T)
    found = categorical.layers.log_softmax(np, logits + shift, axis)
    return gradcheck.relative_error(found, expected)


@row("softmax.y", "softmax: p = exp(l) / Σ exp(l)", "categorical.layers.softmax", AGAIN)
def softmax_value(rng: Rng) -> float:
    logits, _ = a_score(rng)
    more = logits + 10 ** rng.uniform(0, 2)  # which changes nothing
    return gradcheck.relative_error(categorical.layers.softmax(np, more), shares(logits))


def a_cross_entropy(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    logits, labels = a_score(rng)
    loss = partial(categorical.losses.softmax_cross_entropy, np, labels=labels)
    expected = np.mean([-log(p[j]) for p, j in zip(shares(logits), labels, strict=True)])
    return loss, logits, float(expected)


def divergence_of(p: Array, q: Array) -> float:
    """KL(p ‖ q), by definition, the mean over the rows."""
    pairs = zip(p.ravel(), q.ravel(), strict=True)
    return float(sum(a * log(a / b) for a, b in pairs)) / len(p)


def information_of(q: Array) -> float:
    """The mutual information of rows and categories, by definition."""
    return divergence_of(q, np.broadcast_to(q.mean(axis=0), q.shape))


def a_divergence(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    logits, _ = a_score(rng)
    log_p = read_only(np.log(shares(rng.uniform(-4, 4, (*logits.shape,)))))
    expected = divergence_of(np.exp(log_p), shares(logits))
    return lambda x: categorical.losses.divergence(np, log_p, x), logits, expected


def an_information(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    """Of 1 + I, beside which rounding errors are small even if I is close to 0."""
    logits, _ = a_score(rng)

    def more_information(x: Array) -> tuple[Any, Array]:
        value, gradient = categorical.losses.information(np, x)
        return 1 + value, gradient

    return more_information, logits, 1 + information_of(shares(logits))


def some_heads(rng: Rng, equal: bool = False) -> tuple[Callable[[Array], Any], Array, float]:
    """Heads, two of which may be equal, and a distance that half of their pairs do not reach."""
    W = a_matrix(rng, sizes(rng, 3, least=2)[1:]).copy()
    W[0] = W[1] if equal and len(W) > 2 else W[0]
    lengths = distance_matrix(W, W)[np.triu_indices(len(W), 1)]
    distance = 1.01 * float(np.median(lengths))
    expected = np.maximum(0, distance - lengths).sum()
    return lambda W: categorical.losses.repulsion(np, W, distance), read_only(W), float(expected)


def distance_matrix(x: Array, y: Array) -> Array:
    return np.asarray(np.linalg.norm(x[:, None] - y, axis=2))


loss_rows("cross_entropy", "categorical.losses.softmax_cross_entropy", a_cross_entropy,
          "softmax's cross-entropy: L", "softmax's cross-entropy: dl = (p − t) / n")  # fmt: skip
loss_rows("divergence", "categorical.losses.divergence", a_divergence,
          "divergence: KL = Σ p (ln p − ln q) / n",
          "divergence: dl = (q − p) / n", limit=1e-10)  # fmt: skip
loss_rows("information", "categorical.losses.information", an_information,
          "information: I = Σ q (ln q − ln q̄) / n",
          "information: dl = q (g − Σ q g) / n")  # fmt: skip
row("repulsion.value", "repulsion: Σ max(0, η − ‖wᵢ − wⱼ‖)", "categorical.losses.repulsion",
    AGAIN, 1e-9)(partial(loss_value, case=partial(some_heads, equal=True)))  # fmt: skip
row("repulsion.gradient", "repulsion: dW", "categorical.losses.repulsion",
    EVERY)(partial(loss_gradient, case=some_heads))  # fmt: skip


def a_partial_softmax(rng: Rng) -> tuple[Any, Array]:
    logits, _ = a_score(rng)
    k = int(rng.integers(2, logits.shape[1] + 1))  # with 1 the derivative vanishes
    return categorical.layers.PartialSoftmax(np, k), logits


def partial_softmax_y(layer: Any, x: Array, rng: Rng) -> Any:
    k = layer.categories
    return np.hstack((shares(x[:, :k]), x[:, k:]))


layer_rows("partial_softmax", "categorical.layers.PartialSoftmax", a_partial_softmax,
           partial_softmax_y, y="two heads: softmax, and the rest",
           dx="two heads: dl = p · (dp − Σ p dp)")  # fmt: skip


@row("noise.y", "noise: N(x, std²), and off, x", "categorical.layers.Noise.forward",
     "samples, turned to N(0, 1)")  # fmt: skip
def noise_value(rng: Rng) -> float:
    """Each element's is normal and on its own."""
    layer, x = categorical.layers.Noise(a_length(rng)), a_matrix(rng, (200, 50))
    u = normal_cdf((layer.forward(x, rng)[0] - x) / layer.std)
    unchanged = np.array_equal(layer.forward(x)[0], x)
    return max(uniform_distance(u), dependence(u - 0.5)) if unchanged else inf


layer_rows("noise", "categorical.layers.Noise", dx="noise: dx = dy",
           case=lambda rng: (categorical.layers.Noise(a_length(rng)), a_batch(rng)))  # fmt: skip


def a_batch_norm(rng: Rng) -> tuple[Any, Array]:
    n, k = sizes(rng, 2, least=3)
    layer = categorical.layers.BatchNorm(np, k, float)
    layer.gamma[:], layer.beta[:] = rng.standard_normal((2, k))
    return layer, a_matrix(rng, (n, k))


def batch_norm_y(layer: Any, x: Array, rng: Rng) -> Any:
    columns = [(x_j - np.mean(x_j)) / sqrt(np.var(x_j) + 1e-5) for x_j in x.T]
    return layer.gamma * np.transpose(columns) + layer.beta


layer_rows("batch_norm", "categorical.layers.BatchNorm", a_batch_norm, batch_norm_y,
           y="batch norm: y = γ (x − μ) / s + β", dx="batch norm: dx",
           dgamma="batch norm: dγ", dbeta="batch norm: dβ")  # fmt: skip


def a_used_batch_norm(rng: Rng) -> tuple[Any, Array]:
    """One whose running averages a batch has moved."""
    layer, x = a_batch_norm(rng)
    layer.forward(x, rng)
    return layer, x


row("batch_norm.off", "batch norm: off, dx = γ dy / s", "categorical.layers.BatchNorm.backward",
    EVERY)(partial(layer_input, case=a_used_batch_norm, training=False))  # fmt: skip


@row("batch_norm.averages", "batch norm: its running averages",
     "categorical.layers.BatchNorm.forward", AGAIN)  # fmt: skip
def batch_norm_averages(rng: Rng) -> float:
    """Each batch moves the averages that evaluation uses by 0.02 of the difference."""
    layer, x = a_batch_norm(rng)
    mean, variance = np.zeros(x.shape[1]), np.ones(x.shape[1])
    for _ in range(3):
        batch = a_matrix(rng, x.shape)
        layer.forward(batch, rng)
        mean = 0.98 * mean + 0.02 * batch.mean(axis=0)
        variance = 0.98 * variance + 0.02 * batch.var(axis=0)
    expected = layer.gamma * (x - mean) / np.sqrt(variance + 1e-5) + layer.beta
    return gradcheck.relative_error(layer.forward(x)[0], expected)


def side_by_side(rng: Rng) -> tuple[Any, Array]:
    """Three networks side by side with one output each, and an input."""
    n, hidden, *widths = sizes(rng, 5)
    networks = [layers.perceptron(np, (width, hidden, 1), 0.3, float) for width in widths]
    for network in networks:
        network.initialise(rng)
    return categorical.layers.SideBySide(np, networks, widths), a_matrix(rng, (n, sum(widths)))


def side_by_side_y(layer: Any, x: Array, rng: Rng) -> Any:
    """Each network alone, on its own columns."""
    outputs, start = [], 0
    for network in layer.layers:
        end = start + len(network.layers[0].W)
        outputs.append(network.forward(x[:, start:end], rng)[0])
        start = end
    return np.hstack(outputs)


layer_rows("side_by_side", "categorical.layers.SideBySide", side_by_side, side_by_side_y,
           y="side by side: y", dx="side by side: dx",
           parameters="side by side: dW and db of each")  # fmt: skip


def cluster_heads(rng: Rng) -> tuple[Any, Array]:
    n, k, d = sizes(rng, 3)
    layer = categorical.layers.ClusterHeads(np, np.empty((k, d)), np.empty(d), a_length(rng))
    layer.initialise(rng)
    layer.b[:] = rng.standard_normal(d)
    return layer, a_matrix(rng, (n, k + d))


def cluster_heads_y(layer: Any, x: Array, rng: Rng) -> Any:
    k = len(layer.W)
    return [sum(row[j] * layer.W[j] for j in range(k)) + layer.b + row[k:] for row in x]


layer_rows("cluster_heads", "categorical.layers.ClusterHeads", cluster_heads, cluster_heads_y,
           y="cluster heads: e = y W + b + z", dx="cluster heads: dx = (de Wᵀ, de)",
           dW="cluster heads: dW = yᵀ de", db="cluster heads: db = Σᵢ deᵢ")  # fmt: skip


def a_categorical(rng: Rng, head_distance: float = 0.0) -> tuple[Any, Array, int]:
    """Like `a_model`, with categories."""
    n, categories, latent, visible, *hidden = sizes(rng, 6, least=2)
    own: dict[str, Any] = {"noise": rng.uniform(0, 0.5), "perturbation": rng.uniform(0.1, 3)}
    own |= {"information_weight": rng.choice([0, 0.5]), "joint": bool(rng.integers(2))}
    own |= {"categories": categories, "latent": latent, "head_distance": head_distance}
    model = Categorical(hidden=hidden, visible=visible, **own, **rates_and_seed(rng))
    model.theta *= rng.uniform(0.5, 1.5)
    model.theta += 0.1 * rng.standard_normal(model.theta.size)  # every β starts at 0
    return model, read_only(rng.random((max(n, 4), visible))), a_seed(rng)


def categories_of(x: Array, model: Any) -> Array:
    return read_only(np.arange(len(x)) % model.categories)


def classification(model: Any, x: Array, rng: Rng) -> Any:
    return model.classification_gradient(x, categories_of(x, model), rng)


def classification_loss(model: Any, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    return -np.mean([log(c[j]) for c, j in zip(codes, categories_of(x, model), strict=True)])


def log_categories_of(x: Array, model: Any) -> Array:
    """The logarithms of some categories for each row."""
    draws = default_rng(len(x))
    return read_only(np.log(shares(draws.uniform(-2, 2, (len(x), model.categories)))))


def smoothness(model: Any, x: Array, rng: Rng) -> Any:
    return model.smoothness_gradient(log_categories_of(x, model), x, rng)


def smoothness_loss(model: Any, x: Array, rng: Rng) -> Any:
    without_noise = layers.Sequential(model.encoder.layers[1:])
    q = without_noise.forward(x, rng)[0][:, : model.categories]
    gained = model.config["information_weight"] * information_of(q)
    return divergence_of(np.exp(log_categories_of(x, model)), q) - gained


def repelled_loss(model: Any, x: Array, rng: Rng) -> Any:
    heads = model.decoder.layers[0]
    lengths = distance_matrix(heads.W, heads.W)[np.triu_indices(len(heads.W), 1)]
    repelled = np.maximum(0, heads.distance - lengths).sum()
    return reconstruction_loss(model, x, rng) + 1e-3 * repelled


FOUR = Phase(classification, classification_loss, "classification_adam")
FIVE = Phase(smoothness, smoothness_loss, "smoothness_adam")
BESIDE_HEADS = Phase(reconstruction, repelled_loss, "reconstruction_adam")
WITH_HEADS = partial(a_categorical, head_distance=3.0)
phase_rows("categories.phase1", "Categorical.reconstruction_gradient", a_categorical, ONE,
           gradient="categories, phase 1: dL, by γ and β too")  # fmt: skip
phase_rows("heads.phase1", "Categorical.reconstruction_gradient", WITH_HEADS, BESIDE_HEADS,
           value="cluster heads, phase 1: L", gradient="cluster heads, phase 1: dL")  # fmt: skip
phase_rows("categories.phase2", "Model.discriminator_gradient", a_categorical, TWO,
           value="categories, phase 2: L of both D",
           gradient="categories, phase 2: dL")  # fmt: skip
phase_rows("categories.phase3", "Model.generator_gradient", a_categorical, THREE,
           gradient="categories, phase 3: dL through both D")  # fmt: skip
phase_rows("phase4", "Categorical.classification_gradient", a_categorical, FOUR,
           value="phase 4: L = −ln y_label", gradient="phase 4: dL by encoder",
           isolation="phase 4: moves nothing else")  # fmt: skip
phase_rows("phase5", "Categorical.smoothness_gradient", a_categorical, FIVE,
           value="phase 5: L = KL(y ‖ q) − w I(q)", gradient="phase 5: dL by encoder",
           isolation="phase 5: moves nothing else")  # fmt: skip


@row("perturb.direction", "phase 5: r along dKL(y ‖ y(x + r))", "Categorical.perturb", AGAIN, 1e-3)
def perturbation(rng: Rng) -> float:
    """The length of each r, and its direction: that of the divergence's gradient near x.

    The slopes of the divergence along r give the length of the gradient in a row. Its products with
    any other direction, here a random one through some rows, then follow from r, and are compared
    with the slope in that direction. The divergence is taken after a small random step.
    """
    model, x, seed = a_categorical(rng)
    _, perturbed = model.perturb(x, default_rng(seed))
    r = (perturbed - x) / model.config["perturbation"]
    classifier, draws = layers.Sequential(model.encoder.layers[1:-1]), default_rng(seed)

    def log_categories(x: Array, rng: Rng) -> Array:
        return np.log(shares(classifier.forward(x, rng)[0][:, : model.categories]))

    log_p = log_categories(x, draws)
    step = draws.standard_normal(x.shape)
    start = x + 1e-3 * step / np.linalg.norm(step, axis=1, keepdims=True)

    def slopes(direction: Array) -> list[float]:
        """With two steps, which agree unless a ReLU changes sign between."""
        ends = [start + step * direction for step in (1e-5, -1e-5, 5e-6, -5e-6)]
        log_q = [log_categories(end, deepcopy(draws)) for end in ends]
        pairs = (log_q[1] - log_q[0], 2 * (log_q[3] - log_q[2]))
        return [float(np.sum(np.exp(log_p) * pair)) / 2e-5 for pair in pairs]

    rows = rng.permutation(len(x))[:10]
    direction = np.zeros_like(x)
    direction[rows] = rng.standard_normal((len(rows), x.shape[1]))
    alone = (np.arange(len(x))[:, None] == i for i in rows)
    wide, narrow = np.transpose([slopes(direction), *(slopes(r * of_row) for of_row in alone)])
    lengths = np.abs(narrow[1:])
    expected, scale = lengths @ np.sum(r * direction, axis=1)[rows], float(np.linalg.norm(lengths))
    if scale < 1e-6 or np.abs(wide - narrow).max() > 1e-5 * scale:
        raise gradcheck.Kink("the gradient is 0, or a ReLU changes sign nearby")
    of_unit_length = np.abs(np.linalg.norm(r, axis=1) - 1)[np.any(r != 0, axis=1)]
    return max(float(of_unit_length.max()), abs(float(narrow[0] - expected)) / scale)


@row("own_samples.images", "own samples: σ(decoder(y*, z*)) and y*", "Categorical.own_samples",
     AGAIN)  # fmt: skip
def own_samples(rng: Rng) -> float:
    """Images, and the categories that they were decoded from."""
    model, x, seed = a_categorical(rng)
    images, labels = model.own_samples(len(x), default_rng(seed))
    draws = default_rng(seed)
    codes = model.draw_prior(draws, len(x))
    logits, _ = model.decoder.forward(codes, draws)
    same = np.array_equal(np.eye(model.categories)[labels], codes[:, : model.categories])
    return gradcheck.relative_error(images, 1 / (1 + np.exp(-logits))) if same else inf


@row("categories.prior", "categories: the prior of (y, z)", "Categorical.draw_prior",
     "quantiles of samples")  # fmt: skip
def codes_prior(rng: Rng) -> float:
    """Categories are one-hot and equally likely, and the style beside them is normal."""
    model, _, _ = a_categorical(rng)
    codes = model.draw_prior(rng, SAMPLES)
    y, z = codes[:, : model.categories], codes[:, model.categories :]
    category = (y.argmax(axis=1) + rng.random(SAMPLES)) / model.categories
    one_hot = np.array_equal(y, np.eye(model.categories)[y.argmax(axis=1)])
    return uniform_distances(category, *normal_cdf(some_columns(rng, z))) if one_hot else inf


@row("categories.step", "categories: a step, then phases 4 and 5", "Categorical.step", EQUAL)
def later_phases(rng: Rng) -> float:
    """A step, with labelled images or without, against the first three phases and two by hand."""
    model, x, seed = a_categorical(rng)
    labelled = (x, categories_of(x, model)) if rng.integers(2) else None
    other, draws = deepcopy(model), default_rng(seed)
    expected = [*Model.step(other, x, draws)]
    images, labels = labelled or other.own_samples(len(x), draws)
    expected.append(other.classification_gradient(images, labels, draws))
    other.classification_adam.step()
    expected.append(other.smoothness_gradient(*other.perturb(x, draws), draws))
    other.smoothness_adam.step()
    stepped = model.step(x, default_rng(seed), labelled)
    return step_difference(model, stepped, other, expected)


# Training


def two_epochs(rng: Rng) -> tuple[Array, int, list[training.Record], list[Any]]:
    """Images, a batch size, the records of two epochs, and (batch, labels, losses) of each step.

    The steps train nothing, and their losses are drawn at random.
    """
    n, batch_size = (1000, 130) if is_real(rng) else (60, 20)
    n, batch_size = int(rng.integers(n // 3, n)), int(rng.integers(1, batch_size))
    images = read_only(rng.random((n, 3)))
    model = Model(hidden=(1,), visible=3, dtype="float64", classes=2, prior=priors.swiss_roll())
    steps = []

    def step(x: Array, rng_of_step: Rng, labels: Array) -> tuple[float, ...]:
        steps.append((x.copy(), labels.copy(), tuple(rng.random(3))))
        return steps[-1][2]

    vars(model)["step"] = step
    labels = label_by_pixel(images)
    epochs = training.train(model, images, labels=labels, epochs=2, batch_size=batch_size)
    return images, batch_size, list(epochs), steps


def label_by_pixel(images: Array) -> Array:
    return (3 * images[:, 0]).astype(int) - 1  # −1 is "unlabelled"


@row("train.records", "train: a record is a mean over images", "training.train", AGAIN)
def record_means(rng: Rng) -> float:
    """Each image has the same weight, although the last batch is smaller."""
    *_, records, steps = two_epochs(rng)
    errors = []
    for i, record in enumerate(records):
        half = steps[i * len(steps) // 2 : (i + 1) * len(steps) // 2]
        every_image = np.concatenate([np.tile(losses, (len(x), 1)) for x, _, losses in half])
        losses = record.reconstruction, record.discriminator, record.generator
        errors.append(gradcheck.relative_error(losses, every_image.mean(axis=0)))
    return max(errors)


@row("train.images", "train: every image once an epoch, shuffled", "training.train", EQUAL)
def epoch_images(rng: Rng) -> float:
    """Images missed or repeated, labels of other images, batches of a wrong size, equal orders."""
    images, batch_size, _, steps = two_epochs(rng)
    half, n = len(steps) // 2, len(images)
    seen = [np.concatenate([x for x, *_ in part]) for part in (steps[:half], steps[half:])]
    differing = sum(np.sum(np.sort(part, axis=0) != np.sort(images, axis=0)) for part in seen)
    differing += sum(np.sum(labels != label_by_pixel(x)) for x, labels, _ in steps)
    sizes = [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    differing += [len(x) for x, *_ in steps] != 2 * sizes
    return float(differing + np.array_equal(seen[0], seen[1]) + np.array_equal(images, seen[0]))


@row("evaluate.values", "evaluate: BCE by pixel, codes' mean and sd", "training.evaluate", AGAIN)
def evaluation(rng: Rng) -> float:
    """Evaluation of more images than fit in one piece: over all pixels, and over all codes."""
    model, _, _ = a_model(rng)
    rows = rng.integers(256, size=(int(rng.integers(1001, 2500)), model.visible), dtype=np.uint8)
    codes = model.encoder.forward(rows / 255)[0]
    loss = entropy(model.decoder.forward(codes)[0], rows / 255)
    expected = [[loss], codes.sum(axis=0) / len(rows), np.sqrt(codes.var(axis=0))]
    found = training.evaluate(model, rows)
    pairs = zip(([found[0]], *found[1:]), expected, strict=True)
    return max(gradcheck.relative_error(a, b) for a, b in pairs)


# The priors: samples through the distribution function that each formula is meant to have

SAMPLES = 5_000
NORMAL, QUANTILES = "samples, turned to N(0, 1)", "quantiles of samples"


def some_columns(rng: Rng, z: Array) -> Array:
    """At most eight, at random."""
    return z.T[rng.permutation(z.shape[1])[:8]]


def angles(x: Array, y: Array) -> Array:
    """The direction of (x, y), as a share of a full turn."""
    return np.arctan2(y, x) / (2 * pi) % 1


@row("gaussian.samples", "Gaussian: N(0, std² I)", "priors.gaussian", QUANTILES)
def gaussian_samples(rng: Rng) -> float:
    std, dim = a_length(rng), sizes(rng, 2)[1]
    z = priors.gaussian(std)(rng, SAMPLES, dim)
    return uniform_distances(*normal_cdf(some_columns(rng, z) / std))


@row("uniform_square.samples", "square: uniform", "priors.uniform_square", QUANTILES)
def square_samples(rng: Rng) -> float:
    side, dim = a_length(rng), sizes(rng, 2)[1]
    z = priors.uniform_square(side)(rng, SAMPLES, dim)
    return uniform_distances(*some_columns(rng, z) / side + 0.5)


@row("uniform_disc.samples", "disc: uniform in direction and volume", "priors.uniform_disc",
     QUANTILES)  # fmt: skip
def disc_samples(rng: Rng) -> float:
    """P(|z| ≤ r) = (r / radius)^dim, a share of the volume; every direction is equally likely."""
    radius, dim = a_length(rng), sizes(rng, 2, least=2)[1]
    z = priors.uniform_disc(radius)(rng, SAMPLES, dim)
    volume = (np.linalg.norm(z, axis=1) / radius) ** dim
    return uniform_distances(volume, angles(*some_columns(rng, z)[:2]))


def some_components(rng: Rng) -> int:
    return int(rng.integers(1, 31))


@row(
    "gaussian_mixture.sample_at",
    "mixture: sd outwards and across",
    "priors.gaussian_mixture.sample_at",
    NORMAL,
)
def petal(rng: Rng) -> float:
    """Turned back by its component's angle, a sample is normal outwards and normal across."""
    k, (radius, radial, across) = some_components(rng), (a_length(rng) for _ in range(3))
    position = read_only(rng.random(SAMPLES))
    z = priors.gaussian_mixture(k, radius, radial, across).sample_at(rng, position) @ [1, 1j]
    z = z * np.exp(-2j * pi * np.floor(k * position) / k)
    return uniform_distances(normal_cdf((z.real - radius) / radial), normal_cdf(z.imag / across))


@row("gaussian_mixture.samples", "mixture: equally many of each", "priors.gaussian_mixture",
     "shares of samples")  # fmt: skip
def petals(rng: Rng) -> float:
    """For a mixture of points: each is equally likely. A uniform number makes it continuous."""
    k = some_components(rng)
    z = priors.gaussian_mixture(k, 1.0, 1e-9, 1e-9)(rng, SAMPLES, 2)
    return uniform_distance((np.round(k * angles(*z.T)) % k + rng.random(SAMPLES)) / k)


@row(
    "swiss_roll.sample_at",
    "roll: at s, normal around the spiral",
    "priors.swiss_roll.sample_at",
    NORMAL,
)
def roll(rng: Rng) -> float:
    """Samples at known positions, minus the spiral there, are normal in both directions."""
    radius, turns, std = (a_length(rng) for _ in range(3))
    position = read_only(rng.random(SAMPLES))
    z = priors.swiss_roll(radius, turns, std).sample_at(rng, position) @ [1, 1j]
    root = np.sqrt(position)
    blur = (z - radius * root * np.exp(2j * pi * turns * root)) / std
    return uniform_distances(normal_cdf(blur.real), normal_cdf(blur.imag))


@row("swiss_roll.samples", "roll: √s, even along the spiral", "priors.swiss_roll", QUANTILES)
def roll_samples(rng: Rng) -> float:
    """For a roll of less than one turn without blur: P(|z| ≤ r) = (r / radius)², and its angle."""
    radius, turns = a_length(rng), rng.uniform(0.1, 0.9)
    z = priors.swiss_roll(radius, turns, 1e-15)(rng, SAMPLES, 2)
    share = np.linalg.norm(z, axis=1) / radius
    return uniform_distances(share**2) + float(np.abs(angles(*z.T) - turns * share).max() > 1e-6)


# The metrics, each from its definition, point by point


def a_pair(rng: Rng, least: int = 1) -> tuple[Array, Array]:
    """Two sets of points of the same dimension."""
    n, m, dim = sizes(rng, 3, least)
    scale, shift = a_length(rng), rng.standard_normal(dim)
    x, y = scale * rng.standard_normal((n, dim)), scale * (rng.standard_normal((m, dim)) + shift)
    return read_only(x), read_only(y)


def energy(between: Array, within_x: Array, within_y: Array) -> float:
    """2 E|X − Y| − E|X − X'| − E|Y − Y'|, each a mean over pairs of different points."""
    n, m = between.shape
    within = within_x.sum() / (n * (n - 1)) + within_y.sum() / (m * (m - 1))
    return float(2 * between.mean() - within)


@row("moments.values", "moments: mean and covariance", "metrics.moments", AGAIN, 1e-11)
def code_moments(rng: Rng) -> float:
    z, _ = a_pair(rng)
    mean = sum(z) / len(z)
    covariance = sum(np.outer(row - mean, row - mean) for row in z) / len(z)
    found = metrics.moments(z)
    return max(float(np.abs(a - b).max()) for a, b in zip(found, (mean, covariance), strict=True))


@row("energy_test.distance", "energy distance", "metrics.energy_test", AGAIN, 1e-5)
def energy_distance(rng: Rng) -> float:
    """The error in units of the mean distance, because E itself may be 0."""
    x, y = a_pair(rng, least=2)
    between = distance_matrix(x, y)
    expected = energy(between, distance_matrix(x, x), distance_matrix(y, y))
    found, *_ = metrics.energy_test(x, y, permutations=1)
    return abs(found - expected) / float(between.mean())


@row("energy_test.p", "energy test: threshold, p", "metrics.energy_test", "all divisions, or 2,000")
def permutation_test(rng: Rng) -> float:
    """p, and the p of the threshold, against all 70 divisions of eight points, relative to chance.

    P(|share of N draws − probability| > ε) ≤ 2 exp(−2 N ε²) (Hoeffding). Of more points, 2,000
    random divisions take the place of all, which is one more source of chance.
    """
    half = 60 if is_real(rng) else 4
    z = read_only(rng.standard_normal((2 * half, 2)))
    D, chance = distance_matrix(z, z), sqrt(log(2 / RARE) / (2 * 999))
    divisions: Any = combinations(range(2 * half), half)
    if half > 4:
        divisions = (rng.permutation(2 * half)[:half] for _ in range(2000))
        chance += sqrt(log(2 / RARE) / (2 * 2000))

    def energy_of(x: Any) -> float:
        y = np.setdiff1d(range(2 * half), x)
        return energy(D[np.ix_(x, y)], D[np.ix_(x, x)], D[np.ix_(y, y)])

    energies, given = np.array([*map(energy_of, divisions)]), energy_of(range(half))
    _, threshold, p = metrics.energy_test(z[:half], z[half:], permutations=999, seed=a_seed(rng))
    error = abs(p - np.mean(energies >= given - 1e-9))
    above, reached = np.mean(energies > threshold + 1e-6), np.mean(energies >= threshold - 1e-6)
    return float(max(error, above - 0.05, 0.05 - reached)) / chance


@row("parzen.density", "Parzen: ln p(x)", "metrics.parzen_log_likelihood", AGAIN, 1e-9)
def parzen_density(rng: Rng) -> float:
    (points, samples), h = a_pair(rng), rng.uniform(0.5, 3)
    expected = []
    for exponents in -(distance_matrix(points, samples) ** 2) / (2 * h * h):
        mean = sum(np.exp(exponents - max(exponents))) / len(samples)
        volume = points.shape[1] / 2 * log(2 * pi * h * h)
        expected.append(max(exponents) + log(mean) - volume)
    found = metrics.parzen_log_likelihood(points, samples, h)
    return float((np.abs(found - expected) / (1 + np.abs(expected))).max())


@row("neighbours.vote", "nearest neighbours: the vote", "metrics.neighbour_accuracy", AGAIN, 1e-9)
def neighbour_votes(rng: Rng) -> float:
    n, m, dim = sizes(rng, 3)
    train, test = (a_matrix(rng, (rows, dim)) for rows in (n, m))
    classes = int(rng.integers(2, 31))
    k, labels = int(rng.integers(1, min(n, 20) + 1)), rng.integers(0, classes, n)
    truth, right = rng.integers(0, classes, m), 0
    for distances, label in zip(distance_matrix(test, train), truth, strict=True):
        nearest = sorted(range(n), key=distances.__getitem__)[:k]
        votes = [int(labels[i]) for i in nearest]
        right += min(votes, key=lambda vote: (-votes.count(vote), vote)) == label
    found = metrics.neighbour_accuracy(train, labels, test, truth, neighbours=k)
    return abs(found - right / m)


@row("cluster_names.names", "clusters: named by the surest image", "metrics.cluster_names", EQUAL)
def names_of_clusters(rng: Rng) -> float:
    n, k = sizes(rng, 2)
    y, labels = read_only(rng.random((n, k))), rng.integers(0, 10, n)
    expected = [labels[max(range(n), key=column.__getitem__)] for column in y.T]
    return float(np.sum(metrics.cluster_names(y, labels) != expected))


@row("block_error.value", "standard error of blocks", "metrics.block_standard_error", AGAIN, 1e-9)
def block_error(rng: Rng) -> float:
    """For blocks of equal values it is the usual standard error of one value per block."""
    blocks, length = int(rng.integers(10, 50)), int(rng.integers(2, 50))
    values = rng.standard_normal(blocks)
    found = metrics.block_standard_error(read_only(np.repeat(values, length)), length)
    expected = sqrt(sum((values - values.mean()) ** 2) / (blocks - 1) / blocks)
    return gradcheck.relative_error(found, expected)


# The table

CASES = 200
SECONDS = 60  # that they take


class Finding(NamedTuple):
    row: Row
    cases: int
    worst: float  # NaN if a case failed to give a number
    fault: str  # what was raised, if anything was

    @property
    def holds(self) -> bool:
        return not self.fault and self.worst <= self.row.limit


def examine(row: Row, cases: int = CASES) -> Finding:
    """The worst of a row's random cases, up to the first that breaks its limit.

    A case that straddles a kink is replaced by another.
    """
    errors: list[float] = []
    for seed in range(20 * cases):
        try:
            errors.append(row.check(default_rng(seed)))
        except gradcheck.Kink:
            continue
        except Exception as error:  # a broken formula may break the shapes, which is a finding too
            return Finding(row, len(errors) + 1, nan, f"{type(error).__name__}: {error}")
        if len(errors) == cases or not errors[-1] <= row.limit:
            return Finding(row, len(errors), float(np.max(errors)), "")  # NaN if any is
    return Finding(row, len(errors), nan, "nearly every case straddles a kink")


def named(code: str) -> Any:
    """What a row names: a module, or a class or function in one."""
    first, *rest = code.split(".")
    return reduce(getattr, rest, globals()[first])


def place(code: str) -> str:
    """Where it is, as file:line, or file for a module."""
    file = Path(inspect.getfile(named(code)))
    line = "" if inspect.ismodule(named(code)) else f":{inspect.getsourcelines(named(code))[1]}"
    return f"{file.parent.name}/{file.name}{line}"


# The most important columns first, because a narrow terminal has room for a few.
HEADER = ("formula", "worst", "limit", "verdict", "id", "where", "checked by")


def cells(row: Row, worst: str = "", verdict: str = "") -> tuple[str, ...]:
    return row.formula, worst, f"{row.limit:.0e}", verdict, row.id, place(row.code), row.how


def rows_named(name: str) -> list[Row]:
    """The row with this identifier, or all whose identifiers start with the name and a dot."""
    found = [row for row in ROWS if f"{row.id}.".startswith(f"{name}.")]
    if not found:
        raise argparse.ArgumentTypeError(f"must be a row's, as dense.dx, or its start, got {name}")
    return found


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    about = "a row, such as dense.dx, or several, such as dense (default: all rows)"
    parser.add_argument("rows", nargs="*", metavar="ID", type=rows_named, help=about)
    parser.add_argument("--markdown", action="store_true", help="print the table for a report")
    flags = parser.parse_args()
    backend.one_blas_thread()  # faster for products as small as these
    rows = [row for named in flags.rows for row in named] or ROWS
    room, columns = shutil.get_terminal_size().columns, zip(HEADER, *map(cells, rows), strict=True)
    widths = [max(7, *map(len, column)) for column in columns]
    while sum(widths) + 2 * len(widths) - 2 > room:
        widths.pop()

    def show(cells: Sequence[str], about: str = "") -> None:
        text = "  ".join(map(str.ljust, cells, widths)).rstrip()
        if about:
            text = f"\033[31m{text}\033[0m" if sys.stdout.isatty() else text
            text += "\n" + textwrap.indent(textwrap.fill(about, room - 2), "  ")
        print(f"| {' | '.join(cells)} |" if flags.markdown else text, flush=True)

    if not flags.markdown:
        duration = "" if flags.rows else f", in about {SECONDS} seconds on one core"
        print(f"{len(rows)} formulas, each in {CASES} random cases{duration}\n")
    show(HEADER)
    if flags.markdown:
        show(["---"] * len(HEADER))
    broken = []
    for row in rows:
        finding = examine(row)
        if finding.holds:
            show(cells(row, f"{finding.worst:.1e}", "holds"))
        else:
            broken.append(row.id)
            about = "; ".join(filter(None, (row.id, place(row.code), row.how, finding.fault)))
            show(cells(row, f"{finding.worst:.1e}", "BROKEN"), about)
    if broken:
        sys.exit(f"{len(broken)} of {len(rows)} formulas are broken: {', '.join(broken)}")
    if not flags.markdown:
        print(f"\nAll {len(rows)} formulas hold.")


if __name__ == "__main__":
    launch(main)
