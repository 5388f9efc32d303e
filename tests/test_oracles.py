"""Two judges that share no derivative with npaae: PyTorch, in a training loop of its own, and autograd, which
differentiates npaae's own forward passes by machine. `pip install 'npaae[oracle]'` brings both."""

from itertools import pairwise

import numpy as np
import pytest

from npaae import AdversarialAutoencoder, gradcheck
from npaae.losses import bce_with_logits
from npaae.network import parameter_count, perceptron

HIDDEN, LATENT, VISIBLE, N = (12, 8), 2, 30, 10
ENCODER, DISCRIMINATOR = (VISIBLE, *HIDDEN, LATENT), (LATENT, *HIDDEN, 1)
DECODER = ENCODER[::-1]


class Recorder:
    """A random generator that keeps what it gives out."""

    def __init__(self, seed):
        self.rng, self.given = np.random.default_rng(seed), []

    def random(self, shape, dtype):
        self.given.append(self.rng.random(shape, dtype=dtype))
        return self.given[-1]

    def standard_normal(self, shape):
        self.given.append(self.rng.standard_normal(shape))
        return self.given[-1]


def test_a_hundred_steps_equal_pytorchs_in_every_loss_parameter_and_moment():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'npaae[oracle]'")
    model = AdversarialAutoencoder(hidden=HIDDEN, latent=LATENT, visible=VISIBLE, dtype="float64", seed=1)

    def parameters(theta, sizes, start):
        """The (W, b) of each layer as PyTorch's own leaves, cut from a copy of theta."""
        layers = []
        for fan_in, fan_out in pairwise(sizes):
            W = torch.tensor(theta[start : start + fan_in * fan_out].reshape(fan_in, fan_out), requires_grad=True)
            start += fan_in * fan_out
            layers.append((W, torch.tensor(theta[start : start + fan_out], requires_grad=True)))
            start += fan_out
        return layers

    def forward(layers, x, rate, draws):
        for W, b in layers[:-1]:
            x = torch.relu(x @ W + b)
            x = torch.where(torch.tensor(next(draws)) < rate, 0.0, x / (1 - rate))
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

    def step(x, draws):
        x = torch.tensor(x)
        logits = forward(decoder, forward(encoder, x, 0.25, draws), 0.25, draws)
        yield descend(bce(logits, x), adams["reconstruction_adam"])
        codes = forward(encoder, x, 0.25, draws)
        real = 5.0 * torch.tensor(next(draws))
        verdict = forward(discriminator, torch.cat((real, codes.detach())), 0.2, draws)
        ones, zeros = torch.ones(N, 1, dtype=torch.float64), torch.zeros(N, 1, dtype=torch.float64)
        yield descend(bce(verdict[:N], ones) + bce(verdict[N:], zeros), adams["discriminator_adam"])
        yield descend(bce(forward(discriminator, codes, 0.2, draws), ones), adams["generator_adam"])

    batches = np.random.default_rng(2)
    for number in range(100):
        x, recorder = batches.random((N, VISIBLE)), Recorder(number)
        losses = model.step(x, recorder)
        np.testing.assert_allclose(losses, list(step(x, iter(recorder.given))), rtol=1e-10)

    def vector(tensors):
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()

    assert gradcheck.relative_error(model.theta, vector(flat(encoder) + flat(decoder) + flat(discriminator))) < 1e-10
    assert gradcheck.relative_error(model.theta, theta) > 1e-3  # the hundred steps did go somewhere
    for name, theirs in adams.items():
        ours, states = getattr(model, name), list(theirs.state.values())
        assert ours.t == states[0]["step"] == 100
        assert gradcheck.relative_error(0.1 * ours.M, vector(state["exp_avg"] for state in states)) < 1e-10
        assert gradcheck.relative_error(0.001 * ours.V, vector(state["exp_avg_sq"] for state in states)) < 1e-10


@pytest.fixture
def machine():
    """autograd's NumPy, which our forward passes take for `xp`, and its derivative."""
    autograd = pytest.importorskip("autograd", reason="autograd is not installed: pip install 'npaae[oracle]'")
    import autograd.numpy as anp

    return anp, autograd.grad


@pytest.mark.parametrize("seed", range(10))
def test_a_networks_hand_written_gradient_equals_the_machines_with_dropout_on(machine, seed):
    anp, grad = machine
    rng, sizes = np.random.default_rng(seed), (6, 5, 4, 3)
    theta, x, t = rng.standard_normal(parameter_count(sizes)), rng.standard_normal((7, 6)), rng.random((7, 3))
    gradient = np.empty_like(theta)

    def loss(theta):
        network = perceptron(anp, sizes, 0.3, theta, gradient)
        return bce_with_logits(anp, network.forward(x, np.random.default_rng(seed))[0], t)[0]

    network = perceptron(np, sizes, 0.3, theta, gradient)
    logits, caches = network.forward(x, np.random.default_rng(seed))
    network.backward(bce_with_logits(np, logits, t)[1], caches)
    assert gradcheck.relative_error(gradient, grad(loss)(theta)) < 1e-12
