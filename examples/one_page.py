"""The whole adversarial autoencoder on one page, in NumPy alone, every gradient by hand.

A layer is a function that returns y and a function `back`, which maps dL/dy to the list of dL/dx
and dL/d(each parameter), for any scalar L. So each derivative is next to its function.
Rows are samples. The package npaae is this page plus checks, figures, files and GPU support.
"""

# fmt: off
import gzip
import os
from importlib.resources import files
from itertools import pairwise

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a second one slows products as small as these
import numpy as np

rng = np.random.default_rng(0)

def dense(x, W, b):  # (n, i) @ (i, j) + (j,) -> (n, j)
    return x @ W + b, lambda dy: [dy @ W.T, x.T @ dy, dy.sum(axis=0)]

def relu(x):
    return np.maximum(x, 0), lambda dy: [dy * (x > 0)]

def dropout(x, rate):
    m = (rng.random(x.shape) >= rate) / (1 - rate)  # 0 with probability `rate`; 1 on average
    return x * m, lambda dy: [dy * m]

def cross_entropy(logits, t):  # the mean of -t ln p - (1 - t) ln(1 - p), where p = σ(logits)
    e = np.exp(-abs(logits))  # at most 1, so nothing overflows
    p = np.where(logits >= 0, 1, e) / (1 + e)
    losses = np.maximum(logits, 0) - logits * t + np.log1p(e)
    return losses.mean(), (p - t) / logits.size

def network(rate, *sizes):  # dense, ReLU, dropout, dense, ReLU, dropout, dense
    layers = []
    for i, j in pairwise(sizes):
        W, b = (rng.uniform(-1, 1, shape) / np.sqrt(i) for shape in ((i, j), j))
        layers += [(relu,), (dropout, rate), (dense, W, b)]
    return layers[2:]

def forward(layers, x):
    backs = []
    for layer, *arguments in layers:
        x, back = layer(x, *arguments)
        backs.append(back)
    def back_all(dy):  # the chain rule, from the last layer to the first
        gradients = []
        for back in reversed(backs):
            dy, *own = back(dy)
            gradients = own + gradients
        return [dy, *gradients]
    return x, back_all

class Adam:
    def __init__(self, layers, alpha):
        self.parameters = [p for layer, *own in layers if layer is dense for p in own]
        self.alpha, self.t = alpha, 0
        self.m, self.v = ([np.zeros_like(p) for p in self.parameters] for _ in "mv")
    def step(self, gradients):
        self.t += 1
        for p, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            m[:], v[:] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            m_hat, v_hat = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            p -= self.alpha * m_hat / (np.sqrt(v_hat) + 1e-8)

encoder, decoder = network(0.25, 784, 256, 128, 2), network(0.25, 2, 128, 256, 784)
discriminator = network(0.20, 2, 256, 128, 1)
adams = Adam(encoder + decoder, 5e-4), Adam(discriminator, 1e-4), Adam(encoder, 1e-4)

def step(x):  # phase 1, reconstruction: the image itself is the target
    codes, back_encoder = forward(encoder, x)
    logits, back_decoder = forward(decoder, codes)
    loss_1, dlogits = cross_entropy(logits, x)
    dcodes, *decoder_gradients = back_decoder(dlogits)
    adams[0].step(back_encoder(dcodes)[1:] + decoder_gradients)  # [1:]: all but dL/dx

    # Phase 2, discriminator: draws of the prior have the target 1, codes have 0.
    codes, back_encoder = forward(encoder, x)  # serves phase 3 too
    prior = 5 * rng.standard_normal(codes.shape)
    logits, back = forward(discriminator, np.concatenate((prior, codes)))
    loss_real, dreal = cross_entropy(logits[:len(x)], 1)
    loss_fake, dfake = cross_entropy(logits[len(x):], 0)
    adams[1].step(back(np.concatenate((dreal, dfake)))[1:])

    # Phase 3, generator: codes have the target 1, and only the encoder moves.
    logits, back = forward(discriminator, codes)
    loss_3, dlogits = cross_entropy(logits, 1)
    dcodes, *_ = back(dlogits)  # through the discriminator, which does not move
    adams[2].step(back_encoder(dcodes)[1:])
    return loss_1, loss_real + loss_fake, loss_3

if __name__ == "__main__":
    file = files("npaae") / "sample/train-images-idx3-ubyte.gz"
    pixels = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16)
    digits = pixels.reshape(-1, 784) / 255
    for epoch in range(1, 6):
        batches = rng.permutation(len(digits)).reshape(-1, 100)
        losses = np.mean([step(digits[batch]) for batch in batches], axis=0)
        print(f"epoch {epoch}: reconstruction, discriminator, generator {losses.round(3)}")
