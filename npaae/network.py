"""Layers in a row, and the laying out of their parameters over one flat vector."""

from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any, Protocol

from .backend import Array, Generator
from .layers import Dense, Dropout, ReLU


class Layer(Protocol):
    """Anything with the forward and backward passes that `layers` describes."""

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Any]: ...

    def backward(self, dy: Array, cache: Any) -> Array: ...


class Sequential:
    """Layers applied one after another: y = f_k(… f_2(f_1(x))).

    The chain rule is the whole of `backward`: each layer turns the gradient at its output into the one at its input.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, list[Any]]:
        """(y, caches), one cache a layer; with `rng` dropout is on, without it off."""
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, rng)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, caches: Sequence[Any], *, parameters: bool = True, inputs: bool = True) -> Array | None:
        """Send dL/dy back through the layers, with the caches of the forward pass in question.

        With `parameters`, every Dense writes its dW and db; without, the network is frozen and nothing of it is touched.
        Returns dL/dx, or None without `inputs`, which saves a product where nothing upstream wants it.
        """
        for i in reversed(range(len(self.layers))):
            layer, cache = self.layers[i], caches[i]
            if parameters and isinstance(layer, Dense):
                layer.parameter_gradients(dy, cache)
            if i == 0 and not inputs:
                return None
            dy = layer.backward(dy, cache)
        return dy

    def initialise(self, rng: Generator) -> None:
        """Draw every Dense's parameters, in order, from NumPy's generator `rng`."""
        for layer in self.layers:
            if isinstance(layer, Dense):
                layer.initialise(rng)


def parameter_count(sizes: Sequence[int]) -> int:
    """How many weights and biases a perceptron of these layer sizes has: Σ (fan_in + 1) · fan_out."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))


def perceptron(xp: ModuleType, sizes: Sequence[int], dropout: float, parameters: Array, gradient: Array) -> Sequential:
    """Dense layers of the given sizes, with ReLU and dropout between them and neither after the last.

    `parameters` and `gradient` are flat vectors of `parameter_count(sizes)` elements. Each W and b, dW and db becomes a
    view of them, in the order W₁, b₁, W₂, b₂, …: what changes the vector changes the network, and the other way round.
    """
    layers: list[Layer] = []
    start = 0
    for fan_in, fan_out in pairwise(sizes):
        if layers:
            layers += [ReLU(xp), Dropout(xp, dropout)]
        middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
        W, dW = (flat[start:middle].reshape(fan_in, fan_out) for flat in (parameters, gradient))
        b, db = (flat[middle:end] for flat in (parameters, gradient))
        layers.append(Dense(xp, W, b, dW, db))
        start = end
    return Sequential(layers)
