"""The additional layers of the second model; `npaae.layers` explains how a layer works."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array, Generator
from ..layers import Dense, Sequential


def log_softmax(xp: ModuleType, logits: Array, axis: int = 1) -> Array:
    """ln p = l − ln Σ e^l, with the sum along an axis, by default a row: (n, k) -> (n, k).

    The largest logit is subtracted first, which does not change the result, but keeps every
    exponent at or below 0, and one of them at 0.
    """
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(xp: ModuleType, logits: Array) -> Array:
    """p_ij = e^(l_ij) / Σ_m e^(l_im), row by row: (n, k) -> (n, k)."""
    return xp.exp(log_softmax(xp, logits))


class PartialSoftmax:
    """The encoder's two heads: softmax of the first k columns, and the others unchanged.

    x and y are (n, k + d). In a row of the first k columns, with p = softmax(l) and dp = dL/dp,

        ∂p_i / ∂l_j = p_i ([i = j] − p_j)   ⇒   dl = p · (dp − Σ_i p_i dp_i)

    and dx = dy in the others.
    """

    def __init__(self, xp: ModuleType, categories: int) -> None:
        self.xp, self.categories = xp, categories

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        """y = (softmax(x_1, …, x_k), x_k+1, …); the cache is y."""
        k = self.categories
        y = self.xp.concatenate((softmax(self.xp, x[:, :k]), x[:, k:]), axis=1)
        return y, y

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx = (p · (dp − Σ p dp), dy_k+1, …)."""
        k = self.categories
        p, dp = cache[:, :k], dy[:, :k]
        dlogits = p * (dp - (p * dp).sum(axis=1, keepdims=True))
        return self.xp.concatenate((dlogits, dy[:, k:]), axis=1)


class Noise:
    """y = x + std ε in training, with ε standard normal, and y = x in evaluation; dx = dy."""

    settings = ("std",)

    def __init__(self, std: float) -> None:
        self.std = std

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, None]:
        """y = x + std ε, with ε drawn from `rng`; without `rng`, y = x. The cache is None."""
        if rng is None or self.std == 0:
            return x, None
        y = rng.standard_normal(x.shape, dtype=x.dtype)
        y *= self.std
        y += x
        return y, None

    def backward(self, dy: Array, cache: None) -> Array:
        """dx = dy."""
        return dy


class BatchNorm:
    """y = γ x̂ + β with x̂ = (x − μ) / s, where μ and s² are each column's mean and variance + ε.

    x, x̂ and y have shape (rows, k), γ and β (k,). In training, μ and s² are computed from the
    batch; in evaluation they are running averages, kept in `mean` and `variance`. Every element of
    x also affects μ and s. With d = γ dy, and means over the rows,

        dx = (d − mean(d) − x̂ · mean(d · x̂)) / s,      dγ = Σ_i dy_i x̂_i,      dβ = Σ_i dy_i

    In evaluation, where μ and s are constants, dx = d / s.

    Source: S. Ioffe, C. Szegedy, "Batch Normalization", arXiv:1502.03167. The layer looks at all
    rows at once, so its gradient is not a sum over rows.
    """

    parameters = ("gamma", "beta")
    statistics = ("mean", "variance")
    settings = ("epsilon", "momentum")
    mixes_rows = True
    epsilon = 1e-5
    momentum = 0.02  # the part of the running averages that a batch replaces

    def __init__(self, xp: ModuleType, k: int, dtype: Any) -> None:
        self.xp = xp
        self.gamma, self.beta = xp.ones(k, dtype), xp.zeros(k, dtype)
        self.dgamma, self.dbeta = xp.empty_like(self.gamma), xp.empty_like(self.beta)
        self.mean, self.variance = xp.zeros(k, dtype), xp.ones(k, dtype)

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Any]:
        """y, of x's shape; the cache is x̂, s, and whether μ and s are those of the batch."""
        mean, variance = self.mean, self.variance
        if rng is not None:
            mean = x.mean(axis=0)
            variance = ((x - mean) ** 2).mean(axis=0)
            self.mean += self.momentum * (mean - self.mean)
            self.variance += self.momentum * (variance - self.variance)
        s = self.xp.sqrt(variance + self.epsilon)
        x_hat = (x - mean) / s
        return self.gamma * x_hat + self.beta, (x_hat, s, rng is not None)

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx = (d − mean(d) − x̂ · mean(d · x̂)) / s; in evaluation d / s."""
        x_hat, s, of_the_batch = cache
        d = self.gamma * dy
        if of_the_batch:
            along = (d * x_hat).mean(axis=0)
            d -= d.mean(axis=0)
            d -= x_hat * along
        d /= s
        return d

    def parameter_gradients(self, dy: Array, cache: Any) -> None:
        """dγ = Σ_i dy_i x̂_i and dβ = Σ_i dy_i."""
        x_hat, *_ = cache
        self.xp.sum(dy * x_hat, axis=0, out=self.dgamma)
        self.xp.sum(dy, axis=0, out=self.dbeta)


class SideBySide(Sequential):
    """Networks that each see their own columns: y = (f_1(x_1), f_2(x_2), …).

    widths: the number of columns that each sees. Each has one output, so y is (n, networks). No
    gradient passes from one to another: each is trained as if it were alone.
    """

    def __init__(
        self, xp: ModuleType, networks: Sequence[Sequential], widths: Sequence[int]
    ) -> None:
        super().__init__(networks)
        self.xp, self.ends = xp, np.cumsum(widths)[:-1].tolist()

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, list[Any]]:
        """(y, caches), a list of caches for each network."""
        parts = self.xp.split(x, self.ends, axis=1)
        passes = [f.forward(part, rng) for f, part in zip(self.layers, parts, strict=True)]
        return self.xp.concatenate([y for y, _ in passes], axis=1), [cache for _, cache in passes]

    def backward(
        self, dy: Array, caches: Sequence[Any], *, parameters: bool = True, inputs: bool = True
    ) -> Array | None:
        """dx = (dx_1, dx_2, …), each from its own column of dy; the rest as in `Sequential`."""
        columns = self.xp.ascontiguousarray(dy.T)[:, :, None]  # (networks, n, 1)
        dx = [
            network.backward(column, cache, parameters=parameters, inputs=inputs)
            for network, column, cache in zip(self.layers, columns, caches, strict=True)
        ]
        return self.xp.concatenate(dx, axis=1) if inputs else None


class ClusterHeads(Dense):
    """A position for each category, with the style added to it: e = y W + b + z.

    x = (y, z) is (n, k + d) and e (n, d). A one-hot y picks its row of W, the head of its category.
    Initially the heads are scattered on the scale of `distance`, below which `repulsion` pushes
    them apart. Source: section 7 of the AAE paper.
    """

    settings = ("distance",)

    def __init__(self, xp: ModuleType, W: Array, b: Array, distance: float) -> None:
        super().__init__(xp, W, b)
        self.distance = distance

    def initialise(self, rng: Generator) -> None:
        """Draw W from N(0, distance² I), and set b to 0. `rng` is NumPy's."""
        self.W[...] = self.xp.asarray(self.distance * rng.standard_normal(self.W.shape))
        self.b[...] = 0

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Array]:
        """e = y W + b + z; the cache is y."""
        y, z = x[:, : len(self.W)], x[:, len(self.W) :]
        e, _ = super().forward(y)
        e += z
        return e, y

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx = (de Wᵀ, de)."""
        return self.xp.concatenate((super().backward(dy, cache), dy), axis=1)
