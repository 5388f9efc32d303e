"""Two judges that share no derivative with npaae.

PyTorch trains in a loop of its own. autograd differentiates npaae's forward passes by machine.
`pip install 'npaae[oracle]'` brings both.
"""

from itertools import pairwise

import numpy as np
import pytest

from npaae import AdversarialAutoencoder, gradcheck
from npaae.backend import random_words
from npaae.layers import flatten, named_parameters, parameter_count, perceptron
from npaae.losses import bce_with_logits

HIDDEN, LATENT, VISIBLE, N = (12, 8), 2, 30, 10
ENCODER, DISCRIMINATOR = (VISIBLE, *HIDDEN, LATENT), (LATENT, *HIDDEN, 1)
DECODER = ENCODER[::-1]


def test_a_hundred_steps_equal_pytorchs_in_every_loss_parameter_and_moment():
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed: pip install 'npaae[oracle]'"
    )
    model = AdversarialAutoencoder(
        hidden=HIDDEN, latent=LATENT, visible=VISIBLE, dtype="float64", seed=1
    )

    def parameters(theta, sizes, start):
        """The (W, b) of each layer as PyTorch's own leaves, cut from a copy of theta."""
        layers = []
        for fan_in, fan_out in pairwise(sizes):
            W = torch.tensor(
                theta[start : start + fan_in * fan_out].reshape(fan_in, fan_out), requires_grad=True
            )
            start += fan_in * fan_out
            layers.append((W, torch.tensor(theta[start : start + fan_out], requires_grad=True)))
            start += fan_out
        return layers

    def forward(layers, x, rate, rng):
        threshold = round(2**16 * rate)
        for W, b in layers[:-1]:
            x = torch.relu(x @ W + b)
            words = random_words(np, rng, tuple(x.shape)).astype(int)
            x = torch.where(torch.tensor(words) < threshold, 0.0, x / (1 - threshold / 2**16))
        W, b = layers[-1]
        return x @ W + b

    def flat(layers):
        return [parameter for layer in layers for parameter in layer]

    theta = model.theta.copy()
    encoder_end = parameter_count(ENCODER)
    encoder, decoder = parameters(theta, ENCODER, 0), parameters(theta, DECODER, encoder_end)
    discriminator = parameters(theta, DISCRIMINATOR, encoder_end + parameter_count(DECODER))
    adams = {
        "reconstruction_adam": torch.optim.Adam(flat(encoder) + flat(decoder), lr=5e-4),
        "discriminator_adam": torch.optim.Adam(flat(discriminator), lr=1e-4),
        "generator_adam": torch.optim.Adam(flat(encoder), lr=1e-4),
    }
    bce = torch.nn.functional.binary_cross_entropy_with_logits

    def descend(loss, adam):
        for parameter in flat(encoder) + flat(decoder) + flat(discriminator):
            parameter.grad = None
        loss.backward(retain_graph=True)
        adam.step()
        return loss.item()

    def step(x, rng):
        x = torch.tensor(x)
        logits = forward(decoder, forward(encoder, x, 0.25, rng), 0.25, rng)
        yield descend(bce(logits, x), adams["reconstruction_adam"])
        codes = forward(encoder, x, 0.25, rng)
        real = 5.0 * torch.tensor(rng.standard_normal((N, LATENT)))
        verdict = forward(discriminator, torch.cat((real, codes.detach())), 0.2, rng)
        ones, zeros = torch.ones(N, 1, dtype=torch.float64), torch.zeros(N, 1, dtype=torch.float64)
        yield descend(bce(verdict[:N], ones) + bce(verdict[N:], zeros), adams["discriminator_adam"])
        yield descend(bce(forward(discriminator, codes, 0.2, rng), ones), adams["generator_adam"])

    batches = np.random.default_rng(2)
    for number in range(100):
        x = batches.random((N, VISIBLE))
        losses = model.step(x, np.random.default_rng(number))
        expected = list(step(x, np.random.default_rng(number)))  # the same draws, in the same order
        np.testing.assert_allclose(losses, expected, rtol=1e-10)

    def vector(tensors):
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()

    assert (
        gradcheck.relative_error(
            model.theta, vector(flat(encoder) + flat(decoder) + flat(discriminator))
        )
        < 1e-10
    )
    assert gradcheck.relative_error(model.theta, theta) > 1e-3  # the hundred steps did go somewhere
    for name, theirs in adams.items():
        ours, states = getattr(model, name), list(theirs.state.values())
        assert ours.t == states[0]["step"] == 100
        assert (
            gradcheck.relative_error(0.1 * ours.M, vector(state["exp_avg"] for state in states))
            < 1e-10
        )
        assert (
            gradcheck.relative_error(
                0.001 * ours.V, vector(state["exp_avg_sq"] for state in states)
            )
            < 1e-10
        )


@pytest.fixture
def machine():
    """autograd's NumPy, which our forward passes take for `xp`, and its derivative."""
    autograd = pytest.importorskip(
        "autograd", reason="autograd is not installed: pip install 'npaae[oracle]'"
    )
    import autograd.numpy as anp

    return anp, autograd.grad


@pytest.mark.parametrize("seed", range(10))
def test_a_networks_handwritten_gradient_equals_the_machines_with_dropout_on(machine, seed):
    anp, grad = machine
    rng, sizes = np.random.default_rng(seed), (6, 5, 4, 3)
    x, t = rng.standard_normal((7, 6)), rng.random((7, 3))
    network = perceptron(np, sizes, 0.3, np.float64)
    theta, gradient = flatten(np, [network])
    theta[:] = rng.standard_normal(theta.size)
    logits, caches = network.forward(x, np.random.default_rng(seed))
    network.backward(bce_with_logits(np, logits, t)[1], caches)

    def loss(theta):
        """The same forward pass on autograd's arrays, whose Dense layers are views of theta."""
        copy, start = perceptron(anp, sizes, 0.3, np.float64), 0
        for _, layer, name in named_parameters(copy):
            shape, stop = getattr(layer, name).shape, start + getattr(layer, name).size
            setattr(layer, name, theta[start:stop].reshape(shape))
            start = stop
        return bce_with_logits(anp, copy.forward(x, np.random.default_rng(seed))[0], t)[0]

    assert gradcheck.relative_error(gradient, grad(loss)(theta)) < 1e-12
