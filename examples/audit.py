"""Audit the mathematics: every formula, where it is, how it was checked, and its worst error.

    python examples/audit.py                 # every row, as it is found
    python examples/audit.py dense phase1    # the rows of these alone; --markdown for a report

Break a formula in npaae/layers.py and run this again: its row turns red, and the exit status is 1.

Each section of this file has the checks of one part of the package, followed by its table rows. A
check receives a random generator, draws a case (sizes, scales, rates, values, masks) and returns an
error. A row passes if the error stays within its limit in every case. Errors are of four kinds:

    derivatives      the worst relative error that `npaae.gradcheck` finds
    values           the relative error against the definition, written a second time
    equal numbers    the number of numbers that differ
    random draws     a distance from the distribution, relative to what chance exceeds once in 10^9

The arguments given to the package are read-only, because it promises not to write to them. The
checks look up `layers`, `losses`, `optim` and so on by the names below when they run, so they check
whatever these names refer to: after `audit.layers = mine` they check your own layers.
"""

import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial, reduce
from itertools import accumulate, combinations
from math import erf, exp, inf, log, nan, pi, sqrt
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npaae import AdversarialAutoencoder as Model
from npaae import CategoricalAutoencoder as Categorical
from npaae import backend, categorical, gradcheck, layers, losses, metrics, optim, priors, training
from npaae.errors import InvalidInput
from npaae.experiment import Parser, launch

Array = np.ndarray[Any, Any]
Rng = np.random.Generator


class Row(NamedTuple):
    id: str  # never changes: "dense.dx"
    formula: str
    code: str  # what holds it, by its name in this module
    how: str
    limit: float
    check: Callable[[Rng], float]


ROWS: list[Row] = []

EVERY, ALONG = "differences, every element", "difference, random direction"
AGAIN, EQUAL = "the definition, written again", "numbers that differ"


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def a_shape(rng: Rng) -> tuple[int, int]:
    return int(rng.integers(1, 7)), int(rng.integers(1, 7))


def a_matrix(rng: Rng, shape: tuple[int, int]) -> Array:
    """Normal numbers with a scale between 1/10 and 10."""
    return read_only(10 ** rng.uniform(-1, 1) * rng.standard_normal(shape))


def a_seed(rng: Rng) -> int:
    return int(rng.integers(2**32))


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


# Layers


def a_dense(rng: Rng) -> tuple[Any, Array]:
    n, fan_in = a_shape(rng)
    W, b = rng.standard_normal((fan_in, 5)), rng.standard_normal(5)
    return layers.Dense(np, 10 ** rng.uniform(-1, 1) * W, b), a_matrix(rng, (n, fan_in))


def dense_value(rng: Rng) -> float:
    layer, x = a_dense(rng)
    outputs = [*zip(layer.W.T, layer.b, strict=True)]
    expected = [[sum(x_i * W_j) + b for W_j, b in outputs] for x_i in x]
    return gradcheck.relative_error(layer.forward(x)[0], expected)


def dense_input(rng: Rng) -> float:
    return gradcheck.layer(*a_dense(rng))


def dense_parameter(rng: Rng, name: str) -> float:
    return gradcheck.parameters(*a_dense(rng))[name]


def initial_weights(rng: Rng) -> float:
    """Weights and biases are uniform, and at most 1 % of the interval is empty at either end.

    If they are, a larger gap among 10,000 draws occurs in fewer than one of 10^21 cases.
    """
    fan_in, errors = int(rng.integers(1, 500)), []
    layer = layers.Dense(np, np.empty((fan_in, -(-10_000 // fan_in))), np.empty(10_000))
    layer.initialise(rng)
    for part in (layer.W, layer.b):
        u = (part * sqrt(fan_in) + 1) / 2
        if not (u.min() >= 0 and u.max() <= 1 and np.unique(u).size > u.size - 5):
            return inf  # beyond the bound, or several copies of one draw
        errors += [uniform_distance(u), u.min() / 0.01, (1 - u.max()) / 0.01]
    return float(max(errors))


def relu_value(rng: Rng) -> float:
    x = a_matrix(rng, a_shape(rng))
    return float(np.sum(layers.ReLU(np).forward(x)[0] != np.where(x > 0, x, 0)))


def relu_input(rng: Rng) -> float:
    return gradcheck.layer(layers.ReLU(np), a_matrix(rng, a_shape(rng)))


def relu_at_zero(rng: Rng) -> float:
    layer, dy = layers.ReLU(np), a_matrix(rng, a_shape(rng))
    return float(np.sum(layer.backward(dy, layer.forward(np.zeros_like(dy))[1]) != 0))


def sigmoid_value(rng: Rng) -> float:
    x = rng.uniform(-30, 30, a_shape(rng))
    return float(np.abs(layers.Sigmoid(np).forward(x)[0] * (1 + np.exp(-x)) - 1).max())


def sigmoid_extremes(rng: Rng) -> float:
    with np.errstate(all="raise", under="ignore"):
        p = layers.Sigmoid(np).forward(np.array([1e4, -1e4], np.float32))[0]
    return float(np.abs(p - [1, 0]).max())


def sigmoid_input(rng: Rng) -> float:
    return gradcheck.layer(layers.Sigmoid(np), rng.standard_normal(a_shape(rng)))


def a_dropout(rng: Rng, least: float = 0.1, most: float = 0.9) -> tuple[float, Any]:
    """A rate that 16 bits represent exactly, and the layer."""
    rate = int(2**16 * rng.uniform(least, most)) / 2**16
    return rate, layers.Dropout(np, rate)


def dropout_input(rng: Rng) -> float:
    return gradcheck.layer(a_dropout(rng, 0)[1], a_matrix(rng, a_shape(rng)), seed=a_seed(rng))


def dropout_scale(rng: Rng) -> float:
    rate, layer = a_dropout(rng)
    return abs(float(layer.forward(np.ones(1000), rng)[0].max()) * (1 - rate) - 1)


def dropout_rate(rng: Rng) -> float:
    rate, layer = a_dropout(rng)
    return mean_distance(layer.forward(np.ones((100, 100)), rng)[0] == 0, rate, 1)


def dropout_alone(rng: Rng) -> float:
    """No dependence along rows, along columns or between passes."""
    rate, layer = a_dropout(rng, 0.2, 0.8)
    passes = [layer.forward(np.ones((50, 100)), rng)[0] == 0 for _ in range(2)]
    return dependence(np.concatenate(passes) - rate)


def dropout_off(rng: Rng) -> float:
    x, layer = a_matrix(rng, a_shape(rng)), a_dropout(rng)[1]
    y, cache = layer.forward(x)
    return float(np.sum(y != x) + np.sum(layer.backward(x, cache) != x))


def own_cache(rng: Rng) -> float:
    """Forward A, forward B, backward A: against forward A, backward A; parameters included."""
    a, b, dy = read_only(rng.standard_normal((3, 4, 5)))
    dense = layers.Dense(np, rng.standard_normal((5, 5)), np.zeros(5))
    differing = 0
    for layer in (dense, layers.ReLU(np), layers.Sigmoid(np), a_dropout(rng)[1]):
        names = getattr(layer, "parameters", ())

        def gradients(cache: Any, layer: Any = layer, names: Any = names) -> list[Array]:
            if names:
                layer.parameter_gradients(dy, cache)
            return [
                layer.backward(dy, cache),
                *(getattr(layer, f"d{name}").copy() for name in names),
            ]

        _, cache = layer.forward(a, rng)
        expected = gradients(cache)
        layer.forward(b, rng)
        pairs = zip(gradients(cache), expected, strict=True)
        differing += sum(int(np.sum(found != right)) for found, right in pairs)
    return float(differing)


def a_network(rng: Rng, rate: float) -> tuple[Any, Array]:
    """A network with random parameters, and an input for it."""
    sizes = rng.integers(1, 4, 4).tolist()
    network = layers.perceptron(np, sizes, rate, float)
    for _, layer, name in layers.named_parameters(network):
        getattr(layer, name)[...] = rng.standard_normal(getattr(layer, name).shape)
    return network, read_only(rng.standard_normal((3, sizes[0])))


def network_value(rng: Rng) -> float:
    """Against the formula written out, with the same masks; and without dropout."""
    rate, dropout = a_dropout(rng, 0.1, 0.5)
    (network, x), seed, errors = a_network(rng, rate), a_seed(rng), []
    W1, b1, W2, b2, W3, b3 = (getattr(*named[1:]) for named in layers.named_parameters(network))
    for on in (True, False):
        draws, again = np.random.default_rng(seed), np.random.default_rng(seed)

        def hidden(y: Array, on: bool = on, draws: Rng = draws) -> Array:
            mask = dropout.forward(np.ones(y.shape), draws)[0] if on else 1
            return mask * np.where(y > 0, y, 0)

        expected = hidden(hidden(x @ W1 + b1) @ W2 + b2) @ W3 + b3
        y = network.forward(x, again if on else None)[0]
        errors.append(gradcheck.relative_error(y, expected))
    return max(errors)


def network_input(rng: Rng) -> float:
    return gradcheck.layer(*a_network(rng, rng.uniform(0, 0.5)), seed=a_seed(rng))


def network_parameters(rng: Rng) -> float:
    network, x = a_network(rng, rng.uniform(0, 0.5))
    return max(gradcheck.parameters(network, x, seed=a_seed(rng)).values())


def network_without(rng: Rng) -> float:
    """What of a backward pass is computed although nobody wants it, or lost with it."""
    network, x = a_network(rng, 0.0)
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


WEIGHTS, BIASES = (partial(dense_parameter, name=name) for name in "Wb")
ROWS += [
    Row("dense.y", "dense: y = x W + b", "layers.Dense.forward", AGAIN, 1e-12, dense_value),
    Row("dense.dx", "dense: dx = dy Wᵀ", "layers.Dense.backward", EVERY, 1e-7, dense_input),
    Row("dense.dW", "dense: dW = xᵀ dy", "layers.Dense.parameter_gradients", EVERY, 1e-7, WEIGHTS),
    Row("dense.db", "dense: db = Σᵢ dyᵢ", "layers.Dense.parameter_gradients", EVERY, 1e-7, BIASES),
    Row("dense.initial", "initial weights: uniform on ±1/√fan_in",
        "layers.Dense.initialise", "distribution of 10,000", 1, initial_weights),
    Row("relu.y", "ReLU: y = max(x, 0)", "layers.ReLU.forward", EQUAL, 0, relu_value),
    Row("relu.dx", "ReLU: dx = dy · [x > 0]", "layers.ReLU.backward", EVERY, 1e-7, relu_input),
    Row("relu.zero", "ReLU at 0: dx = 0", "layers.ReLU.backward", EQUAL, 0, relu_at_zero),
    Row("sigmoid.y", "sigmoid: y = 1 / (1 + e⁻ˣ)", "layers.sigmoid", AGAIN, 1e-12, sigmoid_value),
    Row("sigmoid.extremes", "sigmoid: finite and right at ±1e4",
        "layers.sigmoid", "values in float32", 0, sigmoid_extremes),
    Row("sigmoid.dx", "sigmoid: dx = dy · y (1 − y)",
        "layers.Sigmoid.backward", EVERY, 1e-7, sigmoid_input),
    Row("dropout.dx", "dropout: dx = m · dy",
        "layers.Dropout.backward", EVERY, 1e-7, dropout_input),
    Row("dropout.scale", "dropout: m = 1 / (1 − p), so E[m x] = x",
        "layers.Dropout.forward", "the scale of what is kept", 1e-12, dropout_scale),
    Row("dropout.rate", "dropout: P(m = 0) = p",
        "layers.Dropout.forward", "share of 10,000", 1, dropout_rate),
    Row("dropout.independence", "dropout: each element on its own",
        "layers.Dropout.forward", "autocorrelation of 10,000, any lag", 1, dropout_alone),
    Row("dropout.off", "dropout: off, it is the identity",
        "layers.Dropout.forward", EQUAL, 0, dropout_off),
    Row("layers.caches", "every layer: backward uses its own forward",
        "layers", EQUAL, 0, own_cache),
    Row("network.y", "network: dense, ReLU, dropout, …, dense",
        "layers.perceptron", AGAIN, 1e-12, network_value),
    Row("network.dx", "network: the chain rule, dx",
        "layers.Sequential.backward", EVERY, 1e-7, network_input),
    Row("network.parameters", "network: the chain rule, dW and db of each",
        "layers.Sequential.backward", EVERY, 1e-7, network_parameters),
    Row("network.frozen", "network: frozen, or without dx",
        "layers.Sequential.backward", EQUAL, 0, network_without),
]  # fmt: skip


# Losses


def targets(rng: Rng, p: Array) -> Array:
    """Targets in [0, 1], away from p, where the gradient vanishes and has no relative error."""
    t = np.where(p < 0.5, rng.uniform(0.6, 1, p.shape), rng.uniform(0, 0.4, p.shape))
    return read_only(t)


def cross_entropy(p: Array, t: Array) -> float:
    """The definition, element by element."""
    pairs = zip(p.flat, t.flat, strict=True)
    return float(np.mean([-t * log(p) - (1 - t) * log(1 - p) for p, t in pairs]))


def a_bce(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    """BCE as a function of the probabilities alone, a point, and its value by definition."""
    p = rng.uniform(0.1, 0.9, a_shape(rng))
    t = targets(rng, p)
    return lambda p: losses.bce(np, p, t), read_only(p), cross_entropy(p, t)


def a_bce_with_logits(rng: Rng) -> tuple[Callable[[Array], Any], Array, float]:
    logits = rng.uniform(-4, 4, a_shape(rng))
    p = 1 / (1 + np.exp(-logits))
    t = targets(rng, p)
    return lambda x: losses.bce_with_logits(np, x, t), read_only(logits), cross_entropy(p, t)


Loss = Callable[[Rng], tuple[Callable[[Array], Any], Array, float]]


def loss_value(rng: Rng, a_loss: Loss) -> float:
    loss, x, expected = a_loss(rng)
    return gradcheck.relative_error(loss(x)[0], expected)


def loss_gradient(rng: Rng, a_loss: Loss) -> float:
    loss, x, _ = a_loss(rng)
    return gradcheck.elementwise(lambda x: loss(x)[0], x, loss(x)[1])


def extremes(rng: Rng) -> float:
    """In float32, at logits of ±1e4: loss and gradient of all four cases, and no overflow."""
    logits, t = np.array([[[1e4, 1e4, -1e4, -1e4]], [[1, 0, 1, 0]]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = losses.bce_with_logits(np, logits, t)
    errors = [loss / 5000 - 1, *(gradient[0] - [0, 0.25, -0.25, 0])]
    return float(np.abs(errors).max())


def closed_interval(rng: Rng) -> float:
    """The number of probabilities without a cross-entropy that are accepted."""
    passed = 0
    for p in (0.0, 1.0, -0.5, 1.5, nan):
        try:
            losses.bce(np, np.array([0.5, p]), 1.0)
            passed += 1
        except ValueError:
            pass
    return float(passed)


def composition(rng: Rng) -> float:
    logits, sigmoid = rng.uniform(-4, 4, a_shape(rng)), layers.Sigmoid(np)
    p, cache = sigmoid.forward(logits)
    t = targets(rng, p)
    dp, dlogits = losses.bce(np, p, t)[1], losses.bce_with_logits(np, logits, t)[1]
    return gradcheck.relative_error(sigmoid.backward(dp, cache), dlogits)


ROWS += [
    Row("bce.value", "BCE: L = −mean[t ln p + (1 − t) ln(1 − p)]",
        "losses.bce", AGAIN, 1e-12, partial(loss_value, a_loss=a_bce)),
    Row("bce.gradient", "BCE: dp = (p − t) / (p (1 − p)) / N",
        "losses.bce", EVERY, 1e-7, partial(loss_gradient, a_loss=a_bce)),
    Row("bce.domain", "BCE: refuses p outside (0, 1)",
        "losses.bce", "those let through", 0, closed_interval),
    Row("bce_with_logits.value", "BCE of logits: L",
        "losses.bce_with_logits", AGAIN, 1e-12, partial(loss_value, a_loss=a_bce_with_logits)),
    Row("bce_with_logits.gradient", "BCE of logits: dl = (σ(l) − t) / N",
        "losses.bce_with_logits", EVERY, 1e-7, partial(loss_gradient, a_loss=a_bce_with_logits)),
    Row("bce_with_logits.extremes", "BCE of logits: finite and right at ±1e4",
        "losses.bce_with_logits", "values in float32", 1e-6, extremes),
    Row("bce_with_logits.composition", "BCE of logits = BCE after sigmoid",
        "losses.bce_with_logits", "gradients of the two", 1e-12, composition),
]  # fmt: skip


# The optimiser


def adam_steps(rng: Rng) -> float:
    """Ten steps against Algorithm 1 as in the paper, sometimes over more than one block.

    ε is drawn on the scale of the gradient, so that its place in the formula matters.
    """
    n = backend.BLOCK + 3 if rng.random() < 0.05 else 5
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


def flush(rng: Rng) -> float:
    """The largest difference that setting small moments to 0 makes, relative to its bound.

    Moments of 1e-40 to 1e-20 decay for 60 steps without a gradient. θ starts at 0, so that
    differences of 1e-26 show.
    """
    n, t, rate, epsilon = 50, 99, 10 ** rng.uniform(-4, -1), 10 ** rng.uniform(-8, -4)
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


ROWS += [
    Row("adam.step", "Adam: θ ← θ − α m̂ / (√v̂ + ε)",
        "optim.Adam.step", "10 steps of Algorithm 1", 1e-9, adam_steps),
    Row("adam.flush", "Adam: m below 1e-30 left out, ≤ α β₁ m / ((1 − β₁) ε)",
        "optim._flush", "60 steps of Algorithm 1, over the bound", 1, flush),
]  # fmt: skip


# The three phases


class Phase(NamedTuple):
    gradient: Callable[[Model, Array, Rng], Any]  # returns the loss and leaves its gradient behind
    loss: Callable[[Model, Array, Rng], Any]  # by definition
    adam: str  # moves what the phase moves


def labels_of(x: Array, model: Model) -> Any:
    """A label for each row, or −1, "unlabelled"; None if the model has no classes."""
    return np.arange(1, len(x) + 1) % (model.classes + 1) - 1 if model.classes else None


def entropy(logits: Array, t: Array | float) -> Any:
    """The mean of −t ln σ(l) − (1 − t) ln(1 − σ(l))."""
    return np.mean(t * np.logaddexp(0, -logits) + (1 - t) * np.logaddexp(0, logits))


def reconstruction(model: Model, x: Array, rng: Rng) -> Any:
    return model.reconstruction_gradient(x, rng)


def reconstruction_loss(model: Model, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    return entropy(model.decoder.forward(codes, rng)[0], x)


def discriminator(model: Model, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    return model.discriminator_gradient(read_only(codes), rng, labels_of(x, model))


def discriminator_loss(model: Model, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    if model.classes:
        labels, u = labels_of(x, model), rng.random(len(x))
        position = np.where(labels < 0, u, (labels + u) / model.classes)
        real = model.prior.sample_at(rng, position)  # type: ignore[attr-defined]
        one_hot = np.eye(model.classes + 1)[labels]
        real, codes = np.hstack((real, one_hot)), np.hstack((codes, one_hot))
    else:
        real = model.prior(rng, len(x), model.latent)
    logits, _ = model.discriminator.forward(np.concatenate((real, codes)), rng)
    return entropy(logits[: len(x)], 1.0) + entropy(logits[len(x) :], 0.0)


def generator(model: Model, x: Array, rng: Rng) -> Any:
    codes, caches = model.encoder.forward(x, rng)
    return model.generator_gradient(read_only(codes), caches, rng, labels_of(x, model))


def generator_loss(model: Model, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    if model.classes:
        codes = np.hstack((codes, np.eye(model.classes + 1)[labels_of(x, model)]))
    return entropy(model.discriminator.forward(codes, rng)[0], 1.0)


def a_model(rng: Rng, classes: int = 0) -> tuple[Model, Array, int]:
    """A small model, a batch for it, and the seed of its masks and draws."""
    latent, visible, *hidden = rng.integers(2, 9, 4).tolist()
    model = Model(
        hidden=hidden,
        latent=2 if classes else latent,
        visible=visible,
        prior=priors.gaussian_mixture(components=classes) if classes else priors.gaussian(),
        classes=classes,
        dropout=rng.uniform(0, 0.5),
        discriminator_dropout=rng.uniform(0, 0.5),
        dtype="float64",
        seed=a_seed(rng),
    )
    model.theta *= rng.uniform(0.5, 1.5)
    return model, read_only(rng.random((int(rng.integers(1, 9)), visible))), a_seed(rng)


Case: TypeAlias = Callable[[Rng], tuple[Any, Array, int]]


def phase_loss(rng: Rng, phase: Phase, case: Case = a_model) -> float:
    model, x, seed = case(rng)
    expected = phase.loss(model, x, np.random.default_rng(seed))
    return gradcheck.relative_error(phase.gradient(model, x, np.random.default_rng(seed)), expected)


def phase_gradient(rng: Rng, phase: Phase, case: Case = a_model) -> float:
    """Along a random direction through all the parameters that the phase moves, dropout on."""
    model, x, seed = case(rng)
    own = model.adams()[phase.adam]

    def loss(parameters: Array) -> Any:
        own.parameters[:] = parameters
        return phase.gradient(model, x, np.random.default_rng(seed))

    model.gradient[:] = nan  # what is not overwritten shows
    start = own.parameters.copy()
    loss(start)
    return gradcheck.along(loss, start, own.gradient, rng.standard_normal(start.size))


def phase_isolation(rng: Rng, phase: Phase, case: Case = a_model) -> float:
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
    phase.gradient(model, x, np.random.default_rng(seed))
    own.step()
    return float(np.sum(before != state()))


def step_order(rng: Rng) -> float:
    """A step against its three phases by hand, two of which share one encoder pass."""
    model, x, seed = a_model(rng)
    other = Model(**(model.config | {"prior": model.prior}))
    other.theta[:] = model.theta
    stepped = model.step(x, np.random.default_rng(seed))
    draws = np.random.default_rng(seed)
    expected = [other.reconstruction_gradient(x, draws)]
    other.reconstruction_adam.step()
    codes, caches = other.encoder.forward(x, draws)
    expected.append(other.discriminator_gradient(codes, draws))
    other.discriminator_adam.step()
    expected.append(other.generator_gradient(codes, caches, draws))
    other.generator_adam.step()
    changed = sum(np.sum(array != other.arrays()[name]) for name, array in model.arrays().items())
    return float(np.sum(np.array(stepped) != np.array(expected)) + changed)


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


def decoding(rng: Rng) -> float:
    model, x, _ = a_model(rng)
    codes = model.encoder.forward(x)[0]
    expected = 1 / (1 + np.exp(-model.decoder.forward(codes)[0]))
    images = (model.decode(codes), model.reconstruct(x))
    return max(gradcheck.relative_error(image, expected) for image in images)


TOLD = partial(a_model, classes=3)
ONE = Phase(reconstruction, reconstruction_loss, "reconstruction_adam")
TWO = Phase(discriminator, discriminator_loss, "discriminator_adam")
THREE = Phase(generator, generator_loss, "generator_adam")
ROWS += [
    Row("phase1.value", "phase 1: L = BCE(decoder(z), x)",
        "Model.reconstruction_gradient", AGAIN, 1e-12, partial(phase_loss, phase=ONE)),
    Row("phase1.gradient", "phase 1: dL by encoder and decoder",
        "Model.reconstruction_gradient", ALONG, 1e-6, partial(phase_gradient, phase=ONE)),
    Row("phase1.isolation", "phase 1: moves nothing else",
        "Model.reconstruction_gradient", EQUAL, 0, partial(phase_isolation, phase=ONE)),
    Row("phase2.value", "phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0)",
        "Model.discriminator_gradient", AGAIN, 1e-12, partial(phase_loss, phase=TWO)),
    Row("phase2.gradient", "phase 2: dL by discriminator",
        "Model.discriminator_gradient", ALONG, 1e-6, partial(phase_gradient, phase=TWO)),
    Row("phase2.isolation", "phase 2: moves nothing else",
        "Model.discriminator_gradient", EQUAL, 0, partial(phase_isolation, phase=TWO)),
    Row("phase3.value", "phase 3: L = BCE(D(z), 1)",
        "Model.generator_gradient", AGAIN, 1e-12, partial(phase_loss, phase=THREE)),
    Row("phase3.gradient", "phase 3: dL by encoder, through D",
        "Model.generator_gradient", ALONG, 1e-6, partial(phase_gradient, phase=THREE)),
    Row("phase3.isolation", "phase 3: moves nothing else, D least of all",
        "Model.generator_gradient", EQUAL, 0, partial(phase_isolation, phase=THREE)),
    Row("labels.phase2.value", "phase 2 with labels: L",
        "Model.discriminator_gradient", AGAIN, 1e-12, partial(phase_loss, phase=TWO, case=TOLD)),
    Row("labels.phase2.gradient", "phase 2 with labels: dL by discriminator",
        "Model.discriminator_gradient", ALONG, 1e-6, partial(phase_gradient, phase=TWO, case=TOLD)),
    Row("labels.phase3.value", "phase 3 with labels: L",
        "Model.generator_gradient", AGAIN, 1e-12, partial(phase_loss, phase=THREE, case=TOLD)),
    Row("labels.phase3.gradient", "phase 3 with labels: dL by encoder",
        "Model.generator_gradient", ALONG, 1e-6, partial(phase_gradient, phase=THREE, case=TOLD)),
    Row("step.phases", "step: phases 1, 2, 3, each then moved", "Model.step", EQUAL, 0, step_order),
    Row("model.rates", "model: its rates where they belong", "Model", EQUAL, 0, rates),
    Row("decode.images", "decode: σ(decoder(z)), dropout off",
        "Model.decode", AGAIN, 1e-12, decoding),
]  # fmt: skip


# Categories: what `CategoricalAutoencoder` adds


def a_score(rng: Rng) -> tuple[Array, Array]:
    """Logits of some rows, and a label for each."""
    n, k = rng.integers(2, 6, 2)
    return read_only(rng.uniform(-4, 4, (n, k))), read_only(rng.integers(0, k, n))


def shares(logits: Array) -> Array:
    return np.array([[exp(l) / sum(map(exp, row)) for l in row] for row in logits])  # noqa: E741


def log_softmax_value(rng: Rng) -> float:
    """Along either axis, also with logits whose exponentials would overflow or vanish."""
    (logits, _), axis, shift = a_score(rng), int(rng.integers(2)), rng.choice([0, -1e3, 1e3])
    expected = np.log(shares(logits) if axis == 1 else shares(logits.T).T)
    found = categorical.layers.log_softmax(np, logits + shift, axis)
    return gradcheck.relative_error(found, expected)


def softmax_value(rng: Rng) -> float:
    logits, _ = a_score(rng)
    found = categorical.layers.softmax(
        np, logits + 10 ** rng.uniform(0, 2)
    )  # a constant changes nothing
    return gradcheck.relative_error(found, shares(logits))


def softmax_loss(rng: Rng) -> float:
    logits, labels = a_score(rng)
    expected = -np.mean([log(p[j]) for p, j in zip(shares(logits), labels, strict=True)])
    return gradcheck.relative_error(
        categorical.losses.softmax_cross_entropy(np, logits, labels)[0], expected
    )


def softmax_gradient(rng: Rng) -> float:
    logits, labels = a_score(rng)

    def loss(x: Array) -> Any:
        return categorical.losses.softmax_cross_entropy(np, x, labels)[0]

    _, gradient = categorical.losses.softmax_cross_entropy(np, logits, labels)
    return gradcheck.elementwise(loss, logits, gradient)


def two_scores(rng: Rng) -> tuple[Array, Array]:
    """Logarithms of the categories of some rows, and other logits."""
    logits, _ = a_score(rng)
    n, k = logits.shape
    return np.log(shares(logits)), read_only(rng.uniform(-4, 4, (n, k)))


def divergence_of(p: Array, q: Array) -> float:
    """KL(p ‖ q), by definition, the mean over the rows."""
    pairs = zip(p.ravel(), q.ravel(), strict=True)
    return float(sum(a * log(a / b) for a, b in pairs)) / len(p)


def information_of(q: Array) -> float:
    """The mutual information of rows and categories, by definition."""
    return divergence_of(q, np.broadcast_to(q.mean(axis=0), q.shape))


def divergence_value(rng: Rng) -> float:
    log_p, logits = two_scores(rng)
    expected = divergence_of(np.exp(log_p), shares(logits))
    return gradcheck.relative_error(categorical.losses.divergence(np, log_p, logits)[0], expected)


def divergence_gradient(rng: Rng) -> float:
    log_p, logits = two_scores(rng)
    _, gradient = categorical.losses.divergence(np, log_p, logits)
    return gradcheck.elementwise(
        lambda x: categorical.losses.divergence(np, log_p, x)[0], logits, gradient
    )


def information_value(rng: Rng) -> float:
    """The difference is relative to ln k, because I itself may be close to 0."""
    logits, _ = a_score(rng)
    found, _ = categorical.losses.information(np, logits)
    return float(abs(found - information_of(shares(logits))) / log(logits.shape[1]))


def information_gradient(rng: Rng) -> float:
    """Of 1 + I, whose rounding errors are small beside it also if I is close to 0."""
    logits, _ = a_score(rng)
    _, gradient = categorical.losses.information(np, logits)
    return gradcheck.elementwise(
        lambda x: 1 + categorical.losses.information(np, x)[0], logits, gradient
    )


def partial_value(rng: Rng) -> float:
    logits, _ = a_score(rng)
    k = int(rng.integers(1, logits.shape[1] + 1))
    expected = np.hstack((shares(logits[:, :k]), logits[:, k:]))
    found = categorical.layers.PartialSoftmax(np, k).forward(logits)[0]
    return gradcheck.relative_error(found, expected)


def partial_input(rng: Rng) -> float:
    logits, _ = a_score(rng)
    k = int(rng.integers(2, logits.shape[1] + 1))  # with 1 the derivative vanishes
    return gradcheck.layer(categorical.layers.PartialSoftmax(np, k), logits)


def noise_value(rng: Rng) -> float:
    std, x = a_length(rng), a_matrix(rng, (100, 100))
    layer = categorical.layers.Noise(std)
    epsilon = ((layer.forward(x, rng)[0] - x) / std).ravel()
    unchanged = np.array_equal(layer.forward(x)[0], x)
    return uniform_distances(normal_cdf(epsilon[:5000]), normal_cdf(epsilon[5000:])) / unchanged


def noise_input(rng: Rng) -> float:
    layer = categorical.layers.Noise(a_length(rng))
    return gradcheck.layer(layer, a_matrix(rng, a_shape(rng)), seed=a_seed(rng))


def a_batch_norm(rng: Rng) -> tuple[Any, Array]:
    n, k = (int(size) for size in rng.integers(3, 7, 2))
    layer = categorical.layers.BatchNorm(np, k, float)
    layer.gamma[:], layer.beta[:] = rng.standard_normal((2, k))
    return layer, a_matrix(rng, (n, k))


def batch_norm_value(rng: Rng) -> float:
    layer, x = a_batch_norm(rng)
    columns = [(x_j - np.mean(x_j)) / sqrt(np.var(x_j) + 1e-5) for x_j in x.T]
    expected = layer.gamma * np.transpose(columns) + layer.beta
    return gradcheck.relative_error(layer.forward(x, rng)[0], expected)


def batch_norm_input(rng: Rng) -> float:
    return gradcheck.layer(*a_batch_norm(rng))


def batch_norm_parameters(rng: Rng) -> float:
    return max(gradcheck.parameters(*a_batch_norm(rng)).values())


def batch_norm_off(rng: Rng) -> float:
    """In evaluation, after a batch has moved the running averages."""
    layer, x = a_batch_norm(rng)
    layer.forward(x, rng)
    dy, (_, cache) = rng.standard_normal(x.shape), layer.forward(x)

    def projected(x: Array) -> Any:
        return np.vdot(dy, layer.forward(x)[0])

    return gradcheck.elementwise(projected, x, layer.backward(dy, cache))


def batch_norm_averages(rng: Rng) -> float:
    """Each batch moves the averages that evaluation uses by 0.02 of the difference."""
    layer, x = a_batch_norm(rng)
    mean, variance = np.zeros(x.shape[1]), np.ones(x.shape[1])
    for _ in range(3):
        batch = a_matrix(rng, (5, x.shape[1]))
        layer.forward(batch, rng)
        mean = 0.98 * mean + 0.02 * batch.mean(axis=0)
        variance = 0.98 * variance + 0.02 * batch.var(axis=0)
    expected = layer.gamma * (x - mean) / np.sqrt(variance + 1e-5) + layer.beta
    return gradcheck.relative_error(layer.forward(x)[0], expected)


def side_by_side(rng: Rng) -> tuple[Any, Any, Array]:
    """Three networks side by side with one output each, the three alone, and an input."""
    widths = rng.integers(1, 4, 3).tolist()
    networks = [layers.perceptron(np, (width, 3, 1), 0.3, float) for width in widths]
    for network in networks:
        network.initialise(rng)
    beside = categorical.layers.SideBySide(np, networks, widths)
    return beside, networks, read_only(rng.standard_normal((4, sum(widths))))


def side_by_side_value(rng: Rng) -> float:
    beside, networks, x = side_by_side(rng)
    outputs, start = [], 0
    for network in networks:
        end = start + len(network.layers[0].W)
        outputs.append(network.forward(x[:, start:end])[0])
        start = end
    return gradcheck.relative_error(beside.forward(x)[0], np.hstack(outputs))


def side_by_side_gradients(rng: Rng) -> float:
    beside, _, x = side_by_side(rng)
    seed = a_seed(rng)
    of_parameters = gradcheck.parameters(beside, x, seed=seed)
    return max(gradcheck.layer(beside, x, seed=seed), *of_parameters.values())


def cluster_heads(rng: Rng) -> tuple[Any, Array]:
    n, k, d = (int(size) for size in rng.integers(1, 5, 3))
    layer = categorical.layers.ClusterHeads(np, np.empty((k, d)), np.empty(d), a_length(rng))
    layer.initialise(rng)
    layer.b[:] = rng.standard_normal(d)
    return layer, a_matrix(rng, (n, k + d))


def heads_value(rng: Rng) -> float:
    layer, x = cluster_heads(rng)
    k = len(layer.W)
    expected = [sum(row[j] * layer.W[j] for j in range(k)) + layer.b + row[k:] for row in x]
    return gradcheck.relative_error(layer.forward(x)[0], expected)


def heads_gradients(rng: Rng) -> float:
    layer, x = cluster_heads(rng)
    return max(gradcheck.layer(layer, x), *gradcheck.parameters(layer, x).values())


def some_heads(rng: Rng) -> tuple[Array, float]:
    """Heads, and a distance that about half of their pairs do not reach."""
    W = read_only(rng.standard_normal((int(rng.integers(2, 6)), 2)))
    pairs = sorted(float(np.linalg.norm(a - b)) for a, b in combinations(W, 2))
    return W, 1.01 * pairs[len(pairs) // 2]


def repulsion_value(rng: Rng) -> float:
    W, distance = some_heads(rng)
    expected = sum(max(0.0, distance - sqrt(sum((a - b) ** 2))) for a, b in combinations(W, 2))
    return gradcheck.relative_error(categorical.losses.repulsion(np, W, distance)[0], expected)


def repulsion_gradient(rng: Rng) -> float:
    W, distance = some_heads(rng)
    _, gradient = categorical.losses.repulsion(np, W, distance)
    return gradcheck.elementwise(
        lambda W: categorical.losses.repulsion(np, W, distance)[0], W, gradient
    )


def a_categorical(rng: Rng, head_distance: float = 0.0) -> tuple[Any, Array, int]:
    """Like `a_model`, with categories."""
    categories, latent, visible, *hidden = rng.integers(2, 7, 5).tolist()
    model = Categorical(
        hidden=hidden,
        categories=categories,
        latent=latent,
        visible=visible,
        head_distance=head_distance,
        noise=rng.uniform(0, 0.5),
        perturbation=rng.uniform(0.1, 3),
        information_weight=rng.choice([0, 0.5]),
        joint=bool(rng.integers(2)),
        dropout=rng.uniform(0, 0.5),
        discriminator_dropout=rng.uniform(0, 0.5),
        dtype="float64",
        seed=a_seed(rng),
    )
    model.theta *= rng.uniform(0.5, 1.5)
    model.theta += 0.1 * rng.standard_normal(model.theta.size)  # every β starts at 0
    return model, read_only(rng.random((int(rng.integers(4, 9)), visible))), a_seed(rng)


def categories_of(x: Array, model: Any) -> Array:
    return read_only(np.arange(len(x)) % model.categories)


def classification(model: Any, x: Array, rng: Rng) -> Any:
    return model.classification_gradient(x, categories_of(x, model), rng)


def classification_loss(model: Any, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    return -np.mean([log(c[j]) for c, j in zip(codes, categories_of(x, model), strict=True)])


def log_categories_of(x: Array, model: Any) -> Array:
    """The logarithms of some categories for each row."""
    draws = np.random.default_rng(len(x))
    return read_only(np.log(shares(draws.uniform(-2, 2, (len(x), model.categories)))))


def smoothness(model: Any, x: Array, rng: Rng) -> Any:
    return model.smoothness_gradient(log_categories_of(x, model), x, rng)


def smoothness_loss(model: Any, x: Array, rng: Rng) -> Any:
    without_noise = layers.Sequential(model.encoder.layers[1:])
    q = without_noise.forward(x, rng)[0][:, : model.categories]
    gained = model.config["information_weight"] * information_of(q)
    return divergence_of(np.exp(log_categories_of(x, model)), q) - gained


def perturbation(rng: Rng) -> float:
    """Its length, and its direction against the divergence's slopes around a small random step."""
    model, x, seed = a_categorical(rng)
    _, perturbed = model.perturb(x, np.random.default_rng(seed))
    classifier, draws = layers.Sequential(model.encoder.layers[1:-1]), np.random.default_rng(seed)

    def log_categories(x: Array, rng: Rng) -> Array:
        return np.log(shares(classifier.forward(x, rng)[0][:, : model.categories]))

    log_p = log_categories(x, draws)
    step = draws.standard_normal(x.shape)
    start = x + 1e-3 * step / np.linalg.norm(step, axis=1, keepdims=True)

    def slopes(row: int, h: float) -> Array:
        """Of the divergence, by each pixel of a row."""
        found = []
        for pixel in range(x.shape[1]):
            ends = [start.copy(), start.copy()]
            ends[0][row, pixel] += h
            ends[1][row, pixel] -= h
            log_q, log_q_before = (log_categories(end, deepcopy(draws)) for end in ends)
            found.append(np.sum(np.exp(log_p) * (log_q_before - log_q)) / (2 * h))
        return np.array(found)

    for row in rng.permutation(len(x)):
        wide, narrow = slopes(row, 1e-4), slopes(row, 5e-5)
        length = np.linalg.norm(wide)
        if length > 1e-6 and np.abs(wide - narrow).max() < 1e-6 * length:
            expected = model.config["perturbation"] * wide / length
            return gradcheck.relative_error((perturbed - x)[row], expected)
    raise gradcheck.Kink("in every row the gradient is 0 or a ReLU changes sign nearby")


def own_samples(rng: Rng) -> float:
    """Images, and the categories that they were decoded from."""
    model, _, seed = a_categorical(rng)
    images, labels = model.own_samples(5, np.random.default_rng(seed))
    draws = np.random.default_rng(seed)
    codes = model.draw_prior(draws, 5)
    logits, _ = model.decoder.forward(codes, draws)
    same = np.array_equal(np.eye(model.categories)[labels], codes[:, : model.categories])
    return gradcheck.relative_error(images, 1 / (1 + np.exp(-logits))) if same else inf


def repelled_loss(model: Any, x: Array, rng: Rng) -> Any:
    heads = model.decoder.layers[0]
    pairs = combinations(heads.W, 2)
    repelled = sum(max(0.0, heads.distance - sqrt(sum((a - b) ** 2))) for a, b in pairs)
    return reconstruction_loss(model, x, rng) + 1e-3 * repelled


def discriminators_loss(model: Any, x: Array, rng: Rng) -> Any:
    """A mean over both discriminators."""
    codes, _ = model.encoder.forward(x, rng)
    real = model.draw_prior(rng, len(x))
    logits, _ = model.discriminator.forward(np.concatenate((real, codes)), rng)
    pairs = [(entropy(l[: len(x)], 1.0), entropy(l[len(x) :], 0.0)) for l in logits.T]  # noqa: E741
    return np.mean([sum(pair) for pair in pairs])


def codes_prior(rng: Rng) -> float:
    """Categories are one-hot and equally likely, and the style beside them is normal."""
    model, _, _ = a_categorical(rng)
    codes = model.draw_prior(rng, SAMPLES)
    y, z = codes[:, : model.categories], codes[:, model.categories :]
    category = (y.argmax(axis=1) + rng.random(SAMPLES)) / model.categories
    one_hot = np.array_equal(y, np.eye(model.categories)[y.argmax(axis=1)])
    return uniform_distances(category, *normal_cdf(z[:, :2]).T) if one_hot else inf


def later_phases(rng: Rng) -> float:
    """A step, with labelled images or without, against the first three phases and two by hand."""
    model, x, seed = a_categorical(rng)
    labelled = (x, categories_of(x, model)) if rng.integers(2) else None
    other = Categorical(**(model.config | {"prior": model.prior}))
    other.theta[:] = model.theta
    stepped = model.step(x, np.random.default_rng(seed), labelled)
    draws = np.random.default_rng(seed)
    expected = [*Model.step(other, x, draws)]
    images, labels = labelled or other.own_samples(len(x), draws)
    expected.append(other.classification_gradient(images, labels, draws))
    other.classification_adam.step()
    expected.append(other.smoothness_gradient(*other.perturb(x, draws), draws))
    other.smoothness_adam.step()
    changed = sum(np.sum(array != other.arrays()[name]) for name, array in model.arrays().items())
    return float(np.sum(np.array(stepped) != np.array(expected)) + changed)


WITH_HEADS = partial(a_categorical, head_distance=3.0)
BOTH = Phase(discriminator, discriminators_loss, "discriminator_adam")
REPELLED = Phase(reconstruction, repelled_loss, "reconstruction_adam")
FOUR = Phase(classification, classification_loss, "classification_adam")
FIVE = Phase(smoothness, smoothness_loss, "smoothness_adam")


def in_categories(check: Callable[..., float], phase: Phase, case: Case = a_categorical) -> Any:
    return partial(check, phase=phase, case=case)


ENTROPY, NORM = "categorical.losses.softmax_cross_entropy", "categorical.layers.BatchNorm"
FOURTH, FIFTH = "Categorical.classification_gradient", "Categorical.smoothness_gradient"
ROWS += [
    Row("log_softmax.y", "ln softmax: l − ln Σ exp(l)",
        "categorical.layers.log_softmax", AGAIN, 1e-12, log_softmax_value),
    Row("softmax.y", "softmax: p = exp(l) / Σ exp(l)",
        "categorical.layers.softmax", AGAIN, 1e-12, softmax_value),
    Row("cross_entropy.value", "softmax's cross-entropy: L", ENTROPY, AGAIN, 1e-12, softmax_loss),
    Row("cross_entropy.gradient", "softmax's cross-entropy: dl = (p − t) / n",
        ENTROPY, EVERY, 1e-7, softmax_gradient),
    Row("divergence.value", "divergence: KL = Σ p (ln p − ln q) / n",
        "categorical.losses.divergence", AGAIN, 1e-10, divergence_value),
    Row("divergence.gradient", "divergence: dl = (q − p) / n",
        "categorical.losses.divergence", EVERY, 1e-7, divergence_gradient),
    Row("information.value", "information: I = Σ q (ln q − ln q̄) / n",
        "categorical.losses.information", AGAIN, 1e-12, information_value),
    Row("information.gradient", "information: dl = q (g − Σ q g) / n",
        "categorical.losses.information", EVERY, 1e-7, information_gradient),
    Row("partial_softmax.y", "two heads: softmax, and the rest",
        "categorical.layers.PartialSoftmax.forward", AGAIN, 1e-12, partial_value),
    Row("partial_softmax.dx", "two heads: dl = p · (dp − Σ p dp)",
        "categorical.layers.PartialSoftmax.backward", EVERY, 1e-7, partial_input),
    Row("noise.y", "noise: N(x, std²), and off, x",
        "categorical.layers.Noise.forward", "samples, turned to N(0, 1)", 1, noise_value),
    Row("noise.dx", "noise: dx = dy",
        "categorical.layers.Noise.backward", EVERY, 1e-7, noise_input),
    Row("batch_norm.y", "batch norm: y = γ (x − μ) / s + β",
        f"{NORM}.forward", AGAIN, 1e-10, batch_norm_value),
    Row("batch_norm.averages", "batch norm: its running averages",
        f"{NORM}.forward", AGAIN, 1e-10, batch_norm_averages),
    Row("batch_norm.dx", "batch norm: dx", f"{NORM}.backward", EVERY, 1e-6, batch_norm_input),
    Row("batch_norm.off", "batch norm: off, dx = γ dy / s",
        f"{NORM}.backward", EVERY, 1e-7, batch_norm_off),
    Row("batch_norm.parameters", "batch norm: dγ, dβ",
        f"{NORM}.parameter_gradients", EVERY, 1e-7, batch_norm_parameters),
    Row("side_by_side.y", "side by side: y",
        "categorical.layers.SideBySide.forward", AGAIN, 1e-12, side_by_side_value),
    Row("side_by_side.gradients", "side by side: dx, and dW, db of each",
        "categorical.layers.SideBySide.backward", EVERY, 1e-7, side_by_side_gradients),
    Row("cluster_heads.y", "cluster heads: e = y W + b + z",
        "categorical.layers.ClusterHeads.forward", AGAIN, 1e-12, heads_value),
    Row("cluster_heads.gradients", "cluster heads: dx, dW, db",
        "categorical.layers.ClusterHeads.backward", EVERY, 1e-7, heads_gradients),
    Row("repulsion.value", "repulsion: Σ max(0, η − ‖wᵢ − wⱼ‖)",
        "categorical.losses.repulsion", AGAIN, 1e-9, repulsion_value),
    Row("repulsion.gradient", "repulsion: dW",
        "categorical.losses.repulsion", EVERY, 1e-7, repulsion_gradient),
    Row("categories.prior", "categories: the prior of (y, z)",
        "Categorical.draw_prior", "quantiles of samples", 1, codes_prior),
    Row("categories.phase1.gradient", "categories, phase 1: dL, by γ and β too",
        "Categorical.reconstruction_gradient", ALONG, 1e-6, in_categories(phase_gradient, ONE)),
    Row("heads.phase1.value", "cluster heads, phase 1: L",
        "Categorical.reconstruction_gradient", AGAIN, 1e-12,
        in_categories(phase_loss, REPELLED, WITH_HEADS)),
    Row("heads.phase1.gradient", "cluster heads, phase 1: dL",
        "Categorical.reconstruction_gradient", ALONG, 1e-6,
        in_categories(phase_gradient, REPELLED, WITH_HEADS)),
    Row("categories.phase2.value", "categories, phase 2: L of both D",
        "Model.discriminator_gradient", AGAIN, 1e-12, in_categories(phase_loss, BOTH)),
    Row("categories.phase2.gradient", "categories, phase 2: dL",
        "Model.discriminator_gradient", ALONG, 1e-6, in_categories(phase_gradient, BOTH)),
    Row("categories.phase3.gradient", "categories, phase 3: dL through both D",
        "Model.generator_gradient", ALONG, 1e-6, in_categories(phase_gradient, THREE)),
    Row("phase4.value", "phase 4: L = −ln y_label",
        FOURTH, AGAIN, 1e-12, in_categories(phase_loss, FOUR)),
    Row("phase4.gradient", "phase 4: dL by encoder",
        FOURTH, ALONG, 1e-6, in_categories(phase_gradient, FOUR)),
    Row("phase4.isolation", "phase 4: moves nothing else",
        FOURTH, EQUAL, 0, in_categories(phase_isolation, FOUR)),
    Row("own_samples.images", "own samples: σ(decoder(y*, z*)) and y*",
        "Categorical.own_samples", AGAIN, 1e-12, own_samples),
    Row("perturb.direction", "phase 5: r along dKL(y ‖ y(x + r))",
        "Categorical.perturb", AGAIN, 1e-4, perturbation),
    Row("phase5.value", "phase 5: L = KL(y ‖ q) − w I(q)",
        FIFTH, AGAIN, 1e-9, in_categories(phase_loss, FIVE)),
    Row("phase5.gradient", "phase 5: dL by encoder",
        FIFTH, ALONG, 1e-6, in_categories(phase_gradient, FIVE)),
    Row("phase5.isolation", "phase 5: moves nothing else",
        FIFTH, EQUAL, 0, in_categories(phase_isolation, FIVE)),
    Row("categories.step", "categories: a step, then phases 4 and 5",
        "Categorical.step", EQUAL, 0, later_phases),
]  # fmt: skip


# Training


def two_epochs(rng: Rng) -> tuple[Array, int, list[training.Record], list[Any]]:
    """Images, a batch size, the records of two epochs, and (batch, labels, losses) of each step.

    The steps train nothing, and their losses are drawn at random.
    """
    images, batch_size = read_only(rng.random((int(rng.integers(20, 60)), 3))), rng.integers(1, 20)
    model = Model(hidden=(1,), visible=3, dtype="float64", classes=2, prior=priors.swiss_roll())
    steps = []

    def step(x: Array, rng_of_step: Rng, labels: Array) -> tuple[float, ...]:
        steps.append((x.copy(), labels.copy(), tuple(rng.random(3))))
        return steps[-1][2]

    vars(model)["step"] = step
    labels = label_by_pixel(images)
    epochs = training.train(model, images, labels=labels, epochs=2, batch_size=int(batch_size))
    return images, int(batch_size), list(epochs), steps


def label_by_pixel(images: Array) -> Array:
    return (3 * images[:, 0]).astype(int)


def record_means(rng: Rng) -> float:
    """Each image has the same weight, although the last batch is smaller."""
    *_, records, steps = two_epochs(rng)
    errors = []
    for i, record in enumerate(records):
        half = steps[i * len(steps) // 2 : (i + 1) * len(steps) // 2]
        every_image = np.concatenate([np.tile(losses, (len(x), 1)) for x, _, losses in half])
        errors.append(gradcheck.relative_error(record[1:4], every_image.mean(axis=0)))
    return max(errors)


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


ROWS += [
    Row("train.records", "train: a record is a mean over images",
        "training.train", AGAIN, 1e-12, record_means),
    Row("train.images", "train: every image once an epoch, shuffled",
        "training.train", EQUAL, 0, epoch_images),
    Row("evaluate.values", "evaluate: BCE by pixel, codes' mean and sd",
        "training.evaluate", AGAIN, 1e-12, evaluation),
]  # fmt: skip


# The priors: samples through the distribution function that each formula is meant to have

SAMPLES = 5_000


def uniform_distances(*columns: Array) -> float:
    """The worst over each column, and over each given that another is below ½ (independence)."""
    halves = [u[v < 0.5] for u, v in combinations(columns, 2)]
    return max(map(uniform_distance, (*columns, *halves)))


GRID = np.linspace(-9, 9, 3001)  # between whose points the error is below 1e-6
NORMAL_CDF = [(1 + erf(value / sqrt(2))) / 2 for value in GRID]


def normal_cdf(values: Array) -> Array:
    return np.interp(values, GRID, NORMAL_CDF)


def a_length(rng: Rng) -> float:
    return float(10 ** rng.uniform(-1, 1))


def angles(z: Array) -> Array:
    """The direction of the first two coordinates, as a share of a full turn."""
    return np.arctan2(z[:, 1], z[:, 0]) / (2 * pi) % 1


def gaussian_samples(rng: Rng) -> float:
    """P(|z| ≤ r) = 1 − exp(−r² / 2std²) in the plane, and every direction is equally likely."""
    std = a_length(rng)
    z = priors.gaussian(std)(rng, SAMPLES, 2)
    radius = np.linalg.norm(z, axis=1)
    return uniform_distances(1 - np.exp(-(radius**2) / (2 * std**2)), angles(z))


def square_samples(rng: Rng) -> float:
    side = a_length(rng)
    z = priors.uniform_square(side)(rng, SAMPLES, int(rng.integers(1, 5)))
    return uniform_distances(*(z / side + 0.5).T)


def disc_samples(rng: Rng) -> float:
    """P(|z| ≤ r) = (r / radius)^dim, a share of the volume; every direction is equally likely."""
    radius, dim = a_length(rng), int(rng.integers(2, 5))
    z = priors.uniform_disc(radius)(rng, SAMPLES, dim)
    return uniform_distances((np.linalg.norm(z, axis=1) / radius) ** dim, angles(z))


def petal(rng: Rng) -> float:
    """Turned back by its component's angle, a sample is normal outwards and normal across."""
    k, (radius, radial, across) = int(rng.integers(1, 12)), (a_length(rng) for _ in range(3))
    position = read_only(rng.random(SAMPLES))
    z = priors.gaussian_mixture(k, radius, radial, across).sample_at(rng, position) @ [1, 1j]
    z = z * np.exp(-2j * pi * np.floor(k * position) / k)
    return uniform_distances(normal_cdf((z.real - radius) / radial), normal_cdf(z.imag / across))


def petals(rng: Rng) -> float:
    """For a mixture of points: each is equally likely. A uniform number makes it continuous."""
    k = int(rng.integers(1, 12))
    z = priors.gaussian_mixture(k, 1.0, 1e-9, 1e-9)(rng, SAMPLES, 2)
    return uniform_distance((np.round(k * angles(z)) % k + rng.random(SAMPLES)) / k)


def roll(rng: Rng) -> float:
    """Samples at known positions, minus the spiral there, are normal in both directions."""
    radius, turns, std = (a_length(rng) for _ in range(3))
    position = read_only(rng.random(SAMPLES))
    z = priors.swiss_roll(radius, turns, std).sample_at(rng, position) @ [1, 1j]
    root = np.sqrt(position)
    blur = (z - radius * root * np.exp(2j * pi * turns * root)) / std
    return uniform_distances(normal_cdf(blur.real), normal_cdf(blur.imag))


def roll_samples(rng: Rng) -> float:
    """For a roll of less than one turn without blur: P(|z| ≤ r) = (r / radius)², and its angle."""
    radius, turns = a_length(rng), rng.uniform(0.1, 0.9)
    z = priors.swiss_roll(radius, turns, 1e-15)(rng, SAMPLES, 2)
    share = np.linalg.norm(z, axis=1) / radius
    return uniform_distances(share**2) + float(np.abs(angles(z) - turns * share).max() > 1e-6)


NORMAL, QUANTILES = "samples, turned to N(0, 1)", "quantiles of samples"
ROWS += [
    Row("gaussian.samples", "Gaussian: N(0, std² I)",
        "priors.gaussian", QUANTILES, 1, gaussian_samples),
    Row("uniform_square.samples", "square: uniform",
        "priors.uniform_square", QUANTILES, 1, square_samples),
    Row("uniform_disc.samples", "disc: uniform in direction and volume",
        "priors.uniform_disc", QUANTILES, 1, disc_samples),
    Row("gaussian_mixture.sample_at", "mixture: sd outwards and across",
        "priors.gaussian_mixture.sample_at", NORMAL, 1, petal),
    Row("gaussian_mixture.samples", "mixture: equally many of each",
        "priors.gaussian_mixture", "shares of samples", 1, petals),
    Row("swiss_roll.sample_at", "roll: at s, normal around the spiral",
        "priors.swiss_roll.sample_at", NORMAL, 1, roll),
    Row("swiss_roll.samples", "roll: √s, even along the spiral",
        "priors.swiss_roll", QUANTILES, 1, roll_samples),
]  # fmt: skip


# The metrics, each from its definition, point by point


def a_pair(rng: Rng, least: int = 1) -> tuple[Array, Array]:
    """Two small sets of points of the same dimension."""
    n, m, dim = (int(rng.integers(least, 9)) for _ in range(3))
    scale, shift = a_length(rng), rng.standard_normal(dim)
    x, y = scale * rng.standard_normal((n, dim)), scale * (rng.standard_normal((m, dim)) + shift)
    return read_only(x), read_only(y)


def distance_matrix(x: Array, y: Array) -> Array:
    return np.array([[sqrt(np.sum((a - b) ** 2)) for b in y] for a in x])


def energy(between: Array, within_x: Array, within_y: Array) -> float:
    """2 E|X − Y| − E|X − X'| − E|Y − Y'|, each a mean over pairs of different points."""
    n, m = between.shape
    within = within_x.sum() / (n * (n - 1)) + within_y.sum() / (m * (m - 1))
    return float(2 * between.mean() - within)


def code_moments(rng: Rng) -> float:
    z, _ = a_pair(rng)
    mean = sum(z) / len(z)
    covariance = sum(np.outer(row - mean, row - mean) for row in z) / len(z)
    found = metrics.moments(z)
    return max(float(np.abs(a - b).max()) for a, b in zip(found, (mean, covariance), strict=True))


def energy_distance(rng: Rng) -> float:
    """The error in units of the mean distance, because E itself may be 0."""
    x, y = a_pair(rng, least=2)
    between = distance_matrix(x, y)
    expected = energy(between, distance_matrix(x, x), distance_matrix(y, y))
    found, *_ = metrics.energy_test(x, y, permutations=1)
    return abs(found - expected) / float(between.mean())


def permutation_test(rng: Rng) -> float:
    """p, and the p of the threshold, against all 70 divisions of eight points, relative to chance.

    P(|share of N draws − probability| > ε) ≤ 2 exp(−2 N ε²) (Hoeffding).
    """
    z = read_only(rng.standard_normal((8, 2)))
    D, points = distance_matrix(z, z), range(8)
    divisions = [(x, [i for i in points if i not in x]) for x in combinations(points, 4)]
    energies = np.array([energy(D[np.ix_(x, y)], D[np.ix_(x, x)], D[np.ix_(y, y)])
                         for x, y in divisions])  # fmt: skip
    _, threshold, p = metrics.energy_test(z[:4], z[4:], permutations=999, seed=a_seed(rng))
    error = abs(p - np.mean(energies >= energies[0] - 1e-9))
    above, reached = np.mean(energies > threshold + 1e-6), np.mean(energies >= threshold - 1e-6)
    return float(max(error, above - 0.05, 0.05 - reached)) / sqrt(log(2 / RARE) / (2 * 999))


def parzen_density(rng: Rng) -> float:
    (points, samples), h = a_pair(rng), rng.uniform(0.5, 3)
    expected = []
    for point in points:
        exponents = [-float(np.sum((point - sample) ** 2)) / (2 * h * h) for sample in samples]
        mean = sum(exp(e - max(exponents)) for e in exponents) / len(samples)
        volume = len(point) / 2 * log(2 * pi * h * h)
        expected.append(max(exponents) + log(mean) - volume)
    found = metrics.parzen_log_likelihood(points, samples, h)
    return float((np.abs(found - expected) / (1 + np.abs(expected))).max())


def neighbour_votes(rng: Rng) -> float:
    test, _ = a_pair(rng)
    train = read_only(rng.standard_normal((int(rng.integers(1, 60)), test.shape[1])))
    k, labels = int(rng.integers(1, len(train) + 1)), rng.integers(0, 3, len(train))
    truth, right = rng.integers(0, 3, len(test)), 0
    for code, label in zip(test, truth, strict=True):
        nearest = sorted(range(len(train)), key=lambda i: sum((train[i] - code) ** 2))[:k]
        votes = [int(labels[i]) for i in nearest]
        right += min(votes, key=lambda vote: (-votes.count(vote), vote)) == label
    found = metrics.neighbour_accuracy(train, labels, test, truth, neighbours=k)
    return abs(found - right / len(test))


def names_of_clusters(rng: Rng) -> float:
    y, labels = rng.random((7, 3)), rng.integers(0, 10, 7)
    expected = [labels[max(range(7), key=lambda i: y[i, k])] for k in range(3)]
    return float(np.sum(metrics.cluster_names(read_only(y), labels) != expected))


def block_error(rng: Rng) -> float:
    """For blocks of equal values it is the usual standard error of one value per block."""
    blocks, length = int(rng.integers(10, 50)), int(rng.integers(2, 50))
    values = rng.standard_normal(blocks)
    found = metrics.block_standard_error(read_only(np.repeat(values, length)), length)
    expected = sqrt(sum((values - values.mean()) ** 2) / (blocks - 1) / blocks)
    return gradcheck.relative_error(found, expected)


ROWS += [
    Row("moments.values", "moments: mean and covariance",
        "metrics.moments", AGAIN, 1e-11, code_moments),
    Row("energy_test.distance", "energy distance",
        "metrics.energy_test", AGAIN, 1e-5, energy_distance),
    Row("energy_test.p", "energy test: threshold, p",
        "metrics.energy_test", "all divisions", 1, permutation_test),
    Row("parzen.density", "Parzen: ln p(x)",
        "metrics.parzen_log_likelihood", AGAIN, 1e-9, parzen_density),
    Row("neighbours.vote", "nearest neighbours: the vote",
        "metrics.neighbour_accuracy", AGAIN, 1e-9, neighbour_votes),
    Row("cluster_names.names", "clusters: named by the surest image",
        "metrics.cluster_names", EQUAL, 0, names_of_clusters),
    Row("block_error.value", "standard error of blocks",
        "metrics.block_standard_error", AGAIN, 1e-9, block_error),
]  # fmt: skip


# The table

CASES = 200
SECONDS = 100  # that they take


class Finding(NamedTuple):
    row: Row
    cases: int
    worst: float  # NaN if a case failed to give a number
    fault: str  # what was raised, if anything was

    @property
    def holds(self) -> bool:
        return not self.fault and self.worst <= self.row.limit


def examine(row: Row, cases: int = CASES) -> Finding:
    """The worst of a row's random cases. A case that straddles a kink is replaced by another."""
    errors: list[float] = []
    for seed in range(20 * cases):
        try:
            errors.append(row.check(np.random.default_rng(seed)))
        except gradcheck.Kink:
            continue
        except Exception as error:  # a broken formula may break the shapes, which is a finding too
            return Finding(row, len(errors) + 1, nan, f"{type(error).__name__}: {error}")
        if len(errors) == cases:
            return Finding(row, cases, float(np.max(errors)), "")  # NaN if any is
    return Finding(row, len(errors), nan, "nearly every case straddles a kink")


def named(code: str) -> Any:
    """What a row names: a module, or a class or function in one."""
    first, *rest = code.split(".")
    return reduce(getattr, rest, globals()[first])


def prefixes(row: Row) -> set[str]:
    """Of a.b.c: a, a.b and a.b.c."""
    return set(accumulate(row.id.split("."), "{}.{}".format))


def place(code: str) -> str:
    """Where it is, as file:line, or file for a module."""
    file = Path(inspect.getfile(named(code)))
    line = "" if inspect.ismodule(named(code)) else f":{inspect.getsourcelines(named(code))[1]}"
    return f"{file.parent.name}/{file.name}{line}"


def cells(row: Row, finding: Finding | None = None) -> dict[str, str]:
    """A line of the table, the most important cell first: a narrow terminal has room for a few."""
    return {
        "formula": row.formula,
        "worst": f"{finding.worst:.1e}" if finding else "",
        "limit": f"{row.limit:.0e}",
        "verdict": "BROKEN" if finding and not finding.holds else "holds",
        "id": row.id,
        "stands in": place(row.code),
        "checked by": row.how,
    }


def print_markdown(rows: list[Row]) -> Iterator[Finding]:
    names = list(cells(rows[0]))
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for row in rows:
        yield (finding := examine(row))
        print(f"| {' | '.join(cells(row, finding).values())} |")


def print_table(rows: list[Row]) -> Iterator[Finding]:
    """As many columns as the terminal has room for, and below a broken formula all about it."""
    room, lines = shutil.get_terminal_size().columns, [*map(cells, rows)]
    widths = {name: max(7, *(len(line[name]) for line in lines)) for name in lines[0]}
    ends = dict(zip(widths, accumulate(width + 2 for width in widths.values()), strict=True))
    widths = {name: width for name, width in widths.items() if ends[name] - 2 <= room}
    print("  ".join(map(str.ljust, widths, widths.values())))
    for row in rows:
        yield (finding := examine(row))
        line = cells(row, finding)
        text = "  ".join(line[name].ljust(width) for name, width in widths.items())
        if not finding.holds:
            about = ", ".join(filter(None, (line["stands in"], row.how, finding.fault)))
            about = textwrap.fill(about, room, initial_indent="  ", subsequent_indent="  ")
            text = f"\033[31m{text}\033[0m\n{about}" if sys.stdout.isatty() else f"{text}\n{about}"
        print(text, flush=True)


def chosen(names: list[str]) -> list[Row]:
    """The rows named, each by its identifier or by the part of it before a dot."""
    known = {part for row in ROWS for part in prefixes(row)}
    for name in names:
        if name not in known:
            raise InvalidInput(f"ID must be a row's, such as dense.dx, or its start, got {name}")
    return [row for row in ROWS if not names or prefixes(row) & set(names)]


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    about = "a row, such as dense.dx, or several, such as dense (default: all rows)"
    parser.add_argument("rows", nargs="*", metavar="ID", help=about)
    parser.add_argument("--markdown", action="store_true", help="print the table for a report")
    flags = parser.parse_args()
    rows = chosen(flags.rows)
    if not flags.markdown:
        duration = "" if flags.rows else f": about {SECONDS} seconds on one core"
        print(f"{len(rows)} formulas, {CASES} random cases of each{duration}\n")
    findings = print_markdown(rows) if flags.markdown else print_table(rows)
    broken = [finding.row.id for finding in findings if not finding.holds]
    if broken:
        sys.exit(f"{len(broken)} of {len(rows)} formulas are broken: {', '.join(broken)}")
    if not flags.markdown:
        print(f"\nAll {len(rows)} formulas hold.")


if __name__ == "__main__":
    launch(main)
