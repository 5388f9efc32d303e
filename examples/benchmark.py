"""Compare the speed of npaae with PyTorch, JAX and a floor that no program can beat.

Every contender trains the same networks on the same real digits: three phases with dropout, three
Adam states, one encoder pass for phases 2 and 3, each batch gathered and converted from uint8. Each
has its own process and its default number of threads. All train for 1,500 steps first,
because steps become slower when Adam's moments decay to denormal numbers. Then they are timed in
turns, one at a time, because the speed of a machine changes within minutes.

The floor is the matrix products of a step and one pass over the bytes that Adam has to move. The
other libraries are installed with `pip install -e '.[bench]'`; missing ones are left out.

With `--ranks` npaae is compared with itself: on one process with all of OpenBLAS's threads, and on
several ranks of MPI with one thread each, with the share of each part of a step.
"""

import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import chain, pairwise, product
from math import nan
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import interruptible as interruptible  # first: from here on, Ctrl-C is silent
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

import npaae
from npaae.backend import HostArray, array_module
from npaae.experiment import Parser, launch, load_data

VISIBLE, LATENT, BATCH = 784, 2, 100
RATE, DISCRIMINATOR_RATE, STD = 0.25, 0.20, 5.0
RECONSTRUCTION, REGULARIZATION = 5e-4, 1e-4  # learning rates
CONFIGURATIONS = ((256, 128), (1000, 1000))  # the report's networks, and the AAE paper's
TURNS = 15
RANKS = {"one process": 0, "1 rank": 1, "2 ranks": 2, "4 ranks": 4}
RANK_BATCHES, RANK_TURNS = (100, 1024, 4096), 7

# Trains on (steps · n, 784) uint8 rows, shuffled, in batches of n; returns the mean reconstruction
# loss.
Train = Callable[[HostArray], float]
Answer = dict[str, Any]


def layer_sizes(hidden: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    encoder = (VISIBLE, *hidden, LATENT)
    return encoder, encoder[::-1], (LATENT, *hidden, 1)


# The contenders, each as its users would write it: (what it runs on, its training)


def ours(hidden: Sequence[int], n: int, backend: str) -> tuple[str, Train]:
    model = npaae.AdversarialAutoencoder(hidden=hidden, backend=backend)

    def train(rows: HostArray) -> float:
        return next(npaae.train(model, rows, epochs=1, batch_size=n)).reconstruction

    return f"npaae {npaae.__version__}", train


def pytorch(
    hidden: Sequence[int], n: int, backend: str, *, fused: bool | None = None, graph: bool = False
) -> tuple[str, Train]:
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    device = torch.device("cuda" if backend == "cupy" else "cpu")

    def network(sizes: Sequence[int], rate: float) -> Any:
        layers = [(nn.Linear(a, b), nn.ReLU(), nn.Dropout(rate)) for a, b in pairwise(sizes)]
        return nn.Sequential(*chain(*layers)).to(device)[:-2]

    sizes = layer_sizes(hidden)
    encoder, decoder = network(sizes[0], RATE), network(sizes[1], RATE)
    autoencoder = nn.Sequential(encoder, decoder)
    discriminator = network(sizes[2], DISCRIMINATOR_RATE)
    adam = partial(torch.optim.Adam, fused=fused, capturable=graph)
    autoencoder_adam = adam(autoencoder.parameters(), lr=RECONSTRUCTION)
    discriminator_adam = adam(discriminator.parameters(), lr=REGULARIZATION)
    generator_adam = adam(encoder.parameters(), lr=REGULARIZATION)
    ones, zeros = torch.ones(n, 1, device=device), torch.zeros(n, 1, device=device)

    def descend(adam: Any, loss: Any) -> Any:
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.detach()

    def step(pixels: Any) -> Any:
        x = pixels.float() / 255
        reconstruction = descend(autoencoder_adam, bce(autoencoder(x), x))
        codes = encoder(x)
        both = torch.cat((STD * torch.randn_like(codes), codes.detach()))
        verdict = discriminator(both)
        loss = bce(verdict[:n], ones) + bce(verdict[n:], zeros)
        discrimination = descend(discriminator_adam, loss)
        discriminator.requires_grad_(False)
        generation = descend(generator_adam, bce(discriminator(codes), ones))
        discriminator.requires_grad_(True)
        return torch.stack((reconstruction, discrimination, generation))

    if graph:
        pixels = torch.zeros(n, VISIBLE, dtype=torch.uint8, device=device)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):  # as PyTorch asks for before a capture
            for _ in range(3):
                step(pixels)
        torch.cuda.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            losses = step(pixels)

    def replay(batch: Any) -> Any:
        pixels.copy_(batch)
        recorded.replay()
        return losses.clone()

    def train(rows: HostArray) -> float:
        images = torch.from_numpy(rows).to(device)
        batches = torch.randperm(len(rows), device=device).split(n)
        loss = [(replay if graph else step)(images[batch]) for batch in batches]
        return float(torch.stack(loss).mean(0)[0])  # which waits for a GPU

    return f"PyTorch {torch.__version__} on {torch.get_num_threads()} threads", train


def jax(hidden: Sequence[int], n: int, backend: str) -> tuple[str, Train]:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp
    import optax

    rng = np.random.default_rng(0)

    def network(sizes: Sequence[int]) -> Any:
        weights = [rng.uniform(-1, 1, (a, b)) / a**0.5 for a, b in pairwise(sizes)]
        return [(jnp.float32(W), jnp.zeros(W.shape[1])) for W in weights]

    def forward(layers: Any, x: Any, key: Any, rate: float = RATE) -> Any:
        for (W, b), k in zip(layers[:-1], jax.random.split(key, len(layers) - 1), strict=True):
            x = jax.nn.relu(x @ W + b)
            x = jnp.where(jax.random.bernoulli(k, 1 - rate, x.shape), x / (1 - rate), 0)
        W, b = layers[-1]
        return x @ W + b

    def bce(logits: Any, t: Any) -> Any:
        return optax.sigmoid_binary_cross_entropy(logits, t).mean()

    adams = [optax.adam(rate) for rate in (RECONSTRUCTION, REGULARIZATION, REGULARIZATION)]

    def step(state: Any, pixels: Any) -> Any:
        encoder, decoder, discriminator, moments, key = state
        key, *keys = jax.random.split(key, 7)
        x = pixels.astype(jnp.float32) / 255

        def descend(i: int, parameters: Any, gradient: Any) -> Any:
            updates, moments[i] = adams[i].update(gradient, moments[i])
            return optax.apply_updates(parameters, updates)

        def reconstruction(parts: Any) -> Any:
            return bce(forward(parts[1], forward(parts[0], x, keys[0]), keys[1]), x)

        def discrimination(discriminator: Any) -> Any:
            verdict = forward(discriminator, both, keys[4], DISCRIMINATOR_RATE)
            return bce(verdict[:n], 1.0) + bce(verdict[n:], 0.0)

        def generation(codes: Any) -> Any:
            return bce(forward(discriminator, codes, keys[5], DISCRIMINATOR_RATE), 1.0)

        loss1, gradient = jax.value_and_grad(reconstruction)((encoder, decoder))
        encoder, decoder = descend(0, (encoder, decoder), gradient)
        codes, pull_back = jax.vjp(lambda encoder: forward(encoder, x, keys[2]), encoder)
        both = jnp.concatenate((STD * jax.random.normal(keys[3], codes.shape), codes))
        loss2, gradient = jax.value_and_grad(discrimination)(discriminator)
        discriminator = descend(1, discriminator, gradient)
        loss3, dcodes = jax.value_and_grad(generation)(codes)
        encoder = descend(2, encoder, pull_back(dcodes)[0])
        return (encoder, decoder, discriminator, moments, key), jnp.stack((loss1, loss2, loss3))

    jitted = jax.jit(step, donate_argnums=0)
    encoder, decoder, discriminator = map(network, layer_sizes(hidden))
    parts = ((encoder, decoder), discriminator, encoder)
    moments = [adam.init(part) for adam, part in zip(adams, parts, strict=True)]
    state: Any = (encoder, decoder, discriminator, moments, jax.random.key(0))

    def train(rows: HostArray) -> float:
        nonlocal state
        order, losses = rng.permutation(len(rows)), []
        for start in range(0, len(rows), n):
            state, loss = jitted(state, rows[order[start : start + n]])
            losses.append(loss)
        return float(np.mean(losses, axis=0)[0])  # which waits for the last step

    return f"JAX {jax.__version__}", train


def layers_of_a_step(hidden: Sequence[int], n: int) -> Iterator[tuple[int, int, int, bool, bool]]:
    """For each pass through a layer: fan-in, fan-out, rows, and whether it computes dW and dx."""
    encoder, decoder, discriminator = layer_sizes(hidden)
    for sizes, rows, gradients in (
        (encoder, n, "W"),  # phase 1
        (decoder, n, "xW"),
        (discriminator, 2 * n, "W"),  # phase 2
        (discriminator, n, "x"),  # phase 3
        (encoder, n, "W"),
    ):
        for i, (a, b) in enumerate(pairwise(sizes)):
            yield a, b, rows, "W" in gradients, "x" in gradients or i > 0


def adam_updates(hidden: Sequence[int]) -> int:
    encoder, *others = (sum((a + 1) * b for a, b in pairwise(s)) for s in layer_sizes(hidden))
    return 2 * encoder + sum(others)


def floor(hidden: Sequence[int], n: int, backend: str) -> tuple[str, Train]:
    """A step's matrix products, and one pass over the bytes of its Adam updates."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> HostArray:
        return rng.standard_normal(shape, dtype=np.float32)

    products = []
    for a, b, rows, parameters, inputs in layers_of_a_step(hidden, n):
        x, W, dy, dW = array(rows, a), array(a, b), array(rows, b), array(a, b)
        products.append(partial(np.matmul, x, W))
        if parameters:
            products.append(partial(np.matmul, x.T, dy, out=dW))
        if inputs:
            products.append(partial(np.matmul, dy, W.T))
    # 28 bytes an update: θ, g, M and V are read, and θ, M and V written.
    updates = adam_updates(hidden)
    read, written = array(4 * updates), array(3 * updates)

    def seconds(steps: int, threads: int) -> float:
        start = time.perf_counter()
        with threadpool_limits(threads, user_api="blas"):
            for _ in range(steps):
                for product in products:
                    product()
                written[:] = read[: written.size]
                read[written.size :].max()
        return time.perf_counter() - start

    taken = {t: min(seconds(5, t) for _ in range(4)) for t in (1, os.cpu_count() or 1)}
    best = min(taken, key=taken.__getitem__)

    def train(rows: HostArray) -> float:
        seconds(len(rows) // n, best)
        return nan

    return f"the floor on {best} thread{'s' * (best > 1)}", train


CONTENDERS: dict[str, Callable[..., tuple[str, Train]]] = {
    "npaae": ours,
    "PyTorch, default Adam": pytorch,
    "PyTorch, fused Adam": partial(pytorch, fused=True),
    "PyTorch, CUDA graph": partial(pytorch, fused=True, graph=True),
    "JAX, jitted, donated": jax,
    "the floor": floor,
}


def available(backend: str) -> list[str]:
    """The contenders that this machine can run; says which it cannot."""
    array_module(backend)  # raises Unavailable
    needs = {"PyTorch": ["torch"], "JAX": ["jax", "optax"]}
    missing = {library for library in needs if not all(map(find_spec, needs[library]))}
    for library in sorted(missing):
        print(f"{library} is left out, because it is not installed: pip install -e '.[bench]'")
    if backend == "cupy" and "PyTorch" not in missing:
        import torch

        if not torch.cuda.is_available():
            print("PyTorch is left out, because it finds no GPU: install a build with CUDA")
            missing.add("PyTorch")
    missing |= {"JAX", "the floor"} if backend == "cupy" else {"PyTorch, CUDA graph"}
    return [name for name in CONTENDERS if not missing & {name, name.split(",")[0]}]


# In the contender's process: functions that answer a number


def turns(name: str, hidden: Sequence[int], n: int, backend: str, folder: str) -> Any:
    """Returns a function that times a number of steps, cycling through the images."""
    images = np.load(Path(folder) / "images.npy")
    about, train = CONTENDERS[name](hidden, n, backend)
    position = 0

    def turn(steps: int) -> Answer:
        nonlocal position
        numbers = np.arange(position, position + (steps + 2) * n)
        rows, position = images.take(numbers, axis=0, mode="wrap"), int(numbers[-1]) + 1
        train(rows[: 2 * n])  # wakes caches and threads
        start = time.perf_counter()
        loss = train(rows[2 * n :])
        milliseconds = 1e3 * (time.perf_counter() - start) / steps
        return {"ms": milliseconds, "loss": loss, "memory": peak_memory(), "about": about}

    return turn


def peak_memory() -> float:
    """In MB, on Linux. The system's ru_maxrss would count the parent's memory at the fork."""
    return float(of_system("/proc/self/status", r"VmHWM:\s*(\d+) kB") or nan) / 1024


def of_system(file: str, pattern: str) -> str:
    """The content of a file on Linux, and nothing on other systems."""
    path = Path(file)
    found = re.search(pattern, path.read_text(encoding="utf-8")) if path.exists() else None
    return found[1] if found else ""


def time_calls(spent: Answer, **functions: tuple[Any, str]) -> None:
    """From now on, add the seconds spent in each function, (owner, name), to `spent`."""

    def timed(function: Callable[..., Any], what: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            spent[what] = spent.get(what, 0.0) + time.perf_counter() - start
            return result

        return call

    for what, (owner, name) in functions.items():
        setattr(owner, name, timed(getattr(owner, name), what))


def on_ranks(name: str, hidden: Sequence[int], n: int, folder: str) -> Any:
    """Like `turns`, on the ranks of MPI; also returns what the time goes into."""
    images = np.load(Path(folder) / "images.npy")
    rng = np.random.Generator(np.random.SFC64(0))
    spent: Answer = {}
    time_calls(
        spent,
        step=(npaae.AdversarialAutoencoder, "step"),
        drawing=(npaae.layers, "random_words"),
        adam=(npaae.optim.Adam, "step"),
        exchange=(npaae.parallel.Ranks, "average"),
    )
    model = npaae.AdversarialAutoencoder(hidden=hidden, comm=npaae.parallel.world())

    def turn(steps: int) -> Answer:
        batches = rng.integers(len(images), size=(steps + 2, n))
        for batch in batches[:2]:  # wakes caches and threads
            model.step(images[batch], rng)
        spent.clear()
        start = time.perf_counter()
        for batch in batches[2:]:
            model.step(images[batch], rng)
        total = time.perf_counter() - start
        exchange, whole = spent.pop("exchange", 0.0), total - spent["step"] + spent["drawing"]
        parts = {"whole batch": whole, "Adam": spent["adam"]}
        parts["computing"] = total - exchange - sum(parts.values())
        if model.ranks:  # the same all-reduces again, with no step between them to wait for
            gradients = [adam.gradient for adam in model.adams().values()]
            for array in [*gradients, np.zeros(3)] * 3:
                model.ranks.average(array)
            parts["all-reduce"] = steps * spent["exchange"] / 3
            parts["waiting"] = exchange - parts["all-reduce"]
        parts["ms"] = total
        return {part: 1e3 * seconds / steps for part, seconds in parts.items()}

    return turn


@contextmanager
def process(task: str, **settings: Any) -> Iterator[Callable[[int], Answer]]:
    """Runs `task` in its own process, which ends with the block."""
    command = [sys.executable, __file__, "--contender", json.dumps([task, settings])]
    environment = dict(os.environ)
    if task == "on_ranks":
        ranks = RANKS[settings["name"]]
        command = [mpiexec(), "-n", str(ranks), *command] if ranks else command
        environment["OPENBLAS_NUM_THREADS"] = str(1 if ranks else os.cpu_count())
    # In a session of its own, where Ctrl-C does not reach it: this process ends it.
    with Popen(
        command, stdin=PIPE, stdout=PIPE, text=True, env=environment, start_new_session=True
    ) as child:
        questions: Any = child.stdin
        answers: Any = child.stdout

        def ask(number: int) -> Answer:
            print(number, file=questions, flush=True)
            if answer := answers.readline():
                return dict(json.loads(answer))
            # It has ended, and said on stderr why, unless it was killed.
            name = settings.get("name", "npaae")
            sys.exit(child.wait() if child.wait() > 0 else f"the process of {name} was killed")

        try:
            yield ask
        finally:
            child.kill()
            child.wait()


def mpiexec() -> str:
    beside = str(Path(sys.executable).parent)  # where mpich's is in a virtual environment
    found = shutil.which("mpiexec", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if found is None or find_spec("mpi4py") is None:
        raise npaae.Unavailable("--ranks needs mpi4py and mpiexec: pip install -e '.[mpi]'")
    return found


def answer_questions(task: str, settings: Any) -> None:
    tasks: dict[str, Callable[..., Any]] = {"turns": turns, "on_ranks": on_ranks}
    answer = tasks[task](**settings)
    comm, number = npaae.parallel.world(), np.zeros(1, int)
    while True:
        if comm is None or comm.rank == 0:
            number[0] = int(sys.stdin.readline() or 0)  # 0 at its end
        if comm is not None:  # the other ranks hear it from rank 0, and sleep meanwhile
            asked = comm.Ibcast(number)
            while not asked.Test():
                time.sleep(0.01)
        if number[0] == 0:
            return
        print(json.dumps(answer(int(number[0]))), flush=True)  # of the ranks, rank 0 alone prints


# What is measured


def measure(
    names: Sequence[str],
    late: int,
    seconds: float,
    task: str = "turns",
    rounds: int = TURNS,
    **settings: Any,
) -> dict[str, Any]:
    """The answers of each contender, turn by turn, after `late` steps."""
    with ExitStack() as stack:
        asks: dict[str, Any] = {}
        for name in names:
            asks[name] = stack.enter_context(process(task, name=name, **settings))
            asks[name](1)  # one after the other, so that one at most says why it cannot
        for done in range(0, late, BATCH):
            early = {name: ask(min(BATCH, late - done)) for name, ask in asks.items()}
        steps = max(1, round(1e3 * seconds / rounds / early[names[0]]["ms"]))
        answers = [{name: ask(steps) for name, ask in asks.items()} for _ in range(rounds)]
    return {name: [of_all[name] for of_all in answers] for name in names}


def step_table(answers: dict[str, Any]) -> list[list[str]]:
    own = np.array([answer["ms"] for answer in answers["npaae"]])
    table = [["", "ms a step", "10th to 90th %", "npaae / it", "peak MB", "loss"]]
    for name, of_it in answers.items():
        ms, last = np.array([answer["ms"] for answer in of_it]), of_it[-1]
        low, middle, high = np.percentile(ms, (10, 50, 90))
        numbers = f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{np.median(own / ms):.2f}"
        table.append([name, *numbers, f"{last['memory']:.0f}", f"{last['loss']:.4f}"])
    return table


def print_table(table: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for first, *rest in table:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print(f"| {' | '.join([first.ljust(widths[0]), *cells])} |", flush=True)


def print_steps(hidden: Sequence[int], late: int, **settings: Any) -> None:
    sizes = "-".join(map(str, (VISIBLE, *hidden, LATENT)))
    print(f"\nA training step of {sizes}, batch {BATCH}, after {late:,} steps", flush=True)
    answers = measure(hidden=hidden, n=BATCH, late=late, **settings)
    print(f"({', '.join(dict.fromkeys(of_it[0]['about'] for of_it in answers.values()))})")
    print_table(step_table(answers))


# Many cores

PARTS = ("computing", "whole batch", "Adam", "all-reduce", "waiting")  # of a step


def print_ranks(hiddens: Sequence[Sequence[int]], seconds: float, folder: str) -> None:
    mpiexec()  # raises Unavailable
    table = [["hidden, batch, processes", "ms a step", "images/s", "of one process", *PARTS]]
    settings: Any = {"task": "on_ranks", "rounds": RANK_TURNS, "folder": folder}
    for hidden, n in product(hiddens, RANK_BATCHES):
        answers = measure(list(RANKS), 1, seconds / 4, hidden=hidden, n=n, **settings)
        one = np.array([answer["ms"] for answer in answers["one process"]])
        for name, of_it in answers.items():
            parts = {part: float(np.median([a[part] for a in of_it])) for part in of_it[0]}
            ms, ratio = parts.pop("ms"), np.median([a["ms"] for a in of_it] / one)
            shares = (f"{parts.get(part, 0) / ms:.1%}" for part in PARTS)
            numbers = f"{ms:.2f}", f"{1e3 * n / ms:,.0f}", f"{ratio:.2f}"
            table.append([f"{hidden}, {n}, {name}", *numbers, *shares])
    print_table(table)


def print_machine() -> None:
    model = of_system("/proc/cpuinfo", r"model name\s*: (.*)") or platform.processor()
    print(f"{model}, {os.cpu_count()} cores; NumPy {np.__version__}", end="")
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            blas = f"{pool['internal_api']} {pool['version']}, kernel {pool['architecture']}"
            print(f"; {blas}, threads: {pool['num_threads']}", end="")
    print()


def main() -> None:
    if sys.argv[1:2] == ["--contender"]:
        answer_questions(*json.loads(sys.argv[2]))
        return
    parser = Parser(description=__doc__.split("\n")[0])
    add, number = parser.add_argument, "positive integer"
    add("--hidden", nargs="+", type=number, help="layer sizes (default: 256 128, then 1000 1000)")
    add("--late", type=number, default=1500, help="steps before the turns (default: 1500)")
    about = "of npaae's turns; the others do as many steps (default: 15)"
    add("--seconds", type="positive number", default=15, help=about)
    add("--backend", choices=("numpy", "cupy"), default="numpy", help="cupy: on a GPU")
    add("--ranks", action="store_true", help="time npaae on several ranks of MPI instead")
    parser.add_data_flags(sample=True)
    flags = parser.parse_args()

    if flags.ranks and flags.backend != "numpy":
        parser.error("--ranks times NumPy alone: leave --backend out")
    print_machine()
    names = available(flags.backend)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"names": names, "backend": flags.backend, "folder": folder}
        digits = load_data("MNIST", flags.data_dir, sample=flags.sample)
        print(f"Trained on {digits.source}, {len(digits.train_images):,} images", flush=True)
        np.save(f"{folder}/images.npy", digits.train_images.reshape(-1, VISIBLE))
        del digits
        hiddens = [tuple(flags.hidden)] if flags.hidden else CONFIGURATIONS
        if flags.ranks:
            print_ranks(hiddens, flags.seconds, folder)
            return
        for hidden in hiddens:
            print_steps(hidden, flags.late, seconds=flags.seconds, **settings)


if __name__ == "__main__":
    launch(main)
