"""The backends: NumPy, or CuPy on a GPU.

The mathematics receives an array module `xp` and calls its functions, so the same code serves both.
There is no global switch: one program may use both backends.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, update_wrapper, wraps
from math import prod
from threading import Lock
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from .errors import InvalidInput, Unavailable, one_line

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray; CuPy ships no type stubs
HostArray: TypeAlias = np.ndarray[Any, Any]
Generator: TypeAlias = Any  # numpy.random.Generator or cupy.random.Generator

BACKENDS = ("numpy", "cupy", "auto")

# Independent random streams. A generator is determined by (seed, stream, epoch), so its state never
# has to be saved. Epoch 0 means before training.
WEIGHTS, SHUFFLE, NOISE, SAMPLE = range(1, 5)

# Whether the user has chosen a number. OpenBLAS reads these once, when NumPy loads it.
THREADS_CHOSEN = bool({"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & os.environ.keys())

BLOCK = 2**17  # elements: 512 KiB of float32, so that the arrays of one update stay in the cache


def array_module(backend: str) -> ModuleType:
    """The array module "numpy" or "cupy"; "auto" is CuPy if there is a GPU, else NumPy.

    Raises InvalidInput for any other name, and Unavailable for "cupy" if CuPy or a GPU is missing.
    """
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise InvalidInput(f'backend must be "numpy", "cupy" or "auto", got {backend!r}')
    if backend == "numpy":
        return np
    try:
        return _cupy_on_a_gpu()
    except Unavailable:
        if backend == "auto":
            return np
        raise


def module_of(array: Array) -> ModuleType:
    """The array module that an array belongs to."""
    return np if isinstance(array, np.ndarray) else _cupy_on_a_gpu()


def _cupy_on_a_gpu() -> ModuleType:
    install = (
        "install CuPy with `pip install 'cupy-cuda12x[ctk]'` or `pip install 'cupy-cuda13x[ctk]'` "
        '(depending on your CUDA version), or use backend="numpy"'
    )
    try:
        import cupy
    except ImportError as error:
        raise Unavailable(f'backend="cupy" needs CuPy ({error}); {install}') from error
    # `import cupy` succeeds without a GPU, and only the first allocation fails.
    if not cupy.cuda.is_available():
        raise Unavailable(
            'backend="cupy" needs an NVIDIA GPU and its driver, and CuPy finds none; '
            'install the driver, or use backend="numpy"'
        )
    try:  # CuPy loads the CUDA libraries, which are installed separately, on first use
        for library in ("cublas", "curand", "nvrtc"):
            getattr(cupy.cuda, library)
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        missing = f'backend="cupy" needs all of CUDA\'s libraries ({one_line(error)})'
        raise Unavailable(f"{missing}; {install}") from error
    return cupy  # type: ignore[no-any-return]


def random_stream(xp: ModuleType, seed: int, stream: int, epoch: int = 0) -> Generator:
    """The backend's random generator for one stream of one epoch.

    On NumPy it is SFC64, which fills dropout masks faster than the default generator. On CuPy it
    is XORWOW with a fixed number of states. The default, 2,048 for each multiprocessor, would make
    the draws depend on the GPU, and all of these states would be initialised anew in every epoch
    and take part in every draw.
    """
    seeds = np.random.SeedSequence(seed, spawn_key=(stream, epoch))
    if xp is np:
        return np.random.Generator(np.random.SFC64(seeds))
    return xp.random.Generator(xp.random.XORWOW(seeds, size=2**15))


def random_words(xp: ModuleType, rng: Generator, shape: tuple[int, ...]) -> Array:
    """Independent random numbers: uint16, or float32 in [0, 1) on CuPy; see `limit`.

    On NumPy each 64-bit word gives four, which is faster than drawing four floats.
    """
    if hasattr(rng, "random_words"):  # on several ranks: see `parallel.RowsOf`
        return rng.random_words(xp, shape)
    if isinstance(rng, np.random.Generator):
        size = prod(shape)
        words = rng.integers(2**64, size=-(-size // 4), dtype=np.uint64)
        return words.view(np.uint16)[:size].reshape(shape)
    return rng.random(shape, dtype=xp.float32)


def limit(words: Array, threshold: int) -> float:
    """The number below which a random word lies with probability threshold / 65,536."""
    return threshold if words.dtype.kind == "u" else threshold / 2**16


def to_host(array: Array) -> HostArray:
    """The array as a NumPy array; on a GPU this waits for the device."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


@contextmanager
def blas_threads(xp: ModuleType, multiplications: int) -> Iterator[None]:
    """Compute the block's matrix products on one thread if they are small, else as usual.

    multiplications: the number in one pass through the networks, batch size · parameters. Below 1e8
    a second thread gains little on an idle machine, and two programs with a thread for each core
    slow each other down. Setting OPENBLAS_NUM_THREADS or OMP_NUM_THREADS overrides this. The limit
    applies to the whole process, and so to whatever else it computes at the time.
    """
    if xp is not np or multiplications >= 10**8 or THREADS_CHOSEN:
        yield
        return
    with _one_thread:
        yield


class _OneThread:
    """A limit of one BLAS thread, for blocks that may overlap if they run in several threads.

    The first block to begin sets the limit, and the last to end restores the original limits.
    """

    def __init__(self) -> None:
        self.lock, self.blocks = Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if self.blocks == 0:
                self._take_control()
                self.limit = _thread_pools().limit(limits=1, user_api="blas")
            self.blocks += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.blocks -= 1
            if self.blocks == 0:
                self._take_control()
                self.limit.restore_original_limits()
                self._take_control()  # and leave control to no thread

    @staticmethod
    def _take_control() -> None:
        """Let this thread set limits; threadpoolctl ignores those of all threads but one."""
        from threadpoolctl import OpenBLASController

        OpenBLASController.clear_controlling_thread(force=True)


_one_thread = _OneThread()


def one_blas_thread() -> None:
    """Compute all matrix products on one thread from now on, unless the user chose otherwise."""
    if not THREADS_CHOSEN:
        _thread_pools().limit(limits=1, user_api="blas")


@cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run an elementwise function (xp, …) as one kernel on a GPU, and unchanged on NumPy.

    Ten operations then read and write the GPU's memory once, not ten times. The function may use
    operators and elementwise functions of `xp` only: no `if` on values, no sums.
    """
    return wraps(function)(lambda xp, *arguments: _kernel(xp, function)(*arguments))


def blockwise(function: Callable[..., None]) -> Callable[..., None]:
    """Like `fused`, for a function that updates flat vectors in place: on NumPy, block by block.

    A block stays in the processor's cache while the operations of the update pass over it.
    """

    @wraps(function)
    def update(xp: ModuleType, *arguments: Any) -> None:
        if xp is not np:
            _kernel(xp, function)(*arguments)
            return
        size = max(a.size for a in arguments if isinstance(a, np.ndarray))
        for start in range(0, size, BLOCK):
            block = slice(start, start + BLOCK)
            function(xp, *(a[block] if isinstance(a, np.ndarray) else a for a in arguments))

    return update


@cache
def _kernel(xp: ModuleType, function: Callable[..., Any]) -> Callable[..., Any]:
    with_xp = update_wrapper(partial(function, xp), function)  # CuPy needs the name
    return xp.fuse(with_xp) if hasattr(xp, "fuse") else with_xp
