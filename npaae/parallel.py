"""Data-parallel training: several processes, the ranks of MPI, train one model.

Every loss here is a mean over the rows of the batch, so its gradient is a sum over rows, which may
be computed in pieces. If rank r has the n_r rows B_r of a batch of n,

    L = 1/n Σᵢ ℓᵢ(θ)   ⇒   dL/dθ = 1/n Σᵢ dℓᵢ/dθ = Σ_r (n_r / n) · g_r,

    g_r = 1/n_r Σ_{i ∈ B_r} dℓᵢ/dθ

and g_r is the result of backpropagation through the rows of rank r alone. Each rank computes g_r
and multiplies it by its weight n_r / n, and an all-reduce gives every rank the sum. All ranks start
from the same parameters and take the same Adam step, so their parameters stay equal without
being sent. Nothing is approximated: only the order of the additions differs from that of one
process. This argument does not cover a layer that looks at several rows at once, such as batch
normalisation.

Each phase sums the slice of the gradient that its own Adam uses, in one all-reduce. One could also
scatter the sums, let each rank update its own share and gather the parameters. That moves as many
bytes, but it leaves each rank with only a part of Adam's moments, which a checkpoint would have to
collect.

Each rank draws the masks and the samples of the prior for the whole batch and keeps those of its
rows, so that n ranks train the same model as one. This work is not divided among the ranks, so it
limits the gain from many ranks; `examples/benchmark.py --ranks` prints its share of a step.

    comm = npaae.parallel.world()     # under `mpiexec -n 4 python …`; None without mpiexec
    model = npaae.AdversarialAutoencoder(comm=comm)
    for record in npaae.train(model, images): ...     # the same calls on every rank
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib import import_module
from io import StringIO
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from . import backend
from .backend import Array, Generator, to_host
from .checkpoint import numbers
from .errors import InvalidInput, Unavailable, one_line
from .layers import parts

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
STOP = 32_767  # the tag of the message by which a rank passes a signal on to rank 0


def _mpi() -> Any:
    try:
        return import_module("mpi4py.MPI")
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        raise Unavailable(
            f"training on several ranks needs mpi4py and an MPI library ({one_line(error)}); "
            "install both with `pip install mpi4py mpich`"
        ) from error


def world() -> Any:
    """The communicator of all ranks if mpiexec started this program with several, else None.

    Raises Unavailable without mpi4py, or if mpiexec and mpi4py use different MPI libraries.
    """
    # Set by MPICH and its derivatives, and by Open MPI.
    started = max(int(os.environ.get(name, 1)) for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    if started == 1 and "PMIX_RANK" not in os.environ:  # PMIx does not say how many
        return None
    comm = _mpi().COMM_WORLD
    if comm.Get_size() < started:
        raise Unavailable(
            f"mpiexec must belong to the MPI library of mpi4py: it started {started} processes, "
            f"which mpi4py does not see; install mpi4py for that library"
        )
    return comm if comm.Get_size() > 1 else None


class Ranks:
    """What a model needs from its communicator: the rank's rows, and sums over the ranks.

    comm: an mpi4py communicator. On NumPy each rank computes on one thread, because the ranks of a
    machine share its cores; OPENBLAS_NUM_THREADS or OMP_NUM_THREADS overrides this. On CuPy the
    ranks of a machine take its GPUs in turn, and an MPI library that cannot read a GPU's memory
    gets a copy on the host.
    """

    def __init__(self, comm: Any, xp: ModuleType) -> None:
        if not hasattr(comm, "Allreduce"):
            raise InvalidInput(f"comm must be a communicator of mpi4py, got {comm!r}")
        self.mpi = sys.modules[type(comm).__module__]  # mpi4py.MPI
        self.comm, self.xp = comm, xp
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.weight = 1.0  # n_r / n of the batch at hand
        self.direct = xp is np
        if self.direct:
            backend.one_blas_thread()
        else:  # before the first array of the model is allocated
            local = comm.Split_type(self.mpi.COMM_TYPE_SHARED).Get_rank()
            xp.cuda.Device(local % xp.cuda.runtime.getDeviceCount()).use()
            self.direct = "cuda" in (comm.Get_info().get("mpi_memory_alloc_kinds") or "")

    def join(self, model: Any) -> None:
        """Make every step of the model a joint step of all ranks, each on its own rows.

        Raises InvalidInput for a model with a layer that looks at several rows at once.
        """
        for network in (model.encoder, model.decoder, model.discriminator):
            for _, layer in parts(network):
                if getattr(layer, "mixes_rows", False):
                    raise InvalidInput(
                        f"comm must be None for a model with {type(layer).__name__}, "
                        "which needs all rows of a batch"
                    )
        for adam in model.adams().values():
            adam.step = partial(self._average_and_step, adam, adam.step)
        model.step = partial(self._step, model.step)
        model.draw_prior = partial(_draw_rows, model.draw_prior)

    def _average_and_step(self, adam: Any, step: Callable[[], None]) -> None:
        self.average(adam.gradient)
        step()

    def _step(
        self, step: Callable[..., Any], x: Array, rng: Generator, labels: Array | None = None
    ) -> tuple[Array, ...]:
        """One step on this rank's rows: the losses of the whole batch.

        A rank without rows takes one with weight 0, so that all ranks run the same code.
        """
        if self.rank == 0 and self.comm.Iprobe(tag=STOP):  # another rank passes a signal on
            number = np.empty(1, np.intc)
            self.comm.Recv(number, tag=STOP)
            time.sleep(0.2)  # mpiexec signals all ranks, so this one may get the signal itself
            signal.raise_signal(number[0])
        n = len(x)
        start, stop = (n * rank // self.size for rank in (self.rank, self.rank + 1))
        self.weight = (stop - start) / n
        rows = slice(start, max(stop, start + 1))
        own_labels = None if labels is None else labels[rows]
        losses = self.xp.stack(step(x[rows], RowsOf(rng, n, rows, labels), own_labels))
        self.average(losses)
        return tuple(losses)

    def average(self, array: Array) -> None:
        """Σ_r (n_r / n) · array_r, in place and on every rank."""
        array *= self.weight
        buffer = array if self.direct else to_host(array)
        if self.direct and self.xp is not np:  # MPI knows nothing of CUDA's streams
            self.xp.cuda.get_current_stream().synchronize()
        self.comm.Allreduce(self.mpi.IN_PLACE, buffer)
        if not self.direct:
            array[...] = self.xp.asarray(buffer)

    def require_agreement(self, model: Any, **arguments: Any) -> None:
        """Raise InvalidInput on every rank unless all train the same model in the same way."""
        from . import __version__

        settings = [getattr(owner, name) for _, owner, name in numbers(model)]
        state = model.config, model.epoch, settings
        values = {"version": __version__, "configuration": state} | model.arrays() | arguments
        own = np.frombuffer(b"".join(map(_digest, values.values())), np.uint8)
        digests = np.empty((self.size, len(values), 32), np.uint8)
        self.comm.Allgather(own, digests)
        same = (digests == digests[0]).all(axis=(0, 2))
        different = [name for name, agreed in zip(values, same, strict=True) if not agreed]
        if different:
            raise InvalidInput(
                f"comm must join ranks of one run, but they differ in {', '.join(different)}"
            )


def _digest(value: Any) -> bytes:
    if not hasattr(value, "dtype"):
        return sha256(str(value).encode()).digest()
    array = np.ascontiguousarray(to_host(value))
    return sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).digest()


def _draw_rows(
    draw_prior: Callable[..., Array], rng: Generator, n: int, labels: Array | None = None
) -> Array:
    """`draw_prior` for the whole batch, of which it returns this rank's rows."""
    if not isinstance(rng, RowsOf):
        return draw_prior(rng, n, labels)
    return draw_prior(rng.whole, rng.n, rng.labels)[rng.rows]


class RowsOf:
    """A generator that draws for all n rows of a batch and returns this rank's rows.

    The layers use it. Their arrays have a row for each row of the batch or, if the batch consists
    of k concatenated parts, for each row of each part. `whole`, `n` and `labels` are the
    generator, the size and the labels of the whole batch, and `rows` is this rank's slice of it.
    """

    def __init__(self, whole: Generator, n: int, rows: slice, labels: Array | None) -> None:
        self.whole, self.n, self.rows, self.labels = whole, n, rows, labels

    def draw(self, function: Callable[[tuple[int, ...]], Array], shape: Any) -> Array:
        """This rank's rows of `function(shape)`, whose first dimension is that of all rows."""
        count, *features = shape if isinstance(shape, tuple) else (shape,)
        parts, rest = divmod(count, self.rows.stop - self.rows.start)
        if rest:
            raise InvalidInput(
                f"shape must have a row for each row of the batch, got {shape}: on several ranks a "
                "layer can draw nothing else"
            )
        values = function((parts * self.n, *features)).reshape(parts, self.n, *features)
        return values[:, self.rows].reshape(count, *features)

    def random_words(self, xp: ModuleType, shape: tuple[int, ...]) -> Array:
        return self.draw(lambda size: backend.random_words(xp, self.whole, size), shape)

    def random(self, size: Any, **options: Any) -> Array:
        return self.draw(lambda shape: self.whole.random(shape, **options), size)

    def standard_normal(self, size: Any, **options: Any) -> Array:
        return self.draw(lambda shape: self.whole.standard_normal(shape, **options), size)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Array:
        return self.draw(lambda shape: self.whole.uniform(low, high, shape), size)

    def integers(self, low: int, high: int | None = None, size: Any = None) -> Array:
        return self.draw(lambda shape: self.whole.integers(low, high, shape), size)


# One program: how the ranks of an example appear to their user


@contextmanager
def rank_0_first() -> Iterator[None]:
    """Run the block on rank 0 before the others, so that they find what it downloaded."""
    comm = world()
    if comm is not None and comm.Get_rank() > 0:
        comm.Barrier()
    try:
        yield
    finally:
        if comm is not None and comm.Get_rank() == 0:
            comm.Barrier()


@contextmanager
def one_program() -> Iterator[None]:
    """Make the ranks of a program print as one and end together.

    Only rank 0 prints and handles Ctrl-C, SIGTERM and SIGHUP, which the other ranks forward to it.
    If a rank fails, all end with its status. Rank 0 reports a failure that all ranks share. A rank
    that fails alone, while the others wait for it, reports the failure itself after two seconds.
    """
    comm = world()
    if comm is None:
        yield
        return
    rank, stderr, unsaid = comm.Get_rank(), sys.stderr, StringIO()
    if rank > 0:
        sys.stdout, sys.stderr = StringIO(), unsaid

        def tell(number: int, frame: FrameType | None) -> None:
            comm.Send(np.array([number], np.intc), dest=0, tag=STOP)

        for number in SIGNALS:
            signal.signal(number, tell)
    try:
        yield
    except BaseException as error:
        status = error.code if isinstance(error, SystemExit) else 1
        if status in (0, None):
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        if rank > 0:
            time.sleep(2)
            stderr.write(f"rank {rank}: {unsaid.getvalue()}")
        sys.stdout.flush()
        time.sleep(0.5)  # so that mpiexec forwards the output before it ends all ranks
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would add a line of its own
        comm.Abort(status if isinstance(status, int) else 1)
