"""ops/linear.py against plain loops, within derived rounding bounds."""

import numpy as np

from refsam.ops.linear import linear


def test_zero_weight_gives_the_bias_everywhere() -> None:
    bias = np.arange(3.0)
    y = linear(np.ones((2, 4, 5)), np.zeros((3, 5)), bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (2, 4, 3)))


def test_a_broadcast_input_is_taken() -> None:
    row = np.arange(5.0)
    y = linear(np.broadcast_to(row, (4, 5)), np.eye(5), np.zeros(5))
    np.testing.assert_array_equal(y, np.tile(row, (4, 1)))
