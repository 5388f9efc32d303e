"""The second model: a code is a category and a style, for few labels or none.

It has the same three parts as the first: `layers`, `losses` and `model`.
"""

from . import layers as layers
from . import losses as losses
from . import model as model
from .model import CategoricalAutoencoder as CategoricalAutoencoder
