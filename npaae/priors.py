"""What may be imposed on the code: plain callables `prior(rng, n, dim) -> samples` of shape (n, dim).

A function of your own is as welcome as those below. `rng` is the backend's random generator: NumPy's, or on a GPU CuPy's,
which has `random`, `standard_normal`, `uniform` and `integers` among others but not `normal` or `choice`.

A prior that is laid out along a line, as the mixture and the roll are, also has `at(rng, position)`: samples at the given
positions, each in [0, 1). With positions uniform in [0, 1) they follow the prior as a whole; with positions in one tenth of
that range, its tenth part. That is what a label-conditioned discriminator needs: each class gets its own part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi
from types import ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .backend import Array, Generator, module_of
from .checks import InvalidInput, integer, positive

Prior: TypeAlias = Callable[[Generator, int, int], Array]


@runtime_checkable
class Divisible(Protocol):
    """A prior that can be drawn part by part."""

    def __call__(self, rng: Generator, n: int, dim: int) -> Array: ...

    def at(self, rng: Generator, position: Array) -> Array: ...


# Lower case, for they are used as functions are; classes, so that they compare, print and can be saved.


@dataclass(frozen=True)
class gaussian:
    """N(0, std² I): independent normal coordinates of mean 0 and standard deviation `std` (in units of the code).

    Raises InvalidInput for a standard deviation that is not positive and finite.
    """

    std: float = 5.0

    def __post_init__(self) -> None:
        _positive(self, "std")

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        return self.std * rng.standard_normal((n, dim))


@dataclass(frozen=True)
class uniform_square:
    """Uniform on the square [−side/2, side/2]²; with more dimensions on the cube, and with one on the interval.

    Each coordinate has the variance side² / 12. Raises InvalidInput for a side that is not positive and finite.
    """

    side: float = 20.0

    def __post_init__(self) -> None:
        _positive(self, "side")

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        return self.side * (rng.random((n, dim)) - 0.5)


@dataclass(frozen=True)
class uniform_disc:
    """Uniform on the disc of `radius` about 0; with more dimensions on the ball.

        z = radius · u^(1/dim) · ε / |ε|,        u uniform in [0, 1), ε normal

    ε/|ε| is uniform in direction, and the part of the ball within r has the share (r / radius)^dim of its volume. Each
    coordinate has the variance radius² / (dim + 2). Raises InvalidInput for a radius that is not positive and finite.
    """

    radius: float = 10.0

    def __post_init__(self) -> None:
        _positive(self, "radius")

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        direction = rng.standard_normal((n, dim))
        xp = module_of(direction)
        length = xp.sqrt(xp.sum(direction * direction, axis=1, keepdims=True))
        return self.radius * rng.random((n, 1)) ** (1 / dim) * direction / length


@dataclass(frozen=True)
class gaussian_mixture:
    """One of `components` equally likely planar Gaussians, set evenly on a circle like the petals of a flower.

    Component k has its mean at `radius` in the direction θ = 2πk / components, and standard deviations `radial_std` in that
    direction and `tangential_std` across it:

        z = (radius + radial_std ε₁) (cos θ, sin θ) + tangential_std ε₂ (−sin θ, cos θ),        ε₁, ε₂ normal

    A model with as many classes gives each a component of its own; with another number, parts and components overlap.

    Source: Makhzani et al., arXiv:1511.05644, Figures 2 and 4, whose petals these are. Raises InvalidInput for a length that
    is not positive and finite, for fewer than one component, and for codes that are not two-dimensional.
    """

    components: int = 10
    radius: float = 9.0
    radial_std: float = 2.5
    tangential_std: float = 0.7

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", integer("components", self.components, 1))
        _positive(self, "radius", "radial_std", "tangential_std")

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, 2) samples."""
        _planar(self, dim)
        return self.at(rng, rng.random(n))

    def at(self, rng: Generator, position: Array) -> Array:
        """(n, 2) samples, each of the component ⌊position · components⌋."""
        xp = module_of(position)
        angle = 2 * pi / self.components * xp.floor(position * self.components)
        noise = rng.standard_normal((len(position), 2))
        outwards = self.radius + self.radial_std * noise[:, 0]
        return _turned(xp, angle, outwards, self.tangential_std * noise[:, 1])


@dataclass(frozen=True)
class swiss_roll:
    """A planar spiral of `turns` turns from the centre out to `radius`, blurred by normal noise of `std`.

        z = radius √s (cos θ, sin θ) + std ε,        θ = 2π · turns · √s,   s uniform in [0, 1), ε normal

    An Archimedean spiral r = a θ has an arc of about a θ² / 2 from its centre to θ, so that √s spreads the samples evenly
    along it. Source: Makhzani et al., arXiv:1511.05644, Figure 4. Raises InvalidInput for a number that is not positive and
    finite, and for codes that are not two-dimensional.
    """

    radius: float = 12.0
    turns: float = 2.0
    std: float = 0.5

    def __post_init__(self) -> None:
        _positive(self, "radius", "turns", "std")

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, 2) samples."""
        _planar(self, dim)
        return self.at(rng, rng.random(n))

    def at(self, rng: Generator, position: Array) -> Array:
        """(n, 2) samples at s = position, from the centre at 0 to the outer end at 1."""
        xp = module_of(position)
        root = xp.sqrt(position)
        spiral = _turned(xp, 2 * pi * self.turns * root, self.radius * root, 0.0)
        return spiral + self.std * rng.standard_normal((len(position), 2))


SAVED = {prior.__name__: prior for prior in (gaussian, uniform_square, uniform_disc, gaussian_mixture, swiss_roll)}


def to_config(prior: Prior) -> dict[str, Any] | None:
    """The name and the numbers of a prior of this module, as a checkpoint keeps them; None for one of a user's own."""
    return {"name": type(prior).__name__, **vars(prior)} if type(prior) in SAVED.values() else None


def from_config(config: Mapping[str, Any]) -> Prior:
    """The prior that `to_config` described; raises KeyError, TypeError or InvalidInput for what is no such description."""
    numbers = dict(**config)
    prior: Prior = SAVED[numbers.pop("name")](**numbers)
    return prior


def _positive(prior: Any, *names: str) -> None:
    """Make the named fields of a frozen prior floats, refusing what is not positive and finite."""
    for name in names:
        object.__setattr__(prior, name, positive(name, getattr(prior, name)))


def _planar(prior: Prior, dim: int) -> None:
    if dim != 2:
        raise InvalidInput(f"{dim} dimensions came, and {prior!r} lies in a plane; use latent=2")


def _turned(xp: ModuleType, angle: Array, outwards: Array, across: Array | float) -> Array:
    """outwards · (cos θ, sin θ) + across · (−sin θ, cos θ), as rows: (n,), (n,) and (n,) -> (n, 2)."""
    cos, sin = xp.cos(angle), xp.sin(angle)
    return xp.stack((outwards * cos - across * sin, outwards * sin + across * cos), axis=1)
