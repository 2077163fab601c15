"""The definitions that only kernels have, against other ways to compute the same."""

import numpy as np
import pytest

from refsam.errors import InputError
from refsam.metal import calls, definitions
from refsam.ops.resize import pillow_bilinear, triangle_weights
from refsam.transforms import PIXEL_MEAN, PIXEL_STD

pytestmark = pytest.mark.core


def test_the_blur_is_a_gaussian() -> None:
    weights = definitions.gaussian_weights(2.0)
    assert weights.sum() == pytest.approx(1)
    assert len(weights) == 17
    np.testing.assert_allclose(weights[8:10] / weights[8], [1, np.exp(-1 / 8)])
    point = np.zeros((1, 21, 23))
    point[0, 10, 11] = 1
    np.testing.assert_allclose(definitions.gaussian_blur(point, 2.0)[0, 2:19, 3:20], np.outer(weights, weights))


def test_the_blur_sees_zeros_outside() -> None:
    blurred = definitions.gaussian_blur(np.ones((1, 40, 40)), 2.0)
    np.testing.assert_allclose(blurred[0, 20, 20], 1)
    np.testing.assert_allclose(blurred[0, 0, 20], definitions.gaussian_weights(2.0)[8:].sum())


def loops(image, size, side, half_pixel, shift):
    """One pixel after the other."""
    height, width = image.shape[:2]
    out = np.zeros((3, side * side))
    for y in range(size[0]):
        for x in range(size[1]):
            sy = min(max((y + half_pixel / 2) * height / size[0] - 0.5, 0), height - 1)
            sx = min(max((x + half_pixel / 2) * width / size[1] - 0.5, 0), width - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            a, b = sy - y0, sx - x0
            top = image[y0, x0] * (1 - b) + image[y0, x1] * b
            bottom = image[y1, x0] * (1 - b) + image[y1, x1] * b
            index = y * side + x + shift
            if index < side * side:
                out[:, index] = (top * (1 - a) + bottom * a - PIXEL_MEAN) / PIXEL_STD
    return out.reshape(1, 3, side, side)


@pytest.mark.parametrize(("half_pixel", "shift"), [(True, 0), (False, 0), (False, 5), (True, 9)])
@pytest.mark.parametrize(("picture", "size"), [((5, 7), (12, 16)), ((30, 23), (16, 12)), ((1, 1), (3, 16))])
def test_plain_bilinear_preprocessing_is_a_sample_for_each_pixel(picture, size, half_pixel, shift) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*picture, 3), np.uint8)
    found = definitions.preprocess_bilinear(image, size, 16, half_pixel, shift)
    np.testing.assert_allclose(found, loops(image.astype(float), size, 16, half_pixel, shift), atol=1e-12)


OTHERS = {"n": 1999, "wide": (1.0, -2.0, 4.0), "narrow": (4.0, 5.0, 6.0), "seed": 1, "small": 201, "last": 0.25}


@pytest.mark.parametrize(("name", "value"), OTHERS.items())
def test_the_canary_s_answer_depends_on_every_parameter(name, value) -> None:
    answer, other = definitions.canary(**definitions.CANARY), definitions.canary(**{**definitions.CANARY, name: value})
    assert not np.array_equal(answer, other)


@pytest.mark.parametrize(("n_in", "n_out"), [(83, 32), (5, 23), (16, 16), (90, 1), (1, 9), (4032, 1024)])
def test_tables_of_the_resize_are_pillow_s_weights(n_in, n_out) -> None:
    first, weights = calls.pillow_taps(n_in, n_out)
    assert first.min() >= 0
    assert first.max() + weights.shape[1] <= n_in
    band = triangle_weights(n_in, n_out, 0, n_out)
    dense = np.zeros((n_out, n_in))
    dense[:, band.lo : band.hi] = band.weights
    spread = np.zeros_like(dense)
    for target in range(n_out):
        spread[target, first[target] : first[target] + weights.shape[1]] = weights[target] / (1 << 22)
    np.testing.assert_array_equal(spread, dense)


def test_the_tables_resize_a_picture_as_pillow_does() -> None:
    row = np.random.default_rng(1).integers(0, 256, (1, 77, 1), np.uint8)
    first, weights = calls.pillow_taps(77, 20)
    windows = row[0, first[:, None] + np.arange(weights.shape[1]), 0].astype(np.int64)
    sums = ((windows * weights).sum(axis=1) + (1 << 21)) >> 22
    np.testing.assert_array_equal(np.clip(sums, 0, 255), pillow_bilinear(row, (1, 20))[0, :, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calls.bilinear(None, np.zeros((1, 1 << 16, 1), np.float32), (1 << 16, 1), (1, 1)), "more than whole numbers"),
        (lambda: calls.gaussian_blur(None, np.zeros((1, 2, 2), np.float32), 40.0), "sigma is 40.0"),
        (lambda: calls.matmul(None, np.zeros((1, 2, 3)), np.zeros((1, 4, 2))), "do not fit"),
        (lambda: calls.matmul(None, np.zeros((2, 2, 3)), np.zeros((3, 3, 2))), "do not fit"),
        (lambda: calls.matmul(None, np.zeros((1, 2, 3)), np.zeros((1, 3, 2)), np.zeros(5)), "the bias has shape"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_calls_that_a_kernel_could_not_answer_are_refused(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call()
