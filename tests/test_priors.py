from math import pi

import numpy as np
import pytest

from npaae.errors import InvalidInput
from npaae.priors import from_config, gaussian, gaussian_mixture, swiss_roll, to_config, uniform_disc, uniform_square

PRIORS = [gaussian(3.0), uniform_square(6.0), uniform_disc(3.0), gaussian_mixture(components=4), swiss_roll()]
N = 40_000  # samples: a standard error is 1/200 of a standard deviation


def draw(prior, dim=2, n=N):
    return prior(np.random.default_rng(0), n, dim)


def test_the_gaussian_has_its_mean_its_spread_and_no_correlation():
    samples = draw(gaussian(std=3.0))
    np.testing.assert_allclose(samples.mean(axis=0), 0, atol=5 * 3 / 200)  # five standard errors
    np.testing.assert_allclose(np.cov(samples.T), 9 * np.eye(2), atol=5 * 9 * np.sqrt(2) / 200)


def test_the_default_is_the_reports():
    assert gaussian() == gaussian(std=5.0)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_square_fills_every_cell_of_itself_evenly(dim):
    cells = np.floor(4 * (draw(uniform_square(side=6.0), dim) / 6 + 0.5))  # four along each axis
    _, counts = np.unique(cells, axis=0, return_counts=True)
    share = 1 / 4**dim
    assert len(counts) == 4**dim
    np.testing.assert_allclose(counts / N, share, atol=5 * np.sqrt(share / N))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_disc_has_in_each_radius_its_share_of_the_volume_and_in_each_direction_as_much(dim):
    samples = draw(uniform_disc(radius=3.0), dim)
    radius = np.linalg.norm(samples, axis=1)
    assert radius.max() < 3
    for r in (1.0, 2.0, 2.5):
        assert np.mean(radius < r) == pytest.approx((r / 3) ** dim, abs=5 * 0.5 / 200)
    np.testing.assert_allclose(samples.mean(axis=0), 0, atol=5 * 3 / 200)
    np.testing.assert_allclose(np.cov(samples.T), 9 / (dim + 2) * np.eye(dim), atol=0.1)


def test_the_mixture_has_equally_many_samples_in_each_petal_long_outwards_and_narrow_across():
    prior = gaussian_mixture(components=5, radius=9.0, radial_std=2.0, tangential_std=0.5)
    samples = draw(prior)
    angle = np.arctan2(samples[:, 1], samples[:, 0])
    petal = np.round(angle / (2 * pi / 5)) % 5
    np.testing.assert_allclose(np.bincount(petal.astype(int)) / N, 1 / 5, atol=5 * 0.4 / 200)
    for k in range(5):
        outwards = np.array([np.cos(k * 2 * pi / 5), np.sin(k * 2 * pi / 5)])
        across = np.array([-outwards[1], outwards[0]])
        mine = samples[petal == k]
        assert (mine @ outwards).mean() == pytest.approx(9, abs=5 * 2 / 100)
        assert (mine @ outwards).std() == pytest.approx(2, abs=0.1)
        assert (mine @ across).std() == pytest.approx(0.5, abs=0.03)


def test_the_roll_lies_along_its_spiral_as_thick_as_it_says():
    prior, rng = swiss_roll(radius=12.0, turns=2.0, std=0.1), np.random.default_rng(0)
    position = rng.random(N)
    samples = prior.along(rng, position)
    theta = 4 * pi * np.sqrt(position)
    line = 12 / (4 * pi) * theta[:, None] * np.stack((np.cos(theta), np.sin(theta)), axis=1)
    np.testing.assert_allclose((samples - line).std(axis=0), 0.1, rtol=0.05)


def test_the_roll_is_as_dense_at_its_end_as_in_its_middle():
    line = swiss_roll(std=1e-9).along(np.random.default_rng(0), np.linspace(0.1, 1, 1001)[:-1])
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)  # how far apart neighbours at equal distances of s are
    assert steps.max() / steps.min() < 1.1


@pytest.mark.parametrize("prior", [gaussian_mixture(components=5), swiss_roll()])
def test_a_prior_with_parts_is_made_of_them(prior):
    """Draws at positions uniform in [0, 1) follow the prior: same mean and covariance."""
    rng = np.random.default_rng(1)
    parts = np.concatenate([prior.along(rng, (k + rng.random(N // 5)) / 5) for k in range(5)])
    whole = draw(prior)
    spread = whole.std(axis=0).max()
    np.testing.assert_allclose(parts.mean(axis=0), whole.mean(axis=0), atol=8 * spread / 200)
    np.testing.assert_allclose(np.cov(parts.T), np.cov(whole.T), atol=12 * spread**2 / 200)


def test_each_component_of_the_mixture_is_its_own_part():
    prior = gaussian_mixture(components=10, radial_std=0.01, tangential_std=0.01)
    samples = prior.along(np.random.default_rng(0), (np.arange(10) + 0.5) / 10)
    angle = np.arctan2(samples[:, 1], samples[:, 0]) % (2 * pi)
    np.testing.assert_array_equal(np.round(angle / (2 * pi / 10)) % 10, np.arange(10))


@pytest.mark.parametrize("prior", PRIORS)
def test_priors_draw_in_float64_for_models_of_either_type(prior):
    assert draw(prior, n=3).shape == (3, 2)
    assert draw(prior, n=3).dtype == np.float64


@pytest.mark.parametrize("prior", PRIORS)
def test_what_a_checkpoint_keeps_of_a_prior_makes_an_equal_one(prior):
    assert from_config(to_config(prior)) == prior


def test_a_prior_of_the_users_own_is_not_kept():
    assert to_config(lambda rng, n, dim: rng.random((n, dim))) is None


@pytest.mark.parametrize("prior", [gaussian_mixture(), swiss_roll()])
def test_a_planar_prior_refuses_other_dimensions(prior):
    with pytest.raises(InvalidInput, match=r"^3 dimensions came, and .* lies in a plane; use latent=2"):
        draw(prior, dim=3)


@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf"), "wide"])
@pytest.mark.parametrize(
    ("prior", "name"),
    [
        (gaussian, "std"), (uniform_square, "side"), (uniform_disc, "radius"),
        (gaussian_mixture, "radius"), (gaussian_mixture, "radial_std"), (gaussian_mixture, "tangential_std"),
        (swiss_roll, "radius"), (swiss_roll, "turns"), (swiss_roll, "std"),
    ],
)  # fmt: skip
def test_a_length_that_is_not_positive_and_finite_is_refused(prior, name, number):
    with pytest.raises(InvalidInput, match=f"{name}="):
        prior(**{name: number})


@pytest.mark.parametrize("components", [0, 2.5, "ten"])
def test_a_mixture_of_no_components_is_refused(components):
    with pytest.raises(InvalidInput, match="components="):
        gaussian_mixture(components=components)
