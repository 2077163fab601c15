"""Each switch of the app's postprocessing against its formula."""

from dataclasses import replace

import numpy as np
import pytest
from coreml.naive_app import gaussian, postprocessing_kernel

from refsam.coreml.app_postprocessing import BLUR_SIGMA, mask_extent, mask_of, mask_values, upsample
from refsam.coreml.app_switches import BINARY, REFERENCE, SOURCE
from refsam.metal.definitions import gaussian_blur
from refsam.transforms import postprocess_logits, postprocess_masks, resized_size

SIDE, MASK = 64, 16
SIZES = [(24, 32), (32, 24), (30, 30), (21, 33)]
ONE_STEP = replace(REFERENCE, mask_steps="one")
FIELD = np.random.RandomState(0).normal(0, 3, (MASK, MASK)).astype(np.float32)
DISC = (8.0 - np.hypot(*np.mgrid[-8.0:8, -8.0:8])).astype(np.float32) - 4  # inside a radius of 4


@pytest.mark.core
@pytest.mark.parametrize("size", SIZES)
def test_the_reference_s_switches_are_the_reference(size):
    input_size = resized_size(size, SIDE)
    logits = postprocess_logits(FIELD[None, None], input_size, size, SIDE)[0, 0]
    np.testing.assert_array_equal(upsample(FIELD, size, SIDE, REFERENCE), logits)
    masks = postprocess_masks(FIELD[None, None], input_size, size, SIDE)[0, 0]
    np.testing.assert_array_equal(mask_of(mask_values(FIELD, size, SIDE, REFERENCE), REFERENCE), masks)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("texture_filter", ["linear", "nearest"])
@pytest.mark.parametrize("mask_size", ["exact", "rounded"])
def test_the_kernel_pixel_by_pixel(size, half_pixel, texture_filter, mask_size):
    switches = replace(ONE_STEP, mask_half_pixel=half_pixel, filter=texture_filter, mask_size=mask_size)
    extent = mask_extent(size, SIDE, MASK, switches)
    factor = (extent[0] / MASK, extent[1] / MASK)
    expected = postprocessing_kernel(FIELD.astype(float), size, factor, half_pixel, texture_filter == "linear")
    # two weighted sums of two float32 logits up to 10
    np.testing.assert_allclose(upsample(FIELD, size, SIDE, switches), expected, rtol=0, atol=8 * 10 * 2.0**-24)


@pytest.mark.parametrize("size", SIZES)
def test_two_steps_with_a_switch_are_two_kernels(size):
    switches = replace(REFERENCE, mask_half_pixel=False)
    height, width = resized_size(size, SIDE)
    whole = postprocessing_kernel(FIELD.astype(float), (SIDE, SIDE), (1, 1), False, True)
    cut = np.zeros((SIDE, SIDE))
    cut[:height, :width] = whole[:height, :width]
    square = np.pad(whole[:height, :width], ((0, SIDE - height), (0, SIDE - width)), mode="edge")
    expected = postprocessing_kernel(square, size, (height / SIDE, width / SIDE), False, True)
    np.testing.assert_allclose(upsample(FIELD, size, SIDE, switches), expected, rtol=0, atol=16 * 10 * 2.0**-24)


def test_the_rounded_size_is_off_by_a_quarter_of_a_mask_pixel_at_1000_x_667():
    rounded = replace(REFERENCE, mask_size="rounded")
    assert mask_extent((667, 1000), 1024, 256, REFERENCE) == (170.75, 256)
    assert mask_extent((667, 1000), 1024, 256, rounded) == (171, 256)
    for size in ((3024, 4032), (720, 1280)):  # exact at 4:3 and 16:9
        assert mask_extent(size, 1024, 256, REFERENCE) == mask_extent(size, 1024, 256, rounded)


def test_what_the_two_kernels_write():
    """1 - step(logit, 0) in the binary; 1 - clamp(logit, 0, 1) in the source, which is 0 inside."""
    binary, source = replace(BINARY, blur=False), replace(SOURCE, blur=False)
    scaled = upsample(FIELD, (24, 32), SIDE, binary)
    np.testing.assert_array_equal(mask_values(FIELD, (24, 32), SIDE, binary), 1 - (scaled <= 0).astype(np.float32))
    np.testing.assert_array_equal(mask_values(FIELD, (24, 32), SIDE, source), 1 - np.clip(scaled, 0, 1))


def test_how_values_are_read():
    values = np.array([[0.0, 0.2, 0.5, 0.7, 1.0]], np.float32)
    assert mask_of(values, REFERENCE).tolist() == [[False, False, False, True, True]]
    assert mask_of(values, replace(REFERENCE, cut="any")).tolist() == [[False, True, True, True, True]]
    assert mask_of(values, replace(REFERENCE, values="clamp")).tolist() == [[True, True, False, False, False]]
    assert mask_of(values, replace(REFERENCE, values="clamp", cut="any")).tolist() == [[True, True, True, True, False]]


def test_the_blur_is_a_gaussian():
    blurred = replace(REFERENCE, blur=True)
    sharp = mask_values(DISC, (16, 40), SIDE, REFERENCE)
    # 41 + 41 additions of numbers below 1
    expected = gaussian(sharp, BLUR_SIGMA, 20)
    np.testing.assert_allclose(mask_values(DISC, (16, 40), SIDE, blurred), expected, rtol=0, atol=82 * 2.0**-24)


def test_the_blurred_mask_above_zero_grows_by_the_blur_s_radius():
    values = np.zeros((81, 81), np.float32)
    values[40, 40] = 1
    grown = mask_of(gaussian_blur(values, BLUR_SIGMA), replace(REFERENCE, cut="any"))
    assert grown.sum() == 41**2
    assert mask_of(gaussian_blur(values, BLUR_SIGMA), REFERENCE).sum() == 0


def test_a_mask_without_half_a_pixel_moves_to_the_right_and_down():
    straight = mask_of(mask_values(DISC, (64, 64), SIDE, ONE_STEP), ONE_STEP)
    moved_by = replace(ONE_STEP, mask_half_pixel=False)
    moved = mask_of(mask_values(DISC, (64, 64), SIDE, moved_by), moved_by)
    centre, shifted = (np.argwhere(mask).mean(axis=0) for mask in (straight, moved))
    np.testing.assert_allclose(shifted - centre, 0.5, atol=0.1)
