"""Rounding to float16 gives the bits that NumPy's cast gives."""

import numpy as np
import pytest

from refsam.coreml.half import FEW, round_to_half
from refsam.types import Array


def cast(x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(np.float16).astype(x.dtype)


def same_bits(x: Array) -> bool:
    return np.array_equal(round_to_half(x).view(np.uint32), cast(x).view(np.uint32))


def around_every_boundary() -> Array:
    """Each float16 number, the middle between it and the next, and the float32 numbers beside both; of both signs."""
    numbers = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (numbers + np.append(numbers[1:], np.float32(65536))) / np.float32(2)
    positive = np.concatenate([f(x) for x in (numbers, middles) for f in (_below, np.array, _above)])
    return np.concatenate([positive, -positive])


def _below(x: Array) -> Array:
    return np.nextafter(x, np.float32(-np.inf))


def _above(x: Array) -> Array:
    return np.nextafter(x, np.float32(np.inf))


def test_every_boundary() -> None:
    x = around_every_boundary()
    assert same_bits(x)
    assert same_bits(x[np.abs(x) < 32768])  # without those that may overflow, the vector form


def test_in_place() -> None:
    x = np.random.RandomState(2).normal(0, 1, 5000).astype(np.float32)
    expected = cast(x)
    assert round_to_half(x, x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-4, 1.0, 1e3, 1e5, 1e30])
def test_numbers_of_every_size(scale: float) -> None:
    assert same_bits((np.random.RandomState(0).normal(0, 1, 100_000) * scale).astype(np.float32))


def test_what_is_no_number() -> None:
    x = np.zeros(2 * FEW, np.float32)
    x[:6] = [np.inf, -np.inf, np.nan, -0.0, 65520, np.float32(65519.996)]
    found = round_to_half(x)
    np.testing.assert_array_equal(found[:6], [np.inf, -np.inf, np.nan, -0.0, np.inf, 65504])
    assert np.signbit(found[3])


def test_shape_and_order_do_not_matter() -> None:
    x = np.random.RandomState(1).normal(0, 1, (40, 60)).astype(np.float32)
    for view in (x.T, x[::2], x[:3, :3], x[0, 0]):
        np.testing.assert_array_equal(round_to_half(np.asarray(view)), cast(np.asarray(view)))
    assert round_to_half(x.astype(np.float64)).dtype == np.float64
