"""npaae: an adversarial autoencoder with handwritten gradients, in NumPy or CuPy.

    import npaae

    digits = npaae.data.mnist_sample()
    model = npaae.AdversarialAutoencoder()
    for record in npaae.train(model, digits.train_images, epochs=20):
        print(record)
    images = model.sample(100)

The mathematics is in `npaae.layers`, `npaae.losses`, `npaae.optim` and the three phases of
`AdversarialAutoencoder`; that of the second model is in `npaae.categorical`. `npaae.plots`, which
needs matplotlib, and `npaae.experiment`, the program around the library, are not imported here.
"""

from . import data, gradcheck, layers, losses, metrics, optim, parallel, priors
from .categorical import CategoricalAutoencoder
from .errors import BadFile, CannotWrite, Diverged, InvalidInput, Unavailable, UserError
from .model import AdversarialAutoencoder
from .training import Record, train

__version__ = "0.1.0"

__all__ = [
    "AdversarialAutoencoder",
    "BadFile",
    "CannotWrite",
    "CategoricalAutoencoder",
    "Diverged",
    "InvalidInput",
    "Record",
    "Unavailable",
    "UserError",
    "data",
    "gradcheck",
    "layers",
    "losses",
    "metrics",
    "optim",
    "parallel",
    "priors",
    "train",
]
