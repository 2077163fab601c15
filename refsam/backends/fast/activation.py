"""GELU in place, 17 passes over a block that stays in the cache, from operations that NumPy vectorises.

    gelu(x) = (x + |x| (1 - erfc(|x| / sqrt 2))) / 2,     erfc(a / sqrt 2) = 2^p(a)

with a polynomial p of degree 6 without constant, so GELU is exact about zero; tests/backends/fit_gelu.py found it, and its
greatest error in exact arithmetic is 8.2e-8. Two multiplications are left to the neighbours, whose weights are folded anyway: the
input comes times SCALE_IN, which makes p's leading coefficient 1, and the result goes out times SCALE_OUT.
"""

import numpy as np

from refsam.backends.fast.layout import LINE, spans
from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float

SCALE_IN = 0.176199235
SCALE_OUT = 2 * SCALE_IN
MONIC = (-4.35650663, 8.27654097, -9.73220461, -14.7817163, -6.53321272)
"""Coefficients of p after the leading 1, highest power first, for the scaled input."""

FLAT = 5.9 * SCALE_IN
"""From here on 2^p is below 2^-25 and GELU is x or 0 to float32's last bit; beyond the fit p would rise again."""

BLOCK = 1 << 17
"""Elements in work at once: with two temporaries 1.5 MiB. Smaller blocks fit caches better, but then threads spend more time in
waiting for Python's lock between the passes."""


def scaled_gelu(scratch: Scratch, x: Float[Array, "*N"]) -> None:
    """`x` becomes SCALE_OUT * gelu(x / SCALE_IN), in place; it has to be contiguous.

    Numerics: absolute error of gelu at most 1e-6, 7e-8 root mean square for normal x (the definition's: 4.5e-7 and 2.4e-8).
    """
    flat = x.reshape(-1)
    with scratch.frame():
        temporaries = scratch.take(2, min(-(-flat.size // LINE) * LINE, BLOCK))
        for start, stop in spans(flat.size, BLOCK, LINE):
            _scaled_gelu(flat[start:stop], *temporaries[:, : stop - start])


def gelu(scratch: Scratch, x: Float[Array, "*N"]) -> None:
    """GELU in place, where no neighbour takes the scales; it has to be contiguous."""
    np.multiply(x, np.float32(SCALE_IN), out=x)
    scaled_gelu(scratch, x)
    np.multiply(x, np.float32(1 / SCALE_OUT), out=x)


def _scaled_gelu(x: Array, size: Array, h: Array) -> None:
    np.absolute(x, size)
    size.clip(_ZERO, _FLAT, out=size)  # `np.minimum` with a number takes three times as long in NumPy 2.4
    np.add(size, _COEFFICIENTS[0], h)
    for coefficient in _COEFFICIENTS[1:]:
        np.multiply(h, size, h)
        np.add(h, coefficient, h)
    np.multiply(h, size, h)
    np.exp2(h, h)
    np.subtract(_ONE, h, h)
    np.absolute(x, size)
    np.multiply(h, size, h)
    np.add(x, h, x)


# Arrays without axes: NumPy takes a third less time to look at them than at numbers.
_ZERO, _ONE, _FLAT = (np.array(value, np.float32) for value in (0, 1, FLAT))
_COEFFICIENTS = tuple(np.array(value, np.float32) for value in MONIC)
