"""GELU in place, 23 passes over a block that stays in the cache, all of them sums and products but for one division.

    2 gelu(x) = x + |x| - |x| erfc(|x| / sqrt 2),     erfc(a / sqrt 2) = 1 / (1 + p(a))^16

with a polynomial p of degree 7 without constant, so GELU is exact about zero; tests/backends/fit_gelu.py found it. Its greatest
error in exact arithmetic is 8e-8, and below |x| = 1 that part of |x|. The power of 16 is four squares, which are vectors on
every CPU: NumPy's exp2 is that with AVX-512 only, and takes ten times as long as four squares elsewhere. Where the power
overflows, the division gives the zero that is meant. Two multiplications are left to the neighbours, whose weights are folded
anyway: the input comes times SCALE_IN, which makes p's leading coefficient 1, and the result goes out times SCALE_OUT.
"""

import numpy as np

from refsam.backends.fast.layout import LINE, spans
from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float

SCALE_IN = 0.131140827
SCALE_OUT = 2 * SCALE_IN
MONIC = (-0.0999814967, 1.76563167, 0.0243967903, 1.46365486, 1.22882188, 0.380264332)
"""Coefficients of p after the leading 1, highest power first, for the scaled input."""

BLOCK = 1 << 18
"""Elements in work at once: with three temporaries 4 MiB. Smaller blocks fit caches better, but then threads spend more time in
waiting for Python's lock between the passes."""


def scaled_gelu(scratch: Scratch, x: Float[Array, "*N"]) -> None:
    """`x` becomes SCALE_OUT * gelu(x / SCALE_IN), in place; it has to be contiguous.

    Numerics: absolute error of gelu at most 1e-6, 6e-8 root mean square for normal x (the definition's: 4.5e-7 and 2.4e-8).
    """
    flat = x.reshape(-1)
    with scratch.frame(), np.errstate(over="ignore"):
        temporaries = scratch.take(3, min(-(-flat.size // LINE) * LINE, BLOCK))
        for start, stop in spans(flat.size, BLOCK, LINE):
            _scaled_gelu(flat[start:stop], *temporaries[:, : stop - start])


def gelu(scratch: Scratch, x: Float[Array, "*N"]) -> None:
    """GELU in place, where no neighbour takes the scales; it has to be contiguous."""
    np.multiply(x, np.float32(SCALE_IN), out=x)
    scaled_gelu(scratch, x)
    np.multiply(x, np.float32(1 / SCALE_OUT), out=x)


def _scaled_gelu(x: Array, size: Array, h: Array, more: Array) -> None:
    np.absolute(x, size)
    np.add(size, _COEFFICIENTS[0], h)
    for coefficient in _COEFFICIENTS[1:]:
        np.multiply(h, size, h)
        np.add(h, coefficient, h)
    np.multiply(h, size, h)
    for _ in range(2):  # (1 + h)^2 = 1 + h (h + 2): as long as the 1 is not added, h is not rounded to the precision that 1 has
        np.add(h, _TWO, more)
        np.multiply(h, more, h)
    np.add(h, _ONE, h)
    for _ in range(2):
        np.multiply(h, h, h)
    np.divide(size, h, h)
    np.add(x, size, x)
    np.subtract(x, h, x)


# Arrays without axes: NumPy takes a third less time to look at them than at numbers.
_ONE, _TWO = (np.array(value, np.float32) for value in (1, 2))
_COEFFICIENTS = tuple(np.array(value, np.float32) for value in MONIC)
