"""A device that any laptop has: arrays that compute like CuPy's, and refuse NumPy as CuPy's do, or more.

A `DeviceArray` meets only device arrays and Python scalars; NumPy may neither convert it nor take it as an operand, and its
own array module offers what the package uses of CuPy and nothing else. It counts how often the host asks for its contents,
which on a real device is a wait.
"""

import operator
from types import ModuleType, SimpleNamespace

import numpy as np

FETCHES = []  # what the host asked for: the shapes, in order
MOVES = []  # what the host sent: the shapes, in order
FUSED = []  # the names of the fused chains that ran, in order


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
        raise TypeError(f"np.{function.__name__} was handed a device array; use xp.{function.__name__}")

    def get(self):
        FETCHES.append(self.shape)
        return self._array.copy()

    def _number(self, kind):
        FETCHES.append(self.shape)
        return kind(self._array)

    def __float__(self):
        return self._number(float)

    def __int__(self):
        return self._number(int)

    def __bool__(self):
        return self._number(bool)

    def __repr__(self):
        return self._number(repr)

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    size = property(lambda self: self._array.size)
    ndim = property(lambda self: self._array.ndim)
    T = property(lambda self: wrap(self._array.T))

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, DeviceArray) and part.dtype == bool for part in parts):
            FETCHES.append(self.shape)  # CuPy counts the chosen ones on the host
        view = self._array[unwrap(index)]
        return wrap(view)

    def __setitem__(self, index, value):
        self._array[unwrap(index)] = unwrap(value)

    def reshape(self, *shape):
        return wrap(self._array.reshape(*shape))

    def astype(self, dtype, copy=True):
        return wrap(self._array.astype(dtype, copy=copy))

    def all(self):
        return wrap(self._array.all())

    def mean(self):
        return wrap(self._array.mean())


def _binary(function):
    return lambda a, b: wrap(function(unwrap(a), unwrap(b))), lambda a, b: wrap(function(unwrap(b), unwrap(a)))


def _in_place(function):
    def operate(a, b):
        function(a._array, unwrap(b))
        return a

    return operate


for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "lt", "le", "gt", "ge", "eq", "and_"):
    forward, reflected = _binary(getattr(operator, name))
    setattr(DeviceArray, f"__{name.rstrip('_')}__", forward)
    setattr(DeviceArray, f"__r{name.rstrip('_')}__", reflected)
for name in ("iadd", "isub", "imul", "itruediv"):
    setattr(DeviceArray, f"__{name}__", _in_place(getattr(operator, name)))
DeviceArray.__neg__ = lambda a: wrap(-a._array)


def _on_device(function):
    def on_device(*arguments, out=None, **options):
        if out is None:
            return wrap(function(*map(unwrap, arguments), **options))
        function(*map(unwrap, arguments), out=unwrap(out), **options)
        return out

    return on_device


def _new(function):
    return lambda shape, dtype=np.float64: wrap(function(shape, dtype))


class Generator:
    """NumPy's draws, given out on the device, by the methods that CuPy's generator has."""

    def __init__(self, seeds=None):
        # the stream that the package gives NumPy, so that the two backends can be compared to the last bit
        self._rng = np.random.Generator(np.random.SFC64(seeds))

    def random(self, size, dtype=np.float64):
        return wrap(self._rng.random(size, dtype=dtype))

    def standard_normal(self, size, dtype=np.float64):
        return wrap(self._rng.standard_normal(size, dtype=dtype))


def asarray(value, dtype=None):
    """From the host or from the device: the one place where the two may meet."""
    if not isinstance(value, DeviceArray):
        MOVES.append(np.shape(value))
    return DeviceArray(np.array(unwrap(value) if isinstance(value, DeviceArray) else value, dtype=dtype))


def _as_it_is(value, dtype=None):
    same = isinstance(value, DeviceArray) and dtype in (None, value.dtype)
    return value if same else asarray(value, dtype)


def fuse(chain):
    """Fused or not, the operations are the same; what CuPy makes of them, `test_switch` asks CuPy."""

    def run(*arguments):
        FUSED.append(chain.__name__)
        return chain(*arguments)

    return run


FUNCTIONS = (
    "abs", "concatenate", "cos", "divide", "empty_like", "exp", "floor", "isfinite", "log", "log1p", "matmul", "maximum",
    "minimum", "sin", "sqrt", "stack", "sum", "where", "zeros_like",
)  # fmt: skip
device = ModuleType("strict")
vars(device).update(
    __version__="0",
    fuse=fuse,
    asarray=_as_it_is,
    float32=np.float32,
    random=SimpleNamespace(default_rng=Generator),
    arange=lambda stop: wrap(np.arange(stop)),
    empty=_new(np.empty),
    zeros=_new(np.zeros),
    **{name: _on_device(getattr(np, name)) for name in FUNCTIONS},
)
