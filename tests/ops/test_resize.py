"""Both resizes against a naive loop, and Pillow's against Pillow."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refsam.ops.resize import PRECISION_BITS, bilinear, bilinear_tile, pillow_bilinear, triangle_weights

SIDES = st.integers(1, 70)


def picture(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pillow(image, size):
    """Pillow in two calls, the horizontal pass first, so that the order of Pillow 13 does not matter."""
    across = Image.fromarray(image).resize((size[1], image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def naive_axis(values, n_out):
    """One pass over a list of whole numbers, as Resample.c does it for one row."""
    n_in, scale = len(values), len(values) / n_out
    support, out = max(scale, 1.0), []
    for i in range(n_out):
        centre = (i + 0.5) * scale
        sources = range(max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), n_in))
        weights = [max(0.0, 1.0 - abs((j - centre + 0.5) * (1.0 / support))) for j in sources]
        fixed = [int(weight / sum(weights) * (1 << 22) + 0.5) for weight in weights]
        total = sum(weight * int(values[j]) for j, weight in zip(sources, fixed, strict=True))
        out.append(min((total + (1 << 21)) >> 22, 255))
    return out


def naive_pillow(image, size):
    across = np.stack([np.stack([naive_axis(row, size[1]) for row in plane]) for plane in image.transpose(2, 0, 1)])
    down = np.stack([np.stack([naive_axis(column, size[0]) for column in plane.T]) for plane in across])
    return down.transpose(2, 1, 0)


def naive_bilinear(x, size):
    """F.interpolate's definition, one value at a time."""
    out = np.empty(size)
    for i, j in np.ndindex(*size):
        (top, bottom, dy), (left, right, dx) = (naive_source(k, n, m) for k, n, m in zip((i, j), x.shape, size, strict=True))
        upper = x[top, left] * (1 - dx) + x[top, right] * dx
        lower = x[bottom, left] * (1 - dx) + x[bottom, right] * dx
        out[i, j] = upper * (1 - dy) + lower * dy
    return out


def naive_source(i, n_in, n_out):
    source = max((i + 0.5) * (n_in / n_out) - 0.5, 0.0)
    near = min(int(source), n_in - 1)
    return near, min(near + 1, n_in - 1), source - near


@pytest.mark.core
@pytest.mark.parametrize(("shape", "size"), [((7, 9), (3, 4)), ((3, 4), (8, 11)), ((20, 1), (3, 5)), ((5, 5), (1, 1))])
def test_pillow_bilinear_is_the_naive_loop(shape, size):
    image = picture(0, *shape, 3)
    np.testing.assert_array_equal(pillow_bilinear(image, size), naive_pillow(image, size))


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=max(150, settings.default.max_examples))
def test_pillow_bilinear_is_bit_exact_with_pillow(height, width, new_height, new_width, seed, extreme):
    image = picture(seed, height, width, 3)
    image = (image > 127) * np.uint8(255) if extreme else image
    np.testing.assert_array_equal(pillow_bilinear(image, (new_height, new_width)), pillow(image, (new_height, new_width)))


@pytest.mark.core
@pytest.mark.parametrize(
    ("shape", "size"),
    [((600, 800), (768, 1024)), ((1100, 90), (1024, 84)), ((3, 2500), (1, 1024)), ((1, 70001), (1, 64)), ((70001, 1), (64, 1))],
)
def test_pillow_bilinear_is_bit_exact_across_bands_and_parts(shape, size):
    image = picture(1, *shape, 3)
    np.testing.assert_array_equal(pillow_bilinear(image, size), pillow(image, size))


def test_pillow_bilinear_takes_views_and_any_number_of_channels():
    image = picture(2, 40, 50, 4)
    whole = pillow_bilinear(image, (13, 60))
    np.testing.assert_array_equal(pillow_bilinear(image[:, :, 2::-1], (13, 60)), whole[:, :, 2::-1])
    np.testing.assert_array_equal(
        pillow_bilinear(image[::-1, ::-1], (13, 60)), pillow_bilinear(image[::-1, ::-1].copy(), (13, 60))
    )


def test_pillow_bilinear_of_the_same_size_is_a_copy():
    image = picture(3, 5, 6, 3)
    same = pillow_bilinear(image, (5, 6))
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_pillow_bilinear_keeps_a_flat_picture_flat():
    # Rounded weights need not sum to 1: over 300 sources they miss it by at most 300 * 2**-23, far from a grey level.
    for grey in (0, 1, 127, 254, 255):
        assert np.all(pillow_bilinear(np.full((300, 117, 1), grey, np.uint8), (31, 200)) == grey)


@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_triangle_weights_are_exact_multiples_that_sum_to_about_one(n_in, n_out, data):
    start = data.draw(st.integers(0, n_out - 1))
    band = triangle_weights(n_in, n_out, start, min(start + 4, n_out))
    fixed = band.weights * 2**PRECISION_BITS
    np.testing.assert_array_equal(fixed, np.trunc(fixed))
    # Each weight is rounded by at most half a unit.
    assert np.all(np.abs(fixed.sum(axis=1) - 2**PRECISION_BITS) <= 0.5 * fixed.shape[1])


def test_pillow_bilinear_needs_little_more_than_its_result():
    image = picture(4, 1500, 2000, 3)
    tracemalloc.start()
    pillow_bilinear(image, (384, 512))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The result of the horizontal pass and of the vertical one in uint8, and 4 MiB for bands and parts in float64.
    assert peak < 3 * 512 * (1500 + 384) + 4 * 2**20


@pytest.mark.core
@pytest.mark.parametrize(
    ("shape", "size"), [((4, 5), (9, 7)), ((9, 7), (4, 5)), ((1, 1), (3, 2)), ((6, 1), (5, 4)), ((3, 3), (3, 3))]
)
def test_bilinear_is_the_naive_loop(shape, size):
    x = np.random.default_rng(5).normal(size=shape)
    # Same products and sums in the same order: at most the last bit differs where the compiler fuses the naive loop's.
    np.testing.assert_allclose(bilinear(x, size), naive_bilinear(x, size), rtol=0, atol=4e-15)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["float32", "float64"]), st.data())
def test_a_tile_has_the_bits_of_the_whole(height, width, new_height, new_width, dtype, data):
    x = np.random.default_rng(6).normal(size=(2, height, width)).astype(dtype)
    top, left = data.draw(st.integers(0, new_height - 1)), data.draw(st.integers(0, new_width - 1))
    bottom, right = data.draw(st.integers(top + 1, new_height)), data.draw(st.integers(left + 1, new_width))
    whole = bilinear(x, (new_height, new_width))
    tile = bilinear_tile(x, (new_height, new_width), (top, bottom), (left, right))
    assert tile.dtype == x.dtype
    np.testing.assert_array_equal(tile, whole[:, top:bottom, left:right])


def test_bilinear_float32_error_is_a_few_roundings():
    x = np.random.default_rng(7).normal(size=(3, 64, 64)).astype(np.float32)
    error = bilinear(x, (200, 300)) - bilinear(x.astype(np.float64), (200, 300))
    # Two passes, each with a rounded weight, two products and a sum: 4 half-ulps each on values up to |x|.
    assert np.abs(error).max() <= 8 * 2**-24 * np.abs(x).max()


@pytest.mark.core
def test_bilinear_by_four_has_the_exact_eighths_of_align_corners_false():
    row = np.array([[0.0, 8.0]], np.float32)
    np.testing.assert_array_equal(bilinear(row, (1, 8))[0], [0, 0, 1, 3, 5, 7, 8, 8])


@pytest.mark.peer
@pytest.mark.parametrize("size", [(1024, 1024), (100, 37), (1, 1), (3, 1500)])
def test_bilinear_is_torchs_interpolate(size):
    import torch

    x = np.random.default_rng(8).normal(size=(1, 2, 256, 256))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(x), size, mode="bilinear", align_corners=False).numpy()
    # Positions up to 256 in float64 carry 256 * 2**-53 of rounding, times a slope of up to 2 * max|x|, on each axis.
    np.testing.assert_allclose(bilinear(x, size), theirs, rtol=0, atol=4 * 256 * 2**-53 * np.abs(x).max())
