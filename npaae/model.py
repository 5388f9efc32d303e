"""The adversarial autoencoder: three networks over one parameter vector, trained in three phases.

    x ──► encoder ──► z ──► decoder ──► x̂        1 reconstruction   BCE(x̂, x)
                      │                            moves encoder + decoder
       prior ──► z*   └──► discriminator ──► p   2 discriminator    BCE(D(z*), 1) + BCE(D(z), 0)
                                                   moves discriminator
                                                 3 generator        BCE(D(z), 1)
                                                   moves encoder

Phases 2 and 3 together are the *regularization phase*; the encoder is the generator.

Sources: A. Makhzani, J. Shlens, N. Jaitly, I. Goodfellow, B. Frey, "Adversarial Autoencoders",
arXiv:1511.05644; S. Das, "Adversarial Autoencoders" (course report, 2019), whose layer counts,
losses, dropout and learning rates are the defaults.
"""

import copy
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from . import checkpoint, checks
from .backend import (
    SAMPLE,
    WEIGHTS,
    Array,
    Generator,
    HostArray,
    array_module,
    random_stream,
    to_host,
)
from .checks import REAL, host_array
from .errors import InvalidInput
from .images import as_rows, checked_rows, unit_interval
from .layers import Sequential, declared, flatten, parameter_count, perceptron, sigmoid
from .losses import bce_with_logits
from .optim import Adam
from .parallel import Ranks
from .priors import Prior, PriorWithParts, gaussian, to_config

ROWS_AT_ONCE = 1000  # evaluation goes through the networks in pieces, to limit its memory


class AdversarialAutoencoder:
    """An autoencoder whose codes follow a prior.

    hidden: the widths of the encoder's hidden layers. The decoder mirrors them, and the
    discriminator uses the same. latent, visible: the dimensions of a code and of an image.

    prior: a function (rng, n, dim) -> (n, dim) samples, or one of `npaae.priors`.

    classes: 0, or the number of classes whose labels the discriminator sees (section 2.3 of the AAE
    paper). Its input is then a code and its one-hot label, which has an extra position for
    "unlabelled", and each class goes to its own part of the prior. The prior must have parts:
    `gaussian_mixture` or `swiss_roll`. In training, draws from the prior use the labels of the
    batch, so its parts are weighted by the frequencies of the classes, whereas `sample` draws all
    parts equally often. In MNIST the frequencies differ by up to a fifth.

    dropout, discriminator_dropout: rates in [0, 1) after the hidden layers of the encoder and the
    decoder, and of the discriminator. lr_reconstruction, lr_regularization: Adam's learning rates
    in (0, 1], for phase 1 and for phases 2 and 3.

    backend: "numpy", "cupy" or "auto". dtype: "float32" to run, "float64" to audit. seed: a
    non-negative integer, which fixes the initial weights and everything drawn in training.

    comm: an mpi4py communicator, whose ranks train this model; see `npaae.parallel`.

    Attributes: `theta`, the flat parameter vector on the backend, in the order encoder, decoder,
    discriminator; `gradient`, of the same layout; `encoder`, `decoder` and `discriminator`, whose
    parameters and gradients are views of these two; `epoch`, the number of epochs trained. The
    decoder and the discriminator end in logits: σ is part of the losses, and `decode` applies it.

    A subclass that overrides `network` trains networks with other layers. `copy` and `pickle` make
    complete, independent models, whose next epoch is the same, bit for bit.

    Raises InvalidInput (a ValueError) for an argument outside its range, for a prior that does not
    draw (n, dim) finite numbers, and for more parameters than fit into memory; Unavailable (a
    RuntimeError) for a missing backend.
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
        comm: Any = None,
    ) -> None:
        settings = {
            "hidden": hidden,
            "latent": latent,
            "visible": visible,
            "classes": classes,
            "dropout": dropout,
            "discriminator_dropout": discriminator_dropout,
            "lr_reconstruction": lr_reconstruction,
            "lr_regularization": lr_regularization,
            "dtype": dtype,
            "seed": seed,
        }
        self._build(settings, prior, backend, comm)

    def _build(self, settings: Mapping[str, Any], prior: Prior, backend: str, comm: Any) -> None:
        """Check the settings, which become `config`, and build the networks and optimisers."""
        self.config: dict[str, Any] = checks.settings(settings)
        self.latent: int = self.config["latent"]
        self.visible: int = self.config["visible"]
        self.classes: int = self.config.get("classes", 0)
        self.dtype = np.dtype(self.config["dtype"])
        self.xp = array_module(backend)
        self.ranks = None if comm is None else Ranks(comm, self.xp)
        self.epoch = 0

        try:
            if self.parameter_count(self.config) * self.dtype.itemsize > sys.maxsize:
                raise MemoryError  # for which NumPy has a ValueError, as a user's layer may have
            networks = self.encoder, self.decoder, self.discriminator = self.networks()
            with np.errstate(over="ignore", invalid="ignore"):  # what is not yet drawn is anything
                self._theta, self._gradient = flatten(self.xp, networks, self.dtype)
            self._views = self._parameters()
            self._kinds: dict[str, str] = {}
            self._statistics()  # notes what they are now
        except MemoryError as error:
            given = ", ".join(f"{n}={self.config[n]}" for n in ("hidden", "latent", "visible"))
            raise InvalidInput(
                f"hidden, latent and visible must make a model that fits into memory, got {given}"
            ) from error
        rng = random_stream(np, self.seed, WEIGHTS)
        for network in networks:
            network.initialise(rng)
        self.prior = prior  # draws samples, for which the model must fit into memory

        self._make_optimisers()
        if self.ranks:
            self.ranks.join(self)

    def _make_optimisers(self) -> None:
        """Make the three Adams, each for its own slice of theta.

        The encoder has two, because the gradients of its two losses have little in common.
        """
        encoder, rates = self.encoder.size, self.config
        autoencoder = encoder + self.decoder.size
        self.reconstruction_adam = self._adam(slice(autoencoder), rates["lr_reconstruction"])
        self.discriminator_adam = self._adam(slice(autoencoder, None), rates["lr_regularization"])
        self.generator_adam = self._adam(slice(encoder), rates["lr_regularization"])

    def __repr__(self) -> str:
        """The class, the sizes of the encoder, the prior, the epoch and the size of `theta`."""
        sizes = "-".join(map(str, self.layer_sizes(self.config)[0]))
        kinds = [f"{self.config[k]} {k}" for k in ("classes", "categories") if self.config.get(k)]
        prior = getattr(self.prior, "__name__", None) or repr(self.prior)
        state = (f"prior {prior}", f"epoch {self.epoch}", f"{self.theta.size:,} parameters")
        return f"{type(self).__name__}({', '.join((sizes, *kinds, *state))})"

    @staticmethod
    def layer_sizes(config: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
        """The sizes of the encoder, the decoder and the discriminator, from inputs to outputs."""
        encoder = (config["visible"], *config["hidden"], config["latent"])
        label_width = config["classes"] + 1 if config["classes"] else 0
        return encoder, encoder[::-1], (config["latent"] + label_width, *config["hidden"], 1)

    @classmethod
    def parameter_count(cls, config: Mapping[str, Any]) -> int:
        """The number of parameters of a model with this configuration."""
        return sum(parameter_count(sizes) for sizes in cls.layer_sizes(config))

    def networks(self) -> tuple[Sequential, Sequential, Sequential]:
        """The encoder, the decoder and the discriminator, before they are initialised."""
        encoder, decoder, discriminator = self.layer_sizes(self.config)
        rate, discriminators = self.config["dropout"], self.config["discriminator_dropout"]
        autoencoder = (self.network(encoder, rate), self.network(decoder, rate))
        return *autoencoder, self.network(discriminator, discriminators)

    def network(self, sizes: Sequence[int], dropout: float) -> Sequential:
        """One of the three networks, from `sizes[0]` inputs to `sizes[-1]` outputs."""
        return perceptron(self.xp, sizes, dropout, self.dtype)

    def _adam(self, part: slice, learning_rate: float, **others: float) -> Adam:
        return Adam(self.xp, self.theta[part], self.gradient[part], learning_rate, **others)

    @property
    def theta(self) -> Array:
        """The flat vector of all parameters. Assigning to it copies into the same vector."""
        return self._theta

    @theta.setter
    def theta(self, values: Array) -> None:
        _fill("theta", self._theta, values)

    @property
    def gradient(self) -> Array:
        """The flat vector of all gradients. Assigning to it copies into the same vector."""
        return self._gradient

    @gradient.setter
    def gradient(self, values: Array) -> None:
        _fill("gradient", self._gradient, values)

    @property
    def prior(self) -> Prior:
        """The distribution imposed on the codes. It may be changed at any time."""
        return self._prior

    @prior.setter
    def prior(self, prior: Prior) -> None:
        self._try_prior(prior)
        self._prior = prior
        self.config["prior"] = to_config(prior)

    @property
    def seed(self) -> int:
        """The seed of everything that training draws. It may be changed at any time."""
        return int(self.config["seed"])

    @seed.setter
    def seed(self, seed: int) -> None:
        self.config["seed"] = checks.integer("seed", seed, 0)

    @property
    def code_size(self) -> int:
        """The number of columns of a code."""
        return self.latent

    @property
    def label_count(self) -> int:
        """The number of labels that training images may have: 0 … label_count − 1."""
        return self.classes

    def labels_of_batches(
        self, rows: Array, labels: Array | None, batch_size: int
    ) -> Callable[[Array, Generator], Any]:
        """A function (batch, rng) that gives `step` its labels; batch: the indices of its rows.

        rows, labels: all training images and their labels, or None.
        """
        return lambda batch, rng: None if labels is None else labels[batch]

    # Training: the three phases

    @property
    def phases(self) -> tuple[str, ...]:
        """The names of the losses that `step` returns."""
        return "reconstruction", "discriminator", "generator"

    def step(self, x: Array, rng: Generator, labels: Array | None = None) -> tuple[Array, ...]:
        """Train on one batch: the three phases in order, with dropout on in each.

        x: (n, visible) on the backend, uint8 or floats in [0, 1]; the values are not checked here.
        rng: the backend's random generator, for the dropout masks and the prior's samples. labels:
        (n,) integers on the backend if the model has classes, −1 meaning "unlabelled", not checked
        here either; None otherwise.

        Returns the losses (reconstruction, discriminator, generator), each computed before the
        update of its phase, as 0-dimensional values on the backend. If the discriminator cannot
        tell the codes from the prior, its loss, a sum of two means, is 2 ln 2 = 1.386, and the
        generator's is ln 2 = 0.693.
        """
        x = self.pixels(x)
        if (labels is None) != (self.classes == 0):
            raise InvalidInput(
                f"labels must be given if and only if the model has classes, got {labels!r} "
                f"with classes={self.classes}"
            )
        reconstruction_loss = self.reconstruction_gradient(x, rng)
        self.reconstruction_adam.step()

        codes, encoder_caches = self.encoder.forward(x, rng)  # serves phases 2 and 3
        discriminator_loss = self.discriminator_gradient(codes, rng, labels)
        self.discriminator_adam.step()

        generator_loss = self.generator_gradient(codes, encoder_caches, rng, labels)
        self.generator_adam.step()
        return reconstruction_loss, discriminator_loss, generator_loss

    def pixels(self, images: Array) -> Array:
        """Images, or rows of pixels, as rows of the model's dtype in [0, 1]: (n, visible).

        images: as for `step`. Raises InvalidInput for another shape or type.
        """
        return unit_interval(as_rows(self.xp.asarray(images), self.visible), self.dtype)

    def reconstruction_gradient(self, x: Array, rng: Generator | None) -> Array:
        """Phase 1: L = BCE(σ(decoder(encoder(x))), x), the mean over n · visible pixels.

        Writes dL/dθ of the encoder and the decoder into `gradient` and returns L. x: (n, visible)
        of the model's dtype.
        """
        codes, encoder_caches = self.encoder.forward(x, rng)  # (n, visible) -> (n, latent)
        logits, decoder_caches = self.decoder.forward(codes, rng)  # (n, latent) -> (n, visible)
        loss, dlogits = bce_with_logits(self.xp, logits, x)
        dcodes = self.decoder.backward(dlogits, decoder_caches)
        self.encoder.backward(dcodes, encoder_caches, inputs=False)
        return loss

    def discriminator_gradient(
        self, codes: Array, rng: Generator, labels: Array | None = None
    ) -> Array:
        """Phase 2: L = BCE(D(z*), 1) + BCE(D(z), 0), each a mean over n, for z* from the prior.

        Writes dL/dθ of the discriminator into `gradient` and returns L. codes: z, (n, latent),
        treated as constants. labels: shared by z and z*, so that only the codes differ.
        """
        n = len(codes)
        real = self._with_labels(self.draw_prior(rng, n, labels), labels)
        fake = self._with_labels(codes, labels)
        # Both form one batch, so that one forward pass gives one set of caches.
        logits, caches = self.discriminator.forward(self.xp.concatenate((real, fake)), rng)
        real_loss, dreal = bce_with_logits(self.xp, logits[:n], 1.0)  # logits: (2n, 1)
        fake_loss, dfake = bce_with_logits(self.xp, logits[n:], 0.0)
        self.discriminator.backward(self.xp.concatenate((dreal, dfake)), caches, inputs=False)
        return real_loss + fake_loss

    def generator_gradient(
        self,
        codes: Array,
        encoder_caches: Sequence[Any],
        rng: Generator | None,
        labels: Array | None = None,
    ) -> Array:
        """Phase 3: L = BCE(D(z), 1), the mean over n, in the non-saturating form.

        Writes dL/dθ of the encoder into `gradient` and returns L. The gradient passes *through* the
        discriminator, whose own gradient is not written. codes, encoder_caches: the results of the
        encoder's forward pass.
        """
        inputs = self._with_labels(codes, labels)
        logits, discriminator_caches = self.discriminator.forward(inputs, rng)  # (n, 1)
        loss, dlogits = bce_with_logits(self.xp, logits, 1.0)
        dinputs = self.discriminator.backward(dlogits, discriminator_caches, parameters=False)
        dcodes = dinputs[:, : self.code_size]  # type: ignore[index]  # the labels are constants
        dcodes = self.xp.ascontiguousarray(dcodes)  # else a GPU copies it for each product
        self.encoder.backward(dcodes, encoder_caches, inputs=False)
        return loss

    def _with_labels(self, codes: Array, labels: Array | None) -> Array:
        """The discriminator's inputs: (n, latent), or (n, latent + classes + 1) with labels."""
        if labels is None:
            return codes
        columns = self.xp.where(labels < 0, self.classes, labels)  # the last is "unlabelled"
        one_hot = columns[:, None] == self.xp.arange(self.classes + 1)  # (n, classes + 1)
        return self.xp.concatenate((codes, one_hot.astype(self.dtype)), axis=1)

    def draw_prior(self, rng: Generator, n: int, labels: Array | None = None) -> Array:
        """n samples of the prior, (n, latent), on the backend and in the model's dtype.

        With labels, (n,), each sample is from the part of its class, at the position (label + u) /
        classes of the prior with u uniform in [0, 1), or from the whole prior if unlabelled.

        Raises InvalidInput unless the prior returns real numbers of that shape.
        """
        return self._draw_from(self.prior, rng, n, labels)

    def _draw_from(self, prior: Prior, rng: Generator, n: int, labels: Array | None) -> Array:
        if labels is None:
            samples = prior(rng, n, self.latent)
        else:
            u = rng.random(n)
            position = self.xp.where(labels >= 0, (labels + u) / self.classes, u)
            samples = prior.sample_at(rng, position)  # type: ignore[attr-defined]
        samples = self.xp.asarray(samples)
        if samples.shape != (n, self.latent) or samples.dtype.kind not in REAL:
            raise InvalidInput(
                f"prior must return real numbers of shape (n, dim) = {(n, self.latent)}, "
                f"got {samples.dtype} of shape {samples.shape}"
            )
        return samples.astype(self.dtype)

    def _try_prior(self, prior: Prior) -> None:
        """Check now, not during the first step, that the prior works."""
        if self.classes and not isinstance(prior, PriorWithParts):
            raise InvalidInput(
                "prior must have parts for the classes, as gaussian_mixture has, "
                f"got {prior!r} with classes={self.classes}"
            )
        rule = "prior must be a function (rng, n, dim) that returns (n, dim) finite numbers"
        labels = self.xp.asarray([0, -1]) if self.classes else None
        try:
            with np.errstate(over="ignore"):
                samples = self._draw_from(
                    prior, random_stream(self.xp, self.seed, SAMPLE), 2, labels
                )
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{rule}, got {prior!r}: {error}") from error
        if not bool(self.xp.isfinite(samples).all()):
            raise InvalidInput(f"{rule} in {self.dtype}, got NaN or infinity from {prior!r}")

    # Use: NumPy arrays in, NumPy arrays out, dropout off

    def encode(self, images: Any) -> HostArray:
        """The codes of images, (n, latent).

        images: uint8 in 0 … 255 or floats in [0, 1], of shape (n, visible) or (n, side, side).
        Raises InvalidInput for anything else.
        """
        return self._in_pieces(self._encode, checked_rows(images, self.visible))

    def decode(self, codes: Any) -> HostArray:
        """The images of codes, (n, visible) in [0, 1].

        codes: finite numbers of shape (n, latent). Raises InvalidInput for anything else.
        """
        codes = host_array("codes", codes)
        if codes.ndim != 2 or codes.shape[1] != self.code_size or not len(codes):
            raise InvalidInput(f"codes must have shape (n, {self.code_size}), got {codes.shape}")
        if codes.dtype.kind not in REAL:
            raise InvalidInput(f"codes must be real numbers, got {codes.dtype}")
        with np.errstate(over="ignore"):
            codes = codes.astype(self.dtype)
        if not np.isfinite(codes).all():
            raise InvalidInput(f"codes must be finite in {self.dtype}, got NaN or infinity")
        return self._in_pieces(self._decode, codes)

    def reconstruct(self, images: Any) -> HostArray:
        """decode(encode(images)), (n, visible) in [0, 1]. images: as for `encode`."""
        rows = checked_rows(images, self.visible)
        return self._in_pieces(lambda piece: self._decode(self._encode(piece)), rows)

    def sample(self, n: int, *, seed: int | None = None) -> HostArray:
        """n novel images, (n, visible) in [0, 1]: decoded `sample_prior(n, seed=seed)`."""
        return self.decode(self.sample_prior(n, seed=seed))

    def sample_prior(self, n: int, *, seed: int | None = None) -> HostArray:
        """n codes drawn from the prior, (n, latent). The same seed gives the same codes.

        Raises InvalidInput if n < 1 or seed < 0, or if the prior returns NaN or infinity.
        """
        if seed is None:
            rng = self.xp.random.default_rng()
        else:
            rng = random_stream(self.xp, checks.integer("seed", seed, 0), SAMPLE)
        codes = to_host(self.draw_prior(rng, checks.integer("n", n, 1)))
        if not np.isfinite(codes).all():
            raise InvalidInput(f"prior must return finite numbers, got others from {self.prior!r}")
        return codes

    def _encode(self, rows: Array) -> Array:
        return self.encoder.forward(unit_interval(rows, self.dtype))[0]

    def _decode(self, codes: Array) -> Array:
        return sigmoid(self.xp, self.decoder.forward(codes)[0])

    def _in_pieces(self, function: Callable[[Array], Array], rows: HostArray) -> HostArray:
        pieces = (rows[i : i + ROWS_AT_ONCE] for i in range(0, len(rows), ROWS_AT_ONCE))
        return np.concatenate([to_host(function(self.xp.asarray(piece))) for piece in pieces])

    # Saving and copying

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole model, optimisers included, to `path` (usually .npz).

        The file is replaced atomically. A custom prior cannot be saved: pass it to `load`.
        Raises CannotWrite (an OSError).
        """
        checkpoint.save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        backend: str = "numpy",
        prior: Prior | None = None,
        comm: Any = None,
    ) -> Self:
        """The model that `save` wrote, on either backend. It continues as if it had not stopped.

        prior: replaces the saved one; needed if the model was trained with a prior of your own.
        comm: as in the constructor; the number of ranks may differ from that of the saved run.

        Raises BadFile (a ValueError) if the file does not hold a whole model, OSError if it cannot
        be read, and InvalidInput if a prior is needed but missing, or does not work.
        """
        model: Self = checkpoint.load(cls, path, backend, prior, comm)
        return model

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A complete, independent model. Its next epoch is the same as this one's, bit for bit.

        Raises InvalidInput if several ranks train the model, or if its class does not make the same
        layers from its config.
        """
        copied: Self = checkpoint.rebuilt(*copy.deepcopy(checkpoint.contents(self), memo))
        return copied

    def __copy__(self) -> Self:
        """As `__deepcopy__`, because two models cannot share layers, which are views of `theta`."""
        return copy.deepcopy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """As `__deepcopy__`; also raises InvalidInput for a prior that pickle cannot store."""
        checkpoint.require_picklable("prior", self.prior)
        contents = checkpoint.contents(self)
        checkpoint.rebuilt(*contents)  # if this fails, it fails now
        return checkpoint.rebuilt, contents

    def adams(self) -> dict[str, Adam]:
        """Every optimiser, by the name of its attribute."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Adam)}

    def arrays(self) -> dict[str, Array]:
        """Every array that training changes, by name.

        These are `theta`, the moments of each Adam, and the statistics of all layers. Raises
        InvalidInput if a parameter or its gradient is no longer the view that the model made.
        """
        now = self._parameters()
        for name in now | self._views:
            if now.get(name) is not self._views.get(name):
                raise InvalidInput(
                    f"{name} must stay the array that the model made, a view of one flat vector; "
                    "change its elements, as in `W[...] = 0`"
                )
        moments = {
            f"{name}.{m}": getattr(adam, m) for name, adam in self.adams().items() for m in "mv"
        }
        return {"theta": self.theta, **moments, **self._statistics()}

    def _statistics(self) -> dict[str, Array]:
        """Every statistic, by name; raises InvalidInput unless it has its first shape and type."""
        found = {label: getattr(layer, name) for label, layer, name in self.declared("statistics")}
        for label, value in found.items():
            if not (hasattr(value, "dtype") and hasattr(value, "__setitem__")):
                raise InvalidInput(f"{label} must be an array, got {type(value).__name__}")
            kind = f"{value.dtype} of shape {value.shape}"
            first = self._kinds.setdefault(label, kind)
            if kind != first:
                raise InvalidInput(f"{label} must stay {first}, as it was at first, got {kind}")
        return found

    def _parameters(self) -> dict[str, Array]:
        """Every parameter and every gradient of one, by name."""
        return {
            f"{prefix}{label}": getattr(layer, d + name, None)
            for label, layer, name in self.declared("parameters")
            for prefix, d in (("", ""), ("the gradient of ", "d"))
        }

    def declared(self, kind: str) -> Iterator[tuple[str, Any, str]]:
        """(label, layer, name) of all that the layers declare, such as "encoder.0.mean"."""
        for network in ("encoder", "decoder", "discriminator"):
            for label, layer, name in declared(getattr(self, network), kind):
                yield f"{network}.{label}", layer, name


def _fill(name: str, vector: Array, values: Array) -> None:
    shape = getattr(values, "shape", ())
    if shape != vector.shape:
        raise InvalidInput(f"{name} must have shape {vector.shape}, got {shape}")
    vector[...] = values
