"""Into the input frame and back."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam import transforms
from refsam.errors import InputError
from refsam.ops.resize import bilinear


def picture(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.core
@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((480, 640), (768, 1024)),
        ((640, 480), (1024, 768)),
        ((1024, 1024), (1024, 1024)),
        ((1, 1), (1024, 1024)),
        ((3, 2048), (2, 1024)),  # 1.5 rounds up
        ((427, 640), (683, 1024)),  # 683.2
        ((1, 100_000), (1, 1024)),  # 0.01: upstream's rule gives 0 and fails
    ],
)
def test_resized_size(original, expected):
    assert transforms.resized_size(original, 1024) == expected


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", [(0, 5), (427, 640, 3), (640,), ()])
def test_resized_size_refuses_what_is_no_size(size):
    with pytest.raises(InputError, match=r"size is \(.*\); \(height, width\) is needed, each at least 1: image\.shape\[:2\]"):
        transforms.resized_size(size, 1024)


@pytest.mark.core
def test_padding_is_zero_after_normalising():
    input_image = transforms.preprocess(picture(30, 64), 64)
    assert input_image.dtype == np.float32
    assert np.all(input_image[:, :, 30:, :] == 0)
    assert np.all(input_image[:, :, :30, :] != 0)  # no whole number is a channel's mean


@pytest.mark.core
def test_normalising_is_float32_mean_then_std():
    image = picture(64, 64)
    expected = (image.astype(np.float32) - np.float32([123.675, 116.28, 103.53])) / np.float32([58.395, 57.12, 57.375])
    np.testing.assert_array_equal(transforms.preprocess(image, 64)[0], expected.transpose(2, 0, 1))


def test_preprocess_explains_a_wrong_array():
    with pytest.raises(InputError, match="uint8"):
        transforms.preprocess(np.zeros((4, 4, 3)))


@pytest.mark.core
def test_coords_have_a_factor_per_axis_in_float64():
    # 427 x 640 becomes 683 x 1024: the factors are 1.6 and 683 / 427, not 1.6 twice.
    got = transforms.apply_coords(np.array([[100, 427]]), (427, 640), 1024)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, [[100 * (1024 / 640), 427 * (683 / 427)]])


def test_coords_are_a_copy():
    coords = np.ones((2, 3, 2))
    assert transforms.apply_coords(coords, (50, 100), 1024).shape == (2, 3, 2)
    assert np.all(coords == 1)


@pytest.mark.core
@pytest.mark.parametrize(
    ("call", "shape", "wanted"),
    [
        (transforms.apply_coords, (3, 1), r"coords has shape \(3, 1\); it has to be \(..., 2\)"),  # would be broadcast
        (transforms.apply_coords, (), r"coords has shape \(\)"),
        (transforms.apply_boxes, (4, 5), r"boxes has shape \(4, 5\); it has to be \(B, 4\)"),  # with scores: five boxes' numbers
        (transforms.apply_boxes, (8,), r"boxes has shape \(8,\)"),
    ],
)
def test_coords_and_boxes_of_another_shape_are_refused(call, shape, wanted):
    with pytest.raises(InputError, match=wanted):
        call(np.ones(shape), (427, 640), 1024)


def test_boxes_are_two_corners():
    boxes = np.array([[1, 2, 30, 40], [5, 6, 7, 8]])
    got = transforms.apply_boxes(boxes, (427, 640), 1024)
    np.testing.assert_array_equal(got[:, :2], transforms.apply_coords(boxes[:, :2], (427, 640), 1024))
    np.testing.assert_array_equal(got[:, 2:], transforms.apply_coords(boxes[:, 2:], (427, 640), 1024))
    assert transforms.apply_boxes(boxes[0], (427, 640), 1024).shape == (1, 4)


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_postprocess_goes_up_crops_and_goes_to_the_picture(dtype):
    low = np.random.default_rng(1).normal(size=(2, 3, 16, 16)).astype(dtype)
    logits = transforms.postprocess_logits(low, (40, 64), (25, 40), 64)
    expected = bilinear(bilinear(low, (64, 64))[..., :40, :64], (25, 40))
    assert logits.dtype == low.dtype
    np.testing.assert_array_equal(logits, expected)
    # One step straight from the cropped 16 x 16 logits is another function: the two steps matter.
    assert np.abs(logits - bilinear(low[..., :10, :], (25, 40))).max() > 0.05


@given(st.integers(1, 40), st.integers(1, 40), st.integers(20, 2000), st.sampled_from(["float32", "float64"]))
def test_masks_are_the_thresholded_logits_however_they_are_tiled(height, width, tile, dtype):
    low = np.random.default_rng(2).normal(size=(2, 1, 16, 16)).astype(dtype)
    size = transforms.resized_size((height, width), 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "_TILE_ELEMENTS", tile)
        masks = transforms.postprocess_masks(low, size, (height, width), 64)
    assert masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, transforms.postprocess_logits(low, size, (height, width), 64) > 0)


def test_a_logit_of_zero_is_outside():
    assert not transforms.postprocess_masks(np.zeros((1, 1, 16, 16), np.float32), (64, 64), (8, 8), 64).any()


@pytest.mark.parametrize("size", [(3000, 3000), (3, 3_000_000), (3_000_000, 3)])
def test_masks_of_a_large_picture_need_little_more_than_their_own_memory(size):
    low = np.random.default_rng(3).normal(size=(1, 1, 16, 16)).astype(np.float32)
    tracemalloc.start()
    masks = transforms.postprocess_masks(low, transforms.resized_size(size, 64), size, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A tile has 2**17 logits; at once there are four such arrays of 4 bytes and the taps of its sides, 5 of 8 bytes: 8 MiB.
    assert peak < masks.nbytes + 8 * 2**20


def test_resize_longest_side_is_the_functions_under_upstreams_names():
    transform, image = transforms.ResizeLongestSide(64), picture(20, 30)
    np.testing.assert_array_equal(transform.apply_image(image), transforms.resize(image, 64))
    np.testing.assert_array_equal(transform.apply_coords([[3, 4]], (20, 30)), transforms.apply_coords([[3, 4]], (20, 30), 64))
    np.testing.assert_array_equal(
        transform.apply_boxes([1, 2, 3, 4], (20, 30)), transforms.apply_boxes([1, 2, 3, 4], (20, 30), 64)
    )
    assert transform.get_preprocess_shape(20, 30, 64) == (43, 64)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_input_image_is_bit_equal_to_upstreams():
    import torch

    image = picture(427, 640)
    resized = torch.as_tensor(transforms.resize(image, 1024)).permute(2, 0, 1)[None]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    theirs = torch.nn.functional.pad((resized - mean) / std, (0, 0, 0, 1024 - resized.shape[2]))
    np.testing.assert_array_equal(transforms.preprocess(image), theirs.numpy())
