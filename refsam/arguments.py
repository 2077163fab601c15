"""Numbers that a caller gives, one or an array of them, checked before any work is done with them."""

import math
import operator
from numbers import Real
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.types import Array, Float


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int. Raises InputError where it is no whole number (one of NumPy's is), below `least` or above `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}, a {type(value).__name__}; a whole number is needed") from None
    _check_bounds(name, number, least, most)
    return number


def real_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> float:
    """`value` as a float. Raises InputError where it is no number, not finite, below `least` or above `most`."""
    if not isinstance(value, Real):
        raise InputError(f"{name} is {value!r}, a {type(value).__name__}; a number is needed")
    try:
        number = float(value)
    except OverflowError:  # a whole number, or a fraction, of over 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} is {number}; a finite number is needed")
    _check_bounds(name, number, least, most)
    return number


def numbers(name: str, values: Any, shape: str = "") -> Float[Array, "*N"]:
    """`values` as a float64 array, the caller's own where it is one already. Raises InputError where they are no real numbers.

    NumPy alone would take dates and texts such as "1" for numbers, and the real parts of complex ones. `shape` is only said.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cmMSU":
            raise TypeError
        return np.asarray(array, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is not an array of numbers{shape and f'; it has to be {shape}'}") from None


def _check_bounds(name: str, number: int | float, least: int | None, most: int | None) -> None:
    if (least is None or number >= least) and (most is None or number <= most):
        return
    bounds = f"at least {least}" if most is None else f"from {least} to {most}"
    raise InputError(f"{name} is {number}; it has to be {bounds}")
