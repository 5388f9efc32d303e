"""NumPy or CuPy: the only file that knows which of the two computes.

Everything else is handed an array module `xp` and uses it by name, so that one text of the mathematics serves both.
There is no global switch: two models may compute on two backends in one program.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial, update_wrapper
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from .errors import InvalidInput, Unavailable, one_line

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray; CuPy ships no type stubs
HostArray: TypeAlias = np.ndarray[Any, Any]
Generator: TypeAlias = Any  # numpy.random.Generator or cupy.random.Generator

# Independent random streams, each with a generator of its own every epoch (epoch 0 is the time before training). A generator
# is determined by (seed, stream, epoch), so nothing about it need ever be saved.
WEIGHTS, SHUFFLE, NOISE, SAMPLE = range(1, 5)

# 256 KiB of float32: the arrays that Adam sweeps stay near the core while ten passes go over them.
CHUNK = 2**16


def array_module(backend: str) -> ModuleType:
    """The array module called "numpy" or "cupy"; "auto" is CuPy where there is a GPU, and NumPy elsewhere.

    Raises InvalidInput for another name, and Unavailable where CuPy is asked for and it, or a GPU, is missing.
    """
    if not isinstance(backend, str) or backend not in ("numpy", "cupy", "auto"):
        raise InvalidInput(f'backend={backend!r} came; use "numpy", "cupy" or "auto"')
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
    try:
        import cupy
    except ImportError as error:
        raise Unavailable(
            f'backend="cupy" needs CuPy, which cannot be imported here ({error}); install it with '
            "`pip install 'cupy-cuda12x[ctk]'` or `pip install 'cupy-cuda13x[ctk]'` (by your CUDA version), "
            'or use backend="numpy"'
        ) from error
    # `import cupy` succeeds without a GPU and the first allocation fails: ask now.
    if not cupy.cuda.is_available():
        raise Unavailable(
            'backend="cupy" needs an NVIDIA GPU and its driver, and CuPy finds none here; '
            'install the driver, or use backend="numpy"'
        )
    try:  # CUDA's libraries come apart from CuPy, which loads each when it is first asked for it
        for library in ("cublas", "curand", "nvrtc"):
            getattr(cupy.cuda, library)
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        raise Unavailable(
            f'backend="cupy" finds a GPU and not all of CUDA\'s libraries ({one_line(error)}); install them with '
            "`pip install 'cupy-cuda12x[ctk]'` or `pip install 'cupy-cuda13x[ctk]'`, or use backend=\"numpy\""
        ) from error
    return cupy  # type: ignore[no-any-return]


def generator(xp: ModuleType, seed: int, stream: int, epoch: int = 0) -> Generator:
    """The random generator of the backend for one stream of one epoch.

    NumPy's is SFC64, which fills dropout masks 1.7 times as fast as its default; CuPy's is its default, XORWOW.
    """
    seeds = np.random.SeedSequence(seed, spawn_key=(stream, epoch))
    return np.random.Generator(np.random.SFC64(seeds)) if xp is np else xp.random.default_rng(seeds)


def to_host(array: Array) -> HostArray:
    """The array as NumPy's; on a GPU this waits for the device."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


@cache
def fused(xp: ModuleType, chain: Callable[..., Any]) -> Callable[..., Any]:
    """`chain(xp, …)`, an elementwise function of arrays and numbers, with its `xp` given.

    On a GPU it becomes one program, traced from the same text: ten operations then read and write memory once, not ten times.
    So a chain holds only operators and the elementwise functions of `xp`: no `if` on values, no sums, no new arrays by shape.
    """
    given = update_wrapper(partial(chain, xp), chain)  # which lends it a name, as CuPy wants one
    return xp.fuse(given) if hasattr(xp, "fuse") else given


def sweep(xp: ModuleType, size: int, function: Callable[[slice], None]) -> None:
    """Call `function` once for each of the slices that flat vectors of `size` elements are cut into.

    On a CPU they are small enough for its cache to hold between several passes, and two threads share them, for NumPy
    computes without Python's lock; on a GPU one launch over everything is best.
    """
    if xp is not np:
        function(slice(0, size))
        return
    parts = [slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]

    def half(first: int) -> None:
        for part in parts[first::2]:
            function(part)

    other = _helper(os.getpid()).submit(half, 1) if len(parts) > 1 else None
    half(0)
    if other is not None:
        other.result()


@cache
def _helper(process: int) -> ThreadPoolExecutor:
    """One thread beside the main one; of each process its own, for a forked one inherits no threads."""
    return ThreadPoolExecutor(1)
