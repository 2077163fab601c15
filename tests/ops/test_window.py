"""ops/window.py: cutting into windows and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam.ops.window import window_partition, window_reverse

SIDES = st.integers(1, 9)


@pytest.mark.core
@given(st.integers(1, 3), SIDES, SIDES, st.integers(1, 3), st.integers(1, 5))
def test_there_and_back(batch: int, height: int, width: int, channels: int, size: int) -> None:
    x = np.random.default_rng(0).normal(size=(batch, height, width, channels))
    windows = window_partition(x, size)
    down, across = -(-height // size), -(-width // size)
    assert windows.shape == (batch * down * across, size * size, channels)
    np.testing.assert_array_equal(window_reverse(windows, size, height, width), x)


@pytest.mark.core
@given(st.integers(1, 2), SIDES, SIDES, st.integers(1, 5))
def test_each_window_is_a_square_of_the_grid_and_zero_outside(batch: int, height: int, width: int, size: int) -> None:
    x = 1 + np.arange(batch * height * width, dtype=np.float32).reshape(batch, height, width, 1)
    windows = iter(window_partition(x, size).reshape(-1, size, size))
    for item in range(batch):
        for top in range(0, height, size):
            for left in range(0, width, size):
                square = x[item, top : top + size, left : left + size, 0]
                padded = np.zeros((size, size))
                padded[: square.shape[0], : square.shape[1]] = square
                np.testing.assert_array_equal(next(windows), padded)
    assert next(windows, None) is None


def test_a_view_is_not_written_through() -> None:
    x = np.ones((1, 4, 4, 2), np.float32)
    x.flags.writeable = False
    assert window_partition(x, 2).dtype == np.float32
    assert window_partition(x, 3).sum() == x.sum()
