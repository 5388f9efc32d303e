"""What may be imposed on the code: plain callables `prior(rng, n, dim) -> samples` of shape (n, dim).

A function of your own is as welcome as those below. `rng` is the backend's random generator: NumPy's, or on a GPU CuPy's,
which has `random`, `standard_normal`, `uniform` and `integers` among others but not `normal` or `choice`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .backend import Array, Generator
from .errors import positive_number

Prior: TypeAlias = Callable[[Generator, int, int], Array]


@dataclass(frozen=True)
class gaussian:  # lower case, for it is used as a function is; a class, so that it compares, prints and can be saved
    """N(0, std² I): independent normal coordinates of mean 0 and standard deviation `std` (in units of the code).

    Raises InvalidInput for a standard deviation that is not positive and finite.
    """

    std: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", positive_number("std", self.std))

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        return self.std * rng.standard_normal((n, dim))
