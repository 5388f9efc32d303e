"""Images of a user: what becomes rows of pixels, and what is refused."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from npaae.errors import InvalidInput
from npaae.images import as_rows, checked_rows, training_rows, unit_interval


@pytest.mark.parametrize("shape", [(2, 9), (2, 3, 3), (2, 9, 1), (2, 1, 3, 3), (2, 3, 3, 1)])
def test_images_become_rows_without_a_copy(shape):
    pixels = np.arange(18, dtype=np.uint8).reshape(shape)
    rows = as_rows(pixels, 9)
    assert rows.shape == (2, 9)
    assert np.shares_memory(rows, pixels)


BAD_SHAPES = [
    ((), 1), ((9,), 9), ((0, 9), 9), ((2, 10), 9), ((2, 3, 3), 10), ((2, 3, 1, 3), 9),
    ((2, 1, 1, 3, 3), 9), ((2, 2, 2, 3), 12), ((2, 0), 0),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "visible"), BAD_SHAPES)
def test_images_of_another_shape_are_refused(shape, visible):
    with pytest.raises(InvalidInput, match="images must"):
        as_rows(np.zeros(shape, np.uint8), visible)


@pytest.mark.parametrize("pixel", [np.int64(1), np.complex64(1), np.nan, np.inf, -1e-6, 1 + 1e-6])
def test_pixels_outside_their_range_or_of_another_type_are_refused(pixel):
    with pytest.raises(InvalidInput, match="images must"):
        checked_rows(np.full((2, 9), pixel), 9)


def test_a_pixel_out_of_range_is_found_in_the_last_image_of_many():
    pixels = np.full((5000, 9), 0.5, np.float32)
    pixels[-1, -1] = 1.5
    with pytest.raises(InvalidInput, match="images must"):
        checked_rows(pixels, 9)


class Images(NamedTuple):
    train: Any
    test: Any


REMEDIES = [
    (np.zeros((1797, 64), np.uint8), "visible=64"),
    (np.zeros((2, 9), np.int64), r"\.astype\(np\.uint8\)"),
    (np.zeros((2, 9), bool), r"\.astype\(np\.float32\)"),
    (np.full((2, 9), 255.0), "divide by 255"),
    (np.full((2, 9), 16.0), "divide by 16"),
    (np.linspace(-2, 2, 18).reshape(2, 3, 3), r"scale .*x\.min\(\)\), .*cross-entropy"),
    (np.linspace(-2, 2, 18).reshape(2, 9), r"scale .*, each feature with axis=0"),
    (np.zeros((2, 3, 3, 3), np.uint8), r"\.mean\(axis=3\)"),
    (np.zeros((2, 3, 3, 4), np.uint8), r"\.mean\(axis=3\)"),
    (np.zeros((2, 3, 9, 1), np.uint8), "visible=27"),
    (np.zeros((3, 3), np.uint8), r"images\[None\]"),
    (np.zeros(9), r"images\[None\]"),
    (np.full((2, 9), np.nan), "got NaN; fill"),
    (np.full((2, 9), -np.inf), "got infinity; fill"),
    ("mine.npz", r"npaae\.data\.load"),
    (Images(np.zeros((2, 9)), None), r"got Images; pass its \.train"),
]


@pytest.mark.parametrize(("images", "remedy"), REMEDIES)
def test_a_message_names_the_remedy(images, remedy):
    with pytest.raises(InvalidInput, match=f"images must.*{remedy}"):
        checked_rows(images, 9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_that_miss_the_interval_by_rounding_are_moved_into_it(dtype):
    pixels = np.array([[-1e-7, 0.5, 1.0000000000000002, 1 + 1.2e-7]], dtype)
    before = pixels.copy()
    rows = checked_rows(pixels, 4)
    np.testing.assert_array_equal(rows, np.array([[0, 0.5, 1, 1]], dtype))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("highest", [1, 16, 100, 127])
def test_a_training_set_of_bytes_that_do_not_reach_half_their_range_is_refused(highest):
    images = np.array([[0, highest]], np.uint8)
    with pytest.raises(InvalidInput, match=rf"^images .*{highest}; pass images / {highest}"):
        training_rows(images, 2)
    np.testing.assert_array_equal(training_rows(images / highest, 2), [[0, 1]])
    np.testing.assert_array_equal(checked_rows(images, 2), images)  # a single image may be dark


@pytest.mark.parametrize("highest", [0, 128, 255])
def test_a_training_set_of_bytes_that_use_their_range_or_are_black_is_not(highest):
    images = np.array([[0, highest]], np.uint8)
    np.testing.assert_array_equal(training_rows(images, 2), images)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_divided_by_255_and_floats_taken_as_they_are(dtype):
    pixels = np.array([[0, 51, 255]], np.uint8)
    for rows in (pixels, pixels / 255):
        unit = unit_interval(rows, np.dtype(dtype))
        assert unit.dtype == dtype
        np.testing.assert_allclose(unit, [[0, 0.2, 1]], rtol=1e-6)
