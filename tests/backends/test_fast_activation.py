"""The fast backend's GELU against the true one."""

import math

import numpy as np
import pytest
from backends import fit_gelu
from hypothesis import given
from hypothesis import strategies as st

from refsam.backends.fast import activation
from refsam.backends.fast.activation import BLOCK, FINE, SCALE, SHORT, Fit, gelu, scaled_gelu
from refsam.backends.fast.scratch import Scratch

pytestmark = pytest.mark.core


def true_gelu(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x.astype(float)])


def fast_gelu(x: np.ndarray) -> np.ndarray:
    y = np.array(x, np.float32)
    gelu(Scratch(), y)
    return y


def test_gelu_is_within_its_stated_error() -> None:
    # The fit's error is 2.6e-7. The scales cost two roundings of the number and the difference one, 6e-8 of it each: 3.6e-7 up
    # to 2. The 8th power makes 4.8e-7 of a rounding, but of |x| erfc / 2, and that is 0.17 at most. Up to 12 gelu's own spacing
    # is 9.5e-7.
    x = np.linspace(-12, 12, 240_001).astype(np.float32)
    error = np.abs(fast_gelu(x) - true_gelu(x))
    assert error.max() <= 1e-6
    assert error[np.abs(x) < 2].max() <= 7e-7
    normal = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    assert np.sqrt(np.mean((fast_gelu(normal) - true_gelu(normal)) ** 2)) <= 2e-7  # root mean square: the fit's 1.8e-7 at most
    # Of small numbers the fit loses at most 2.6e-7 / 0.5, the 8th power of three roundings half of 4.8e-7 sqrt(3).
    small = normal / 20
    assert np.linalg.norm(fast_gelu(small) - true_gelu(small)) <= 9e-7 * np.linalg.norm(true_gelu(small))


def test_gelu_of_numbers_far_out_is_the_number_or_zero() -> None:
    x = np.array([6.5, -6.5, 12, -12, 300, -300, 1e30, -1e30], np.float32)  # gelu(-6.5) is -2.6e-10
    np.testing.assert_allclose(fast_gelu(x), np.maximum(x, 0), rtol=3e-7, atol=1e-9)


def test_gelu_of_next_to_nothing_is_half_of_it() -> None:
    x = np.array([0.0, -0.0, 1e-30, -1e-30], np.float32)
    np.testing.assert_allclose(fast_gelu(x), x / 2, rtol=1e-6)


def test_gelu_of_what_is_no_number_is_none() -> None:
    assert np.isnan(fast_gelu(np.array([np.nan, 1.0]))[0])


@given(size=st.integers(0, 300), seed=st.integers(0, 99))
def test_the_place_in_the_array_does_not_show(size: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 2, size).astype(np.float32)
    together = fast_gelu(x)
    np.testing.assert_array_equal(together, fast_gelu(x[::-1])[::-1])
    assert together.shape == x.shape


def test_more_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(5, 1237)).astype(np.float32)
    whole = fast_gelu(x)
    monkeypatch.setattr(activation, "BLOCK", 1024)
    np.testing.assert_array_equal(fast_gelu(x), whole)


@pytest.mark.parametrize("size", [2 * BLOCK - 1, 2 * BLOCK + 1, 3 * BLOCK - 15])
def test_a_size_that_is_nearly_whole_blocks(size: int) -> None:
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    np.testing.assert_array_equal(fast_gelu(x)[-40:], fast_gelu(x[-40:]))


def test_the_scale_is_the_neighbours_business() -> None:
    x = np.linspace(-3, 3, 101).astype(np.float32)
    y = x * np.float32(SCALE)
    scaled_gelu(Scratch(), y)
    np.testing.assert_allclose(y / SCALE, true_gelu(x), atol=1e-6)


def test_the_fine_fit_adds_nothing_to_what_float32_loses() -> None:
    # The fit's error is 1e-8. Two roundings of the scaled number, one of the difference: 1.8e-7 of |x| at most. As above, the 8th
    # power makes 4.8e-7 of a rounding, three of which weigh in, but of |x| erfc / 2, and that is 0.17 at most.
    x = np.linspace(-12, 12, 240_001).astype(np.float32)
    y = x * np.float32(FINE.scale)
    scaled_gelu(Scratch(), y, FINE)
    error = np.abs(y / FINE.scale - true_gelu(x))
    assert (error <= 1e-8 + 1.8e-7 * np.abs(x) + 2.4e-7).all()
    # Where the other fit is off by 2.5e-7 on average, at 3 and 4 with opposite signs, this one is off by its roundings at random.
    near = np.abs(x - 3) < 0.05
    assert abs(np.mean((y / FINE.scale - true_gelu(x))[near])) < 4e-8 < abs(np.mean((fast_gelu(x) - true_gelu(x))[near]))


@pytest.mark.parametrize(("fit", "degree", "bound"), [(SHORT, 5, 2.7e-7), (FINE, 8, 1e-8)])
def test_the_constants_are_those_of_the_fit(fit: Fit, degree: int, bound: float) -> None:
    coefficients, error = fit_gelu.fit(degree, fit.added)
    assert error < bound
    # Another LAPACK ends at other coefficients of the same quality: compare polynomials, not coefficients.
    a = np.linspace(0, 5, 500)
    ours = np.polyval([1, *fit.monic], a * fit.scale)
    np.testing.assert_allclose(ours, np.polyval(coefficients[::-1], a), atol=1e-6)
    assert (degree, fit.added) in fit_gelu.FITS
    assert BLOCK % 16 == 0
