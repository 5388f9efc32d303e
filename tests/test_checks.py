"""What users pass: what is accepted, as what, and that all else is refused by its name."""

import numpy as np
import pytest

from npaae import checks
from npaae.checks import InvalidInput, UserError

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
NOT_NUMBERS = [None, "1", True, 1j, [1], np.zeros(2)]


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [
        (lambda *a: checks.integer(*a, 0), [0, np.int8(3), np.array(3)], [-1, 0.5, 1.0, NAN]),
        (lambda *a: checks.integer(*a, 1), [1, HUGE], [0, -1, np.bool_(True)]),
        (checks.positive, [1e-300, np.float32(2), 1e300], [0, -1, NAN, INF, HUGE]),
        (checks.learning_rate, [1e-9, 1], [0, 1.001, -0.1, NAN, HUGE]),
        (checks.fraction, [0, 0.999], [1, -1e-9, NAN, HUGE]),
    ],
    ids=["non-negative", "positive integer", "positive", "learning rate", "fraction"],
)
def test_a_number_in_its_range_is_taken_and_all_else_refused_by_name(check, accepted, refused):
    for value in accepted:
        number = check("argument", value)
        assert number == value
        assert type(number) in (int, float)
    for value in refused + NOT_NUMBERS:
        with pytest.raises(InvalidInput, match="argument must"):
            check("argument", value)


class Unconvertible:
    """As another library's array that lies on a GPU or carries a gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach\nfirst")


@pytest.mark.parametrize("values", [[[1], [1, 2]], Unconvertible()], ids=["ragged", "foreign"])
def test_what_cannot_be_an_array_is_refused_in_one_line(values):
    with pytest.raises(InvalidInput, match="rows must") as caught:
        checks.host_array("rows", values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 9), (2, 3, 3)])
def test_images_become_rows_without_a_copy(shape):
    images = np.arange(18, dtype=np.uint8).reshape(shape)
    rows = checks.as_rows(images, 9)
    assert rows.shape == (2, 9)
    assert np.shares_memory(rows, images)


BAD_SHAPES = [((9,), 9), ((0, 9), 9), ((2, 10), 9), ((2, 9, 1), 9), ((2, 3, 3), 10)]


@pytest.mark.parametrize(("shape", "visible"), BAD_SHAPES)
def test_images_of_another_shape_are_refused(shape, visible):
    with pytest.raises(InvalidInput, match="images must"):
        checks.as_rows(np.zeros(shape, np.uint8), visible)


@pytest.mark.parametrize("images", [np.int64(1), np.complex64(1), NAN, INF, -1e-6, 1 + 1e-6])
def test_pixels_outside_their_range_or_of_another_type_are_refused(images):
    with pytest.raises(InvalidInput, match="images must"):
        checks.checked_rows(np.full((2, 9), images), 9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_divided_by_255_and_floats_taken_as_they_are(dtype):
    pixels = np.array([[0, 51, 255]], np.uint8)
    for rows in (pixels, pixels / 255):
        unit = checks.unit_interval(rows, np.dtype(dtype))
        assert unit.dtype == dtype
        np.testing.assert_allclose(unit, [[0, 0.2, 1]], rtol=1e-6)


def test_every_exception_is_a_users_error_and_a_built_in_one():
    kinds = {kind for kind in vars(checks).values() if isinstance(kind, type)} - {UserError}
    errors = [kind for kind in kinds if issubclass(kind, UserError)]
    assert len(errors) == 5
    assert all(kind.__bases__[1].__module__ == "builtins" for kind in errors)
