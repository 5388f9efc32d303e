"""Distributions to impose on the code: functions `prior(rng, n, dim)` that return (n, dim) samples.

Your own function works as well. `rng` is the backend's random generator, NumPy's or CuPy's;
CuPy's has `random`, `standard_normal`, `uniform` and `integers`, but not `normal` or `choice`.

A prior with parts, like the mixture and the roll, also has a method `sample_at(rng, position)`. It
returns samples at the given positions, each in [0, 1). Positions uniform in [0, 1) give the whole
prior, and positions uniform in the k-th tenth of that interval give its k-th tenth. A
label-conditioned discriminator needs this, because each class gets its own part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi
from types import ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .backend import Array, Generator, module_of
from .checks import integer, positive
from .errors import InvalidInput

Prior: TypeAlias = Callable[[Generator, int, int], Array]


@runtime_checkable
class PriorWithParts(Protocol):
    """A prior that can be drawn part by part."""

    def __call__(self, rng: Generator, n: int, dim: int) -> Array: ...

    def sample_at(self, rng: Generator, position: Array) -> Array: ...


class _Checked:
    def __post_init__(self) -> None:
        """Convert every field to a Python number; raises InvalidInput for one outside its range."""
        for name, value in vars(self).items():
            number = positive(name, value)
            if name == "components":
                number = integer(name, value, 1)
            object.__setattr__(self, name, number)  # the dataclasses below are frozen


# These classes are named like functions, because they are used like functions. As classes they can
# be compared, printed and saved.


@dataclass(frozen=True)
class gaussian(_Checked):
    """N(0, std² I): independent normal coordinates of mean 0 and standard deviation `std`.

    Raises InvalidInput if `std` is not positive and finite.
    """

    std: float = 5.0

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        return self.std * rng.standard_normal((n, dim))


@dataclass(frozen=True)
class uniform_square(_Checked):
    """Uniform on the square [−side/2, side/2]², or on the interval or cube of `dim` dimensions.

    Each coordinate has variance side² / 12. Raises InvalidInput if `side` is not positive and
    finite.
    """

    side: float = 20.0

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        return self.side * (rng.random((n, dim)) - 0.5)


@dataclass(frozen=True)
class uniform_disc(_Checked):
    """Uniform on the disc of `radius` around 0, or on the interval or ball of `dim` dimensions.

        z = radius · u^(1/dim) · ε / |ε|,        u uniform in [0, 1), ε normal

    ε / |ε| has a uniform direction. The ball of radius r holds the share (r / radius)^dim of the
    volume, so P(|z| ≤ r) must equal it, and |z| = radius · u^(1/dim) inverts it. Each coordinate
    has variance radius² / (dim + 2). Raises InvalidInput if `radius` is not positive and finite.
    """

    radius: float = 10.0

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, dim) samples."""
        direction = rng.standard_normal((n, dim))
        xp = module_of(direction)
        length = xp.sqrt(xp.sum(direction * direction, axis=1, keepdims=True))
        return self.radius * rng.random((n, 1)) ** (1 / dim) * direction / length


@dataclass(frozen=True)
class gaussian_mixture(_Checked):
    """`components` equally likely planar Gaussians, evenly placed on a circle like petals.

    Component k has its mean at distance `radius` in the direction θ = 2πk / components, standard
    deviation `radial_std` along that direction and `tangential_std` across it:

        z = (radius + radial_std ε₁) (cos θ, sin θ) + tangential_std ε₂ (−sin θ, cos θ)

    with ε₁, ε₂ standard normal. If a model has as many classes as there are components, each class
    gets one; otherwise parts and components overlap.

    Source: Makhzani et al., arXiv:1511.05644, Figures 2 and 4. Raises InvalidInput for a length
    that is not positive and finite, fewer than one component, and codes that are not planar.
    """

    components: int = 10
    radius: float = 9.0
    radial_std: float = 2.5
    tangential_std: float = 0.7

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, 2) samples."""
        _require_plane(self, dim)
        return self.sample_at(rng, rng.random(n))

    def sample_at(self, rng: Generator, position: Array) -> Array:
        """(n, 2) samples, each of component ⌊position · components⌋."""
        xp = module_of(position)
        angle = 2 * pi / self.components * xp.floor(position * self.components)
        noise = rng.standard_normal((len(position), 2))
        outwards = self.radius + self.radial_std * noise[:, 0]
        return _turned(xp, angle, outwards, self.tangential_std * noise[:, 1])


@dataclass(frozen=True)
class swiss_roll(_Checked):
    """A planar spiral of `turns` turns from 0 out to `radius`, blurred by normal noise of `std`.

        z = radius √s (cos θ, sin θ) + std ε,    θ = 2π · turns · √s,    s uniform in [0, 1)

    with ε standard normal. The arc length of the spiral r = a θ from 0 to θ is about a θ² / 2, so
    √s spreads the samples evenly along it.

    Source: Makhzani et al., arXiv:1511.05644, Figure 4. Raises InvalidInput for a number that is
    not positive and finite, and codes that are not planar.
    """

    radius: float = 12.0
    turns: float = 2.0
    std: float = 0.5

    def __call__(self, rng: Generator, n: int, dim: int) -> Array:
        """(n, 2) samples."""
        _require_plane(self, dim)
        return self.sample_at(rng, rng.random(n))

    def sample_at(self, rng: Generator, position: Array) -> Array:
        """(n, 2) samples at s = position, from 0 at the centre to 1 at the outer end."""
        xp = module_of(position)
        root = xp.sqrt(position)
        spiral = _turned(xp, 2 * pi * self.turns * root, self.radius * root, 0.0)
        return spiral + self.std * rng.standard_normal((len(position), 2))


PRIORS = (gaussian, uniform_square, uniform_disc, gaussian_mixture, swiss_roll)


def to_config(prior: Prior) -> dict[str, Any] | None:
    """A prior of this module as the name and numbers that a checkpoint keeps; None for others."""
    return {"name": type(prior).__name__, **vars(prior)} if type(prior) in PRIORS else None


def from_config(config: Mapping[str, Any]) -> Prior:
    """The prior that `to_config` described.

    Raises KeyError, TypeError or InvalidInput for anything else.
    """
    numbers = dict(**config)
    kinds: dict[str, Callable[..., Prior]] = {kind.__name__: kind for kind in PRIORS}
    return kinds[numbers.pop("name")](**numbers)


def _require_plane(prior: Any, dim: int) -> None:
    if dim != 2:
        raise InvalidInput(f"dim must be 2 for the planar prior {prior!r}, got {dim}; use latent=2")


def _turned(xp: ModuleType, angle: Array, outwards: Array, across: Array | float) -> Array:
    """outwards · (cos θ, sin θ) + across · (−sin θ, cos θ), row by row: (n,) each -> (n, 2)."""
    cos, sin = xp.cos(angle), xp.sin(angle)
    return xp.stack((outwards * cos - across * sin, outwards * sin + across * cos), axis=1)
