"""The layers: each forward pass and, beside it, the derivative, as derived on paper.

    y, cache = layer.forward(x, rng)        # rng: a random generator to train, None to evaluate
    dx       = layer.backward(dy, cache)    # dy = dL/dy and dx = dL/dx, for any scalar loss L

A layer keeps no activations. Everything that the backward pass needs is in the cache, which the
caller keeps, so a second forward pass cannot affect the backward pass of the first. Rows are
samples: x is (n, features). Arguments are not modified. `xp` is the array module, NumPy or CuPy.

A layer with parameters also has

    layer.parameters = ("W", "b")           # the names of its attributes that are learned
    layer.parameter_gradients(dy, cache)    # writes dL/dW into layer.dW, dL/db into layer.db

and, if it draws its initial parameters, `initialise(rng)`. A layer may declare more:

    layer.statistics = ("mean",)            # the names of other arrays that training changes
    layer.settings = ("rate",)              # the names of numbers that its results depend on
    layer.mixes_rows = True                 # its output for one row depends on other rows
    layer.layers = [...]                    # it consists of layers, as `Sequential` does

Nothing here checks the class of a layer. Any object with these members is a layer, at any depth.
Networks, Adam, checkpoints, `gradcheck` and the ranks use only what it declares.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import sqrt
from types import ModuleType
from typing import Any

from .backend import Array, Generator, fused, limit, random_words
from .checks import fraction
from .errors import InvalidInput


class Dense:
    """The affine map y = x W + b.

    x is (n, fan_in), W (fan_in, fan_out), b (fan_out,) and y (n, fan_out).

        y_ij = Σ_k x_ik W_kj + b_j   ⇒   dx = dy Wᵀ,   dW = xᵀ dy,   db_j = Σ_i dy_ij

    Two methods compute the three gradients, because a frozen layer needs only dx, and the first
    layer of a network only dW and db.
    """

    parameters = ("W", "b")

    def __init__(self, xp: ModuleType, W: Array, b: Array) -> None:
        self.xp = xp
        self.W, self.b = W, b
        self.dW, self.db = xp.empty_like(W), xp.empty_like(b)

    def initialise(self, rng: Generator) -> None:
        """Draw W and b from the uniform distribution on ±1/√fan_in.

        `rng` is NumPy's on either backend and draws in float64, so that all backends and dtypes
        start from the same values.
        """
        bound = 1 / sqrt(self.W.shape[0])
        for parameter in (self.W, self.b):
            parameter[...] = self.xp.asarray(rng.uniform(-bound, bound, parameter.shape))

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        """y = x W + b; the cache is x."""
        y = x @ self.W  # (n, fan_in) @ (fan_in, fan_out) -> (n, fan_out)
        y += self.b
        return y, x

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx = dy Wᵀ."""
        return dy @ self.W.T  # (n, fan_out) @ (fan_out, fan_in) -> (n, fan_in)

    def parameter_gradients(self, dy: Array, cache: Array) -> None:
        """dW = xᵀ dy and db = Σ_i dy_i, overwriting `dW` and `db`."""
        x = cache
        self.xp.matmul(x.T, dy, out=self.dW)  # (fan_in, n) @ (n, fan_out) -> (fan_in, fan_out)
        self.xp.sum(dy, axis=0, out=self.db)  # (n, fan_out) -> (fan_out,)


class ReLU:
    """y = max(x, 0), elementwise, for any shape; dx = dy where x > 0 and 0 elsewhere.

    At x = 0, where there is no derivative, dx is 0.
    """

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        """y = max(x, 0); the cache is x."""
        return self.xp.maximum(x, 0), x

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx = dy · [x > 0]."""
        x = cache
        return _where_positive(self.xp, dy, x)


@fused
def _where_positive(xp: ModuleType, dy: Array, x: Array) -> Array:
    """dy · [x > 0]."""
    return dy * (x > 0)


class Sigmoid:
    """y = σ(x) = 1 / (1 + e⁻ˣ), elementwise, for any shape; dx = dy · y (1 − y)."""

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        """y = σ(x); the cache is y."""
        y = sigmoid(self.xp, x)
        return y, y

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx = dy · y (1 − y)."""
        y = cache
        return dy * (y * (1 - y))


class Dropout:
    """Inverted dropout: y = m · x, elementwise, for any shape, and dx = m · dy.

    m is 0 with probability p and 1 / (1 − p) otherwise, independently for each element, so that
    E[y] = x and evaluation is the identity. p is `rate`, rounded to a multiple of 1/65,536, because
    each element is decided by 16 random bits. Source: Srivastava et al., "Dropout", JMLR 15 (2014),
    section 10, with the scale moved from test time to training time.

    Raises InvalidInput for a rate outside [0, 1), or so close to 1 that it rounds to 1.
    """

    settings = ("rate",)

    def __init__(self, xp: ModuleType, rate: float) -> None:
        self.xp = xp
        self.rate = rate

    @property
    def rate(self) -> float:
        """p, before rounding. It may be changed at any time."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = fraction("rate", rate)
        self.threshold = round(2**16 * self._rate)  # the number of 16-bit values that drop
        if self.threshold == 2**16:
            raise InvalidInput(f"rate must be at least 2**-17 below 1, got {rate!r}")

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array | None]:
        """y = m · x, with m drawn from `rng`; without `rng`, y = x. The cache is m, or None.

        Raises InvalidInput if x is not of a floating-point type, which could not hold 1 / (1 − p).
        """
        if rng is None or self.threshold == 0:
            return x, None
        if x.dtype.kind != "f":
            raise InvalidInput(f"x must be of a floating-point type, got {x.dtype}")
        words = random_words(self.xp, rng, x.shape)
        scale = x.dtype.type(2**16 / (2**16 - self.threshold))  # x's type: float32 stays float32
        y, mask = _drop(self.xp, x, words, limit(words, self.threshold), scale)
        return y, mask

    def backward(self, dy: Array, cache: Array | None) -> Array:
        """dx = m · dy, with the mask of the forward pass."""
        mask = cache
        return dy if mask is None else dy * mask


@fused
def _drop(xp: ModuleType, x: Array, words: Array, least: float, scale: Any) -> tuple[Array, Array]:
    """(m · x, m): m is 0 where a random word is below `least`, and `scale` elsewhere."""
    mask = (words >= least) * scale
    return x * mask, mask


def sigmoid(xp: ModuleType, x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), elementwise, as max(e, [x ≥ 0]) / (1 + e) with e = e^−|x| ≤ 1."""
    e = xp.exp(-xp.abs(x))
    return xp.maximum(e, x >= 0) / (1 + e)


class Sequential:
    """Layers applied one after another: y = f_k(… f_2(f_1(x)))."""

    def __init__(self, layers: Iterable[Any]) -> None:
        self.layers = list(layers)

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, list[Any]]:
        """(y, caches), one cache per layer. Dropout is on if `rng` is given."""
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, rng)
            caches.append(cache)
        return x, caches

    def backward(
        self, dy: Array, caches: Sequence[Any], *, parameters: bool = True, inputs: bool = True
    ) -> Array | None:
        """The chain rule: each layer turns the gradient at its output into the one at its input.

        With `parameters`, every layer with parameters writes their gradients. Without, the network
        is frozen and no gradients are written. Returns dL/dx, or None without `inputs`: the pass
        then stops at the first layer with parameters, which saves a matrix product. A layer that
        consists of layers receives both arguments.
        """
        for i in reversed(range(len(self.layers))):
            layer, cache = self.layers[i], caches[i]
            needed = inputs or any(learns(earlier) for earlier in self.layers[:i])
            if hasattr(layer, "layers"):
                dy = layer.backward(dy, cache, parameters=parameters, inputs=needed)
            else:
                if parameters and learns(layer):
                    layer.parameter_gradients(dy, cache)
                dy = layer.backward(dy, cache) if needed else None
            if not needed:
                return None
        return dy

    def initialise(self, rng: Generator) -> None:
        """Draw the initial parameters of every layer that draws them, in order, at any depth."""
        for layer in self.layers:
            if hasattr(layer, "initialise"):
                layer.initialise(rng)
            elif hasattr(layer, "layers"):
                Sequential(layer.layers).initialise(rng)

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(getattr(layer, name).size for _, layer, name in named_parameters(self))


def parts(layer: Any, label: str = "") -> Iterator[tuple[str, Any]]:
    """(label, part) of the layer itself and of all layers in it, at any depth: "", "0.", "0.1."."""
    yield label, layer
    for i, part in enumerate(getattr(layer, "layers", ())):
        yield from parts(part, f"{label}{i}.")


def declared(layer: Any, kind: str) -> Iterator[tuple[str, Any, str]]:
    """(label, owner, name) of all "parameters", "statistics" or "settings", at any depth.

    The label of a parameter W is "W" in a layer, and "0.W" in a network.

    Raises InvalidInput for a string in place of a tuple, because it would be read letter by letter.
    """
    for label, part in parts(layer):
        names = getattr(part, kind, ())
        if isinstance(names, str):
            raise InvalidInput(f"{kind} must be a tuple of names, got {names!r}")
        for name in names:
            yield label + name, part, name


def named_parameters(layer: Any) -> Iterator[tuple[str, Any, str]]:
    """(label, owner, name) of every parameter, in order: "W" for a layer, "0.W" for a network."""
    return declared(layer, "parameters")


def learns(layer: Any) -> bool:
    """Whether a layer, or any layer in it, has parameters."""
    return any(True for _ in named_parameters(layer))


def perceptron(xp: ModuleType, sizes: Sequence[int], dropout: float, dtype: Any) -> Sequential:
    """Dense layers of the given sizes, with ReLU and dropout between them and neither at the end.

    Its parameters are not initialised.
    """
    layers: list[Any] = []
    for fan_in, fan_out in pairwise(sizes):
        if layers:
            layers += [ReLU(xp), Dropout(xp, dropout)]
        layers.append(Dense(xp, xp.empty((fan_in, fan_out), dtype), xp.empty(fan_out, dtype)))
    return Sequential(layers)


def parameter_count(sizes: Sequence[int]) -> int:
    """The number of weights and biases of a perceptron: Σ (fan_in + 1) · fan_out."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))


def flatten(
    xp: ModuleType, networks: Iterable[Sequential], dtype: Any = None
) -> tuple[Array, Array]:
    """(theta, gradient): one flat vector of all parameters, and one of their gradients.

    Every parameter of the networks becomes a view of theta, in order, and its gradient a view of
    the same slice of `gradient`. Changing the vector changes the network, and vice versa. dtype: of
    the vectors, and so of every parameter; by default that of the parameters.

    Raises InvalidInput for a parameter that is not an array, and if a layer with parameters occurs
    twice, because its gradients would not be added.
    """
    owned = [named for network in networks for named in named_parameters(network)]
    for label, layer, name in owned:
        if not isinstance(value := getattr(layer, name), xp.ndarray):
            raise InvalidInput(f"parameter {label} must be an array, got {type(value).__name__}")
    if len({(id(layer), name) for _, layer, name in owned}) < len(owned):
        raise InvalidInput("networks must have each layer with parameters only once, got one twice")
    parameters = [getattr(layer, name).ravel() for _, layer, name in owned]
    theta = xp.asarray(xp.concatenate(parameters), dtype)
    gradient = xp.zeros_like(theta)
    start = 0
    for _, layer, name in owned:
        shape, stop = getattr(layer, name).shape, start + getattr(layer, name).size
        setattr(layer, name, theta[start:stop].reshape(shape))
        setattr(layer, f"d{name}", gradient[start:stop].reshape(shape))
        start = stop
    return theta, gradient
