"""erf, GELU, ReLU and softmax."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refsam.ops.activation import BLOCK, erf, gelu, relu, softmax

FLOATS = (np.float32, np.float64)
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")


def exact_erf(x: float) -> Decimal:
    """erf to 40 digits by its power series, whose largest term at 6.5 is 10^17, so 80 digits are plenty."""
    with localcontext() as context:
        context.prec = 80
        square, term, total, n = Decimal(x) ** 2, Decimal(x), Decimal(x), 0
        while abs(term) > Decimal(10) ** -60 * abs(total):
            n += 1
            term = -term * square / n
            total += term / (2 * n + 1)
        return total * 2 / PI.sqrt()


def ulps(y: np.ndarray, truth: list[float]) -> np.ndarray:
    """Distance in units in the last place of the truth rounded to y's dtype."""
    true = np.array(truth)
    return np.abs(y.astype(np.float64) - true) / np.spacing(np.abs(true).astype(y.dtype)).astype(np.float64)


@pytest.mark.core
def test_erf_of_float32_is_good_to_one_and_a_half_ulp() -> None:
    rng = np.random.default_rng(0)
    sweeps = [np.linspace(-4.5, 4.5, 60_001), rng.normal(0, 1.5, 40_000), 10.0 ** rng.uniform(-44, 1, 20_000)]
    x = np.concatenate(sweeps).astype(np.float32)
    # math.erf in float64 is the truth here: its error is a billionth of a float32 ulp.
    worst = ulps(erf(x), [math.erf(value) for value in x.tolist()]).max()
    assert worst <= 1.5  # 1.31 when it was made


@pytest.mark.core
def test_erf_of_float64_is_good_to_one_and_a_half_ulp() -> None:
    rng = np.random.default_rng(0)
    near_seam = 1 + np.array([-2, -1, 0, 1, 2]) * 2.0**-52
    x = np.concatenate([rng.uniform(-6.5, 6.5, 300), np.linspace(0.8, 1.3, 200), 10.0 ** rng.uniform(-300, 0, 50), near_seam])
    spacing = np.spacing(np.abs(erf(x)))
    errors = [
        abs(Decimal(y) - exact_erf(value)) / Decimal(ulp)
        for value, y, ulp in zip(x.tolist(), erf(x).tolist(), spacing.tolist(), strict=True)
    ]
    assert max(errors) <= 1.5  # 0.97 when it was made


def test_exact_erf_is_erf() -> None:
    # math.erf is good to an ulp or so, on every platform to far less than 1e-14.
    for value in (-2.5, 0.1, 0.9, 3.0):
        assert float(exact_erf(value)) == pytest.approx(math.erf(value), rel=1e-14)


@pytest.mark.core
@pytest.mark.parametrize("dtype", FLOATS)
def test_erf_of_special_values(dtype: type) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, 1e38, -7.0], dtype)
    y = erf(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [0, 0, 1, -1, 1, -1])
    np.testing.assert_array_equal(np.signbit(y[:2]), [False, True])
    assert np.isnan(erf(np.array([np.nan], dtype))).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_erf_of_denormals_is_the_nearest_or_its_neighbour(dtype: type) -> None:
    least = np.finfo(dtype).smallest_subnormal
    counts = np.array([1, 2, 3, 1000, 123457], np.float64)
    expected = np.rint(counts * 2 / math.sqrt(math.pi))
    got = erf((counts * least).astype(dtype)) / least
    assert np.abs(got - expected).max() <= 1


@given(hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(-10, 10, width=32)))
def test_erf_is_odd_bounded_and_rises(x: np.ndarray) -> None:
    y = erf(x)
    np.testing.assert_array_equal(erf(-x), -y)
    assert np.all(np.abs(y) <= 1)
    rising = erf(np.sort(x))
    # Each value is within 1.5 ulp, so two neighbours can be the wrong way round by 3 at most.
    assert np.all(np.diff(rising) >= -3 * np.spacing(np.abs(rising[1:])))


@pytest.mark.core
def test_gelu_is_the_exact_one_and_not_tanhs() -> None:
    x = np.linspace(-5, 5, 2001)
    exact = np.array([value / 2 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()])
    tanh = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    assert np.abs(tanh - exact).max() > 4e-4  # what a port that took tanh would be off by
    # x/2 times the error of 1 + erf, which is at most 4 units of 1: 5/2 * 4 * 2^-53.
    assert np.abs(gelu(x) - exact).max() <= 10 * 2.0**-53


@given(hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-30, 30)))
def test_gelu_of_x_and_of_minus_x_differ_by_x(x: np.ndarray) -> None:
    # Phi(x) + Phi(-x) = 1. Each side has three roundings of values of at most |x|; underflow aside.
    np.testing.assert_allclose(gelu(x) - gelu(-x), x, rtol=6 * 2.0**-52, atol=1e-300)
    assert np.all(gelu(x) >= -0.17)
    np.testing.assert_allclose(gelu(x) + gelu(-x), x * erf(x * np.sqrt(0.5)), rtol=0, atol=30 * 8 * 2.0**-52)


def test_gelu_works_in_blocks_that_do_not_show() -> None:
    x = np.linspace(-3, 3, 2 * BLOCK + 5, dtype=np.float32)
    pieces = [gelu(x[i : i + 1000]) for i in range(0, x.size, 1000)]
    np.testing.assert_array_equal(gelu(x), np.concatenate(pieces))
    np.testing.assert_array_equal(gelu(x[::-1]), gelu(x)[::-1])


def test_relu_keeps_nan_and_has_no_negative_zero() -> None:
    y = relu(np.array([-1.0, -0.0, 0.0, 2.0, -np.inf, np.inf]))
    np.testing.assert_array_equal(y, [0, 0, 0, 2, 0, np.inf])
    assert np.isnan(relu(np.array([np.nan])))


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.floats(-1e4, 1e4)))
def test_softmax_is_a_distribution_and_ignores_a_shift(x: np.ndarray) -> None:
    y = softmax(x)
    assert np.all((y >= 0) & (y <= 1))
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=10 * 2.0**-52)
    # What is moved is at most 2e4 and rounded to 2^-39; exp passes that on, to the item and to the sum, as its own moves do.
    for moved in (x + 512, x - x.max(axis=-1, keepdims=True)):
        np.testing.assert_allclose(softmax(moved), y, rtol=4 * 2.0**-39, atol=1e-300)


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_does_not_overflow(dtype: type) -> None:
    y = softmax(np.array([1e38, 1e38, -1e38], dtype))
    np.testing.assert_array_equal(y, np.array([0.5, 0.5, 0], dtype))
    assert y.dtype == dtype
