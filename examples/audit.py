"""Audit the mathematics: every formula of the package, where it stands, how it was checked and how far off it is at worst.

Break a formula in npaae/layers.py and run this again: its row turns red, and the exit status is 1.
"""

import argparse
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npaae import AdversarialAutoencoder as Model
from npaae import gradcheck, layers, priors
from npaae.backend import CHUNK
from npaae.layers import Dense, Dropout, ReLU, Sigmoid
from npaae.losses import bce, bce_with_logits
from npaae.network import Sequential, parameter_count, perceptron
from npaae.optim import Adam

Array = np.ndarray[Any, Any]
Rng = np.random.Generator

# Every check below takes a random generator, draws a case of its own (sizes, scales, rates, values, masks) and returns an
# error: mostly the relative error of `gradcheck`, whose point, step and randomness are described there. What is handed to the
# package is read-only, for it promises to write to no argument.


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def a_shape(rng: Rng) -> tuple[int, int]:
    return int(rng.integers(1, 7)), int(rng.integers(1, 7))


def a_matrix(rng: Rng, shape: tuple[int, int]) -> Array:
    """Normal numbers of a scale between 1/10 and 10."""
    return read_only(10 ** rng.uniform(-1, 1) * rng.standard_normal(shape))


def a_seed(rng: Rng) -> int:
    return int(rng.integers(2**32))


def a_dense(rng: Rng) -> tuple[Dense, Array]:
    n, fan_in = a_shape(rng)
    fan_out = int(rng.integers(1, 7))
    return Dense(np, a_matrix(rng, (fan_in, fan_out)), rng.standard_normal(fan_out)), a_matrix(rng, (n, fan_in))


# Layers


def dense_input(rng: Rng) -> float:
    layer, x = a_dense(rng)
    return gradcheck.layer(layer, x)


def dense_parameter(rng: Rng, name: str) -> float:
    layer, x = a_dense(rng)
    dy = read_only(rng.standard_normal((len(x), layer.b.size)))

    def loss(parameter: Array) -> Any:
        changed = Dense(np, **({"W": layer.W, "b": layer.b} | {name: parameter}))
        return np.vdot(dy, changed.forward(x)[0])

    layer.dW[:], layer.db[:] = np.nan, np.nan  # what is not overwritten shows
    layer.parameter_gradients(dy, layer.forward(x)[1])
    return gradcheck.elementwise(loss, getattr(layer, name), getattr(layer, f"d{name}"))


def relu_input(rng: Rng) -> float:
    return gradcheck.layer(ReLU(np), a_matrix(rng, a_shape(rng)))


def relu_at_zero(rng: Rng) -> float:
    layer, dy = ReLU(np), a_matrix(rng, a_shape(rng))
    return float(np.abs(layer.backward(dy, layer.forward(np.zeros_like(dy))[1])).max())


def sigmoid_input(rng: Rng) -> float:
    return gradcheck.layer(Sigmoid(np), rng.standard_normal(a_shape(rng)))


def dropout_input(rng: Rng) -> float:
    return gradcheck.layer(Dropout(np, rng.uniform(0, 0.9)), a_matrix(rng, a_shape(rng)), seed=a_seed(rng))


def dropout_mean(rng: Rng) -> float:
    rate = rng.uniform(0.05, 0.9)
    y, _ = Dropout(np, rate).forward(np.ones(1000), rng)
    return abs(float(y.max()) * (1 - rate) - 1)


def dropout_rate(rng: Rng) -> float:
    """Of each of ten columns of 1000, in units of six standard deviations of the number dropped."""
    rate, n = rng.uniform(0.1, 0.9), 1000
    y, _ = Dropout(np, rate).forward(np.ones((n, 10)), rng)
    return float(np.abs(np.mean(y == 0, axis=0) - rate).max() / (6 * np.sqrt(rate * (1 - rate) / n)))


def dropout_off(rng: Rng) -> float:
    x, layer = a_matrix(rng, a_shape(rng)), Dropout(np, rng.uniform(0.1, 0.9))
    y, cache = layer.forward(x)
    return float(np.sum(y != x) + np.sum(layer.backward(x, cache) != x))


def initial_weights(rng: Rng) -> float:
    """How far the extremes of many draws are from ±1/√fan_in, both weights' and biases', and whether any lies beyond."""
    fan_in = int(rng.integers(1, 500))
    layer = Dense(np, np.empty((fan_in, 40_000 // fan_in)), np.empty(40_000))
    layer.initialise(rng)
    extremes = np.array([[part.min(), part.max()] for part in (layer.W, layer.b)]) * np.sqrt(fan_in)
    return float(np.abs(extremes - [-1, 1]).max()) if np.abs(extremes).max() <= 1 else np.inf


def own_cache(rng: Rng) -> float:
    """Forward A, forward B, backward A: against forward A, backward A."""
    a, b, dy = read_only(rng.standard_normal((3, 4, 5)))
    errors = []
    for layer in (Dense(np, rng.standard_normal((5, 5)), np.zeros(5)), ReLU(np), Sigmoid(np), Dropout(np, 0.5)):
        _, cache = layer.forward(a, rng)
        expected = layer.backward(dy, cache)
        layer.forward(b, rng)
        errors.append(gradcheck.relative_error(layer.backward(dy, cache), expected))
    return max(errors)


# Losses


def targets(rng: Rng, p: Array) -> Array:
    """In [0, 1], away from p: where the two meet the gradient vanishes, and a relative error of it means nothing."""
    return np.where(p < 0.5, rng.uniform(0.6, 1, p.shape), rng.uniform(0, 0.4, p.shape))


def cross_entropy(p: Array, t: Array) -> float:
    """The definition, element by element."""
    return float(np.mean([-t * np.log(p) - (1 - t) * np.log1p(-p) for p, t in zip(p.flat, t.flat, strict=True)]))


def bce_value(rng: Rng) -> float:
    p = rng.uniform(0.1, 0.9, a_shape(rng))
    t = targets(rng, p)
    return gradcheck.relative_error(bce(np, p, t)[0], cross_entropy(p, t))


def bce_gradient(rng: Rng) -> float:
    p = rng.uniform(0.1, 0.9, a_shape(rng))
    t = targets(rng, p)
    return gradcheck.elementwise(lambda p: bce(np, p, t)[0], p, bce(np, p, t)[1])


def logits_value(rng: Rng) -> float:
    logits = rng.uniform(-4, 4, a_shape(rng))
    p = 1 / (1 + np.exp(-logits))
    t = targets(rng, p)
    return gradcheck.relative_error(bce_with_logits(np, logits, t)[0], cross_entropy(p, t))


def logits_gradient(rng: Rng) -> float:
    logits = rng.uniform(-4, 4, a_shape(rng))
    t = targets(rng, 1 / (1 + np.exp(-logits)))
    return gradcheck.elementwise(lambda logits: bce_with_logits(np, logits, t)[0], logits, bce_with_logits(np, logits, t)[1])


def extremes(rng: Rng) -> float:
    """In float32, at logits of ±1e4: loss and gradient of all four cases, and no overflow on the way."""
    logits, t = np.float32([[1e4, 1e4, -1e4, -1e4]]), np.float32([[1, 0, 1, 0]])
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = bce_with_logits(np, logits, t)
        p = Sigmoid(np).forward(logits)[0]
    errors = [loss / 5000 - 1, *(gradient[0] - [0, 0.25, -0.25, 0]), *(p[0] - [1, 1, 0, 0])]
    return float(np.abs(errors).max())


def closed_interval(rng: Rng) -> float:
    """How many of the probabilities that have no cross-entropy are let through."""
    passed = 0
    for p in (0.0, 1.0, -0.5, 1.5, np.nan):
        try:
            bce(np, np.array([0.5, p]), 1.0)
            passed += 1
        except ValueError:
            pass
    return float(passed)


def composition(rng: Rng) -> float:
    logits, sigmoid = rng.uniform(-4, 4, a_shape(rng)), Sigmoid(np)
    p, cache = sigmoid.forward(logits)
    t = targets(rng, p)
    return gradcheck.relative_error(sigmoid.backward(bce(np, p, t)[1], cache), bce_with_logits(np, logits, t)[1])


# Networks


def a_network(rng: Rng) -> tuple[Callable[[Array], Sequential], Array, Array, Array]:
    """A network as a function of its parameters; then those, their gradient's memory and an input."""
    sizes, rate = rng.integers(1, 7, 4).tolist(), rng.uniform(0, 0.5)
    theta = rng.standard_normal(parameter_count(sizes))
    gradient = np.full_like(theta, np.nan)
    return lambda theta: perceptron(np, sizes, rate, theta, gradient), theta, gradient, rng.standard_normal((5, sizes[0]))


def network_value(rng: Rng) -> float:
    """Against the formula written out, with the same masks; and without dropout."""
    sizes, rate, seed = rng.integers(1, 7, 4).tolist(), rng.uniform(0.1, 0.5), a_seed(rng)
    theta, x = rng.standard_normal(parameter_count(sizes)), read_only(rng.standard_normal((5, sizes[0])))
    network, errors = perceptron(np, sizes, rate, theta, np.empty_like(theta)), []
    (W1, b1), (W2, b2), (W3, b3) = ((layer.W, layer.b) for layer in network.layers if isinstance(layer, Dense))
    for on in (True, False):
        draws = np.random.default_rng(seed)

        def hidden(y: Array, on: bool = on, draws: Rng = draws) -> Array:
            y = np.where(y > 0, y, 0)
            return np.where(draws.random(y.shape, dtype=np.float32) < rate, 0, y / (1 - rate)) if on else y

        expected = hidden(hidden(x @ W1 + b1) @ W2 + b2) @ W3 + b3
        errors.append(gradcheck.relative_error(network.forward(x, np.random.default_rng(seed) if on else None)[0], expected))
    return max(errors)


def network_input(rng: Rng) -> float:
    network, theta, _, x = a_network(rng)
    return gradcheck.layer(network(theta), x, seed=a_seed(rng))


def network_parameters(rng: Rng) -> float:
    network, theta, gradient, x = a_network(rng)
    seed = a_seed(rng)
    y, caches = network(theta).forward(x, np.random.default_rng(seed))
    dy = read_only(rng.standard_normal(y.shape))
    network(theta).backward(dy, caches)
    return gradcheck.elementwise(
        lambda theta: np.vdot(dy, network(theta).forward(x, np.random.default_rng(seed))[0]), theta, gradient.copy()
    )


# The three phases, each as a function of (model, x, rng) that leaves a gradient behind; and its loss by definition


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
    return model.discriminator_gradient(codes, rng, labels_of(x, model))


def discriminator_loss(model: Model, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    if model.classes:
        labels, u = labels_of(x, model), rng.random(len(x))
        real = model.prior.along(rng, np.where(labels == model.classes, u, (labels + u) / model.classes))
        real, codes = (np.hstack((z, np.eye(model.classes + 1)[labels])) for z in (real, codes))
    else:
        real = model.prior(rng, len(x), model.latent)
    logits, _ = model.discriminator.forward(np.concatenate((real, codes)), rng)
    return entropy(logits[: len(x)], 1.0) + entropy(logits[len(x) :], 0.0)


def generator(model: Model, x: Array, rng: Rng) -> Any:
    codes, caches = model.encoder.forward(x, rng)
    return model.generator_gradient(codes, caches, rng, labels_of(x, model))


def generator_loss(model: Model, x: Array, rng: Rng) -> Any:
    codes, _ = model.encoder.forward(x, rng)
    if model.classes:
        codes = np.hstack((codes, np.eye(model.classes + 1)[labels_of(x, model)]))
    return entropy(model.discriminator.forward(codes, rng)[0], 1.0)


def labels_of(x: Array, model: Model) -> Any:
    """A label for each row, "unlabelled" among them; None where the model has no classes."""
    return np.arange(len(x)) % (model.classes + 1) if model.classes else None


Phase = Callable[[Model, Array, Rng], Any]


def a_model(rng: Rng, classes: int = 0) -> tuple[Model, Array, int]:
    """A small model, a batch for it, and the seed of its masks and draws; with classes its discriminator is told labels."""
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


def phase_gradient(rng: Rng, phase: Phase, adam_name: str, classes: int = 0) -> float:
    """Along a random direction through all the parameters that the phase moves, dropout on."""
    model, x, seed = a_model(rng, classes)
    adam = getattr(model, adam_name)
    model.gradient[:] = np.nan  # what is not overwritten shows
    phase(model, x, np.random.default_rng(seed))
    gradient, start = adam.gradient.copy(), adam.parameters.copy()

    def loss(parameters: Array) -> Any:
        adam.parameters[:] = parameters
        return phase(model, x, np.random.default_rng(seed))

    return gradcheck.along(loss, start, gradient, rng.standard_normal(start.size), richardson=True)


def phase_loss(rng: Rng, phase: Phase, definition: Phase, classes: int = 0) -> float:
    model, x, seed = a_model(rng, classes)
    expected = definition(model, x, np.random.default_rng(seed))
    return gradcheck.relative_error(phase(model, x, np.random.default_rng(seed)), expected)


def phase_isolation(rng: Rng, phase: Phase, adam_name: str) -> float:
    """How many numbers the phase changes that are not its own: parameters, gradients, moments, step counts."""
    model, x, seed = a_model(rng)
    own = getattr(model, adam_name)
    others = [adam for adam in (model.reconstruction_adam, model.discriminator_adam, model.generator_adam) if adam is not own]
    model.gradient[:] = 0
    own.gradient[:] = 1
    foreign = model.gradient == 0

    def state() -> Array:
        moments = [part for adam in others for part in (adam.M, adam.V, [adam.t])]
        return np.concatenate([model.theta[foreign], model.gradient[foreign], *moments])

    before = state()
    phase(model, x, np.random.default_rng(seed))
    own.step()
    return float(np.sum(before != state()))


def step_order(rng: Rng) -> float:
    """How many numbers of a model differ after a step and after its three phases by hand, one encoder pass for two of them."""
    model, x, seed = a_model(rng)
    other = Model(**(model.config | {"prior": model.prior}))
    other.theta[:] = model.theta
    losses = model.step(x, np.random.default_rng(seed))
    draws = np.random.default_rng(seed)
    expected = [other.reconstruction_gradient(x, draws)]
    other.reconstruction_adam.step()
    codes, caches = other.encoder.forward(x, draws)
    expected.append(other.discriminator_gradient(codes, draws))
    other.discriminator_adam.step()
    expected.append(other.generator_gradient(codes, caches, draws))
    other.generator_adam.step()
    changed = sum(np.sum(array != other.arrays()[name]) for name, array in model.arrays().items())
    return float(np.sum(np.array(losses) != np.array(expected)) + changed)


def parts(rng: Rng) -> float:
    """How many of a model's rates and learning rates are not where its arguments want them."""
    rates, learning = rng.uniform(0.1, 0.9, 2), rng.uniform(0.1, 0.9, 2)
    model = Model(
        hidden=(3, 2),
        visible=4,
        dropout=rates[0],
        discriminator_dropout=rates[1],
        lr_reconstruction=learning[0],
        lr_regularization=learning[1],
    )
    wanted = [(model.encoder, rates[0]), (model.decoder, rates[0]), (model.discriminator, rates[1])]
    found = [layer.rate != rate for network, rate in wanted for layer in network.layers if isinstance(layer, Dropout)]
    adams = (model.reconstruction_adam, model.discriminator_adam, model.generator_adam)
    found += [adam.learning_rate != rate for adam, rate in zip(adams, learning[[0, 1, 1]], strict=True)]
    found += [(adam.beta1, adam.beta2, adam.epsilon) != (0.9, 0.999, 1e-8) for adam in adams]
    return float(sum(found) + abs(len(found) - 12))


def decoding(rng: Rng) -> float:
    model, x, _ = a_model(rng)
    codes = model.encoder.forward(x)[0]
    expected = 1 / (1 + np.exp(-model.decoder.forward(codes)[0]))
    return max(
        gradcheck.relative_error(model.decode(codes), expected), gradcheck.relative_error(model.reconstruct(x), expected)
    )


# The optimiser


def adam_steps(rng: Rng) -> float:
    """Ten steps against Algorithm 1, written as in the paper; now and then over more numbers than fit one piece."""
    n = CHUNK + 3 if rng.random() < 0.05 else 5
    rate, beta1, beta2, epsilon = 10 ** rng.uniform(-4, -1), rng.uniform(0.5, 0.95), rng.uniform(0.9, 0.999), 1e-8
    theta, gradient = rng.standard_normal((2, n))
    adam = Adam(np, theta, gradient, rate, beta1, beta2, epsilon)
    expected, m, v = theta.copy(), np.zeros(n), np.zeros(n)
    start = theta.copy()
    for t in range(1, 11):
        gradient[:] = rng.standard_normal(n)
        adam.step()
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        expected -= rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return gradcheck.relative_error(theta - start, expected - start)


# The table


class Row(NamedTuple):
    formula: str
    code: Any  # the function that holds it, or the module
    how: str
    check: Callable[..., float]
    arguments: tuple[Any, ...]
    limit: float


class Finding(NamedTuple):
    row: Row
    cases: int
    worst: float  # NaN where a case failed to give a number
    fault: str  # what was raised, if anything was

    @property
    def holds(self) -> bool:
        return not self.fault and self.worst <= self.row.limit


EVERY, ALONG, VALUE = "differences, every element", "difference, random direction", "the definition, written again"
RECONSTRUCTION = (reconstruction, "reconstruction_adam")
DISCRIMINATOR, GENERATOR = (discriminator, "discriminator_adam"), (generator, "generator_adam")
ONE, TWO, THREE = Model.reconstruction_gradient, Model.discriminator_gradient, Model.generator_gradient
ROWS = (
    Row("dense: dx = dy Wᵀ", Dense.backward, EVERY, dense_input, (), 1e-7),
    Row("dense: dW = xᵀ dy", Dense.parameter_gradients, EVERY, dense_parameter, ("W",), 1e-7),
    Row("dense: db = Σᵢ dyᵢ", Dense.parameter_gradients, EVERY, dense_parameter, ("b",), 1e-7),
    Row("ReLU: dx = dy · [x > 0]", ReLU.backward, EVERY, relu_input, (), 1e-7),
    Row("ReLU: dx = 0 at x = 0", ReLU.backward, "the value at 0", relu_at_zero, (), 0),
    Row("sigmoid: dx = dy · y (1 − y)", Sigmoid.backward, EVERY, sigmoid_input, (), 1e-7),
    Row("dropout: dx = m · dy", Dropout.backward, EVERY, dropout_input, (), 1e-7),
    Row("dropout: m = 1 / (1 − p), so E[m x] = x", Dropout.forward, "the scale of what is kept", dropout_mean, (), 1e-12),
    Row("dropout: P(m = 0) = p, each on its own", Dropout.forward, "counts of 1000, in units of 6 sd", dropout_rate, (), 1),
    Row("dropout: off, it is the identity", Dropout.forward, "numbers changed", dropout_off, (), 0),
    Row("initial weights: uniform on ±1/√fan_in", Dense.initialise, "extremes of 40,000 draws", initial_weights, (), 1e-2),
    Row("every layer: backward uses its own forward", layers, "another forward in between", own_cache, (), 0),
    Row("BCE: L = −mean[t ln p + (1 − t) ln(1 − p)]", bce, VALUE, bce_value, (), 1e-12),
    Row("BCE: dp = (p − t) / (p (1 − p)) / N", bce, EVERY, bce_gradient, (), 1e-7),
    Row("BCE of logits: L", bce_with_logits, VALUE, logits_value, (), 1e-12),
    Row("BCE of logits: dl = (σ(l) − t) / N", bce_with_logits, EVERY, logits_gradient, (), 1e-7),
    Row("BCE of logits: finite and right at ±1e4", bce_with_logits, "values in float32", extremes, (), 1e-6),
    Row("BCE: refuses p outside (0, 1)", bce, "probabilities let through", closed_interval, (), 0),
    Row("BCE of logits = BCE after sigmoid", bce_with_logits, "gradients of the two", composition, (), 1e-12),
    Row("network: dense, ReLU, dropout, …, dense", perceptron, "the formula, written again", network_value, (), 1e-12),
    Row("network: the chain rule, dx", Sequential.backward, EVERY, network_input, (), 1e-7),
    Row("network: the chain rule, dW and db of each", Sequential.backward, EVERY, network_parameters, (), 1e-7),
    Row("phase 1: L = BCE(decoder(z), x)", ONE, VALUE, phase_loss, (reconstruction, reconstruction_loss), 1e-12),
    Row("phase 1: dL by encoder and decoder", ONE, ALONG, phase_gradient, RECONSTRUCTION, 1e-6),
    Row("phase 1: moves nothing else", ONE, "numbers changed", phase_isolation, RECONSTRUCTION, 0),
    Row("phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0)", TWO, VALUE, phase_loss, (discriminator, discriminator_loss), 1e-12),
    Row("phase 2: dL by discriminator", TWO, ALONG, phase_gradient, DISCRIMINATOR, 1e-6),
    Row("phase 2: moves nothing else", TWO, "numbers changed", phase_isolation, DISCRIMINATOR, 0),
    Row("phase 3: L = BCE(D(z), 1)", THREE, VALUE, phase_loss, (generator, generator_loss), 1e-12),
    Row("phase 3: dL by encoder, through D", THREE, ALONG, phase_gradient, GENERATOR, 1e-6),
    Row("phase 3: moves nothing else, D least of all", THREE, "numbers changed", phase_isolation, GENERATOR, 0),
    Row("phase 2 with labels: L", TWO, VALUE, phase_loss, (discriminator, discriminator_loss, 3), 1e-12),
    Row("phase 2 with labels: dL by discriminator", TWO, ALONG, phase_gradient, (*DISCRIMINATOR, 3), 1e-6),
    Row("phase 3 with labels: L", THREE, VALUE, phase_loss, (generator, generator_loss, 3), 1e-12),
    Row("phase 3 with labels: dL by encoder", THREE, ALONG, phase_gradient, (*GENERATOR, 3), 1e-6),
    Row("step: phases 1, 2, 3, each then moved", Model.step, "numbers that differ", step_order, (), 0),
    Row("model: its rates where they belong", Model, "numbers that differ", parts, (), 0),
    Row("decode: σ(decoder(z)), dropout off", Model.decode, "the formula, written again", decoding, (), 1e-12),
    Row("Adam: θ ← θ − α m̂ / (√v̂ + ε)", Adam.step, "10 steps of Algorithm 1, written again", adam_steps, (), 1e-9),
)  # fmt: skip
CASES = 200


def examine(row: Row, cases: int = CASES) -> Finding:
    """The worst of a row's random cases; one whose difference straddles a kink says nothing and another is drawn for it."""
    errors: list[float] = []
    for seed in range(20 * cases):
        try:
            errors.append(row.check(np.random.default_rng(seed), *row.arguments))
        except gradcheck.Kink:
            continue
        except Exception as error:  # a broken formula may break the shapes as well, and that too is a finding
            return Finding(row, len(errors) + 1, float("nan"), f"{type(error).__name__}: {error}")
        if len(errors) == cases:
            return Finding(row, cases, float(np.max(errors)), "")  # NaN if any is
    return Finding(row, len(errors), float("nan"), "nearly every case straddles a kink")


def place(code: Any) -> str:
    """Where a function stands, as file:line, or a module."""
    file = Path(inspect.getfile(code))
    line = "" if inspect.ismodule(code) else f":{inspect.getsourcelines(code)[1]}"
    return f"{file.parent.name}/{file.name}{line}"


def cells(finding: Finding) -> tuple[str, ...]:
    row, verdict = finding.row, "holds" if finding.holds else finding.fault or "FALLS SHORT"
    return row.formula, place(row.code), row.how, str(finding.cases), f"{finding.worst:.1e}", f"{row.limit:.0e}", verdict


HEADER = ("formula", "stands in", "checked by", "cases", "worst", "limit", "verdict")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the table for a report")
    flags = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no "σ" is no reason to stop
    findings = [examine(row) for row in ROWS]
    table = [HEADER, *map(cells, findings)]
    if flags.markdown:
        table.insert(1, ("---",) * len(HEADER))
        print("\n".join(f"| {' | '.join(line)} |" for line in table))
    else:
        widths = [max(len(line[column]) for line in table) for column in range(len(HEADER) - 1)]
        for line, finding in zip(table, [None, *findings], strict=True):
            text = "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]])
            red = finding is not None and not finding.holds and sys.stdout.isatty()
            print(f"\033[31m{text}\033[0m" if red else text)
    broken = [finding.row.formula for finding in findings if not finding.holds]
    if broken:
        sys.exit(f"{len(broken)} of {len(ROWS)} formulas fall short: {'; '.join(broken)}")


if __name__ == "__main__":
    main()
