"""Binary cross-entropy, from probabilities and from logits: each returns (loss, gradient).

The loss is the mean over *every* element of the array, so it does not grow with the batch, and the
gradient is that of this mean. The loss is a 0-dimensional value on the backend: `float(loss)` makes
it a Python float, and waits for the GPU.
"""

from types import ModuleType

import numpy as np

from .backend import Array, fused
from .errors import InvalidInput


def bce(xp: ModuleType, p: Array, t: Array | float) -> tuple[Array, Array]:
    """Binary cross-entropy of probabilities p and targets t in [0, 1], over N elements.

        L = −1/N Σ [t ln p + (1 − t) ln(1 − p)],      dL/dp = (p − t) / (p (1 − p)) / N

    p has any shape, t has the same shape or is a scalar, and dL/dp has p's shape. This is the
    textbook form. It is undefined at p = 0 and p = 1, which a saturated float32 sigmoid reaches, so
    use `bce_with_logits` to train.

    Raises InvalidInput unless 0 < p < 1, or if t has another shape.
    """
    _require_same_shape(t, p)
    if not bool(((p > 0) & (p < 1)).all()):
        raise InvalidInput("p must lie strictly between 0 and 1; otherwise, use bce_with_logits")
    loss = -(t * xp.log(p) + (1 - t) * xp.log1p(-p)).mean()
    return loss, (p - t) / (p * (1 - p) * p.size)


def bce_with_logits(xp: ModuleType, logits: Array, t: Array | float) -> tuple[Array, Array]:
    """Binary cross-entropy of σ(l) and targets t in [0, 1], from the logits l, over N elements.

        L = 1/N Σ [max(l, 0) − l t + ln(1 + e^−|l|)],      dL/dl = (σ(l) − t) / N

    Derivation: −ln σ(l) = ln(1 + e⁻ˡ) and −ln(1 − σ(l)) = l + ln(1 + e⁻ˡ), so their mean with the
    weights t and 1 − t is (1 − t) l + ln(1 + e⁻ˡ). Writing ln(1 + e⁻ˡ) as max(−l, 0) +
    ln(1 + e^−|l|) keeps every exponent at or below 0. Nothing overflows, no ε is needed, and if σ
    saturates on the wrong side the gradient stays ±1/N.

    logits has any shape, t has the same shape or is a scalar, and dL/dl has the logits' shape.

    Raises InvalidInput if t has another shape.
    """
    _require_same_shape(t, logits)
    losses, gradient = _cross_entropies(xp, logits, t, logits.size)
    return losses.mean(), gradient


@fused
def _cross_entropies(
    xp: ModuleType, logits: Array, t: Array | float, count: int
) -> tuple[Array, Array]:
    """The term of each element in L, and dL/dl, for N = count, from one exponential."""
    e = xp.exp(-xp.abs(logits))
    losses = xp.maximum(logits, 0)
    losses -= logits * t
    losses += xp.log1p(e)
    gradient = xp.maximum(e, logits >= 0)
    gradient /= 1 + e  # now σ(l), as in `layers.sigmoid`
    gradient -= t
    gradient /= count
    return losses, gradient


def _require_same_shape(t: Array | float, p: Array) -> None:
    shape = t.shape if hasattr(t, "shape") else np.shape(t)
    if shape not in ((), p.shape):  # broadcasting would give a wrong loss
        raise InvalidInput(f"t must be a scalar or have shape {p.shape}, got {shape}")
