"""A checker that cannot fail proves nothing: right gradients pass, wrong ones fail, and what cannot
be decided is refused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npaae import AdversarialAutoencoder, CategoricalAutoencoder, gradcheck
from npaae.categorical.layers import BatchNorm
from npaae.errors import InvalidInput
from npaae.gradcheck import Kink, along, elementwise
from npaae.layers import Dense, Dropout, ReLU, Sequential, flatten, perceptron

from .layer_norm import LayerNorm
from .strategies import seeds

RIGHT, WRONG = 1e-6, 1e-3


def squares(x):
    return (x**2).sum()


def cubes(x):
    return (x**3).sum()


def relu_sum(x):
    return np.maximum(x, 0).sum()


@pytest.fixture
def point(rng):
    return rng.standard_normal((3, 4))


# Verdicts


@given(seeds, st.floats(-20, 20))
def test_a_right_gradient_passes_and_one_wrong_by_a_thousandth_does_not(seed, exponent):
    rng, scale = np.random.default_rng(seed), 10**exponent
    x, direction = rng.uniform(0.1, 2, 5), rng.standard_normal(5)
    right = scale * np.cos(x) * np.exp(np.sin(x))

    def f(x):
        return scale * np.exp(np.sin(x)).sum()

    wrong = right.copy()
    wrong[3] *= 1.01 if abs(x[3] - np.pi / 2) > 0.1 else 3  # f is flat at π/2
    assert elementwise(f, x, right) < RIGHT
    assert along(f, x, right, direction) < RIGHT
    error = elementwise(f, x, wrong)
    assert error > WRONG
    assert error.where == (3,)


def test_one_entry_wrong_by_a_thousandth_is_seen_and_named(point):
    wrong = 3 * point**2
    wrong[1, 2] *= 1.001
    error = elementwise(cubes, point, wrong)
    assert error == pytest.approx(0.001 / 2.001, rel=1e-3)
    assert error.where == (1, 2)


def test_a_reversed_sign_has_error_one_and_a_factor_of_two_a_third(point, rng):
    assert elementwise(cubes, point, -3 * point**2) == pytest.approx(1)
    assert elementwise(cubes, point, 6 * point**2) == pytest.approx(1 / 3)
    assert along(cubes, point, 6 * point**2, rng.standard_normal((3, 4))) == pytest.approx(1 / 3)


def test_a_wrong_small_element_cannot_hide_behind_large_right_ones():
    x = np.array([100, 0.01])
    error = elementwise(lambda x: (x**4).sum(), x, np.array([4e6, -0.3]))
    assert error > WRONG
    assert error.where == (1,)
    assert elementwise(lambda x: (x**4).sum(), x, 4 * x**3) < RIGHT


def test_a_gradient_that_is_truly_zero_passes_and_any_other_fails():
    for f, x in ((lambda x: 5.1, np.ones(2)), (cubes, np.zeros(2)), (relu_sum, -np.ones(2))):
        assert elementwise(f, x, np.zeros(2)) == 0
        assert elementwise(f, x, np.array([0, 1e-9])) > WRONG
    rounded = np.full(2, 1e-17)  # a 0, but for the rounding of a function of order one
    assert elementwise(lambda x: 5.1, np.ones(2), rounded) < RIGHT
    assert elementwise(lambda x: 1e12 + x.sum(), np.zeros(2), np.zeros(2)) > WRONG


@pytest.mark.parametrize("constant", [0, 1, 1e6])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x**2,
        lambda x: x**3,
        lambda x: x**4,
        lambda x: x * abs(x),
        np.cos,
        lambda x: np.exp(-(x**2)),
        lambda x: np.sqrt(1 + x**2),
    ],
)
def test_a_gradient_of_zero_is_right_at_a_stationary_point(f, constant, rng):
    for x in (np.zeros(1), np.zeros(3)):
        for scale in (1e-8, 1, 1e8 if constant < 1e6 else 1):
            assert elementwise(lambda x, s=scale: s * (constant + f(x).sum()), x, x) < RIGHT
        direction = rng.standard_normal(x.shape)
        assert along(lambda x: constant + f(x).sum(), x, x, direction) < RIGHT
        assert elementwise(lambda x: constant + f(x).sum(), x, x + 1e-3) > WRONG


def test_a_gradient_that_is_zero_but_for_rounding_is_right_at_a_stationary_point(rng):
    at_pi, anywhere = np.full(2, np.pi), 10 * rng.standard_normal(4)
    for gradient in (-np.sin(at_pi), np.zeros(2)):
        assert elementwise(lambda x: np.cos(x).sum(), at_pi, gradient) < RIGHT
    assert elementwise(lambda x: squares(x - anywhere), anywhere, np.zeros(4)) < RIGHT


@given(seeds, st.floats(-8, 8), st.floats(-1, 5))
def test_a_right_gradient_is_never_refused_and_one_wrong_by_a_hundredth_never_passes(
    seed, exponent, steepness
):
    rng, scale, k = np.random.default_rng(seed), 10**exponent, 10**steepness
    x, phase, direction = rng.standard_normal((3, 4))
    phase = np.arctan(phase) - k * x  # so that no derivative is near 0

    def f(x):
        return scale * (rng_offset + np.sin(k * x + phase).sum())

    rng_offset = rng.choice([0, 1, 100]) * rng.standard_normal()
    right = scale * k * np.cos(k * x + phase)
    wrong = right * np.where(np.arange(4) == rng.integers(4), 1.01, 1)
    assert elementwise(f, x, right) < RIGHT
    assert along(f, x, right, direction) < RIGHT
    assert elementwise(f, x, wrong) > WRONG


def test_a_random_direction_sees_what_a_constant_one_does_not(point, rng):
    reversed_order = (3 * point**2)[::-1, ::-1]
    assert along(cubes, point, reversed_order, np.ones((3, 4))) < RIGHT
    assert along(cubes, point, reversed_order, rng.standard_normal((3, 4))) > WRONG


def test_the_length_of_a_direction_does_not_matter(point, rng):
    direction = rng.standard_normal(point.shape)
    for length in (1e-8, 1e8):
        assert along(cubes, point, 3 * point**2, length * direction) < RIGHT


# Steps


def test_functions_of_another_scale_are_judged_rightly():
    assert elementwise(lambda x: np.log(x).sum(), np.full(2, 1e-4), np.full(2, 1e4)) < RIGHT
    tiny = np.full(2, 1e-9)
    with pytest.raises((InvalidInput, Kink)):
        elementwise(lambda x: np.log(x).sum(), tiny, 1 / tiny)
    assert elementwise(lambda x: np.log(x).sum(), tiny, 1 / tiny, step=1e-11) < RIGHT
    assert along(lambda x: np.log(x).sum(), tiny, 1 / tiny, np.array([1, -2]), step=1e-11) < RIGHT
    assert elementwise(lambda x: np.log(x).sum(), tiny, 1.01 / tiny, step=1e-11) > WRONG


def test_the_step_grows_with_the_coordinate():
    x = np.array([1e6, 1.0])
    assert elementwise(squares, x, 2 * x) < RIGHT
    assert elementwise(squares, x, 2.01 * x) > WRONG


def test_a_function_that_varies_on_a_small_scale_is_judged_there():
    def step(x):
        return 1 / (1 + np.exp(-x / 1e-8)).sum()

    assert elementwise(step, np.zeros(1), np.array([0.25e8])) < RIGHT
    assert elementwise(step, np.zeros(1), np.array([0.26e8])) > WRONG
    far = np.array([1e8])
    assert elementwise(lambda x: np.sin(x).sum(), far, np.cos(far)) < RIGHT
    assert elementwise(lambda x: np.sin(x).sum(), far, 1.01 * np.cos(far)) > WRONG
    with pytest.raises(Kink):
        elementwise(lambda x: np.sin(1e9 * x).sum(), np.zeros(1), np.array([1e9]))


def test_the_largest_numbers_do_not_overflow():
    x = np.array([1e300])
    assert elementwise(lambda x: (x / 1e300).sum() ** 2, x, 2 / x) < RIGHT
    assert elementwise(lambda x: 1e300 * x.sum(), np.ones(1), x) < RIGHT
    assert elementwise(lambda x: np.exp(x).sum(), np.array([709.0]), np.exp([709.0])) < RIGHT


def test_a_value_that_almost_cancels_is_not_taken_for_noise():
    x = np.ones(2)
    assert elementwise(lambda x: squares(x) - 2 + 1e-13, x, 2 * x) < RIGHT


@pytest.mark.parametrize("seed", [63, 93, 106])
def test_the_rounding_of_large_terms_that_cancel_is_not_a_staircase(seed):
    x = np.random.default_rng(seed).uniform(0.8, 1.6, 2) * np.array([1, -1])
    assert elementwise(lambda x: np.tanh(6 * x).sum(), x, 6 / np.cosh(6 * x) ** 2) < RIGHT


def look(numerical, step):
    return gradcheck._Look(numerical, numerical, 0.0, 0.0, abs(numerical), (0.0, 0.0), step)


def test_a_staircase_is_looked_for_at_nine_places_all_along_the_longer_step():
    ends = []
    gradcheck._is_staircase(lambda place: ends.append(place) or 0.0, look(-2.0, 0.5), look(2.0, 16))
    ends = np.reshape(ends, (9, 2, 2))  # of places, lengths, right and left
    np.testing.assert_allclose((ends[..., 0] - ends[..., 1]) / 2, [[0.5, 0.309017]] * 9, rtol=1e-6)
    centres = ends.mean(axis=2)
    np.testing.assert_allclose(centres[:, 0], centres[:, 1])
    gaps = np.diff(np.sort([-16, *centres[:, 0], 16]))
    assert 0.1 * 32 / 10 < gaps.min() <= gaps.max() < 2 * 32 / 10


def test_the_limits_of_f_on_both_sides_are_found_beside_a_slope():
    def f(x):
        return float(3 * x[0] + (x[0] > 0) + 2 * (x[0] < 0))

    probe = gradcheck._Probe(f, np.zeros(1), np.full(1, 3.0), None)
    np.testing.assert_allclose(probe._look(np.full(1, 0.1), 1.0).gaps, (1, 2), rtol=1e-12)


def spread_of(spread, step=1.0, rounding=0.0):
    return look(1.0, step)._replace(spread=spread, rounding=rounding)


@pytest.mark.parametrize(
    ("spread", "rounding", "expected"),
    [
        (1.9e-4, 0, False),  # 1e-4 of the size, which is 2
        (2e-4, 0, False),
        (2.1e-4, 0, True),
        (0.31, 0.01, False),  # 32 times the rounding
        (0.32, 0.01, False),
        (0.325, 0.01, True),
    ],
)
def test_a_kink_can_be_seen_beside_rounding(spread, rounding, expected):
    looks = [spread_of(spread, rounding=rounding)]
    assert gradcheck._is_kink(looks, looks, 0) == expected


@pytest.mark.parametrize(("longer", "expected"), [(2.9, True), (3.0, True), (3.1, False)])
@pytest.mark.parametrize("rest", [[], [99]], ids=["the last", "another"])
def test_a_kinks_spread_is_not_three_times_as_large_at_the_next_step(longer, rest, expected):
    looks = [spread_of(spread) for spread in (99, 1, longer, *rest)]
    assert gradcheck._is_kink(looks, looks, 1) == expected
    assert gradcheck._is_kink(looks[1:], looks[1:], 0) == expected
    assert gradcheck._is_kink(looks[:2], looks[:2], 1)


@pytest.mark.parametrize(
    ("before", "expected"),
    [(15.9, True), (16.0, True), (16.5, False)],  # 16 times as much at 1/256 of the step: noise
)
def test_a_kink_changes_f_by_less_at_a_shorter_step(before, expected):
    looks = [spread_of(before, 1 / 256), spread_of(99, 1 / 16), spread_of(1.0)]
    assert gradcheck._is_kink(looks, looks, 2) == expected
    looks = [spread_of(0, 1 / 4096), *looks]
    assert gradcheck._is_kink(looks, looks, 3) == expected
    looks = [spread_of(99, 1 / 16), spread_of(1.0)]
    assert gradcheck._is_kink(looks, looks, 1)


@pytest.mark.parametrize(
    ("wide", "narrow", "places", "expected"),
    [
        (-1.2, -1.2, 9, True),  # on the tread, whose slope is -2, to a quarter of the rise of 4
        (-0.8, -0.8, 9, False),
        (-3.2, -3.2, 9, False),
        (0.0, 0.8, 9, False),  # the same slope for two lengths, to a quarter of the rise
        (0.0, 1.2, 9, True),
        (0.0, -1.2, 9, True),
        (0.0, 0.0, 5, False),  # at most places
        (0.0, 0.0, 4, True),
    ],
)
def test_kinks_have_another_slope_than_the_tread_at_most_places(wide, narrow, places, expected):
    """Around each place, f has one slope between two near points, and another between two far."""
    ends = []
    gradcheck._is_staircase(lambda place: ends.append(place) or 0.0, look(-2.0, 0.5), look(2.0, 16))
    slopes = np.full((9, 2), -2.0)
    slopes[:places] = wide, narrow
    lengths = np.array([0.5, 0.5 * gradcheck.GOLDEN])
    values = np.stack([slopes * lengths, -slopes * lengths], axis=2).ravel()
    f = dict(zip(ends, values, strict=True)).__getitem__
    assert gradcheck._is_staircase(f, look(-2.0, 0.5), look(2.0, 16)) == expected


@given(st.integers(0, 2**32 - 1))
def test_kinks_on_both_sides_of_the_point_are_not_a_staircase(seed):
    rng = np.random.default_rng(seed)
    slope = rng.choice([-1, 1]) * 10 ** rng.uniform(-3, -1)
    distances = np.array([[1], [1 + rng.uniform(-0.1, 0.1)]]) * 10 ** rng.uniform(-4, -1.4, 3)
    bends = np.array([[1], [-1]]) * rng.uniform(-1, 1, 3)

    def f(x):
        beyond = np.maximum(0, np.array([x, -x]) - distances)  # (2, 3): three kinks on each side
        return 1 + slope * x[0] + (bends * beyond).sum()

    assert elementwise(f, np.zeros(1), np.array([slope])) < RIGHT


def test_one_large_coordinate_does_not_set_the_step_of_the_others(rng):
    x, direction = np.array([1e5, 0.3, 0.2]), rng.standard_normal(3)

    def f(x):
        return np.sin(100 * x[1:]).sum() + x[0]

    gradient = np.array([1, *(100 * np.cos(100 * x[1:]))])
    assert along(f, x, gradient, direction) < RIGHT
    assert elementwise(f, x, gradient) < RIGHT


def test_the_truncation_error_is_of_fourth_order_in_the_step():
    error = elementwise(lambda x: np.exp(x).sum(), np.zeros(3), np.ones(3), step=1e-4)
    assert error < 3e-11  # of second order, it would be 1e-10 at least


def test_a_domain_that_ends_beside_the_point_does_not_matter():
    x = np.full(2, 1e-6)
    assert elementwise(lambda x: np.sqrt(x).sum(), x, 0.5 / np.sqrt(x)) < RIGHT
    assert elementwise(lambda x: np.sqrt(-x).sum(), -x, -0.5 / np.sqrt(x)) < RIGHT


@pytest.mark.parametrize("step", [0, -1e-5, np.nan])
def test_a_step_that_leads_nowhere_is_refused(step, point):
    for check in (elementwise, along):
        with pytest.raises(InvalidInput, match=r"^step must"):
            check(cubes, point, *[point] * (1 + (check is along)), step=step)


def test_a_step_below_the_spacing_of_numbers_is_refused():
    with pytest.raises(InvalidInput, match=r"^step must"):
        elementwise(squares, np.array([1e20]), np.array([17.0]), step=1e-3)


def test_a_gradient_at_a_huge_point_is_not_passed_unseen():
    with pytest.raises(InvalidInput, match="step"):
        along(squares, np.array([1e20]), np.array([17.0]), np.ones(1))
    assert along(squares, np.array([1e12]), np.array([17.0]), np.ones(1)) > WRONG
    assert along(squares, np.array([1e20]), np.array([2e20]), np.ones(1), step=1e15) < RIGHT


# Kinks


@pytest.mark.parametrize("distance", [1e-4, -1e-6, 1e-7, 5e-9, -5e-9, -1e-8])
def test_a_kink_beside_the_point_does_not_matter(distance):
    x = np.array([-1.0, distance, 2.0])
    right = (x > 0).astype(float)
    assert elementwise(relu_sum, x, right) < RIGHT
    assert along(relu_sum, x, right, np.array([0.5, -1, 0.3])) < RIGHT
    assert elementwise(relu_sum, x, np.array([0, 0.5, 1])) > WRONG


def test_a_kink_at_the_point_is_refused(rng):
    x = np.array([-1.0, 0.0, 2.0])
    for f in (relu_sum, lambda x: abs(x).sum(), lambda x: abs(x).sum() + 1e3 * cubes(x)):
        with pytest.raises(Kink, match=r"^f has a kink"):
            elementwise(f, x, np.array([0.0, 0.5, 1]))
        with pytest.raises(Kink):
            along(f, x, np.array([0.0, 0.5, 1]), rng.standard_normal(3))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_function_that_is_flat_on_one_side_of_a_kink_is_judged_there(sign):
    def f(x):
        return 1 + np.maximum(sign * x, 0).sum()

    x = np.array([-sign * 2e-8])
    assert elementwise(f, x, np.zeros(1)) < RIGHT
    assert elementwise(f, x, np.ones(1)) > WRONG


def test_a_pattern_tells_of_a_kink_below_the_noise():
    def f(x):
        return 1e8 * x[0] + 1e-6 * max(x[1], 0)

    x, gradient = np.array([1.0, 1e-12]), np.array([1e8, 1e-6])
    for at in (x, x * [1, -1]):
        with pytest.raises((Kink, InvalidInput)):
            elementwise(f, at, gradient, pattern=lambda x: x > 0)
    with pytest.raises((Kink, InvalidInput)):
        along(f, x, gradient, np.array([1e-9, 1]), pattern=lambda x: x > 0)
    assert elementwise(f, x + np.array([0, 1]), gradient, pattern=lambda x: x > 0) < RIGHT


# Jumps

JUMPS = {
    "at least": lambda x: x >= 0,
    "more": lambda x: x > 0,
    "less": lambda x: x < 0,
    "equal": lambda x: x == 0,
    "sign": np.sign,
    "floor": lambda x: np.floor(x + 2),
    "ceil": np.ceil,
    "round": lambda x: np.round(x + 0.5),
    "argmax": lambda x: np.array([1, 5, 2])[np.argmax(x)],
    "last of the order": lambda x: np.argsort(x, kind="stable")[-1],
    "two largest": lambda x: np.isin(0, np.argsort(-x, kind="stable")[:2]),
}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("height", [1, -1e-3, 1e-6, 1e3])
def test_a_jump_at_the_point_is_refused(jump, height):
    def f(x):
        return np.exp(x).sum() + height * np.sum(jump(x))

    for gradient in ([1, 1, 1], [0, 0, 0], [300, -20, 7], [-1e4, -1e4, -1e4]):
        with pytest.raises(Kink, match=r"^f has a jump"):
            elementwise(f, np.zeros(3), np.array(gradient))
        with pytest.raises(Kink, match=r"^f has a jump"):
            along(f, np.zeros(3), np.array(gradient), np.array([3, -2, 1]))


def test_a_jump_in_one_direction_alone_is_refused():
    def f(x):
        return x.sum() + (x[0] + x[1] > 0)

    x = np.array([0.3, -0.3])
    with pytest.raises(Kink, match=r"^f has a jump"):
        along(f, x, np.ones(2), np.array([2, 1]))
    assert along(f, x, np.ones(2), np.array([1, -1])) < RIGHT


def test_a_jump_in_a_parameter_is_refused(rng):
    class Rounded(Dense):
        def forward(self, x, rng=None):
            y, cache = super().forward(x)
            return y + np.floor(self.b), cache

    layer = Rounded(np, rng.standard_normal((2, 3)), np.array([0.5, 1, 1.5]))
    with pytest.raises(Kink, match=r"^f has a jump"):
        gradcheck.parameters(layer, rng.standard_normal((4, 2)))


@pytest.mark.parametrize("distance", [1e-7, -1e-7, 1e-3, -1e-3])
def test_a_jump_beside_the_point_does_not_matter(distance):
    def f(x):
        return squares(x) + np.floor(x + 1 - distance).sum()

    x = np.ones(2)
    assert elementwise(f, x, 2 * x) < RIGHT
    assert elementwise(f, x, 2.02 * x) > WRONG


@pytest.mark.parametrize("power", [0.5, 0.75])
def test_a_cusp_is_refused(power):
    for gradient in (0.0, 3.0):
        with pytest.raises((Kink, InvalidInput)):
            elementwise(lambda x: (abs(x) ** power).sum(), np.zeros(1), np.array([gradient]))


# Refusals


@pytest.mark.parametrize(
    "f", [lambda x: np.nan, lambda x: np.inf * x.sum(), lambda x: 0.0 if (x == 1).all() else np.nan]
)
def test_a_function_that_is_not_finite_is_refused(f):
    for gradient in (np.zeros(3), np.full(3, np.nan)):
        with pytest.raises(InvalidInput, match=r"^f must be finite"):
            elementwise(f, np.ones(3), gradient)
        with pytest.raises(InvalidInput, match=r"^f must be finite"):
            along(f, np.ones(3), gradient, np.ones(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_has_error_inf(bad, point):
    gradient = 3 * point**2
    gradient[2, 1] = bad
    assert elementwise(cubes, point, gradient) == np.inf
    assert elementwise(cubes, point, gradient).where == (2, 1)
    assert along(cubes, point, gradient, point) == np.inf
    assert elementwise(cubes, point, np.full((3, 4), bad)).where == (0, 0)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x.astype(np.float32) ** 2).sum(),
        lambda x: float((x.astype(np.float32) ** 2).sum()),
        lambda x: 1.1 * float((x.astype(np.float32) ** 2).sum()),
        lambda x: float((x.astype(np.float16) ** 2).sum()),
    ],
)
def test_a_function_that_computes_in_less_than_float64_is_refused(f, point):
    for x in (point, np.array([0.3])):
        with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
            elementwise(f, x, 2 * x)


def test_float32_is_refused_where_it_jumps_on_one_side_alone():
    for seed in range(50):
        x = np.random.default_rng(seed).standard_normal(4)
        with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
            elementwise(lambda x: 0.1 + float((x.astype(np.float32) ** 2).sum()), x, 2 * x)


@pytest.mark.parametrize("slope", [1, 2], ids=["of the treads", "of the whole"])
@pytest.mark.parametrize("x", [0.5, 1.0, 2.0])
def test_one_term_in_float32_is_refused_although_the_rest_makes_its_treads_slope(x, slope):
    with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
        elementwise(
            lambda x: float(np.sin(x[0]) + np.float32(np.sin(x[0]))),
            np.array([x]),
            np.array([slope * np.cos(x)]),
        )


def test_a_sum_in_float64_of_numbers_in_float32_is_refused(point):
    def f(x):
        return np.sin(1000 * x).astype(np.float32).astype(float).sum()

    with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
        elementwise(f, point, 1000 * np.cos(1000 * point))


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_one_term_in_less_than_float64_is_refused(kind):
    def f(x):
        return float(np.sin(x[0]) + np.sin(x[1]).astype(kind).astype(float))

    x = np.array([1, 0.5])
    for second in (np.cos(0.5), 0, 1):
        with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
            elementwise(f, x, np.array([np.cos(1), second]))


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("width", [2, 30])
def test_a_layer_with_an_interior_in_less_than_float64_is_refused(kind, width, rng):
    class Narrow(Dense):
        def forward(self, x, rng=None):
            y, cache = super().forward(x)
            return y.astype(kind).astype(float), cache

    layer = Narrow(np, rng.standard_normal((3, width)), rng.standard_normal(width))
    with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
        gradcheck.layer(layer, rng.standard_normal((4, 3)))
    with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
        gradcheck.parameters(layer, rng.standard_normal((4, 3)))


def test_a_layer_that_returns_float32_is_refused(rng):
    class Single(Dense):
        def forward(self, x, rng=None):
            y, cache = super().forward(x)
            return y.astype(np.float32), cache

    for check in (gradcheck.layer, gradcheck.parameters):
        with pytest.raises(InvalidInput, match=r"^the output of the layer must .* float32$"):
            check(Single(np, rng.standard_normal((3, 2)), np.zeros(2)), np.ones((4, 3)))


def test_the_default_model_which_computes_in_float32_is_refused(rng):
    model, x = AdversarialAutoencoder(hidden=(8,)), rng.random((5, 784)).astype(np.float32)
    adam = model.reconstruction_adam

    def f(theta):
        adam.parameters[:] = theta
        return model.reconstruction_gradient(x, np.random.default_rng(0))

    theta = adam.parameters.astype(float)
    f(theta)
    with pytest.raises(InvalidInput, match=r"^f must compute in float64"):
        along(f, theta, adam.gradient, rng.standard_normal(theta.size))


def test_a_function_that_is_not_deterministic_is_refused(point, rng):
    with pytest.raises(InvalidInput, match=r"^f must be deterministic"):
        elementwise(lambda x: cubes(x) + rng.random(), point, 3 * point**2)


def noisy(level, is_random):
    """Σ sin x with noise that is the same in each call: random, or of rounding to a grid."""

    def f(x):
        value = np.sin(x).sum()
        if is_random:
            return value + level * np.random.default_rng(x.view(np.uint64)).uniform(-0.5, 0.5)
        return np.round(value / level) * level

    return f


@given(seeds, st.floats(-14, -4), st.booleans())
def test_noise_hides_no_wrong_gradient(seed, exponent, is_random):
    x = np.random.default_rng(seed).uniform(0.5, 1, 3)
    for factor in (1, 1.02):
        try:
            claimed = np.cos(x) * np.array([1, factor, 1])
            error = elementwise(noisy(10**exponent, is_random), x, claimed)
        except (InvalidInput, Kink):
            continue
        assert (error < RIGHT) == (factor == 1) or error.undecided
        assert error < RIGHT or error.where == (1,)


@pytest.mark.parametrize(("level", "is_random"), [(1e-9, True), (1e-12, False)])
def test_noise_far_above_rounding_hides_no_right_gradient(level, is_random):
    x = np.array([0.5, 0.7, 0.9])
    assert elementwise(noisy(level, is_random), x, np.cos(x)) < RIGHT
    flat = np.full(3, np.pi / 2)
    assert elementwise(noisy(level, is_random), flat, np.zeros(3)) < RIGHT
    assert elementwise(noisy(level, is_random), flat, np.full(3, 1e-3)) > WRONG


def test_a_derivative_wrong_by_a_thousandth_is_seen_through_the_noise():
    error = elementwise(lambda x: 1e9 + x.sum(), np.zeros(2), np.full(2, 1.001))
    assert error == pytest.approx(0.001 / 2.001, rel=0.2)


@pytest.mark.parametrize("n", [1, 2])
def test_a_derivative_that_rounding_hides_is_refused(n):
    with pytest.raises(InvalidInput, match=r"^f must vary.* rounding"):
        elementwise(lambda x: 1e14 + x.sum(), np.zeros(n), np.ones(n))
    with pytest.raises(InvalidInput, match=r"^f must vary.* rounding"):
        along(lambda x: 1e14 + x.sum(), np.zeros(n), np.ones(n), np.ones(n))


@pytest.mark.parametrize("offset", [1e14, 1e16, 1e20])
@pytest.mark.parametrize("gradient", [0, 1, -1])
def test_below_a_huge_offset_no_gradient_passes(offset, gradient):
    claimed = np.full(2, float(gradient))
    with pytest.raises(InvalidInput, match=r"^f must vary"):
        elementwise(lambda x: offset + x.sum(), np.zeros(2), claimed)
    with pytest.raises(InvalidInput, match=r"^f must vary"):
        along(lambda x: offset + x.sum(), np.zeros(2), claimed, np.array([1, 2]))


def test_an_error_tells_how_many_elements_are_undecided_and_what_they_hide():
    def f(x):
        return 1e16 * x[0] + x[1]

    error = elementwise(f, np.ones(2), np.array([1e16, -1]))
    assert error < RIGHT
    assert error.undecided == 1
    assert error.resolution == 1
    clear = elementwise(squares, np.ones(3), np.full(3, 2.0))
    assert (clear.undecided, clear.where) == (0, (0,) if clear else ())
    assert 0 < clear.resolution < RIGHT
    faint = elementwise(lambda x: 1e9 + x.sum(), np.zeros(2), np.ones(2))
    assert faint.undecided == 0
    assert WRONG / 100 < faint.resolution < WRONG


def test_an_element_that_rounding_hides_passes_beside_one_that_it_does_not():
    for scales in ([1e14, 1.0], [1.0, 1e14]):
        scales = np.array(scales)
        assert elementwise(lambda x, a=scales: (a * x).sum(), np.ones(2), scales) < RIGHT


@pytest.mark.parametrize(
    ("x", "kind"),
    [([1.0, 2.0], "list"), (3.0, "float"), (np.ones(3, np.float32), "float32")],
)
def test_a_point_that_is_not_a_float64_array_is_refused(x, kind):
    with pytest.raises(InvalidInput, match=rf"^x must .* got {kind}$"):
        elementwise(cubes, x, x)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_is_not_finite_is_refused(bad, point):
    point[1, 2] = bad
    dense = Dense(np, np.ones((4, 2)), np.zeros(2))
    for check in (
        lambda: elementwise(lambda x: 1.0, point, np.zeros((3, 4))),
        lambda: along(lambda x: 1.0, point, np.zeros((3, 4)), np.ones((3, 4))),
        lambda: gradcheck.layer(dense, point),
        lambda: gradcheck.parameters(dense, point),
    ):
        with pytest.raises(InvalidInput, match=r"^x must be finite"):
            check()


@pytest.mark.parametrize(
    "value",
    [np.ones(1), np.ones((1, 1)), np.ones(3), [1.0], 1j, np.complex128(1), None],
    ids=["(1,)", "(1, 1)", "(3,)", "list", "complex", "complex128", "None"],
)
def test_a_function_that_does_not_return_a_real_number_is_refused(value, point):
    for check in (elementwise, along):
        with pytest.raises(InvalidInput, match=r"^f must return a real number, got "):
            check(lambda x: value, point, *[point] * (1 + (check is along)))


@pytest.mark.parametrize("value", [3, np.int64(3), np.float64(3), np.array(3.0), np.longdouble(3)])
def test_a_function_may_return_any_real_number(value, point):
    assert elementwise(lambda x: value, point, np.zeros((3, 4))) == 0


@pytest.mark.parametrize("gradient", [np.full(3, 1j), np.array(["1"] * 3), None])
def test_a_gradient_that_is_not_real_is_refused(gradient):
    with pytest.raises(InvalidInput, match=r"^gradient must be an array of real numbers"):
        elementwise(squares, np.ones(3), gradient)
    with pytest.raises(InvalidInput, match=r"^direction must be an array of real numbers"):
        along(squares, np.ones(3), np.ones(3), gradient)


def test_an_exception_of_f_at_the_point_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        elementwise(lambda x: 1 / 0, np.ones(2), np.ones(2))


def test_shapes_that_differ_are_refused(point):
    for check in (elementwise, along):
        with pytest.raises(InvalidInput, match=r"^gradient must .* got \(3,\)$"):
            check(cubes, point, np.zeros(3), *[point] * (check is along))
    with pytest.raises(InvalidInput, match=r"^direction must"):
        along(cubes, point, point, np.ones(3))
    with pytest.raises(InvalidInput, match=r"^analytical must"):
        gradcheck.relative_error(np.ones((6, 1)), np.ones(6))


@pytest.mark.parametrize("nowhere", [np.zeros((3, 4)), np.full((3, 4), np.inf)])
def test_a_direction_that_leads_nowhere_is_refused(point, nowhere):
    with pytest.raises(InvalidInput, match=r"^direction must"):
        along(cubes, point, point, nowhere)


def test_of_no_elements_every_gradient_is_right_and_no_direction_leads_anywhere():
    none = np.empty(0)
    assert elementwise(lambda x: 1.5, none, none) == 0
    with pytest.raises(InvalidInput, match=r"^direction must"):
        along(lambda x: 1.5, none, none, none)


# What f and layers may do to what they are handed


def test_f_may_overwrite_what_it_is_handed(point, rng):
    theta, gradient = point.copy(), 3 * point**2

    def f(x):
        theta[:], gradient[:] = x, 3 * x**2
        value = cubes(x)
        x[:] = 0
        return value

    assert elementwise(f, theta, gradient) < RIGHT
    theta[:], gradient[:] = point, 3 * point**2
    assert along(f, theta, gradient, rng.standard_normal((3, 4))) < RIGHT
    point.flags.writeable = False
    assert elementwise(cubes, point, 3 * point**2) < RIGHT


class InPlace:
    """y = 3x, in place both ways."""

    def __init__(self, derivative):
        self.derivative = derivative

    def forward(self, x, rng=None):
        x *= 3
        return x, None

    def backward(self, dy, cache):
        dy *= self.derivative
        return dy


@pytest.mark.parametrize(("derivative", "right"), [(3.0, True), (-3.0, False), (1.0, False)])
def test_a_layer_that_works_in_place_is_judged_rightly_and_spoils_nothing(point, derivative, right):
    before = point.copy()
    assert (gradcheck.layer(InPlace(derivative), point) < RIGHT) == right
    np.testing.assert_array_equal(point, before)


def test_a_layers_noise_is_frozen_by_its_seed(point):
    class Cubed(Dropout):
        def backward(self, dy, cache):
            return super().backward(dy, cache) ** 3

    wrong = Cubed(np, 0.5)
    assert gradcheck.layer(Dropout(np, 0.5), point, seed=3) < RIGHT
    assert gradcheck.layer(wrong, point) == gradcheck.layer(wrong, point, seed=0) > WRONG
    assert gradcheck.layer(wrong, point) != gradcheck.layer(wrong, point, seed=1)


class Logarithm:
    def forward(self, x, rng=None):
        return np.log(x), x

    def backward(self, dy, cache):
        return dy / cache


def test_a_layer_is_checked_with_the_step_that_is_given():
    tiny = np.full((2, 2), 1e-9)
    with pytest.raises((InvalidInput, Kink)):
        gradcheck.layer(Logarithm(), tiny)
    assert gradcheck.layer(Logarithm(), tiny, step=1e-11) < RIGHT


def test_a_layer_is_checked_with_the_pattern_that_is_given():
    x = np.ones((2, 2))
    assert gradcheck.layer(Logarithm(), x) < RIGHT
    with pytest.raises(InvalidInput):
        gradcheck.layer(Logarithm(), x, pattern=lambda x: x)  # a kink everywhere


def test_a_smooth_function_is_evaluated_four_times_an_element_and_twice_at_the_point(point):
    calls = []
    elementwise(lambda x: calls.append(1) or np.exp(x).sum(), point, np.exp(point))
    assert len(calls) == 2 + 4 * point.size


def everything(layer):
    """What a layer and its parts keep: the arrays themselves and their values."""
    parts, found = [layer], []
    for part in parts:
        parts += getattr(part, "layers", [])
        found += [
            (value, value.copy()) for value in vars(part).values() if isinstance(value, np.ndarray)
        ]
    return found


def assert_unchanged(layer, before):
    after = everything(layer)
    assert [id(array) for array, _ in after] == [id(array) for array, _ in before]
    for (array, _), (_, values) in zip(after, before, strict=True):
        np.testing.assert_array_equal(array, values)


class Rebinding(BatchNorm):
    """Its running averages are new arrays after each batch."""

    def forward(self, x, rng=None):
        self.mean, self.variance = self.mean.copy(), self.variance.copy()
        return super().forward(x, rng)


class Drifting(BatchNorm):
    """Normalises by the running mean of a batch that has just been added to it."""

    def forward(self, x, rng=None):
        self.mean += 0.1 * (x.mean() - self.mean)
        return x - self.mean, None

    def backward(self, dy, cache):
        return dy - 0.1 * dy.sum() / dy.size

    def parameter_gradients(self, dy, cache):
        self.dgamma[...] = self.dbeta[...] = 0


def nested(*parts):
    return Sequential([Sequential([Dense(np, np.eye(4), np.ones(4)), *parts[:1]]), *parts[1:]])


@pytest.mark.parametrize("kind", [BatchNorm, Rebinding, Drifting])
@pytest.mark.parametrize("seed", [0, None])
def test_a_check_changes_nothing_that_a_layer_keeps(kind, seed, point):
    network = nested(kind(np, 4, np.float64), kind(np, 4, np.float64))
    theta, gradient = flatten(np, [network])
    gradient[:] = np.arange(gradient.size)
    before, values = everything(network), (theta.copy(), gradient.copy())
    assert gradcheck.layer(network, 5 + point, seed=seed) < RIGHT
    assert max(gradcheck.parameters(network, 5 + point, seed=seed).values()) < RIGHT
    assert_unchanged(network, before)
    np.testing.assert_array_equal((theta, gradient), values)


@pytest.mark.parametrize("last", [1, 2, 3, 10, 50])
def test_an_exception_leaves_a_layer_as_it_was(last, point):
    class Failing(BatchNorm):
        calls = 0

        def forward(self, x, rng=None):
            self.calls += 1
            y = super().forward(x, rng)
            if self.calls >= last:
                raise RuntimeError
            return y

    network = nested(BatchNorm(np, 4, np.float64), Failing(np, 4, np.float64))
    before = everything(network)
    for check in (gradcheck.layer, gradcheck.parameters):
        with pytest.raises(RuntimeError):
            check(network, point)
        assert_unchanged(network, before)


def test_an_exception_on_the_way_back_leaves_a_layer_as_it_was(point):
    class Failing(Dense):
        def parameter_gradients(self, dy, cache):
            super().parameter_gradients(dy, cache)
            raise RuntimeError

    network = Sequential([BatchNorm(np, 4, np.float64), Failing(np, np.eye(4), np.ones(4))])
    network.layers[1].dW[...] = network.layers[1].db[...] = 1
    before = everything(network)
    for check in (gradcheck.layer, gradcheck.parameters):
        with pytest.raises(RuntimeError):
            check(network, point)
        assert_unchanged(network, before)


def test_a_checked_model_encodes_as_before(rng):
    model = CategoricalAutoencoder(hidden=(8,), categories=3, latent=2, visible=9, dtype="float64")
    x = rng.random((6, 9))
    before = model.encode(x)
    errors = gradcheck.parameters(model.encoder, 5 + x)
    assert max(errors.values()) < RIGHT
    np.testing.assert_array_equal(model.encode(x), before)


def test_a_layer_may_keep_read_only_arrays(point):
    layer = Dense(np, np.eye(4), np.ones(4))
    layer.W.flags.writeable = False
    assert gradcheck.layer(layer, point) < RIGHT


def test_without_a_seed_a_layer_is_checked_in_evaluation_mode(point, rng):
    class Evaluating(Dropout):
        def forward(self, x, rng=None):
            assert rng is None
            return super().forward(x, rng)

    assert gradcheck.layer(Evaluating(np, 0.5), point, seed=None) < RIGHT
    norm = BatchNorm(np, 4, np.float64)
    norm.mean[:], norm.variance[:] = rng.standard_normal(4), rng.uniform(1, 2, 4)
    network = Sequential([Evaluating(np, 0.5), norm])
    assert max(gradcheck.parameters(network, point, seed=None).values()) < RIGHT

    class Wrong(BatchNorm):
        def backward(self, dy, cache):
            normal, s, _ = cache
            return super().backward(dy, (normal, s, True))

    assert gradcheck.layer(Wrong(np, 4, np.float64), point) < RIGHT
    assert gradcheck.layer(Wrong(np, 4, np.float64), point, seed=None) > WRONG


def test_four_threads_check_at_once_and_leave_everything_as_it_was(rng):
    def check(seed):
        x, network = np.random.default_rng(seed).standard_normal((4, 6)), networks[seed]
        return gradcheck.layer(network, x), gradcheck.parameters(network, x)

    networks = [random_network(rng) for _ in range(4)]
    before = dict(vars(ReLU)), [network.layers[0].W.copy() for network in networks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(check, range(4)))
    assert together == [check(seed) for seed in range(4)]
    assert dict(vars(ReLU)) == before[0]
    for network, W in zip(networks, before[1], strict=True):
        np.testing.assert_array_equal(network.layers[0].W, W)


# Parameters


def random_network(rng):
    network = perceptron(np, (6, 5, 3), 0.3, np.float64)
    network.layers.insert(1, LayerNorm(5, np.float64))
    theta, _ = flatten(np, [network])
    theta[:] = rng.standard_normal(theta.size)
    return network


def test_every_parameter_of_a_network_is_checked_by_its_name(rng):
    network, x = random_network(rng), rng.standard_normal((7, 6))
    before = [layer.W.copy() for layer in network.layers if isinstance(layer, Dense)]
    errors = gradcheck.parameters(network, x)
    assert list(errors) == ["0.W", "0.b", "1.gamma", "1.beta", "4.W", "4.b"]
    assert max(errors.values()) < RIGHT
    after = [layer.W for layer in network.layers if isinstance(layer, Dense)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_layer_that_has_no_gradients_yet_is_given_them(rng):
    errors = gradcheck.parameters(LayerNorm(5, np.float64), rng.standard_normal((7, 5)))
    assert max(errors.values()) < RIGHT


def test_a_layer_without_parameters_has_no_errors(point):
    assert gradcheck.parameters(ReLU(np), point) == {}
    assert gradcheck.parameters(Sequential([ReLU(np)]), point) == {}


def test_a_network_with_parameters_of_its_own_is_checked_whole(point, rng):
    class Scaled(Sequential):
        parameters = ("scale",)

        def __init__(self, layers):
            super().__init__(layers)
            self.scale = np.full(1, 3.0)

        def forward(self, x, rng=None):
            y, caches = super().forward(x, rng)
            return self.scale * y, (y, caches)

        def backward(self, dy, cache, **passed):
            self.dscale[0] = np.vdot(dy, cache[0])
            return super().backward(self.scale * dy, cache[1], **passed)

    for wrap in (lambda network: network, lambda network: Sequential([network])):
        network = wrap(Scaled([Dense(np, rng.standard_normal((4, 2)), np.ones(2))]))
        errors = gradcheck.parameters(network, point)
        assert [label.split(".")[-1] for label in errors] == ["scale", "W", "b"]
        assert max(errors.values()) < RIGHT


class Planted(Dense):
    """Its parameters' gradients are changed by a function of the layer."""

    def __init__(self, rng, fan_in, fan_out, change):
        super().__init__(np, 100 * rng.standard_normal((fan_in, fan_out)), np.zeros(fan_out))
        self.change = change

    def parameter_gradients(self, dy, cache):
        super().parameter_gradients(100 * dy, cache)
        self.dW /= 100
        self.db /= 100
        self.change(self)


def scale(name, factor, where=...):
    def change(layer):
        getattr(layer, f"d{name}")[where] *= factor

    return change


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (scale("W", 1), {}),
        (scale("b", 0), {"b": ()}),
        (scale("b", 17), {"b": ()}),
        (scale("W", 0), {"W": ()}),
        (scale("W", 1.001, (2, 1)), {"W": (2, 1)}),
        (scale("W", np.nan, (1, 0)), {"W": (1, 0)}),
        (lambda layer: setattr(layer, "dW", layer.dW.copy()), {}),
        (scale("b", -1, 1), {"b": (1,)}),
    ],
)
def test_a_wrong_parameter_gradient_is_seen_in_its_own_name(change, wrong, rng):
    network = Sequential([Dense(np, np.eye(4), np.zeros(4)), Planted(rng, 4, 3, change)])
    errors = gradcheck.parameters(network, rng.standard_normal((6, 4)))
    for label, error in errors.items():
        _, name = label.split(".")
        place = wrong.get(name) if label.startswith("1.") else None
        assert (error < RIGHT) if place is None else (error > 4e-4)
        assert not place or error.where == place


def test_a_gradient_that_is_not_written_into_its_array_has_error_inf(rng):
    class Rebinding(Dense):
        def parameter_gradients(self, dy, cache):
            self.dW, self.db = cache.T @ dy, dy.sum(axis=0)

    layer = Rebinding(np, rng.standard_normal((3, 2)), np.zeros(2))
    assert set(gradcheck.parameters(layer, rng.standard_normal((4, 3))).values()) == {np.inf}


def test_parameters_are_checked_with_dropout_on(point, rng):
    class Cubed(Dropout):
        def backward(self, dy, cache):
            return dy if cache is None else super().backward(dy, cache) ** 3

    network = Sequential([Dense(np, np.eye(4), np.ones(4)), Cubed(np, 0.5)])
    assert gradcheck.parameters(network, point)["0.W"] > WRONG
    assert gradcheck.parameters(network, point, seed=None)["0.W"] < RIGHT


def test_the_seed_fixes_the_cotangent_too(point):
    wrong = InPlace(4.0)
    wrong.forward = lambda x, rng=None: (np.tanh(x), None)
    errors = {float(gradcheck.layer(wrong, point, seed=seed)) for seed in (0, 0, 1)}
    assert len(errors) == 2


def test_a_parameter_that_is_not_float64_is_named(point):
    network = Sequential([Dense(np, np.eye(4), np.ones(4, np.float32))])
    with pytest.raises(InvalidInput, match=r"^0\.b must be a float64 array .* float32$"):
        gradcheck.parameters(network, point)


def test_three_hundred_elements_are_still_checked_one_by_one(rng):
    layer = Planted(rng, 100, 3, scale("W", 1.1, (2, 1)))
    error = gradcheck.parameters(layer, rng.standard_normal((2, 100)))["W"]
    assert error.where == (2, 1)


def test_a_check_of_parameters_is_fixed_by_its_seed(rng):
    def change(layer):
        layer.db += 1

    layer, x = Planted(rng, 40, 20, change), rng.standard_normal((6, 40))
    first, same, other = (
        gradcheck.parameters(layer, x, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert first == same
    assert first["b"] != other["b"]


def test_a_check_leaves_the_gradients_in_the_flat_vector(rng):
    network = random_network(rng)
    _, gradient = flatten(np, [network])
    gradcheck.parameters(network, rng.standard_normal((7, 6)))
    assert np.shares_memory(network.layers[0].dW, gradient)
    assert np.isfinite(gradient).all()


def test_a_check_leaves_no_gradients_in_a_layer_that_had_none(rng):
    layer = Planted(rng, 6, 4, scale("W", 1))
    del layer.dW, layer.db
    before = set(vars(layer))
    gradcheck.parameters(layer, rng.standard_normal((7, 6)))
    assert set(vars(layer)) == before


def test_large_parameters_are_checked_along_directions(rng):
    x = rng.standard_normal((5, 40))
    for change, right in ((scale("W", 1), True), (scale("W", 0, (slice(20, None),)), False)):
        errors = gradcheck.parameters(Planted(rng, 40, 20, change), x)
        assert (errors["W"] < RIGHT) == right
        assert errors["W"] < RIGHT or errors["W"] > WRONG
        assert errors["b"] < RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["reconstruction", "discriminator", "generator"])
def test_at_real_size_twenty_directions_tell_a_right_gradient_from_a_reversed_layer(phase, rng):
    model, x = AdversarialAutoencoder(dtype="float64"), rng.random((100, 784))
    adam = model.adams()[f"{phase}_adam"]

    def f(theta):
        adam.parameters[:] = theta
        draws = np.random.default_rng(1)
        if phase == "reconstruction":
            return model.reconstruction_gradient(x, draws)
        codes, caches = model.encoder.forward(x, draws)
        if phase == "discriminator":
            return model.discriminator_gradient(codes, draws)
        return model.generator_gradient(codes, caches, draws)

    theta = adam.parameters.copy()
    f(theta)
    right = adam.gradient.copy()
    network = model.discriminator if phase == "discriminator" else model.encoder
    network.layers[3].dW *= -1
    wrong = adam.gradient.copy()
    directions = rng.standard_normal((20, theta.size))
    assert max(along(f, theta, right, direction) for direction in directions) < RIGHT
    assert max(along(f, theta, wrong, direction) for direction in directions) > WRONG


# Whole arrays


def test_a_relative_error_is_right_at_any_scale_and_inf_if_anything_is_not_finite(point):
    for scale in (1e-165, 1e160):
        error = gradcheck.relative_error(3 * scale * point, scale * point)
        assert error == pytest.approx(0.5)
    assert gradcheck.relative_error(np.zeros(3), np.zeros(3)) == 0
    assert gradcheck.relative_error(np.empty(0), np.empty(0)) == 0
    assert gradcheck.relative_error(np.zeros(3), np.full(3, np.nan)) == np.inf
    assert gradcheck.relative_error(np.full(3, np.inf), np.full(3, np.inf)) == np.inf


@pytest.mark.parametrize(
    "value", ["abc", "1.0", pytest.param(b"1", id="bytes"), {}, {1}, object(), 10**400, [1, [2, 3]]]
)
def test_what_is_no_real_number_is_refused_whatever_it_is(value):
    with pytest.raises(InvalidInput, match=r"^f must"):
        elementwise(lambda x: value, np.zeros(1), np.zeros(1))


def test_a_ragged_gradient_is_refused_by_name():
    with pytest.raises(InvalidInput, match=r"^gradient must"):
        elementwise(lambda x: x.sum(), np.zeros(2), [1, [2, 3]])


@pytest.mark.parametrize("k", [1e10, 1e11, 1e12])
def test_what_varies_below_the_shortest_step_is_not_judged(k):
    with pytest.raises((Kink, InvalidInput)):
        elementwise(lambda x: np.sin(k * x).sum(), np.ones(1), k * np.cos(k * np.ones(1)))
