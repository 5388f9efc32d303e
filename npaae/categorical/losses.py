"""The losses of the second model: each returns (loss, gradient), as in `npaae.losses`."""

from types import ModuleType

from ..backend import Array
from .layers import log_softmax


def softmax_cross_entropy(xp: ModuleType, logits: Array, labels: Array) -> tuple[Array, Array]:
    """Cross-entropy of softmax(l) and the labels: (loss, gradient), a mean over the n rows.

        L = 1/n Σ_i [ln Σ_m e^(l_im) − l_ij],  j = labels_i,      dL/dl_im = (p_im − [m = j]) / n

    Derivation: −ln p_ij = −ln (e^(l_ij) / Σ_m e^(l_im)). The derivative of ln Σ_m e^(l_m) with
    respect to l_m is e^(l_m) / Σ e^(l) = p_m.

    logits: (n, k). labels: (n,) integers in 0 … k − 1, not checked here. dL/dl: (n, k).
    """
    one_hot = labels[:, None] == xp.arange(logits.shape[1])  # (n, k)
    log_p = log_softmax(xp, logits)
    loss = -(log_p * one_hot).sum(axis=1).mean()
    return loss, (xp.exp(log_p) - one_hot) / logits.dtype.type(len(logits))


def divergence(xp: ModuleType, log_p: Array, logits: Array) -> tuple[Array, Array]:
    """Kullback-Leibler divergence of q = softmax(l) from p: (loss, gradient), a mean over n rows.

        L = 1/n Σ_ij p_ij (ln p_ij − ln q_ij),      dL/dl_ij = (q_ij − p_ij) / n

    The gradient is that of the cross-entropy, because the two differ only by the entropy of p,
    which is constant. p is passed as its logarithm so that small values do not become 0. log_p,
    logits, dL/dl: (n, k).
    """
    log_q = log_softmax(xp, logits)
    p = xp.exp(log_p)
    loss = (p * (log_p - log_q)).sum(axis=1).mean()
    return loss, (xp.exp(log_q) - p) / logits.dtype.type(len(logits))


def information(xp: ModuleType, logits: Array) -> tuple[Array, Array]:
    """Mutual information of row and category, with q = softmax(l): (I, dI/dl), with I in nats.

        I = 1/n Σ_ij q_ij g_ij,    g_ij = ln q_ij − ln q̄_j,    q̄_j = 1/n Σ_i q_ij

        dI/dl_ij = q_ij (g_ij − Σ_m q_im g_im) / n

    Its maximum is ln k, reached if every q_i is one-hot and all categories are equally frequent.
    Derivation: I = H(q̄) − 1/n Σ_i H(q_i) and d(q ln q)/dq = ln q + 1. The two constants 1 cancel,
    so dI/dq_ij = g_ij / n. The backward pass of softmax then gives dI/dl.
    """
    n = logits.dtype.type(len(logits))
    log_q = log_softmax(xp, logits)
    q = xp.exp(log_q)
    gain = log_softmax(xp, log_q, axis=0) + xp.log(n)  # ln (q_ij / Σ_i q_ij) + ln n
    of_row = (q * gain).sum(axis=1, keepdims=True)  # (n, 1)
    return of_row.mean(), q * (gain - of_row) / n


def repulsion(xp: ModuleType, W: Array, distance: float) -> tuple[Array, Array]:
    """A penalty on cluster heads that are close: (loss, gradient), for the rows w_i of W.

        L = Σ_{i<j} max(0, distance − |w_i − w_j|)

        dL/dw_i = −Σ_{j near i} (w_i − w_j) / |w_i − w_j|,      near: |w_i − w_j| < distance

    Each pair that is too close is pushed apart with force 1. Heads that coincide have no direction
    to be pushed in, so their part of dL/dw is 0. Source: the AAE paper, section 7.
    """
    difference = W[:, None] - W  # (k, k, d)
    length = xp.sqrt((difference * difference).sum(axis=2))  # (k, k)
    near = (length < distance) & ~xp.eye(len(W), dtype=bool)
    loss = (near * (distance - length)).sum() / 2  # each pair is counted twice
    push = near / xp.where(length > 0, length, 1)
    return loss, -(push[:, :, None] * difference).sum(axis=1)
