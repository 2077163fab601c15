"""Numbers that a caller gives: what is one, and what NumPy alone would take for one."""

from fractions import Fraction

import numpy as np
import pytest

from refsam.arguments import numbers, real_number
from refsam.errors import InputError

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    "values",
    [[], 3, [[1, 2.5], [True, 4]], np.array([[7]], ">i2"), [Fraction(1, 4), 2**70], np.ones((2, 3), np.float16)[:, ::-1]],
)
def test_an_array_of_any_real_numbers_is_one_of_float64(values):
    array = numbers("x", values)
    assert array.dtype == np.float64
    assert array.tolist() == np.array(values).astype(float).tolist()


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2"],
        [1, "2"],
        [b"1"],
        [1 + 2j],
        np.array(["2026-01-01"], "M8[D]"),
        np.array([5], "m8[s]"),
        [[1, 2], [3]],
        {},
        [{}],
        [10**400],
        np.zeros(2, "f4,f4"),
    ],
)
def test_other_arrays_are_refused_by_name(values):
    with pytest.raises(InputError, match=r"^x is not an array of numbers; it has to be \(N, 2\)$"):
        numbers("x", values, "(N, 2)")


@pytest.mark.parametrize("value", [10**400, Fraction(10**400)], ids=["whole", "fraction"])
def test_one_number_beyond_float64_is_an_input_error(value):
    with pytest.raises(InputError, match="finite number is needed"):
        real_number("x", value)
