"""ops/norm.py against plain loops, within derived rounding bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam.ops.norm import batch_norm, layer_norm, layer_norm_2d


@pytest.mark.core
def test_a_constant_token_becomes_the_bias() -> None:
    # Padding tokens of a window are zero before the LayerNorm: this is what they are after it.
    weight, bias = np.full(4, 7.0), np.arange(4.0)
    for constant in (0.0, 3.0):
        np.testing.assert_array_equal(layer_norm(np.full((2, 4), constant), weight, bias), np.tile(bias, (2, 1)))


@pytest.mark.core
def test_the_two_eps_are_upstreams() -> None:
    # One of two channels is 2e-3, so the variance is 1e-6 and eps decides: 1e-3 / sqrt(1e-6 + eps).
    x, one, zero = np.array([0.0, 2e-3]), np.ones(2), np.zeros(2)
    assert layer_norm(x, one, zero)[1] == pytest.approx((1e-6 / 1.1e-5) ** 0.5, rel=1e-12)
    assert layer_norm_2d(x.reshape(1, 2, 1, 1), one, zero)[0, 1, 0, 0] == pytest.approx(0.5**0.5, rel=1e-12)
    y = batch_norm(np.ones((1, 1, 1, 1)), np.zeros(1), np.zeros(1), np.ones(1), np.zeros(1))
    assert y.item() == pytest.approx(1e-5**-0.5, rel=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_the_result_has_mean_zero_and_variance_one(seed: int, width: int) -> None:
    x = np.random.default_rng(seed).normal(3, 5, (4, width))
    y = layer_norm(x, np.ones(width), np.zeros(width), eps=0.0)
    # Each of the y is right to a few roundings times |y| <= sqrt(width), a mean no worse.
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-13 * (1 + np.abs(x).max() / x.std(axis=-1).min()))
    np.testing.assert_allclose((y**2).mean(axis=-1), 1, rtol=1e-12)


def test_layer_norm_2d_is_layer_norm_over_channels() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    weight, bias = np.arange(1.0, 6), np.arange(5.0)
    expected = np.moveaxis(layer_norm(np.moveaxis(x, 1, -1), weight, bias, 1e-6), -1, 1)
    # Sums of five numbers in another order: a few units of the largest value, which is below 20.
    np.testing.assert_allclose(layer_norm_2d(x, weight, bias), expected, rtol=0, atol=20 * 10 * 2**-52)
