import numpy as np
import pytest

from npaae.errors import InvalidInput
from npaae.priors import gaussian


def test_the_gaussian_has_its_mean_its_spread_and_no_correlation():
    samples = gaussian(std=3.0)(np.random.default_rng(0), 40_000, 2)
    np.testing.assert_allclose(samples.mean(axis=0), 0, atol=5 * 3 / 200)  # five standard errors
    np.testing.assert_allclose(np.cov(samples.T), 9 * np.eye(2), atol=5 * 9 * np.sqrt(2) / 200)


def test_the_gaussian_draws_in_float64_for_models_of_either_type():
    assert gaussian()(np.random.default_rng(0), 2, 3).dtype == np.float64


def test_the_default_is_the_reports():
    assert gaussian() == gaussian(std=5.0)


@pytest.mark.parametrize("std", [0, -1, float("nan"), float("inf"), "wide"])
def test_a_standard_deviation_that_is_not_positive_and_finite_is_refused(std):
    with pytest.raises(InvalidInput, match="std="):
        gaussian(std)
