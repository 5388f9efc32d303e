"""Two judges that share no derivative with npaae.

PyTorch trains in a loop of its own. autograd differentiates npaae's forward passes by machine.
`pip install 'npaae[oracle]'` brings both.
"""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from npaae import AdversarialAutoencoder, CategoricalAutoencoder, categorical, gradcheck
from npaae.backend import random_words
from npaae.layers import (
    Dense,
    Dropout,
    ReLU,
    flatten,
    named_parameters,
    parameter_count,
    perceptron,
)
from npaae.losses import bce_with_logits

HIDDEN, LATENT, VISIBLE, N = (12, 8), 2, 30, 10
ENCODER, DISCRIMINATOR = (VISIBLE, *HIDDEN, LATENT), (LATENT, *HIDDEN, 1)
DECODER = ENCODER[::-1]


@pytest.fixture
def torch():
    """PyTorch on one thread: several would wait for each other, and longer on a busy machine."""
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed: pip install 'npaae[oracle]'"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def test_a_hundred_steps_equal_pytorchs_in_every_loss_parameter_and_moment(torch):
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
            gradcheck.relative_error(ours.m, vector(state["exp_avg"] for state in states)) < 1e-10
        )
        assert (
            gradcheck.relative_error(ours.v, vector(state["exp_avg_sq"] for state in states))
            < 1e-10
        )


SMALL = {"hidden": HIDDEN, "categories": 3, "latent": 2, "visible": VISIBLE}
WHOLE = {"hidden": (100, 60), "categories": 10, "latent": 10}  # of 784 pixels


@pytest.mark.parametrize(
    ("sizes", "n", "steps", "head_distance", "labelled"),
    [
        (SMALL, N, 30, 0.0, True),
        (SMALL, N, 30, 3.0, True),
        (SMALL, N, 30, 0.0, False),
        (WHOLE, 100, 3, 3.0, True),
        (WHOLE, 100, 1, 0.0, False),
    ],
    ids=["labels", "heads", "own samples", "MNIST", "MNIST, own samples"],
)
def test_steps_with_categories_equal_pytorchs_in_every_loss_and_parameter(
    torch, sizes, n, steps, head_distance, labelled
):
    functional = torch.nn.functional
    model = CategoricalAutoencoder(
        **sizes, dtype="float64",
        head_distance=head_distance, information_weight=0.5, dropout=0.2, seed=1,
    )  # fmt: skip
    k, visible = model.categories, model.visible
    of_y, of_z = model.discriminator.layers

    def leaves(network):
        return {
            (id(layer), name): torch.tensor(getattr(layer, name).copy(), requires_grad=True)
            for _, layer, name in named_parameters(network)
        }

    encoder, decoder = leaves(model.encoder), leaves(model.decoder)
    adversaries = leaves(model.discriminator)
    theirs = encoder | decoder | adversaries
    adams = [
        torch.optim.Adam([*(encoder | decoder).values()], lr=5e-4),
        torch.optim.Adam([*adversaries.values()], lr=1e-4, betas=(0.5, 0.999)),
        torch.optim.Adam([*encoder.values()], lr=5e-4, betas=(0.5, 0.999)),
        torch.optim.Adam([*encoder.values()], lr=5e-4),
        torch.optim.Adam([*encoder.values()], lr=5e-4),
    ]

    def forward(network, x, rng):
        for layer in network.layers:
            own = [theirs[id(layer), name] for name in getattr(layer, "parameters", ())]
            if isinstance(layer, categorical.layers.Noise):
                x = x + layer.std * torch.tensor(rng.standard_normal(tuple(x.shape)))
            elif isinstance(layer, categorical.layers.ClusterHeads):
                x = x[:, :k] @ own[0] + own[1] + x[:, k:]
            elif isinstance(layer, Dense):
                x = x @ own[0] + own[1]
            elif isinstance(layer, categorical.layers.BatchNorm):
                x = functional.batch_norm(x, None, None, *own, training=True, eps=1e-5)
            elif isinstance(layer, ReLU):
                x = torch.relu(x)
            elif isinstance(layer, Dropout):
                words = random_words(np, rng, tuple(x.shape)).astype(int)
                kept = torch.tensor(words) >= layer.threshold
                x = torch.where(kept, x / (1 - layer.threshold / 2**16), 0.0)
            else:
                x = torch.cat((torch.softmax(x[:, :k], 1), x[:, k:]), 1)
        return x

    def verdicts(codes, rng):
        return torch.cat((forward(of_y, codes[:, :k], rng), forward(of_z, codes[:, k:], rng)), 1)

    def bce(logits, target):
        return functional.binary_cross_entropy_with_logits(logits, target + 0 * logits)

    def descend(loss, adam):
        for leaf in theirs.values():
            leaf.grad = None
        loss.backward(retain_graph=True)
        adam.step()
        return loss.item()

    def drawn(rng):
        style = torch.tensor(rng.standard_normal((n, model.latent)))
        one_hot = torch.tensor(np.eye(k)[rng.integers(0, k, (n, 1))[:, 0]])
        return torch.cat((one_hot, style), 1)

    def log_categories(x, rng, layers=model.encoder.layers[1:-1]):
        outputs = forward(SimpleNamespace(layers=layers), x, rng)
        return torch.log_softmax(outputs[:, :k], 1)

    def divergence(log_p, log_q):
        return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    def step(x, labels, rng):
        x = torch.tensor(x)
        codes = forward(model.encoder, x, rng)
        loss = bce(forward(model.decoder, codes, rng), x)
        if head_distance:
            W = theirs[id(model.decoder.layers[0]), "W"]
            loss = loss + 1e-3 * (head_distance - torch.pdist(W)).clamp(min=0).sum()
        yield descend(loss, adams[0])
        codes = forward(model.encoder, x, rng)
        verdict = verdicts(torch.cat((drawn(rng), codes.detach())), rng)
        yield descend(bce(verdict[:n], 1) + bce(verdict[n:], 0), adams[1])
        yield descend(bce(verdicts(codes, rng), 1), adams[2])
        images, targets = x, torch.tensor(labels)
        if not labelled:
            codes = drawn(rng)
            images = torch.sigmoid(forward(model.decoder, codes, rng)).detach()
            targets = codes[:, :k].argmax(1)
        logits = log_categories(images, rng, model.encoder.layers[:-1])
        yield descend(functional.nll_loss(logits, targets), adams[3])
        log_y = log_categories(x, rng).detach()
        probe = 1e-3 * functional.normalize(torch.tensor(rng.standard_normal((n, visible))))
        probe.requires_grad = True
        (slope,) = torch.autograd.grad(divergence(log_y, log_categories(x + probe, rng)), probe)
        log_q = log_categories(x + 2 * functional.normalize(slope, eps=0), rng)
        q = log_q.exp()
        entropy = torch.special.entr
        information = entropy(q.mean(0)).sum() - entropy(q).sum(1).mean()
        yield descend(divergence(log_y, log_q) - 0.5 * information, adams[4])

    batches = np.random.default_rng(2)
    for number in range(steps):
        x, labels = batches.random((n, visible)), batches.integers(0, k, n)
        given = (x, labels) if labelled else None
        losses = model.step(x, np.random.default_rng(number), given)
        expected = list(step(x, labels, np.random.default_rng(number)))
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
    networks = (model.encoder, model.decoder, model.discriminator)
    for _, layer, name in (named for network in networks for named in named_parameters(network)):
        found, right = getattr(layer, name), theirs[id(layer), name].detach().numpy()
        np.testing.assert_allclose(found, right, rtol=1e-7, atol=1e-10)


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
