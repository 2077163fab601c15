"""ops/conv.py against plain loops, within derived rounding bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam.ops.conv import conv2d, conv_transpose2d, depthwise_conv2d


@pytest.mark.core
def test_kernels_are_not_flipped() -> None:
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    kernel = np.arange(9.0).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(conv2d(x, kernel, None, 1, 1), kernel[..., ::-1, ::-1])
    np.testing.assert_array_equal(depthwise_conv2d(x, kernel), kernel[..., ::-1, ::-1])


def test_a_transposed_convolution_puts_the_kernel_at_each_pixel() -> None:
    x = np.array([[[[1.0, 10.0]]]])
    kernel = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[[[1.5, 2.5, 10.5, 20.5], [3.5, 4.5, 30.5, 40.5]]]]
    np.testing.assert_array_equal(conv_transpose2d(x, kernel, np.array([0.5])), expected)


# Small whole numbers: every sum is exact in float32, so equality is of bits.
SIDES = st.integers(1, 9)


@given(st.data(), SIDES, SIDES, st.sampled_from([1, 2]))
def test_a_depthwise_convolution_is_a_dense_one_of_each_channel(
    data: st.DataObject, height: int, width: int, stride: int
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, w = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((2, 3, height, width), (3, 1, 3, 3)))
    dense = [conv2d(x[:, c : c + 1], w[c : c + 1], None, stride, 1) for c in range(3)]
    np.testing.assert_array_equal(depthwise_conv2d(x, w, stride), np.concatenate(dense, axis=1))


@given(st.data(), SIDES, SIDES)
def test_a_convolution_is_the_adjoint_of_the_transposed_one(data: st.DataObject, height: int, width: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, y, w = (
        rng.integers(-4, 5, shape).astype(float) for shape in ((1, 2, height, width), (1, 3, 2 * height, 2 * width), (2, 3, 2, 2))
    )
    assert np.sum(conv_transpose2d(x, w, np.zeros(3)) * y) == np.sum(x * conv2d(y, w, None, 2))
