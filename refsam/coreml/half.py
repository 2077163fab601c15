"""Rounding float32 numbers to the nearest float16, kept as float32.

NumPy's casts there and back go number by number. Adding and taking away a number that is so much greater that its last place is
float16's does the same with whole vectors, in about a fifth of the time, and a float16 run rounds every result.
"""

import numpy as np

from refsam.types import Array, Float

SIGN, EXPONENT = np.uint32(0x80000000), np.uint32(0x7F800000)
"""Bits of a float32 number."""

SMALLEST_NORMAL = 2.0**-14
"""Below it all float16 numbers are 2^-24 apart."""

SHIFT = 1.5 * 2.0**13
"""float32 has 13 places more than float16: of 1.5 * 2^13 times a power of two, the last place is float16's of that power."""

NEAR_OVERFLOW = 2.0**15 * SHIFT
"""The shift of numbers from 32768 on: some of those may be beyond float16."""

FEW = 1 << 10
"""Numbers for which the casts are faster."""


def round_to_half(x: Float[Array, "*N"], out: Float[Array, "*N"] | None = None) -> Float[Array, "*N"]:
    """The nearest float16 numbers, even ones where two are as near, in the type of `x`; what is beyond 65504 becomes infinity.

    `out`, where it is given, takes the result; it may be `x`.
    """
    if x.dtype != np.float32 or x.size < FEW or not x.flags.c_contiguous:
        return _cast(x, out)
    bits = x.view(np.uint32)
    shift = (bits & EXPONENT).view(np.float32)
    shift.clip(SMALLEST_NORMAL, np.inf, out=shift)  # `np.maximum` with a number takes three times as long in NumPy 2.4
    shift *= np.float32(SHIFT)
    if shift.max() >= NEAR_OVERFLOW:
        return _cast(x, out)
    sign = bits & SIGN
    rounded = np.add(x, shift, out=out)
    rounded -= shift
    signed = rounded.view(np.uint32)
    signed |= sign  # of zeros: the sums above have lost it
    return rounded


def _cast(x: Array, out: Array | None) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = x.astype(np.float16).astype(x.dtype)
    if out is None:
        return rounded
    out[...] = rounded
    return out
