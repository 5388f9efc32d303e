"""What the audit's rows of the priors leave open: other dimensions, types, files, refusals."""

import json

import numpy as np
import pytest
from hypothesis import given

from npaae import priors
from npaae.errors import InvalidInput
from npaae.priors import gaussian, gaussian_mixture, swiss_roll, uniform_disc, uniform_square

from . import running  # noqa: F401  # makes the examples importable
from .strategies import seeds

from audit import uniform_distance  # isort: skip  # an example

PRIORS = [gaussian(3.0), uniform_square(6.0), uniform_disc(3.0), gaussian_mixture(4), swiss_roll()]


@given(seeds)
def test_the_disc_of_one_dimension_is_an_interval_and_of_three_a_ball(seed):
    line, ball = (uniform_disc(2.0)(np.random.default_rng(seed), 5000, dim) for dim in (1, 3))
    assert uniform_distance(line[:, 0] / 4 + 0.5) < 1
    height = ball[:, 2] / np.linalg.norm(ball, axis=1)  # uniform on a sphere (Archimedes)
    assert uniform_distance(height / 2 + 0.5) < 1


def test_the_roll_is_as_dense_at_its_end_as_in_its_middle():
    line = swiss_roll(std=1e-9).sample_at(np.random.default_rng(0), np.linspace(0.1, 1, 1001)[:-1])
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)  # between points at equal steps of s
    assert steps.max() / steps.min() < 1.1


@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior_draws_float64_and_survives_a_checkpoint(prior, rng):
    samples = prior(rng, 3, 2)
    assert (samples.shape, samples.dtype) == ((3, 2), np.float64)
    assert isinstance(prior, priors.PriorWithParts) == hasattr(prior, "sample_at")
    assert priors.from_config(json.loads(json.dumps(priors.to_config(prior)))) == prior


def test_the_default_is_the_reports_and_numpys_numbers_are_taken():
    assert gaussian() == gaussian(std=np.float32(5))
    assert json.dumps(priors.to_config(gaussian_mixture(np.int64(4), np.float32(2))))


def test_a_prior_of_the_users_own_is_not_kept():
    assert priors.to_config(lambda rng, n, dim: rng.random((n, dim))) is None


@pytest.mark.parametrize("prior", [gaussian_mixture(), swiss_roll()])
def test_a_planar_prior_refuses_other_dimensions(prior, rng):
    with pytest.raises(InvalidInput, match=f"^dim must .*{type(prior).__name__}"):
        prior(rng, 3, 3)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "wide"])
@pytest.mark.parametrize(("prior", "name"), [(type(p), name) for p in PRIORS for name in vars(p)])
def test_a_number_that_is_not_positive_and_finite_is_refused(prior, name, value):
    with pytest.raises(InvalidInput, match=f"^{name} must"):
        prior(**{name: value})


@pytest.mark.parametrize("components", [2.5, 0, 10**400])
def test_components_are_counted_in_whole_numbers_that_a_float_can_hold(components):
    with pytest.raises(InvalidInput, match=r"^components must "):
        gaussian_mixture(components=components)


def test_each_of_many_coordinates_of_a_gaussian_has_its_standard_deviation(rng):
    draws = gaussian(std=2.0)(rng, 20_000, 60)
    np.testing.assert_allclose(draws.std(axis=0), 2.0, rtol=0.04)  # eight standard errors
