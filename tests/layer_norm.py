"""A layer that a user might write, and a model with it."""

import numpy as np

from npaae import AdversarialAutoencoder
from npaae.layers import Sequential


class LayerNorm:
    """y = γ (x − mean(x)) / √(var(x) + ε) + β, with mean and variance over the features of a row.

    Source: Ba, Kiros, Hinton, "Layer Normalization", arXiv:1607.06450.
    """

    parameters = ("gamma", "beta")

    def __init__(self, features, dtype):
        self.gamma, self.beta = np.ones(features, dtype), np.zeros(features, dtype)

    def forward(self, x, rng=None):
        centred = x - x.mean(axis=1, keepdims=True)
        scale = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        normal = centred * scale
        return self.gamma * normal + self.beta, (normal, scale)

    def backward(self, dy, cache):
        normal, scale = cache
        d = self.gamma * dy
        along = (d * normal).mean(axis=1, keepdims=True)
        return scale * (d - d.mean(axis=1, keepdims=True) - along * normal)

    def parameter_gradients(self, dy, cache):
        normal, _ = cache
        self.dgamma[:], self.dbeta[:] = (dy * normal).sum(axis=0), dy.sum(axis=0)


class NormalisedAutoencoder(AdversarialAutoencoder):
    """Normalises the first hidden layer of each network."""

    def network(self, sizes, dropout):
        first, *others = super().network(sizes, dropout).layers
        return Sequential([first, LayerNorm(sizes[1], self.dtype), *others])
