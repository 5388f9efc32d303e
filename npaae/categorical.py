"""An adversarial autoencoder whose code is a category and a style, for few labels or none.

                    ┌─► y ──┬──► decoder ──► x̂     1 reconstruction   BCE(x̂, x)
    x ──► encoder ──┤       │                        moves encoder + decoder
                    └─► z ──┘                      2 discriminator    BCE(D(c*), 1) + BCE(D(c), 0)
                                                     moves both discriminators
    Cat ──► y* ─► D_y ◄── y                        3 generator        BCE(D(c), 1)
    N   ──► z* ─► D_z ◄── z                          moves encoder
                                                   4 classification   −ln y_label
    labelled images, or decoder(y*, z*)              moves encoder
    x + r ──► encoder ──► q                        5 smoothness       KL(y ‖ q) − w I(q)
                                                     moves encoder

The encoder ends in two heads: y, a softmax over the categories, and z, linear. A code c is (y, z).
One discriminator compares y with one-hot draws, which makes y nearly one-hot. Another compares z
with draws of the prior, which keeps the category out of z. With c in place of z, phases 1 to 3 are
those of `AdversarialAutoencoder`. New are the softmax, two discriminators side by side, batch
normalisation in the encoder and the decoder, noise on the images, and phases 4 and 5.

Phase 4 is the AAE paper's if there are labels. Without them, which is not in the paper, the model
learns to recognise the categories of its own samples in any style. Phase 5 is not in the paper
either. It moves the boundaries between categories away from the images: a small change r of an
image should not change its category. If the weight w is positive, phase 5 also maximises I, the
mutual information of images and categories.

Sources: A. Makhzani, J. Shlens, N. Jaitly, I. Goodfellow, B. Frey, "Adversarial Autoencoders",
arXiv:1511.05644, sections 4 to 7. Phase 5: T. Miyato, S. Maeda, M. Koyama, S. Ishii, "Virtual
adversarial training", arXiv:1704.03976; the information: W. Hu et al., arXiv:1702.08720.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from . import checks
from .backend import Array, Generator, HostArray, to_host
from .errors import InvalidInput
from .layers import Dense, ReLU, Sequential, sigmoid
from .model import AdversarialAutoencoder
from .optim import Adam
from .priors import Prior, gaussian

REPULSION = 1e-3  # the weight of the repulsion of cluster heads in the loss
PROBE = 1e-3  # the length of the random step at which a direction is sought


def log_softmax(xp: ModuleType, logits: Array, axis: int = 1) -> Array:
    """ln p = l − ln Σ e^l, with the sum along an axis, by default a row: (n, k) -> (n, k).

    The largest logit is subtracted first, which changes nothing but keeps every exponent at or
    below 0, and one of them at 0.
    """
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(xp: ModuleType, logits: Array) -> Array:
    """p_ij = e^(l_ij) / Σ_m e^(l_im), row by row: (n, k) -> (n, k)."""
    return xp.exp(log_softmax(xp, logits))


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
    Derivation: I = H(q̄) − 1/n Σ_i H(q_i), so that dI/dq_ij = g_ij / n, in which the two constants
    of d(q ln q)/dq = ln q + 1 cancel; and then the backward pass of softmax.
    """
    n = logits.dtype.type(len(logits))
    log_q = log_softmax(xp, logits)
    q = xp.exp(log_q)
    gain = log_softmax(xp, log_q, axis=0) + xp.log(n)  # ln (q_ij / Σ_i q_ij) + ln n
    of_row = (q * gain).sum(axis=1, keepdims=True)  # (n, 1)
    return of_row.mean(), q * (gain - of_row) / n


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
    """y = γ n + β with n = (x − μ) / s, where μ and s² are each column's mean and variance + ε.

    x, n and y have shape (rows, k), γ and β (k,). In training, μ and s² are computed from the
    batch; in evaluation they are running averages, kept in `mean` and `variance`. Every element of
    x also affects μ and s. With d = γ dy, and means over the rows,

        dx = (d − mean(d) − n · mean(d · n)) / s,      dγ = Σ_i dy_i n_i,      dβ = Σ_i dy_i

    In evaluation, where μ and s are constants, dx = d / s.

    Source: S. Ioffe, C. Szegedy, "Batch normalization", arXiv:1502.03167. The layer looks at all
    rows at once, so its gradient is not a sum over rows.
    """

    parameters = ("gamma", "beta")
    statistics = ("mean", "variance")  # changed by training, but without a gradient
    epsilon = 1e-5
    share = 0.02  # of the running averages that a batch replaces

    def __init__(self, xp: ModuleType, k: int, dtype: Any) -> None:
        self.xp = xp
        self.gamma, self.beta = xp.ones(k, dtype), xp.zeros(k, dtype)
        self.dgamma, self.dbeta = xp.empty_like(self.gamma), xp.empty_like(self.beta)
        self.mean, self.variance = xp.zeros(k, dtype), xp.ones(k, dtype)

    def forward(self, x: Array, rng: Generator | None = None) -> tuple[Array, Any]:
        """y, of x's shape; the cache is n, s, and whether μ and s are those of the batch."""
        mean, variance = self.mean, self.variance
        if rng is not None:
            mean = x.mean(axis=0)
            variance = ((x - mean) ** 2).mean(axis=0)
            self.mean += self.share * (mean - self.mean)
            self.variance += self.share * (variance - self.variance)
        s = self.xp.sqrt(variance + self.epsilon)
        normal = (x - mean) / s
        return self.gamma * normal + self.beta, (normal, s, rng is not None)

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx = (d − mean(d) − n · mean(d · n)) / s; in evaluation d / s."""
        normal, s, of_the_batch = cache
        d = self.gamma * dy
        if of_the_batch:
            along = (d * normal).mean(axis=0)
            d -= d.mean(axis=0)
            d -= normal * along
        d /= s
        return d

    def parameter_gradients(self, dy: Array, cache: Any) -> None:
        """dγ = Σ_i dy_i n_i and dβ = Σ_i dy_i."""
        normal, *_ = cache
        self.xp.sum(dy * normal, axis=0, out=self.dgamma)
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
        dx = [
            network.backward(dy[:, i : i + 1], caches[i], parameters=parameters, inputs=inputs)
            for i, network in enumerate(self.layers)
        ]
        return self.xp.concatenate(dx, axis=1) if inputs else None


class ClusterHeads(Dense):
    """A position for each category, with the style added to it: e = y W + b + z.

    x = (y, z) is (n, k + d) and e (n, d). A one-hot y picks its row of W, the head of its category.
    Initially the heads are scattered on the scale of `distance`, below which `repulsion` pushes
    them apart. Source: section 7 of the AAE paper.
    """

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


def repulsion(xp: ModuleType, W: Array, distance: float) -> tuple[Array, Array]:
    """What keeps cluster heads apart: (loss, gradient), for the rows w_i of W.

        L = Σ_{i<j} max(0, distance − |w_i − w_j|)

        dL/dw_i = −Σ_{j near i} (w_i − w_j) / |w_i − w_j|,      near: 0 < |w_i − w_j| < distance

    Each pair that is too close is pushed apart with force 1. Source: the AAE paper, section 7.
    """
    difference = W[:, None] - W  # (k, k, d)
    length = xp.sqrt((difference * difference).sum(axis=2))  # (k, k)
    near = (length > 0) & (length < distance)
    loss = (near * (distance - length)).sum() / 2  # each pair is counted twice
    push = near / xp.where(near, length, 1)
    return loss, -(push[:, :, None] * difference).sum(axis=1)


def _unit_rows(xp: ModuleType, x: Array) -> Array:
    """x_i / ‖x_i‖, row by row; rows of zeros are unchanged."""
    length = xp.sqrt((x * x).sum(axis=1, keepdims=True))
    return x / xp.where(length > 0, length, 1)


class CategoricalAutoencoder(AdversarialAutoencoder):
    """An autoencoder whose codes are (y, z): a category of k, and a style of d dimensions.

    categories: k. latent: d. prior: of z, as in `AdversarialAutoencoder`; y* is one-hot, with all
    categories equally likely. noise: the standard deviation of the normal noise added to the images
    in phases 1 to 4. lr_…: Adam's learning rates, one per phase. beta1: Adam's β₁ in phases 2
    and 3.

    perturbation: the Euclidean length of r in phase 5; 0 leaves out the phase. information_weight:
    w in phase 5, for training without labels.

    head_distance: if positive, the decoder sees y and z only through `ClusterHeads`, and heads
    closer to each other than this are pushed apart.

    joint: whether one discriminator sees (y, z) in place of one for y and one for z. It also
    compares how y and z depend on each other, which keeps the category out of the style.

    A code, as `encode` returns it and `decode` takes it, is (n, k + d): the columns of y, then
    those of z. `step` and `npaae.train` take labelled images for phase 4. Losses, the other
    arguments, attributes and errors are those of `AdversarialAutoencoder`. The losses of phases 2
    and 3 are means over the discriminators, so that their values at equilibrium are the same.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (1000, 1000),
        categories: int = 10,
        latent: int = 10,
        visible: int = 784,
        prior: Prior = gaussian(std=1.0),
        noise: float = 0.3,
        perturbation: float = 2.0,
        information_weight: float = 0.0,
        head_distance: float = 0.0,
        joint: bool = False,
        dropout: float = 0.0,
        discriminator_dropout: float = 0.2,
        lr_reconstruction: float = 5e-4,
        lr_discriminator: float = 1e-4,
        lr_generator: float = 5e-4,
        lr_classification: float = 5e-4,
        lr_smoothness: float = 5e-4,
        beta1: float = 0.5,
        backend: str = "numpy",
        dtype: str = "float32",
        seed: int = 0,
        comm: None = None,
    ) -> None:
        if comm is not None:
            raise InvalidInput("comm must be None: batch normalisation needs all rows of a batch")
        self.categories = checks.integer("categories", categories, 1)
        if not isinstance(joint, bool):
            raise InvalidInput(f"joint must be True or False, got {joint!r}")
        if perturbation == 0 and information_weight != 0:
            raise InvalidInput(
                f"information_weight must be 0 if perturbation is 0, got {information_weight!r}"
            )
        self._own = own = {  # before the base class calls `networks`
            "categories": self.categories,
            "noise": checks.non_negative("noise", noise),
            "perturbation": checks.non_negative("perturbation", perturbation),
            "information_weight": checks.non_negative("information_weight", information_weight),
            "head_distance": checks.non_negative("head_distance", head_distance),
            "joint": joint,
            "lr_discriminator": checks.learning_rate("lr_discriminator", lr_discriminator),
            "lr_generator": checks.learning_rate("lr_generator", lr_generator),
            "lr_classification": checks.learning_rate("lr_classification", lr_classification),
            "lr_smoothness": checks.learning_rate("lr_smoothness", lr_smoothness),
            "beta1": checks.fraction("beta1", beta1),
        }
        super().__init__(
            hidden=hidden,
            latent=latent,
            visible=visible,
            prior=prior,
            dropout=dropout,
            discriminator_dropout=discriminator_dropout,
            lr_reconstruction=lr_reconstruction,
            lr_regularization=lr_generator,
            backend=backend,
            dtype=dtype,
            seed=seed,
        )
        for name in ("classes", "lr_regularization"):
            del self.config[name]
        self.config |= own
        self.discriminator_adam.learning_rate = own["lr_discriminator"]
        self.discriminator_adam.beta1 = self.generator_adam.beta1 = own["beta1"]
        encoder = slice(0, self.encoder.size)
        self.classification_adam = self._adam(encoder, own["lr_classification"])
        self.smoothness_adam = self._adam(encoder, own["lr_smoothness"])

    @staticmethod
    def layer_sizes(config: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
        """The sizes of the encoder, the decoder, the discriminators and the cluster heads."""
        visible, hidden, k, d = (config[n] for n in ("visible", "hidden", "categories", "latent"))
        encoder, seen = (visible, *hidden, k + d), (k + d,) if config["joint"] else (k, d)
        discriminators = [(width, *hidden, 1) for width in seen]
        if config["head_distance"]:
            return encoder, (d, *hidden[::-1], visible), *discriminators, (k, d)
        return encoder, encoder[::-1], *discriminators

    @classmethod
    def parameter_count(cls, config: Mapping[str, Any]) -> int:
        """The number of parameters, those of batch normalisation included."""
        normalised: int = sum(config["hidden"]) * 2 + config["categories"] + config["latent"]
        return super().parameter_count(config) + 2 * normalised

    def networks(self) -> tuple[Sequential, Sequential, Sequential]:
        """The encoder, the decoder and the discriminators, before they are initialised."""
        config, xp = self.config | self._own, self.xp
        encoder, decoder, *others = self.layer_sizes(config)
        drop, distance = config["discriminator_dropout"], config["head_distance"]
        empty = partial(xp.empty, dtype=self.dtype)
        heads = [others.pop()] if distance else []
        adversaries = [self.network(sizes, drop) for sizes in others]
        noise, softmax_ = Noise(config["noise"]), PartialSoftmax(xp, self.categories)
        normal = BatchNorm(xp, encoder[-1], self.dtype)
        places = [ClusterHeads(xp, empty(sizes), empty(sizes[1:]), distance) for sizes in heads]
        return (
            Sequential([noise, *self._normalised(encoder), normal, softmax_]),
            Sequential([*places, *self._normalised(decoder)]),
            SideBySide(xp, adversaries, [sizes[0] for sizes in others]),
        )

    def _normalised(self, sizes: Sequence[int]) -> Iterator[Any]:
        """The layers of a perceptron, with batch normalisation before each ReLU."""
        widths = iter(sizes[1:])
        for layer in self.network(sizes, self.config["dropout"]).layers:
            if isinstance(layer, ReLU):
                yield BatchNorm(self.xp, next(widths), self.dtype)
            yield layer

    @property
    def code_size(self) -> int:
        """The number of columns of a code: k + d."""
        return self.categories + self.latent

    def draw_prior(self, rng: Generator, n: int, labels: Array | None = None) -> Array:
        """n samples (y*, z*), (n, k + d): y* one-hot and uniform, z* from the prior."""
        style = super().draw_prior(rng, n)
        category = rng.integers(0, self.categories, (n, 1)) == self.xp.arange(self.categories)
        return self.xp.concatenate((category.astype(self.dtype), style), axis=1)

    def step(
        self, x: Array, rng: Generator, labelled: tuple[Array, Array] | None = None
    ) -> tuple[Array, ...]:
        """Train on one batch: all phases in order, phase 4 on labelled images or own samples.

        labelled: (images, labels), (m, visible) and (m,) integers on the backend, not checked here.
        Returns the losses of `phases`.
        """
        losses = super().step(x, rng)
        x = self.pixels(x)
        images, labels = self.own_samples(len(x), rng) if labelled is None else labelled
        losses += (self.classification_gradient(self.pixels(images), labels, rng),)
        self.classification_adam.step()
        if self.config["perturbation"]:
            losses += (self.smoothness_gradient(*self.perturb(x, rng), rng),)
            self.smoothness_adam.step()
        return losses

    @property
    def phases(self) -> tuple[str, ...]:
        """The names of the losses that `step` returns."""
        fifth = ("smoothness",) if self.config["perturbation"] else ()
        return *super().phases, "classification", *fifth

    def own_samples(self, n: int, rng: Generator) -> tuple[Array, Array]:
        """Draw n codes (y*, z*): (images, categories), (n, visible) decoded in training, (n,)."""
        codes = self.draw_prior(rng, n)
        logits, _ = self.decoder.forward(codes, rng)
        return sigmoid(self.xp, logits), codes[:, : self.categories].argmax(axis=1)

    def reconstruction_gradient(self, x: Array, rng: Generator | None) -> Array:
        """Phase 1, as in `AdversarialAutoencoder`; with heads, 1e-3 · `repulsion` is added.

        With this weight it adds little to L, but is still most of the gradient of the heads.
        """
        loss = super().reconstruction_gradient(x, rng)
        if self.config["head_distance"]:
            heads = self.decoder.layers[0]
            repelled, dW = repulsion(self.xp, heads.W, heads.distance)
            heads.dW += REPULSION * dW
            loss = loss + REPULSION * repelled
        return loss

    def classification_gradient(self, x: Array, labels: Array, rng: Generator | None) -> Array:
        """Phase 4: L = −ln y_label, the mean over n, from the logits of y.

        Writes dL/dθ of the encoder into `gradient` and returns L. x: (n, visible) of the model's
        dtype; labels: (n,).
        """
        classifier = Sequential(self.encoder.layers[:-1])  # all but the softmax
        logits, caches = classifier.forward(x, rng)  # (n, k + d)
        loss, dlogits = softmax_cross_entropy(self.xp, logits[:, : self.categories], labels)
        classifier.backward(self._without_style(dlogits), caches, inputs=False)
        return loss

    def perturb(self, x: Array, rng: Generator) -> tuple[Array, Array]:
        """(ln y, x + r), with r in a direction in which y changes much.

        KL(y(x) ‖ y(x + r)) has its minimum, 0, at r = 0, where its gradient is also 0. At a small
        random step, the gradient is approximately the Hessian times the step. It is usually closer
        to the direction of largest curvature than the step is: this is one iteration of the power
        method. Each row of the gradient is scaled to the length `perturbation`.

        The divergence is averaged over the batch. Through batch normalisation an image affects the
        outputs of the others, and its row of the gradient includes this effect. These passes also
        update the running averages of batch normalisation. No noise is added to the images. Dropout
        should be off, because two passes with different masks differ more than two passes that are
        a small step apart. x: (n, visible); ln y: (n, k).
        """
        xp, k = self.xp, self.categories
        classifier = Sequential(self.encoder.layers[1:-1])  # all but noise and softmax
        log_y = log_softmax(xp, classifier.forward(x, rng)[0][:, :k])
        step = rng.standard_normal(x.shape, dtype=x.dtype)
        logits, caches = classifier.forward(x + PROBE * _unit_rows(xp, step), rng)
        _, dlogits = divergence(xp, log_y, logits[:, :k])
        dx = classifier.backward(self._without_style(dlogits), caches, parameters=False)
        return log_y, x + self.config["perturbation"] * _unit_rows(xp, dx)

    def smoothness_gradient(self, log_y: Array, perturbed: Array, rng: Generator | None) -> Array:
        """Phase 5: L = KL(y ‖ q) − w I(q), with q = y(x + r), for constant y and r.

        Writes dL/dθ of the encoder into `gradient` and returns L. log_y: (n, k); perturbed: x + r,
        (n, visible) of the model's dtype; both as `perturb` returns them.
        """
        xp, k = self.xp, self.categories
        classifier = Sequential(self.encoder.layers[1:-1])
        logits, caches = classifier.forward(perturbed, rng)
        loss, dlogits = divergence(xp, log_y, logits[:, :k])
        if weight := self.config["information_weight"]:
            gained, dinformation = information(xp, logits[:, :k])
            loss, dlogits = loss - weight * gained, dlogits - weight * dinformation
        classifier.backward(self._without_style(dlogits), caches, inputs=False)
        return loss

    def _without_style(self, dlogits: Array) -> Array:
        """The gradient of the encoder's outputs before the softmax: 0 in the style's columns."""
        style = self.xp.zeros((len(dlogits), self.latent), self.dtype)
        return self.xp.concatenate((dlogits, style), axis=1)

    def adams(self) -> dict[str, Adam]:
        """The five optimisers by name."""
        return super().adams() | {
            "classification_adam": self.classification_adam,
            "smoothness_adam": self.smoothness_adam,
        }

    def arrays(self) -> dict[str, Array]:
        """Every array that training changes, by name, including the running averages."""
        return super().arrays() | {
            f"{network}.{i}.{name}": getattr(layer, name)
            for network in ("encoder", "decoder")
            for i, layer in enumerate(getattr(self, network).layers)
            for name in getattr(layer, "statistics", ())
        }

    def classify(self, images: Any) -> HostArray:
        """The category of each image, (n,): the largest of y."""
        codes: HostArray = self.encode(images)
        best: HostArray = codes[:, : self.categories].argmax(axis=1)
        return best

    def doubts(self, images: Any) -> HostArray:
        """1 − y, (n, k): how unsure the model is that each image is of each category.

        The sum of the other categories, which is precise where y is rounded to 1.
        """
        y = self.encode(images)[:, : self.categories]
        others: HostArray = y @ (1 - np.eye(self.categories, dtype=y.dtype))
        return others

    def embed(self, images: Any) -> HostArray:
        """y W + b + z, (n, d): the places of images among the cluster heads.

        Raises InvalidInput for a model without them, or images that `encode` refuses.
        """
        return self.embed_codes(self.encode(images))

    def embed_codes(self, codes: HostArray) -> HostArray:
        """y W + b + z, (n, d), of codes (y, z), (n, k + d)."""
        if not self.config["head_distance"]:
            raise InvalidInput("head_distance must be positive in a model that embeds, got 0.0")
        rows = self.xp.asarray(codes, self.dtype)
        return to_host(self.decoder.layers[0].forward(rows)[0])
