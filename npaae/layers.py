"""The four layers, each a forward pass and, beside it, the derivative that a person works out on paper.

    y, cache = layer.forward(x, rng)        # rng: a random generator to train (dropout on), None to evaluate
    dx       = layer.backward(dy, cache)    # dy = dL/dy, dx = dL/dx, for any scalar loss L

A layer keeps no activations: all that the backward pass needs is in the cache that its caller holds, so a second
forward pass cannot spoil the first one's backward pass. Rows are samples: x is (n, features). No argument is written to.
`xp` is the array module, NumPy or CuPy.
"""

from math import sqrt
from types import ModuleType
from typing import Any

from .backend import Array, Generator, fused
from .errors import fraction


class Dense:
    """The affine map y = x W + b.

    x is (n, fan_in), W (fan_in, fan_out), b (fan_out,), y (n, fan_out). `dW` and `db` are where `parameter_gradients`
    writes; they and the parameters may be views of larger vectors. Left out, `dW` and `db` get memory of their own.

        y_ij = Σ_k x_ik W_kj + b_j   ⇒   dx = dy Wᵀ,   dW = xᵀ dy,   db_j = Σ_i dy_ij

    The three are two methods, because a frozen layer needs only the first and an input layer only the others.
    """

    def __init__(self, xp: ModuleType, W: Array, b: Array, dW: Array | None = None, db: Array | None = None) -> None:
        self.xp = xp
        self.W, self.b = W, b
        self.dW = xp.empty_like(W) if dW is None else dW
        self.db = xp.empty_like(b) if db is None else db

    def initialise(self, rng: Generator) -> None:
        """Draw W and b from the uniform distribution on ±1/√fan_in.

        `rng` is NumPy's generator on either backend and draws in float64, so that all backends and dtypes start alike.
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
        """dW = xᵀ dy and db = Σ_i dy_i, written over what `dW` and `db` held."""
        x = cache
        self.xp.matmul(x.T, dy, out=self.dW)  # (fan_in, n) @ (n, fan_out) -> (fan_in, fan_out)
        self.xp.sum(dy, axis=0, out=self.db)  # (n, fan_out) -> (fan_out,)


class ReLU:
    """y = max(x, 0), elementwise, on any shape; dx = dy where x > 0 and 0 elsewhere.

    At x = 0, where there is no derivative, dx is 0.
    """

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        """y = max(x, 0); the cache is x."""
        return self.xp.maximum(x, 0), x

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx = dy · [x > 0]."""
        return dy * (cache > 0)


class Sigmoid:
    """y = σ(x) = 1 / (1 + e⁻ˣ), elementwise, on any shape; dx = dy · y (1 − y), for σ' = σ (1 − σ)."""

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
    """Inverted dropout: y = m · x, elementwise, on any shape, and dx = m · dy.

    m is 0 with probability `rate` and 1 / (1 − rate) otherwise, so that E[y] = x and evaluation is the identity.
    Source: Srivastava et al., "Dropout", JMLR 15 (2014), section 10, with the scale moved from test to training time.

    Raises InvalidInput for a rate outside [0, 1).
    """

    def __init__(self, xp: ModuleType, rate: float) -> None:
        self.xp = xp
        self.rate = fraction("rate", rate)

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array | None]:
        """y = m · x with m drawn from `rng`; without `rng`, y = x. The cache is m, or None for the identity."""
        if rng is None or self.rate == 0:
            return x, None
        draws = rng.random(x.shape, dtype=self.xp.float32)
        scale = x.dtype.type(1 / (1 - self.rate))  # x's own type, lest float32 become float64
        y, mask = fused(self.xp, _drop)(x, draws, self.rate, scale)
        return y, mask

    def backward(self, dy: Array, cache: Array | None) -> Array:
        """dx = m · dy, with the mask of the forward pass."""
        mask = cache
        return dy if mask is None else dy * mask


def _drop(xp: ModuleType, x: Array, draws: Array, rate: float, scale: Any) -> tuple[Array, Array]:
    """(m · x, m), with m = scale, a number of x's type, where a draw from [0, 1) is at least `rate`, and 0 elsewhere."""
    mask = (draws >= rate) * scale
    return x * mask, mask


def sigmoid(xp: ModuleType, x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), elementwise, as max(e, [x ≥ 0]) / (1 + e) with e = e^−|x|: nothing overflows."""
    e = xp.exp(-xp.abs(x))
    return xp.maximum(e, x >= 0) / (1 + e)
