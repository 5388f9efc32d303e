"""Images of a user: what becomes rows of pixels, and what is refused."""

import numpy as np
import pytest

from npaae.errors import InvalidInput
from npaae.images import as_rows, checked_rows, unit_interval


@pytest.mark.parametrize("shape", [(2, 9), (2, 3, 3)])
def test_images_become_rows_without_a_copy(shape):
    pixels = np.arange(18, dtype=np.uint8).reshape(shape)
    rows = as_rows(pixels, 9)
    assert rows.shape == (2, 9)
    assert np.shares_memory(rows, pixels)


BAD_SHAPES = [((9,), 9), ((0, 9), 9), ((2, 10), 9), ((2, 9, 1), 9), ((2, 3, 3), 10)]


@pytest.mark.parametrize(("shape", "visible"), BAD_SHAPES)
def test_images_of_another_shape_are_refused(shape, visible):
    with pytest.raises(InvalidInput, match="images must"):
        as_rows(np.zeros(shape, np.uint8), visible)


@pytest.mark.parametrize("pixel", [np.int64(1), np.complex64(1), np.nan, np.inf, -1e-6, 1 + 1e-6])
def test_pixels_outside_their_range_or_of_another_type_are_refused(pixel):
    with pytest.raises(InvalidInput, match="images must"):
        checked_rows(np.full((2, 9), pixel), 9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_divided_by_255_and_floats_taken_as_they_are(dtype):
    pixels = np.array([[0, 51, 255]], np.uint8)
    for rows in (pixels, pixels / 255):
        unit = unit_interval(rows, np.dtype(dtype))
        assert unit.dtype == dtype
        np.testing.assert_allclose(unit, [[0, 0.2, 1]], rtol=1e-6)
