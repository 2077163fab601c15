"""ops/attention.py against plain loops; heads; the table of relative biases against upstream's rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam.ops.attention import attention, attention_bias_index, merge_heads, split_heads


@pytest.mark.core
def test_a_bias_far_below_hides_a_key() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 2, n, 3)) for n in (4, 5, 5))
    bias = np.zeros((2, 4, 5))
    bias[:, :, 3] = -1e4  # exp(-1e4) is 0
    shown = [0, 1, 2, 4]
    # The same sums but for a zero: a few units of values below 10.
    np.testing.assert_allclose(attention(q, k, v, bias), attention(q, k[:, :, shown], v[:, :, shown]), atol=10 * 8 * 2.0**-52)


def test_equal_scores_average_the_values() -> None:
    v = np.arange(8.0).reshape(1, 1, 4, 2)
    y = attention(np.zeros((1, 1, 3, 5)), np.ones((1, 1, 4, 5)), v)
    np.testing.assert_array_equal(y, np.broadcast_to([3.0, 4.0], (1, 1, 3, 2)))


@given(st.integers(1, 3), st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))
def test_heads_are_neighbouring_channels_and_merge_again(batch: int, tokens: int, heads: int, width: int) -> None:
    x = np.arange(batch * tokens * heads * width, dtype=np.float32).reshape(batch, tokens, heads * width)
    split = split_heads(x, heads)
    for head in range(heads):
        np.testing.assert_array_equal(split[:, head], x[:, :, head * width : (head + 1) * width])
    np.testing.assert_array_equal(merge_heads(split), x)


@pytest.mark.core
@pytest.mark.parametrize("size", [1, 2, 3, 7, 14])
def test_bias_index_numbers_distances_in_the_order_of_first_sight(size: int) -> None:
    numbers: dict[tuple[int, int], int] = {}
    points = [(y, x) for y in range(size) for x in range(size)]
    expected = [[numbers.setdefault((abs(ay - by), abs(ax - bx)), len(numbers)) for by, bx in points] for ay, ax in points]
    index = attention_bias_index(size)
    np.testing.assert_array_equal(index, expected)
    assert index.max() + 1 == len(numbers) == size * size


def test_bias_index_is_shared_and_so_cannot_be_written() -> None:
    assert attention_bias_index(3) is attention_bias_index(3)
    with pytest.raises(ValueError, match="read-only"):
        attention_bias_index(3)[0, 0] = 5
