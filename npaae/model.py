"""The adversarial autoencoder: three networks over one parameter vector, and the three phases that train them.

    x ──► encoder ──► z ──► decoder ──► x̂         1 reconstruction   BCE(x̂, x)                     moves encoder + decoder
                      │
       prior ──► z*   └──► discriminator ──► p    2 discriminator    BCE(D(z*), 1) + BCE(D(z), 0)  moves discriminator
                                                  3 generator        BCE(D(z), 1)                  moves encoder

Phases 2 and 3 together are the *regularization phase*; the encoder is the generator. Sources: A. Makhzani, J. Shlens,
N. Jaitly, I. Goodfellow, B. Frey, "Adversarial Autoencoders", arXiv:1511.05644; S. Das, "Adversarial Autoencoders" (2019),
whose layer counts, losses, dropout and learning rates the defaults are.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from . import checkpoint
from .backend import SAMPLE, WEIGHTS, Array, Generator, HostArray, array_module, generator, to_host
from .errors import BadFile, InvalidInput, PriorRefused, fraction, learning_rate, one_line, whole_number
from .images import as_rows, checked_rows, host_array, unit_interval
from .layers import sigmoid
from .losses import bce_with_logits
from .network import parameter_count, perceptron
from .optim import Adam
from .priors import Divisible, Prior, from_config, gaussian, to_config

Images = Any  # whatever `images.as_rows` accepts

ROWS_AT_ONCE = 1000  # evaluation goes through the networks in pieces, so that its memory does not grow with n


class AdversarialAutoencoder:
    """An autoencoder whose codes are made to follow a prior, every gradient of it written by hand.

    hidden: the widths of the encoder's hidden layers; the decoder mirrors them and the discriminator has them too.
    latent, visible: dimensions of a code and of an image. prior: a callable (rng, n, dim) → (n, dim) samples.
    classes: 0, or how many there are of which the discriminator is told (the paper's section 2.3): it then sees each code
    beside its label, one-hot, with a last place that says "unlabelled", and each class goes to its own part of the prior,
    which must be one with parts (`gaussian_mixture`, `swiss_roll`; see `priors`).
    dropout, discriminator_dropout: rates in [0, 1) after the hidden layers of encoder and decoder, and of the discriminator.
    lr_reconstruction, lr_regularization: Adam's step sizes in (0, 1], in phase 1 and in phases 2 and 3.
    backend: "numpy", "cupy" or "auto". dtype: "float32" to run, "float64" to audit. seed: a whole number ≥ 0; it fixes
    the initial weights and all that training draws.

    Attributes: `theta`, the flat parameter vector on the backend, in the order encoder, decoder, discriminator, and
    `gradient`, laid out likewise; `encoder`, `decoder`, `discriminator`, networks that are views of the two. Both the
    decoder and the discriminator end in logits: σ is folded into the losses, and applied in `decode`. `epoch` counts
    the epochs trained.

    Raises InvalidInput (a ValueError) for an argument outside its range, for a prior that does not do what a prior must
    (it is asked for two samples), and for more parameters than memory can hold; Unavailable (a RuntimeError) for a missing
    backend.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (256, 128),
        latent: int = 2,
        visible: int = 784,
        prior: Prior = gaussian(std=5.0),
        classes: int = 0,
        dropout: float = 0.25,
        discriminator_dropout: float = 0.20,
        lr_reconstruction: float = 5e-4,
        lr_regularization: float = 1e-4,
        backend: str = "numpy",
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        try:
            widths: tuple[Any, ...] = (hidden,) if isinstance(hidden, str) else tuple(hidden)
        except TypeError:
            widths = (hidden,)  # a single width will do for a single layer
        hidden = tuple(whole_number("hidden", width, 1) for width in widths)
        if not hidden:
            raise InvalidInput("hidden=() came; give the width of at least one hidden layer")
        latent, visible = whole_number("latent", latent, 1), whole_number("visible", visible, 1)
        classes = whole_number("classes", classes, 0)
        dropout = fraction("dropout", dropout)
        discriminator_dropout = fraction("discriminator_dropout", discriminator_dropout)
        lr_reconstruction = learning_rate("lr_reconstruction", lr_reconstruction)
        lr_regularization = learning_rate("lr_regularization", lr_regularization)
        if str(dtype) not in ("float32", "float64"):
            raise InvalidInput(f'dtype={dtype!r} came; use "float32" to run or "float64" to audit')
        seed = whole_number("seed", seed, 0)

        self.xp = xp = array_module(backend)
        self.dtype = np.dtype(dtype)
        self.latent, self.visible, self.classes, self.seed = latent, visible, classes, seed
        self.epoch = 0
        self.config = {
            "hidden": hidden,
            "latent": latent,
            "visible": visible,
            "prior": None,  # which `_impose` fills in
            "classes": classes,
            "dropout": dropout,
            "discriminator_dropout": discriminator_dropout,
            "lr_reconstruction": lr_reconstruction,
            "lr_regularization": lr_regularization,
            "dtype": self.dtype.name,
            "seed": seed,
        }

        encoder_sizes, decoder_sizes, discriminator_sizes = sizes = _layer_sizes(hidden, latent, visible, classes)
        encoder_end = parameter_count(encoder_sizes)
        decoder_end = encoder_end + parameter_count(decoder_sizes)
        encoder, decoder = slice(0, encoder_end), slice(encoder_end, decoder_end)
        autoencoder, discriminator = slice(0, decoder_end), slice(decoder_end, None)

        count = sum(map(parameter_count, sizes))
        try:
            self.theta = theta = xp.zeros(count, self.dtype)
        except (MemoryError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"hidden={hidden}, latent={latent}, visible={visible} came, which make {count:,} parameters; "
                "that is more than memory can hold: make them smaller"
            ) from error
        self.gradient = gradient = xp.zeros_like(theta)
        self.encoder = perceptron(xp, encoder_sizes, dropout, theta[encoder], gradient[encoder])
        self.decoder = perceptron(xp, decoder_sizes, dropout, theta[decoder], gradient[decoder])
        self.discriminator = perceptron(
            xp, discriminator_sizes, discriminator_dropout, theta[discriminator], gradient[discriminator]
        )
        self._impose(prior)
        rng = generator(np, seed, WEIGHTS)
        for network in (self.encoder, self.decoder, self.discriminator):
            network.initialise(rng)

        # The encoder has two Adams, for it descends two losses whose gradients have little to do with each other.
        self.reconstruction_adam = Adam(xp, theta[autoencoder], gradient[autoencoder], lr_reconstruction)
        self.discriminator_adam = Adam(xp, theta[discriminator], gradient[discriminator], lr_regularization)
        self.generator_adam = Adam(xp, theta[encoder], gradient[encoder], lr_regularization)

    # Training: the algorithm box of the paper

    def step(self, x: Array, rng: Generator, labels: Array | None = None) -> tuple[Array, Array, Array]:
        """Train on one batch: the three phases, in order, dropout on in each.

        x: (n, visible) on the backend, uint8 or floats in [0, 1] (the values are not checked here); it is not written to.
        rng: the backend's random generator, from which the dropout masks and the prior's samples are drawn.
        labels: (n,) whole numbers on the backend where the model has classes, `classes` itself meaning "unlabelled" (they
        are not checked here either); None where it has none.

        Returns the losses (reconstruction, discriminator, generator), each taken before its phase's update, as
        0-dimensional values on the backend. The discriminator's is a sum of two means: where it cannot tell the codes
        from the prior it is 2 ln 2 = 1.386, and the generator's is ln 2 = 0.693.
        """
        x = unit_interval(as_rows(self.xp.asarray(x), self.visible), self.dtype)
        if (labels is None) != (self.classes == 0):
            raise InvalidInput(f"labels={labels} came to a model of {self.classes} classes; pass one an image, or set classes")

        reconstruction_loss = self.reconstruction_gradient(x, rng)
        self.reconstruction_adam.step()

        codes, encoder_caches = self.encoder.forward(x, rng)  # phase 2 leaves the encoder alone: one pass serves both
        discriminator_loss = self.discriminator_gradient(codes, rng, labels)
        self.discriminator_adam.step()

        generator_loss = self.generator_gradient(codes, encoder_caches, rng, labels)
        self.generator_adam.step()
        return reconstruction_loss, discriminator_loss, generator_loss

    def reconstruction_gradient(self, x: Array, rng: Generator | None) -> Array:
        """Phase 1: L = BCE(σ(decoder(encoder(x))), x), the mean over n · visible pixels.

        Writes dL/dθ for the encoder and the decoder into `gradient` and returns L. x: (n, visible) of the model's dtype.
        """
        codes, encoder_caches = self.encoder.forward(x, rng)  # (n, visible) -> (n, latent)
        logits, decoder_caches = self.decoder.forward(codes, rng)  # (n, latent) -> (n, visible)
        loss, dlogits = bce_with_logits(self.xp, logits, x)
        dcodes = self.decoder.backward(dlogits, decoder_caches)
        self.encoder.backward(dcodes, encoder_caches, inputs=False)
        return loss

    def discriminator_gradient(self, codes: Array, rng: Generator, labels: Array | None = None) -> Array:
        """Phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0), each a mean over n, for z* drawn from the prior.

        Writes dL/dθ for the discriminator into `gradient` and returns L. codes: z, (n, latent), taken as constants.
        labels: of z, and so of z*, which is drawn to have the same: that leaves nothing but the codes to tell them apart by.
        """
        n = len(codes)
        real = self._beside(self.draw_prior(rng, n, labels), labels)
        fake = self._beside(codes, labels)
        # One batch of both: a single forward pass, whose caches cannot be mistaken for another's.
        logits, caches = self.discriminator.forward(self.xp.concatenate((real, fake)), rng)  # (2n, inputs) -> (2n, 1)
        real_loss, dreal = bce_with_logits(self.xp, logits[:n], 1.0)
        fake_loss, dfake = bce_with_logits(self.xp, logits[n:], 0.0)
        self.discriminator.backward(self.xp.concatenate((dreal, dfake)), caches, inputs=False)
        return real_loss + fake_loss

    def generator_gradient(
        self, codes: Array, encoder_caches: Sequence[Any], rng: Generator | None, labels: Array | None = None
    ) -> Array:
        """Phase 3: L = BCE(D(z), 1), the mean over n; the non-saturating form, for it falls where D is not yet fooled.

        Writes dL/dθ for the encoder into `gradient` and returns L. The gradient passes *through* the discriminator, of
        which nothing is written. codes, encoder_caches: what the encoder's forward pass returned.
        """
        logits, discriminator_caches = self.discriminator.forward(self._beside(codes, labels), rng)  # (n, inputs) -> (n, 1)
        loss, dlogits = bce_with_logits(self.xp, logits, 1.0)
        dinputs = self.discriminator.backward(dlogits, discriminator_caches, parameters=False)
        dcodes = dinputs[:, : self.latent]  # type: ignore[index]  # the labels beside them are constants
        self.encoder.backward(dcodes, encoder_caches, inputs=False)
        return loss

    def _beside(self, codes: Array, labels: Array | None) -> Array:
        """What the discriminator sees: the codes, (n, latent); with labels each beside its own, (n, latent + classes + 1)."""
        if labels is None:
            return codes
        one_hot = labels[:, None] == self.xp.arange(self.classes + 1)  # (n, 1) and (classes + 1,) -> (n, classes + 1)
        return self.xp.concatenate((codes, one_hot.astype(self.dtype)), axis=1)

    def draw_prior(self, rng: Generator, n: int, labels: Array | None = None) -> Array:
        """n samples of the prior, (n, latent), on the backend and in the model's dtype.

        With labels, (n,), each of the part of the prior that is its class's, those unlabelled of the whole: position
        (label + u) / classes, or u, for u uniform in [0, 1).

        Raises InvalidInput where the prior returns another shape, or no real numbers.
        """
        if labels is None:
            samples = self.prior(rng, n, self.latent)
        else:
            position = rng.random(n)
            position = self.xp.where(labels < self.classes, (labels + position) / self.classes, position)
            samples = self.prior.along(rng, position)  # type: ignore[attr-defined]
        samples = self.xp.asarray(samples)
        if samples.shape != (n, self.latent) or samples.dtype.kind not in "fiu":
            raise InvalidInput(
                f"the prior returned an array of shape {samples.shape} and type {samples.dtype}; "
                f"it must return real numbers of shape {(n, self.latent)}, that is (n, dim)"
            )
        return samples.astype(self.dtype, copy=False)

    def _impose(self, prior: Prior) -> None:
        """Take up a prior, and find out now, not in the middle of a first step, whether it does what a prior must."""
        if self.classes and not isinstance(prior, Divisible):
            raise PriorRefused(
                f"prior={prior!r} came with classes={self.classes}; pass one with parts for them, such as gaussian_mixture"
            )
        self.prior = prior
        self.config["prior"] = to_config(prior)
        wanted = f"prior={prior!r} came; a prior is a callable (rng, n, dim) -> (n, dim) real, finite numbers"
        labels = self.xp.asarray([0, self.classes]) if self.classes else None
        try:
            with np.errstate(over="ignore"):
                samples = self.draw_prior(generator(self.xp, self.seed, SAMPLE), 2, labels)
        except (TypeError, ValueError) as error:
            raise PriorRefused(f"{wanted}: {error}") from error
        if not bool(self.xp.isfinite(samples).all()):
            raise PriorRefused(f"{wanted}: it returned NaN, infinity or numbers too large for {self.dtype}")

    # Use: NumPy arrays in, NumPy arrays out, dropout off

    def encode(self, images: Images) -> HostArray:
        """The codes of images, (n, latent).

        images: uint8 in 0 … 255 or floats in [0, 1], of shape (n, visible) or (n, side, side). Raises InvalidInput otherwise.
        """
        return self._evaluate(self._encode, checked_rows(images, self.visible))

    def decode(self, codes: Any) -> HostArray:
        """The images of codes, (n, visible) in [0, 1]. codes: finite, (n, latent). Raises InvalidInput otherwise."""
        codes = host_array("codes", codes)
        if codes.dtype.kind not in "fiu" or codes.ndim != 2 or codes.shape[1] != self.latent or not len(codes):
            raise InvalidInput(
                f"codes of shape {codes.shape} and type {codes.dtype} came; "
                f"pass at least one row of {self.latent} numbers, as (n, {self.latent})"
            )
        with np.errstate(over="ignore"):
            codes = codes.astype(self.dtype)
        if not np.isfinite(codes).all():
            raise InvalidInput(f"codes with NaN, infinity or numbers too large for {self.dtype} came; pass finite ones")
        return self._evaluate(self._decode, codes)

    def reconstruct(self, images: Images) -> HostArray:
        """decode(encode(images)), as rows: (n, visible) in [0, 1]. Accepts and refuses what `encode` does."""
        return self._evaluate(lambda rows: self._decode(self._encode(rows)), checked_rows(images, self.visible))

    def sample(self, n: int, *, seed: int | None = None) -> HostArray:
        """n novel images, (n, visible) in [0, 1]: the decoded codes of `sample_prior(n, seed=seed)`."""
        return self.decode(self.sample_prior(n, seed=seed))

    def sample_prior(self, n: int, *, seed: int | None = None) -> HostArray:
        """n codes drawn from the prior, (n, latent); the same seed gives the same codes, None fresh ones.

        Raises InvalidInput where n < 1 or seed < 0, or where the prior returns NaN or infinity.
        """
        rng = self.xp.random.default_rng() if seed is None else generator(self.xp, whole_number("seed", seed, 0), SAMPLE)
        codes = to_host(self.draw_prior(rng, whole_number("n", n, 1)))
        if not np.isfinite(codes).all():
            raise InvalidInput(f"the prior {self.prior!r} returned NaN or infinity; it must return finite numbers")
        return codes

    def _encode(self, rows: Array) -> Array:
        return self.encoder.forward(unit_interval(rows, self.dtype))[0]

    def _decode(self, codes: Array) -> Array:
        return sigmoid(self.xp, self.decoder.forward(codes)[0])

    def _evaluate(self, function: Callable[[Array], Array], rows: HostArray) -> HostArray:
        pieces = (rows[i : i + ROWS_AT_ONCE] for i in range(0, len(rows), ROWS_AT_ONCE))
        return np.concatenate([to_host(function(self.xp.asarray(piece))) for piece in pieces])

    # Saving

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole model, optimisers included, to `path` (by custom .npz), so that `load` gives an equal one.

        The file is replaced in one step. A prior of the user's own cannot be written: `load` must be given it again.
        """
        arrays = {name: to_host(array) for name, array in self.arrays().items()}
        steps = {f"{name}.t": adam.t for name, adam in self._adams().items()}
        checkpoint.write(path, self.config, {"epoch": self.epoch, **steps, **arrays})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backend: str = "numpy", prior: Prior | None = None) -> Self:
        """The model that `save` wrote, on any backend, whichever it was trained on.

        prior: needed for a model that was trained with a prior of the user's own; where one is given, it is the one used.

        Raises BadFile (a ValueError) where the file holds no such model, or numbers that no training leaves behind; OSError
        where it cannot be read; and InvalidInput where it needs a prior and got none.
        """
        array_module(backend)  # raises here, for a backend that is wrong or missing is no fault of the file
        config, saved = checkpoint.read(path)
        saved_prior = config.pop("prior", None)
        if saved_prior is None and prior is None:
            file = os.fspath(path)
            raise InvalidInput(f"{file} was trained with a prior of your own; pass it again, as load(path, prior=…)")
        try:
            # Whole numbers, all of them, before they are multiplied: a text times a large number takes all memory there is.
            hidden = [whole_number("hidden", width, 1) for width in config["hidden"]]
            latent, visible, classes = (whole_number(name, config[name], 0) for name in ("latent", "visible", "classes"))
            sizes = _layer_sizes(hidden, latent, visible, classes)
            if saved["theta"].size != sum(map(parameter_count, sizes)):  # before memory is taken for as many
                raise InvalidInput(f"its {saved['theta'].size:,} parameters do not fit its own layer sizes")
            model = cls(**config, prior=from_config(saved_prior) if prior is None else prior, backend=backend)
            if missing := model.config.keys() - config.keys() - {"prior"}:
                raise KeyError(min(missing))
            model._restore(saved)
        except (KeyError, TypeError, InvalidInput) as error:
            if prior is not None and isinstance(error, PriorRefused):
                raise  # it is the caller's fault, not the file's
            raise BadFile(f"{os.fspath(path)} is damaged: {one_line(error)}; use another copy") from error
        return model

    def _restore(self, saved: Mapping[str, HostArray]) -> None:
        """Take over every number of a checkpoint; raises InvalidInput for what no training can have left behind."""
        for name, array in self.arrays().items():
            values = saved[name]
            if values.shape != array.shape or values.dtype != self.dtype:
                raise InvalidInput(f"its {name} does not fit its own configuration")
            if not np.isfinite(values).all() or (name.endswith(".V") and values.min() < 0):
                raise InvalidInput(f"its {name} holds numbers that training cannot have left")
            array[...] = self.xp.asarray(values)
        for name, adam in self._adams().items():
            adam.t = whole_number(f"{name}.t", saved[f"{name}.t"], 0)
        self.epoch = whole_number("epoch", saved["epoch"], 0)

    def _adams(self) -> dict[str, Adam]:
        names = ("reconstruction_adam", "discriminator_adam", "generator_adam")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, Array]:
        """Every array that training moves, by name: `theta`, and each Adam's two moments."""
        moments = {f"{name}.{m}": getattr(adam, m) for name, adam in self._adams().items() for m in "MV"}
        return {"theta": self.theta, **moments}


def _layer_sizes(hidden: Iterable[int], latent: int, visible: int, classes: int) -> tuple[tuple[int, ...], ...]:
    """The layer sizes of encoder, decoder and discriminator."""
    encoder = (visible, *hidden, latent)
    return encoder, encoder[::-1], (latent + (classes + 1 if classes else 0), *hidden, 1)
