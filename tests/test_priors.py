"""Each prior against its own distribution function F: F(sample) must be uniform on [0, 1].

The Kolmogorov-Smirnov distance of n uniform numbers exceeds √(ln(2/δ) / 2n) with a probability of
at most δ (Dvoretzky, Kiefer and Wolfowitz; Massart). Here δ = 1e-12, because every run draws anew.
"""

import json
from itertools import combinations
from math import erf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npaae import priors
from npaae.checks import InvalidInput
from npaae.priors import gaussian, gaussian_mixture, swiss_roll, uniform_disc, uniform_square

from .strategies import seeds

N = 20_000
lengths = st.floats(0.1, 50)
PRIORS = [gaussian(3.0), uniform_square(6.0), uniform_disc(3.0), gaussian_mixture(4), swiss_roll()]


def assert_uniform(*columns):
    """Each column is uniform on [0, 1), and stays so where another is small: independence."""
    for u in (*columns, *(u[v < 0.5] for u, v in combinations(columns, 2))):
        grid = np.arange(len(u) + 1) / len(u)
        distance = max(np.max(np.sort(u) - grid[:-1]), np.max(grid[1:] - np.sort(u)))
        assert distance < sqrt(log(2 / 1e-12) / (2 * len(u)))


def normal_cdf(x):
    return np.array([(1 + erf(value / sqrt(2))) / 2 for value in x])


def polar(z):
    """Radius, and angle as a share of the full turn."""
    return np.linalg.norm(z, axis=1), np.arctan2(z[:, 1], z[:, 0]) / (2 * pi) % 1


@given(seeds, lengths)
def test_the_gaussian_has_its_radius_and_every_angle_alike(seed, std):
    radius, angle = polar(gaussian(std)(np.random.default_rng(seed), N, 2))
    assert_uniform(1 - np.exp(-(radius**2) / (2 * std**2)), angle)  # P(|z| ≤ r)


@given(seeds, lengths, st.integers(1, 4))
def test_the_square_is_uniform_in_each_coordinate(seed, side, dim):
    samples = uniform_square(side)(np.random.default_rng(seed), N, dim)
    assert_uniform(*(samples / side + 0.5).T)


@given(seeds, lengths, st.integers(2, 4))
def test_the_disc_has_in_each_radius_its_share_of_the_volume(seed, radius, dim):
    samples = uniform_disc(radius)(np.random.default_rng(seed), N, dim)
    distance = np.linalg.norm(samples, axis=1)
    assert_uniform((distance / radius) ** dim, polar(samples)[1])


@given(seeds, lengths)
def test_the_disc_of_one_dimension_is_an_interval_and_of_three_a_ball(seed, radius):
    line, ball = (uniform_disc(radius)(np.random.default_rng(seed), N, dim) for dim in (1, 3))
    assert_uniform(line[:, 0] / radius / 2 + 0.5)
    height = ball[:, 2] / np.linalg.norm(ball, axis=1)  # uniform on a sphere (Archimedes)
    assert_uniform(height / 2 + 0.5)


@given(seeds, st.integers(1, 12), lengths, lengths, lengths)
def test_a_petal_has_its_spread_outwards_and_its_spread_across(seed, k, radius, radial, across):
    rng = np.random.default_rng(seed)
    position = rng.random(N)
    samples = gaussian_mixture(k, radius, radial, across).at(rng, position)
    turned = (samples @ [1, 1j]) * np.exp(-2j * pi * np.floor(position * k) / k)
    assert_uniform(normal_cdf((turned.real - radius) / radial), normal_cdf(turned.imag / across))


@given(seeds, lengths, st.floats(0.1, 5), lengths)
def test_the_roll_is_blurred_normally_about_its_spiral(seed, radius, turns, std):
    rng = np.random.default_rng(seed)
    root = np.sqrt(position := rng.random(N))
    samples = swiss_roll(radius, turns, std).at(rng, position) @ [1, 1j]
    blur = (samples - radius * root * np.exp(2j * pi * turns * root)) / std
    assert_uniform(normal_cdf(blur.real), normal_cdf(blur.imag))


@given(seeds, st.integers(1, 12))
def test_a_prior_with_parts_draws_all_of_them_alike(seed, components):
    rng = np.random.default_rng(seed)
    _, angle = polar(gaussian_mixture(components, 1.0, 1e-9, 1e-9)(rng, N, 2))
    petal = np.round(angle * components) % components
    assert_uniform((petal + rng.random(N)) / components)
    radius, angle = polar(swiss_roll(3.0, 0.9, 1e-15)(rng, N, 2))
    assert_uniform((radius / 3) ** 2)
    np.testing.assert_allclose(angle, 0.9 * radius / 3, atol=1e-9)


def test_the_roll_is_as_dense_at_its_end_as_in_its_middle():
    line = swiss_roll(std=1e-9).at(np.random.default_rng(0), np.linspace(0.1, 1, 1001)[:-1])
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)  # between points at equal steps of s
    assert steps.max() / steps.min() < 1.1


@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior_draws_float64_and_survives_a_checkpoint(prior, rng):
    samples = prior(rng, 3, 2)
    assert (samples.shape, samples.dtype) == ((3, 2), np.float64)
    assert isinstance(prior, priors.Divisible) == hasattr(prior, "at")
    assert priors.from_config(json.loads(json.dumps(priors.to_config(prior)))) == prior


def test_the_default_is_the_reports_and_numpys_numbers_are_taken():
    assert gaussian() == gaussian(std=np.float32(5))
    assert json.dumps(priors.to_config(gaussian_mixture(np.int64(4), np.float32(2))))


def test_a_prior_of_the_users_own_is_not_kept():
    assert priors.to_config(lambda rng, n, dim: rng.random((n, dim))) is None


@pytest.mark.parametrize("prior", [gaussian_mixture(), swiss_roll()])
def test_a_planar_prior_refuses_other_dimensions(prior, rng):
    with pytest.raises(InvalidInput, match=r"^dim must"):
        prior(rng, 3, 3)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "wide"])
@pytest.mark.parametrize(("prior", "name"), [(type(p), name) for p in PRIORS for name in vars(p)])
def test_a_number_that_is_not_positive_and_finite_is_refused(prior, name, value):
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        prior(**{name: value})
