"""How fast is npaae? Whole training steps beside PyTorch's and JAX's, in one run and in turns, and beside what no one can beat.

Every contender does the same work a step, written as its users would write it: three phases with dropout, three Adam states,
one encoder pass for phases 2 and 3. The floor is the step's matrix products alone plus one pass over the bytes that Adam must
move. The peers come with `pip install -e '.[bench]'`; those that are missing are left out.
"""

import csv
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from subprocess import DEVNULL, run

import npaae  # before NumPy, which it tunes

# isort: split
import numpy as np
from threadpoolctl import threadpool_info

from npaae import command_line
from npaae.backend import array_module, generator
from npaae.training import evaluate

CONFIGURATIONS = {"the report's (784-256-128-2)": (256, 128), "the paper's (784-1000-1000-2)": (1000, 1000)}
VISIBLE, LATENT, BATCH = 784, 2, 100
RATE, DISCRIMINATOR_RATE, STD = 0.25, 0.20, 5.0
RECONSTRUCTION, REGULARIZATION = 5e-4, 1e-4  # learning rates

DEVICES = {"numpy": "cpu", "cupy": "cuda"}  # PyTorch's names for where the backends compute

Step = Callable[[], object]  # one training step; what it returns can be waited for


def layer_sizes(hidden: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    encoder = (VISIBLE, *hidden, LATENT)
    return encoder, encoder[::-1], (LATENT, *hidden, 1)


def a_batch(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, VISIBLE), dtype=np.uint8)


# The contenders: each makes the function that does one step


def ours(hidden: tuple[int, ...], n: int, backend: str = "numpy") -> Step:
    model = npaae.AdversarialAutoencoder(hidden=hidden, backend=backend)
    x, rng = model.xp.asarray(a_batch(n)), generator(model.xp, 0, 3)
    return lambda: model.step(x, rng)


def pytorch(hidden: tuple[int, ...], n: int, *, fused: bool, device: str = "cpu") -> Step:
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    def network(sizes: tuple[int, ...], rate: float) -> nn.Module:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.ReLU(), nn.Dropout(rate)] if layers else []
            layers.append(nn.Linear(fan_in, fan_out))
        return nn.Sequential(*layers).to(device)

    encoder_sizes, decoder_sizes, discriminator_sizes = layer_sizes(hidden)
    encoder, decoder = network(encoder_sizes, RATE), network(decoder_sizes, RATE)
    discriminator = network(discriminator_sizes, DISCRIMINATOR_RATE)
    autoencoder_adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RECONSTRUCTION, fused=fused)
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=REGULARIZATION, fused=fused)
    generator_adam = torch.optim.Adam(encoder.parameters(), lr=REGULARIZATION, fused=fused)
    pixels = torch.from_numpy(a_batch(n)).to(device)
    ones, zeros = torch.ones(n, 1, device=device), torch.zeros(n, 1, device=device)

    def step() -> object:
        x = pixels.float() / 255
        loss = bce(decoder(encoder(x)), x)
        autoencoder_adam.zero_grad()
        loss.backward()
        autoencoder_adam.step()

        codes = encoder(x)
        verdict = discriminator(torch.cat((STD * torch.randn(n, LATENT, device=device), codes.detach())))
        discriminator_loss = bce(verdict[:n], ones) + bce(verdict[n:], zeros)
        discriminator_adam.zero_grad()
        discriminator_loss.backward()
        discriminator_adam.step()

        discriminator.requires_grad_(False)
        generator_loss = bce(discriminator(codes), ones)
        generator_adam.zero_grad()
        generator_loss.backward()
        generator_adam.step()
        discriminator.requires_grad_(True)
        return generator_loss

    return step


def jax(hidden: tuple[int, ...], n: int) -> Step:
    import jax
    import jax.numpy as jnp
    import optax

    def network(key, sizes):
        keys = jax.random.split(key, len(sizes))
        return [
            (jax.random.uniform(k, (a, b), minval=-(a**-0.5), maxval=a**-0.5), jnp.zeros(b))
            for k, (a, b) in zip(keys, pairwise(sizes), strict=False)
        ]

    def forward(layers, x, key, rate):
        for (W, b), k in zip(layers[:-1], jax.random.split(key, len(layers) - 1), strict=True):
            x = jax.nn.relu(x @ W + b)
            x = jnp.where(jax.random.bernoulli(k, 1 - rate, x.shape), x / (1 - rate), 0)
        W, b = layers[-1]
        return x @ W + b

    def bce(logits, t):
        return optax.sigmoid_binary_cross_entropy(logits, t).mean()

    adams = optax.adam(RECONSTRUCTION), optax.adam(REGULARIZATION), optax.adam(REGULARIZATION)

    def step(state, pixels):
        encoder, decoder, discriminator, states, key = state
        key, *keys = jax.random.split(key, 7)
        x = pixels.astype(jnp.float32) / 255

        def reconstruction(parts):
            return bce(forward(parts[1], forward(parts[0], x, keys[0], RATE), keys[1], RATE), x)

        gradient = jax.grad(reconstruction)((encoder, decoder))
        update, first = adams[0].update(gradient, states[0])
        encoder, decoder = optax.apply_updates((encoder, decoder), update)

        codes, pull_back = jax.vjp(lambda encoder: forward(encoder, x, keys[2], RATE), encoder)
        both = jnp.concatenate((STD * jax.random.normal(keys[3], codes.shape), codes))

        def discrimination(discriminator):
            verdict = forward(discriminator, both, keys[4], DISCRIMINATOR_RATE)
            return bce(verdict[:n], 1.0) + bce(verdict[n:], 0.0)

        update, second = adams[1].update(jax.grad(discrimination)(discriminator), states[1])
        discriminator = optax.apply_updates(discriminator, update)

        loss, dcodes = jax.value_and_grad(lambda codes: bce(forward(discriminator, codes, keys[5], DISCRIMINATOR_RATE), 1.0))(
            codes
        )
        update, third = adams[2].update(pull_back(dcodes)[0], states[2])
        encoder = optax.apply_updates(encoder, update)
        return (encoder, decoder, discriminator, (first, second, third), key), loss

    jitted = jax.jit(step, donate_argnums=0)
    keys = jax.random.split(jax.random.key(0), 4)
    encoder, decoder, discriminator = map(network, keys[:3], layer_sizes(hidden))
    states = adams[0].init((encoder, decoder)), adams[1].init(discriminator), adams[2].init(encoder)
    state = [encoder, decoder, discriminator, states, keys[3]]
    pixels = a_batch(n)

    def one() -> object:
        nonlocal state
        state, loss = jitted(tuple(state), pixels)
        return loss.block_until_ready()

    return one


def floor(hidden: tuple[int, ...], n: int) -> Step:
    """The step's matrix products, and one pass over Adam's bytes: parameters, gradient and two moments, of each update."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    def products(sizes: tuple[int, ...], n: int, *, forward: bool, inputs: bool, parameters: bool) -> list[Step]:
        found: list[Step] = []
        for i, (a, b) in enumerate(pairwise(sizes)):
            x, W, dy, dW = array(n, a), array(a, b), array(n, b), array(a, b)
            if forward:
                found.append(lambda x=x, W=W: x @ W)
            if parameters:
                found.append(lambda x=x, dy=dy, dW=dW: np.matmul(x.T, dy, out=dW))
            if inputs or (i and parameters):
                found.append(lambda dy=dy, W=W: dy @ W.T)
        return found

    encoder, decoder, discriminator = layer_sizes(hidden)
    steps = [
        *products(encoder, n, forward=True, inputs=False, parameters=True),  # phase 1
        *products(decoder, n, forward=True, inputs=True, parameters=True),
        *products(discriminator, 2 * n, forward=True, inputs=False, parameters=True),  # phase 2
        *products(discriminator, n, forward=True, inputs=True, parameters=False),  # phase 3
        *products(encoder, n, forward=True, inputs=False, parameters=True),
    ]
    counts = [sum((a + 1) * b for a, b in pairwise(sizes)) for sizes in (encoder, decoder, discriminator)]
    updates = 2 * counts[0] + counts[1] + counts[2]
    read, written = array(4 * updates), array(3 * updates)  # 28 bytes an update: read θ, g, M, V; write θ, M, V

    def one() -> object:
        for product in steps:
            product()
        written[:] = read[: written.size]
        return read[written.size :].max()

    return one


# Measuring


def milliseconds(contenders: dict[str, Step], seconds: float, wait: Callable[[object], object]) -> dict[str, np.ndarray]:
    """Milliseconds a step, in turns of some steps each, the first turn of each and the first steps of every turn left out."""
    steps = {}
    for name, step in contenders.items():
        wait(step())
        start = time.perf_counter()
        for _ in range(3):
            wait(step())
        steps[name] = max(3, int(0.15 / ((time.perf_counter() - start) / 3)))
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    deadline = time.perf_counter() + seconds * len(contenders)
    while time.perf_counter() < deadline:
        for name, step in contenders.items():
            wait(step())
            start = time.perf_counter()
            for _ in range(steps[name]):
                result = step()
            wait(result)
            taken[name].append(1e3 * (time.perf_counter() - start) / steps[name])
    return {name: np.array(times[1:] or times) for name, times in taken.items()}


def installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


def why_no_pytorch(device: str) -> str | None:
    if not installed("torch"):
        return "is not installed and left out: pip install -e '.[bench]'"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "is built without CUDA and left out: install a build for GPUs"
    return None


def peers(hidden: tuple[int, ...], n: int, device: str) -> dict[str, Step]:
    found: dict[str, Step] = {}
    if why_no_pytorch(device) is None:
        found["PyTorch, default Adam"] = pytorch(hidden, n, fused=False, device=device)
        found["PyTorch, fused Adam"] = pytorch(hidden, n, fused=True, device=device)
    if device == "cpu" and installed("jax", "optax"):
        found["JAX, jitted, donated"] = jax(hidden, n)
    return found


def all_contenders(hidden: tuple[int, ...], n: int, backend: str) -> dict[str, Step]:
    contenders = {"npaae": ours(hidden, n, backend)} | peers(hidden, n, DEVICES[backend])
    return contenders if backend == "cupy" else contenders | {"the floor": floor(hidden, n)}


def print_step_table(backend: str, seconds: float, wait: Callable[[object], object]) -> None:
    for title, hidden in CONFIGURATIONS.items():
        times = milliseconds(all_contenders(hidden, BATCH, backend), seconds, wait)
        own = np.median(times["npaae"])
        print(f"\nA training step of {title}, batch {BATCH}: median milliseconds [10th, 90th percentile]")
        for name, taken in times.items():
            low, middle, high = np.percentile(taken, (10, 50, 90))
            ratio = "" if name == "npaae" else f"   npaae / this = {own / middle:.2f}"
            print(f"  {name:22s} {middle:7.2f}  [{low:.2f}, {high:.2f}]{ratio}")


def print_growth(backend: str, seconds: float, wait: Callable[[object], object]) -> None:
    print("\nHow the cost grows: median milliseconds a step, and images a second")
    cases = [((256, 128), n) for n in (32, 100, 320, 1024, 4096)] + [((w, w), BATCH) for w in (128, 256, 512, 1000, 2000)]
    for hidden, n in cases:
        times = milliseconds(all_contenders(hidden, n, backend), seconds / 4, wait)
        cells = (f"{name} {np.median(taken):.2f} ({1e3 * n / np.median(taken):,.0f}/s)" for name, taken in times.items())
        print(f"  hidden {hidden}, batch {n}:  " + ",  ".join(cells))


def print_epoch(backend: str) -> None:
    digits = npaae.data.mnist_sample()
    model = npaae.AdversarialAutoencoder(backend=backend)
    records = list(npaae.train(model, digits.train_images, epochs=5))
    seconds = float(np.median([record.seconds for record in records[1:]]))
    print(f"\nAn epoch of 10,000 digits, data handling included: {seconds:.2f} s, {10_000 / seconds:,.0f} images a second")
    rows = model.xp.asarray(digits.test_images.reshape(-1, VISIBLE))
    start = time.perf_counter()
    evaluate(model, rows)
    evaluation = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        example, out, epochs = Path(__file__).with_name("mnist.py"), Path(folder) / "run", 30
        arguments = ["--sample", "--epochs", str(epochs), "--backend", backend, "--out", str(out)]
        start = time.perf_counter()
        run([sys.executable, example, *arguments], check=True, stdout=DEVNULL)
        wall = time.perf_counter() - start
        with open(out / "losses.csv", newline="") as file:
            training = sum(float(row["seconds"]) - evaluation for row in csv.DictReader(file))
    print(
        f"A run of examples/mnist.py, {epochs} such epochs: {wall:.1f} s, of which {100 * (1 - training / wall):.0f} % are no "
        "training steps (start, evaluation, saving, figures)"
    )


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--backend", choices=DEVICES, default="numpy", help="cupy: npaae and PyTorch on the GPU")
    parser.add_argument("--seconds", type=command_line.positive, default=10, help="time for each contender and configuration")
    parser.add_argument("--growth", action="store_true", help="also other batch sizes and widths, some minutes more")
    flags = parser.parse_args()
    xp = array_module(flags.backend)

    def wait(result: object) -> object:
        return xp.cuda.Device().synchronize() if flags.backend == "cupy" else result

    for library in threadpool_info():
        if library["user_api"] == "blas":
            print(
                f"NumPy computes with {library['internal_api']} {library['version']}, kernel {library['architecture']}",
                end=", ",
            )
            print(f"{library['num_threads']} threads")
    if why := why_no_pytorch(DEVICES[flags.backend]):
        print(f"PyTorch {why}")
    if not installed("jax", "optax"):
        print("JAX is not installed and left out: pip install -e '.[bench]'")
    print_step_table(flags.backend, flags.seconds, wait)
    if flags.growth:
        print_growth(flags.backend, flags.seconds, wait)
    print_epoch(flags.backend)


if __name__ == "__main__":
    command_line.launch(main)
