"""npaae: an adversarial autoencoder whose every gradient is written by hand, in NumPy, with CuPy as a switch.

Plotting (`npaae.plots`) and runs in a folder (`npaae.experiment`) are imported by name, for they need more than NumPy.
"""

from . import openblas as openblas  # first, for it must come before NumPy's import

# isort: split
from . import data, gradcheck, layers, losses, network, optim, priors
from .errors import BadFile, CannotWrite, Diverged, InvalidInput, Unavailable, UserError
from .model import AdversarialAutoencoder
from .training import Record, train

__version__ = "0.1.0"

__all__ = [
    "AdversarialAutoencoder",
    "BadFile",
    "CannotWrite",
    "Diverged",
    "InvalidInput",
    "Record",
    "Unavailable",
    "UserError",
    "data",
    "gradcheck",
    "layers",
    "losses",
    "network",
    "optim",
    "priors",
    "train",
]
