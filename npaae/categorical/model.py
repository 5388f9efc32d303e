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
those of `AdversarialAutoencoder`. The softmax, two discriminators side by side, batch normalisation
in the encoder and the decoder, noise on the images, and phases 4 and 5 are new.

If there are labels, phase 4 is that of the AAE paper. Without labels, the model learns to recognise
the categories of its own samples in any style, which is not in the paper. Phase 5 is not in the
paper either. It moves the boundaries between categories away from the images: a small change r of
an image should not change its category. If the weight w is positive, phase 5 also maximises I, the
mutual information of images and categories.

Sources: A. Makhzani, J. Shlens, N. Jaitly, I. Goodfellow, B. Frey, "Adversarial Autoencoders",
arXiv:1511.05644, sections 4 to 7. Phase 5: T. Miyato, S. Maeda, M. Koyama, S. Ishii, "Virtual
adversarial training", arXiv:1704.03976; the information: W. Hu et al., arXiv:1702.08720.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array, Generator, HostArray, to_host
from ..errors import InvalidInput
from ..layers import ReLU, Sequential, sigmoid
from ..model import AdversarialAutoencoder
from ..priors import Prior, gaussian
from .layers import BatchNorm, ClusterHeads, Noise, PartialSoftmax, SideBySide, log_softmax
from .losses import divergence, information, repulsion, softmax_cross_entropy

REPULSION = 1e-3  # the weight of the repulsion of cluster heads in the loss
PROBE = 1e-3  # the length of the random step that finds a direction


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

    joint: whether one discriminator sees (y, z), instead of one for y and one for z. It also
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
        comm: Any = None,
    ) -> None:
        settings = {
            "hidden": hidden,
            "categories": categories,
            "latent": latent,
            "visible": visible,
            "noise": noise,
            "perturbation": perturbation,
            "information_weight": information_weight,
            "head_distance": head_distance,
            "joint": joint,
            "dropout": dropout,
            "discriminator_dropout": discriminator_dropout,
            "lr_reconstruction": lr_reconstruction,
            "lr_discriminator": lr_discriminator,
            "lr_generator": lr_generator,
            "lr_classification": lr_classification,
            "lr_smoothness": lr_smoothness,
            "beta1": beta1,
            "dtype": dtype,
            "seed": seed,
        }
        if perturbation == 0 and information_weight != 0:
            raise InvalidInput(
                f"information_weight must be 0 if perturbation is 0, got {information_weight!r}"
            )
        self._build(settings, prior, backend, comm)

    def _make_optimisers(self) -> None:
        """Make the five Adams, each for its own slice of theta."""
        encoder, autoencoder = self.encoder.size, self.encoder.size + self.decoder.size
        rates, beta1 = self.config, self.config["beta1"]
        self.reconstruction_adam = self._adam(slice(autoencoder), rates["lr_reconstruction"])
        self.discriminator_adam = self._adam(
            slice(autoencoder, None), rates["lr_discriminator"], beta1=beta1
        )
        self.generator_adam = self._adam(slice(encoder), rates["lr_generator"], beta1=beta1)
        self.classification_adam = self._adam(slice(encoder), rates["lr_classification"])
        self.smoothness_adam = self._adam(slice(encoder), rates["lr_smoothness"])

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
        config, xp = self.config, self.xp
        encoder, decoder, *others = self.layer_sizes(config)
        drop, distance = config["discriminator_dropout"], config["head_distance"]
        empty = partial(xp.empty, dtype=self.dtype)
        heads = [others.pop()] if distance else []
        adversaries = [self.network(sizes, drop) for sizes in others]
        noise, softmax_ = Noise(config["noise"]), PartialSoftmax(xp, self.categories)
        normalisation = BatchNorm(xp, encoder[-1], self.dtype)
        places = [ClusterHeads(xp, empty(sizes), empty(sizes[1:]), distance) for sizes in heads]
        return (
            Sequential([noise, *self._normalised(encoder), normalisation, softmax_]),
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
    def categories(self) -> int:
        """k, the number of categories."""
        return int(self.config["categories"])

    @property
    def label_count(self) -> int:
        """The number of labels that training images may have: one for each category."""
        return self.categories

    def labels_of_batches(
        self, rows: Array, labels: Array | None, batch_size: int
    ) -> Callable[[Array, Generator], Any]:
        """A function (batch, rng) that gives `step` labelled images, whatever the batch.

        They are all images with a label or, if these are more than `batch_size`, that many of them
        at random. It returns None if no image has a label.
        """
        labelled = () if labels is None else self.xp.flatnonzero(labels >= 0)

        def examples(batch: Array, rng: Generator) -> tuple[Array, Array] | None:
            if labels is None or len(labelled) == 0:
                return None
            chosen = labelled
            if len(labelled) > batch_size:
                chosen = labelled[rng.integers(0, len(labelled), batch_size)]
            return rows[chosen], labels[chosen]

        return examples

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
        """Train on one batch: all phases in order, phase 4 on labelled images or its own samples.

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
        """(images, categories) of n draws (y*, z*) decoded in training: (n, visible) and (n,)."""
        codes = self.draw_prior(rng, n)
        logits, _ = self.decoder.forward(codes, rng)
        return sigmoid(self.xp, logits), codes[:, : self.categories].argmax(axis=1)

    def reconstruction_gradient(self, x: Array, rng: Generator | None) -> Array:
        """Phase 1, as in `AdversarialAutoencoder`; with heads, 1e-3 · `repulsion` is added.

        With this weight, it adds little to L but dominates the gradient of the heads.
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

    def classify(self, images: Any) -> HostArray:
        """The category of each image, (n,): the largest of y."""
        codes: HostArray = self.encode(images)
        best: HostArray = codes[:, : self.categories].argmax(axis=1)
        return best

    def other_probability(self, images: Any) -> HostArray:
        """1 − y, (n, k): how unsure the model is that each image is of each category.

        It is the sum of y over the other categories, which is precise even if y is rounded to 1.
        """
        y = self.encode(images)[:, : self.categories]
        others: HostArray = y @ (1 - np.eye(self.categories, dtype=y.dtype))
        return others

    def embed(self, images: Any) -> HostArray:
        """y W + b + z, (n, d): the places of images among the cluster heads.

        Raises InvalidInput for a model without heads, or images that `encode` rejects.
        """
        return self.embed_codes(self.encode(images))

    def embed_codes(self, codes: HostArray) -> HostArray:
        """y W + b + z, (n, d), of codes (y, z), (n, k + d)."""
        if not self.config["head_distance"]:
            raise InvalidInput("head_distance must be positive in a model that embeds, got 0.0")
        rows = self.xp.asarray(codes, self.dtype)
        return to_host(self.decoder.layers[0].forward(rows)[0])


def _unit_rows(xp: ModuleType, x: Array) -> Array:
    """x_i / ‖x_i‖, row by row; rows of zeros are unchanged."""
    largest = xp.abs(x).max(axis=1, keepdims=True)
    x = x / xp.where(largest > 0, largest, 1)  # so that no square underflows or overflows
    length = xp.sqrt((x * x).sum(axis=1, keepdims=True))
    return x / xp.where(length > 0, length, 1)
