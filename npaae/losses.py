"""Binary cross-entropy, from probabilities or from logits: each returns (loss, gradient).

The loss is the mean over *every* element of the array, so it does not grow with the batch; the gradient is that mean's.
The loss is a 0-dimensional value on the backend: `float(loss)` makes it a Python float, and on a GPU waits for it.
"""

from types import ModuleType

from .backend import Array, fused
from .errors import InvalidInput
from .layers import sigmoid


def bce(xp: ModuleType, p: Array, t: Array | float) -> tuple[Array, Array]:
    """Binary cross-entropy of probabilities p against targets t in [0, 1], over N elements.

        L = −1/N Σ [t ln p + (1 − t) ln(1 − p)],      dL/dp = (p − t) / (p (1 − p)) / N

    p has any shape, t that shape or a scalar; dL/dp has p's shape. This is the textbook's form, and the one to read. It
    has no value at p = 0 and p = 1, which a saturated float32 sigmoid does reach: `bce_with_logits` is the one to train with.

    Raises InvalidInput where p is not strictly between 0 and 1.
    """
    if not bool(((p > 0) & (p < 1)).all()):
        raise InvalidInput("probabilities must lie strictly between 0 and 1; where they may not, use bce_with_logits")
    loss = -(t * xp.log(p) + (1 - t) * xp.log1p(-p)).mean()
    return loss, (p - t) / (p * (1 - p) * p.size)


def bce_with_logits(xp: ModuleType, logits: Array, t: Array | float) -> tuple[Array, Array]:
    """Binary cross-entropy of σ(l) against targets t in [0, 1], from the logits l, over N elements.

        L = 1/N Σ [max(l, 0) − l t + ln(1 + e^−|l|)],      dL/dl = (σ(l) − t) / N

    Derivation: −ln σ(l) = ln(1 + e⁻ˡ) and −ln(1 − σ(l)) = l + ln(1 + e⁻ˡ), so that the mean of the two weighted with
    t and 1 − t is (1 − t) l + ln(1 + e⁻ˡ); writing ln(1 + e⁻ˡ) = max(−l, 0) + ln(1 + e^−|l|) keeps every exponent at
    or below 0. So nothing overflows, with no ε anywhere, and where σ saturates the gradient stays ±1/N, not 0.

    logits has any shape, t that shape or a scalar; dL/dl has the logits' shape.
    """
    losses, gradient = fused(xp, _cross_entropies)(logits, t, logits.size)
    return losses.mean(), gradient


def _cross_entropies(xp: ModuleType, logits: Array, t: Array | float, count: int) -> tuple[Array, Array]:
    """The summands of L, each element's own, and dL/dl, for N = count."""
    losses = xp.maximum(logits, 0) - logits * t + xp.log1p(xp.exp(-xp.abs(logits)))
    return losses, (sigmoid(xp, logits) - t) / count
