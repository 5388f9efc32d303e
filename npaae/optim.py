"""Adam, over one flat vector of parameters."""

from math import sqrt
from types import ModuleType

from . import checks
from .backend import Array, blockwise
from .errors import InvalidInput


class Adam:
    """Adam (Kingma and Ba, arXiv:1412.6980, Algorithm 1), for parameters θ, gradient g, t = 1, 2, …

        m ← β₁ m + (1 − β₁) g         m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²        v̂ = v / (1 − β₂ᵗ)         θ ← θ − α m̂ / (√v̂ + ε)

    With c = √(1 − β₂ᵗ), so that √v̂ = √v / c, the last line is computed as

        θ ← θ − α c / (1 − β₁ᵗ) · m / (√v + c ε),

    which the paper suggests at the end of its section 2, and which saves two passes over memory.

    `parameters` and `gradient` are flat vectors of the same size. A step reads both and updates
    `parameters`.

    Raises InvalidInput for other shapes, and for α outside (0, 1], β outside [0, 1) or ε ≤ 0.
    """

    def __init__(
        self,
        xp: ModuleType,
        parameters: Array,
        gradient: Array,
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        if parameters.ndim != 1 or parameters.shape != gradient.shape:
            raise InvalidInput(
                "parameters and gradient must be flat and of one size, "
                f"got shapes {parameters.shape} and {gradient.shape}"
            )
        self.xp = xp
        self.parameters, self.gradient = parameters, gradient
        self.learning_rate = checks.learning_rate("learning_rate", learning_rate)
        self.beta1, self.beta2 = checks.fraction("beta1", beta1), checks.fraction("beta2", beta2)
        self.epsilon = checks.positive("epsilon", epsilon)
        self.m, self.v = xp.zeros_like(parameters), xp.zeros_like(parameters)
        self.t = 0

    def step(self) -> None:
        """Update the parameters once with the current gradient."""
        self.t += 1
        vectors = (self.parameters, self.gradient, self.m, self.v)
        c = sqrt(1 - self.beta2**self.t)
        rate = self.learning_rate * c / (1 - self.beta1**self.t)
        _update(self.xp, *vectors, self.beta1, self.beta2, rate, c * self.epsilon)
        if self.t % 100 == 0:
            _flush(self.xp, self.m)


@blockwise
def _update(
    xp: ModuleType,
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    beta1: float,
    beta2: float,
    rate: float,
    epsilon: float,
) -> None:
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², θ ← θ − rate · m / (√v + epsilon)."""
    step = (1 - beta1) * g  # the only temporary array
    m *= beta1
    m += step
    xp.multiply(g, g, out=step)
    step *= 1 - beta2
    v *= beta2
    v += step
    xp.sqrt(v, out=step)
    step += epsilon
    xp.divide(m, step, out=step)
    step *= rate
    theta -= step


@blockwise
def _flush(xp: ModuleType, m: Array) -> None:
    """Set the entries of m that are smaller than 1e-30 to 0, before they become denormal.

    If a parameter's gradient becomes 0, its entry decays by β₁ per step. In float32, 175 steps
    after 1e-30, it falls below 1e-38, where a processor computes many times slower.

    Setting an entry m to 0 changes each of its parameter's following steps, k = 1, 2, …, by
    α β₁ᵏ m / ((1 − β₁ᵗ⁺ᵏ) (√v̂ + ε)). Because √v̂ ≥ 0, these changes add up to at most

        α β₁ |m| / ((1 − β₁) ε (1 − β₁ᵗ)),

    which is 4.5e-25 for α = 5e-4, |m| = 1e-30 and the other defaults: negligible for a parameter.
    """
    m *= xp.abs(m) >= 1e-30
