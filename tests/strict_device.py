"""A GPU that every machine has: arrays that compute like CuPy's and refuse NumPy as CuPy's do.

A `DeviceArray` accepts device arrays and Python scalars only. NumPy can neither convert it nor take
it as an operand. The array module `device` offers what the package uses of CuPy and nothing else.
It records when the host fetches or moves data, which on a GPU is a wait, and its kernels.
"""

import operator
from types import ModuleType, SimpleNamespace

import numpy as np

from npaae.backend import random_words

FETCHES = []  # the shapes that the host asked for, in order
MOVES = []  # the shapes that the host sent, in order
FUSED = []  # the names of the fused kernels that ran, in order
COMPILED = []  # the names of the functions that were fused, in order
LAUNCHES = []  # what each kernel launch computes, in order


def launch(name, times=1):
    """Record launches, except of what runs inside a fused kernel."""
    if not _FUSING:
        LAUNCHES.extend([name] * times)


_FUSING = []  # the fused kernel that runs, if one does


def unwrap(value):
    """The NumPy array inside; Python scalars, NumPy scalars and indices as they are."""
    if isinstance(value, DeviceArray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array met a device array: move it with xp.asarray")
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrap, value))
    return value


def wrap(value):
    return DeviceArray(value) if isinstance(value, (np.ndarray, np.generic)) else value


class DeviceArray:
    __array_ufunc__ = None  # NumPy must not take it as an operand
    __hash__ = None

    def __init__(self, array):
        self._array = np.asarray(array)

    def __array__(self, *_, **__):
        raise TypeError("implicit conversion to a NumPy array; use .get()")

    def __array_function__(self, function, *_):
        raise TypeError(f"np.{function.__name__} got a device array; use xp.{function.__name__}")

    def get(self):
        FETCHES.append(self.shape)
        return self._array.copy()

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, DeviceArray) for part in parts):
            launch("take")
        if any(isinstance(part, DeviceArray) and part.dtype == bool for part in parts):
            FETCHES.append(self.shape)  # CuPy counts the chosen elements on the host
        return wrap(self._array[unwrap(index)])

    def __setitem__(self, index, value):
        launch("copy")
        self._array[unwrap(index)] = unwrap(value)

    def astype(self, dtype, copy=True):
        if copy or self.dtype != dtype:
            launch("copy")
        return wrap(self._array.astype(dtype, copy=copy))


def _number(kind):
    def convert(a):
        FETCHES.append(a.shape)
        return kind(a._array)

    return convert


def _method(name):
    def method(a, *arguments, **options):
        if name != "reshape":  # a view
            launch(name)
        return wrap(getattr(a._array, name)(*arguments, **options))

    return method


def _in_place(function):
    def operate(a, b):
        launch(function.__name__)
        function(a._array, unwrap(b))
        return a

    return operate


def _binary(function, reflected):
    def operate(a, b):
        launch(function.__name__)
        a, b = unwrap(a), unwrap(b)
        return wrap(function(b, a) if reflected else function(a, b))

    return operate


for kind in (float, int, bool, repr):
    setattr(DeviceArray, f"__{kind.__name__}__", _number(kind))
for name in ("shape", "dtype", "size", "ndim", "T"):
    setattr(DeviceArray, name, property(lambda a, name=name: wrap(getattr(a._array, name))))
for name in (
    "__invert__",
    "__neg__",
    "all",
    "argmax",
    "copy",
    "max",
    "mean",
    "ravel",
    "reshape",
    "sum",
):
    setattr(DeviceArray, name, _method(name))
for name in ("iadd", "isub", "imul", "itruediv"):
    setattr(DeviceArray, f"__{name}__", _in_place(getattr(operator, name)))
for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "lt", "le", "gt", "ge", "eq"):
    function = getattr(operator, f"__{name}__")
    setattr(DeviceArray, f"__{name}__", _binary(function, reflected=False))
    setattr(DeviceArray, f"__r{name}__", _binary(function, reflected=True))


def _on_device(function):
    def on_device(*arguments, out=None, **options):
        joins = function in (np.concatenate, np.stack)
        copies = function is not np.ascontiguousarray or not arguments[0]._array.flags.c_contiguous
        launch(function.__name__, len(arguments[0]) if joins else int(copies))
        if out is None:
            return wrap(function(*map(unwrap, arguments), **options))
        function(*map(unwrap, arguments), out=unwrap(out), **options)
        return out

    return on_device


def _new(function):
    def new(shape, dtype=np.float64):
        if function is not np.empty:
            launch(function.__name__)
        return wrap(function(shape, dtype))

    return new


class Generator:
    """NumPy's draws, on the device, by the methods of CuPy's generator that the package uses.

    It has the state that the package gives NumPy's, so that the backends can be compared to the
    last bit. Of a float32 in [0, 1) the first 16 bits are random: they are the words that
    `random_words` draws on NumPy.
    """

    def __init__(self, seeds=None):
        self._rng = np.random.Generator(np.random.SFC64(seeds))

    def random(self, size, dtype=np.float64):
        launch("random")
        if dtype == np.float32:
            return wrap(random_words(np, self._rng, size) / np.float32(2**16))
        return wrap(self._rng.random(size, dtype))

    def standard_normal(self, size, dtype=np.float64):
        launch("random")
        return wrap(self._rng.standard_normal(size, dtype))

    def integers(self, low, high, size):
        launch("random")
        return wrap(self._rng.integers(low, high, size))


def asarray(value, dtype=None):
    """The one place where host and device meet."""
    if isinstance(value, DeviceArray):
        return wrap(np.asarray(value._array, dtype))
    MOVES.append(np.shape(value))
    return wrap(np.array(value, dtype))


def fuse(function):
    """The same operations, fused or not; `test_switch` asks CuPy what it makes of them."""
    COMPILED.append(function.__name__)

    def run(*arguments):
        FUSED.append(function.__name__)
        launch(function.__name__)
        _FUSING.append(function)
        try:
            return function(*arguments)
        finally:
            _FUSING.pop()

    return run


FUNCTIONS = (
    "abs", "ascontiguousarray", "concatenate", "cos", "divide", "empty_like", "exp",
    "flatnonzero", "floor", "isfinite", "log", "log1p", "matmul", "maximum", "multiply", "sin",
    "sqrt", "stack", "sum", "where", "zeros_like",
)  # fmt: skip
device = ModuleType("strict")
vars(device).update(
    __version__="0",
    fuse=fuse,
    asarray=asarray,
    float32=np.float32,
    ndarray=DeviceArray,
    uint16=np.uint16,
    random=SimpleNamespace(
        default_rng=Generator, Generator=Generator, XORWOW=lambda seeds, size: seeds
    ),
    arange=lambda stop: wrap(np.arange(stop)),
    empty=_new(np.empty),
    eye=lambda n, dtype: wrap(np.eye(n, dtype=dtype)),
    ones=_new(np.ones),
    split=lambda a, indices, axis: [wrap(part) for part in np.split(unwrap(a), indices, axis)],
    zeros=_new(np.zeros),
    **{name: _on_device(getattr(np, name)) for name in FUNCTIONS},
)
