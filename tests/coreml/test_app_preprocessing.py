"""Each switch of the app's preprocessing against its formula."""

from dataclasses import replace

import numpy as np
import pytest
from coreml.naive_app import preprocessing_kernel
from hypothesis import given
from hypothesis import strategies as st

from refsam.coreml.app_preprocessing import levels, linear_light, preprocess, resample
from refsam.coreml.app_switches import BINARY, REFERENCE, SOURCE
from refsam.transforms import PIXEL_MEAN, PIXEL_STD, resize
from refsam.transforms import preprocess as reference_preprocess

SIDE = 16
LANDSCAPE, PORTRAIT = (21, 40), (40, 21)


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.core
@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT, (16, 16), (5, 9), (1, 1)])
def test_the_reference_s_switches_are_the_reference(size):
    image = picture(size)
    np.testing.assert_array_equal(preprocess(image, SIDE, REFERENCE), reference_preprocess(image, SIDE))


@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT, (3, 7)])
@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("padding_index", ["fixed", "shipped"])
def test_the_kernel_pixel_by_pixel(size, half_pixel, padding_index):
    switches = replace(REFERENCE, antialias=False, rounding=False, half_pixel=half_pixel, padding_index=padding_index)
    image = picture(size)
    expected = preprocessing_kernel(image, SIDE, half_pixel, padding_index == "shipped", np.zeros(3 * SIDE * SIDE))
    # levels up to 255 in float32 with two weighted sums of two: a few units of 255 * 2^-24, over a deviation of 57
    np.testing.assert_allclose(preprocess(image, SIDE, switches), expected, rtol=0, atol=8 * 255 * 2.0**-24 / 57)


def test_both_presets_preprocess_alike():
    image, before = picture(LANDSCAPE), preprocess(picture(PORTRAIT, 1), SIDE, BINARY)
    shipped = preprocess(image, SIDE, BINARY, before)
    np.testing.assert_array_equal(shipped, preprocess(image, SIDE, SOURCE, before))
    expected = preprocessing_kernel(image, SIDE, False, True, before.ravel().astype(float))
    np.testing.assert_allclose(shipped, expected, rtol=0, atol=1e-5)


@pytest.mark.core
def test_a_landscape_picture_is_rolled_and_its_wrapped_strip_falls_a_row():
    """At 4:3: a quarter of the side to the right, and what leaves at the right comes in at the left, one row lower."""
    image = picture((48, 64))
    good = preprocess(image, 64, REFERENCE)[0]
    bad = preprocess(image, 64, replace(REFERENCE, padding_index="shipped"))[0]
    np.testing.assert_array_equal(bad[:, :48, 16:], good[:, :48, :48])
    np.testing.assert_array_equal(bad[:, 1:49, :16], good[:, :48, 48:])
    assert not bad[:, 0, :16].any()
    rolled = np.roll(good, 16, axis=-1)
    equal = (bad == rolled).all(axis=0)
    assert equal.mean() == 1 - 16 * 49 / 64**2  # at 4032 x 3024 that is 1 - 256 * 769 / 1024^2, 81.2 %


def test_portrait_and_square_pictures_are_not_rolled():
    for size in (PORTRAIT, (30, 30)):
        shipped = preprocess(picture(size), SIDE, replace(REFERENCE, padding_index="shipped"))
        np.testing.assert_array_equal(shipped, preprocess(picture(size), SIDE, REFERENCE))


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([16, 32]))
def test_the_shipped_index_stays_inside_each_plane_and_loses_nothing(height, width, side):
    image = picture((height, width))
    image[...] = np.maximum(image, 1)
    shipped = preprocess(image, side, replace(REFERENCE, padding_index="shipped"))
    fixed = preprocess(image, side, REFERENCE)
    for plane, other in zip(shipped[0], fixed[0], strict=True):
        np.testing.assert_array_equal(np.sort(plane, axis=None), np.sort(other, axis=None))


@pytest.mark.parametrize(("first", "second"), [((64, 48), (48, 64)), ((48, 64), (64, 48))])
def test_a_picture_of_another_aspect_leaves_a_stale_corner(first, second):
    switches = replace(REFERENCE, stale_buffer=True)
    before = preprocess(picture(first, 1), 64, switches)
    after = preprocess(picture(second, 2), 64, switches, before)
    fresh = preprocess(picture(second, 2), 64, REFERENCE)
    height, width = second
    np.testing.assert_array_equal(after[..., :height, :width], fresh[..., :height, :width])
    outside = np.ones((64, 64), bool)
    outside[:height, :width] = False
    np.testing.assert_array_equal(after[0][:, outside], before[0][:, outside])
    assert (after != fresh).any(axis=1).mean() == pytest.approx(0.1875, abs=0.001)
    np.testing.assert_array_equal(preprocess(picture(second, 2), 64, REFERENCE, before), fresh)


def test_the_buffer_before_is_not_written_to():
    before = preprocess(picture(PORTRAIT), SIDE, BINARY)
    kept = before.copy()
    preprocess(picture(LANDSCAPE), SIDE, BINARY, before)
    np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT, (9, 5)])
def test_antialiased_resampling_is_pillow_s_without_its_rounding(size):
    """Pillow rounds to whole levels after each of the two passes: half a level, twice."""
    image = picture(size)
    smooth = levels(image, SIDE, replace(REFERENCE, rounding=False))
    assert np.abs(smooth - resize(image, SIDE).astype(float)).max() <= 1.0 + 1e-3
    rounded = levels(image, SIDE, replace(REFERENCE, half_pixel=False))
    np.testing.assert_array_equal(rounded, np.rint(rounded))


def test_without_half_a_pixel_the_picture_moves_by_half_a_pixel():
    """A ramp along x is lower by half a target pixel's step, away from the edges."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, :, None], (4, 64, 3))
    moved = resample(ramp, (1, 16), False, True) - resample(ramp, (1, 16), True, True)
    np.testing.assert_allclose(moved[:, 2:-2], -2.0, atol=1e-4)  # half of 64 / 16 source pixels


def test_linear_light_is_the_srgb_curve():
    table = linear_light()
    assert (table[0], table[255]) == (0, 255)
    assert table[10] == pytest.approx(255 * 10 / 255 / 12.92)
    assert table[188] == pytest.approx(255 * 0.5, rel=0.01)  # sRGB's middle grey
    image = np.full((8, 8, 3), 188, np.uint8)
    expected = (np.rint(table[188]) - PIXEL_MEAN) / PIXEL_STD
    got = preprocess(image, SIDE, replace(REFERENCE, colour="linear"))
    np.testing.assert_allclose(got[0].transpose(1, 2, 0), np.broadcast_to(expected, (16, 16, 3)), rtol=1e-5)
