"""GELU in place, 18 passes over a block that stays in the cache, all of them sums and products but for one division.

    gelu(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2,     2 / erfc(a / sqrt 2) = (p(a)^2 + c)^8

with a polynomial p of degree 5; tests/backends/fit_gelu.py found it. Its greatest error in exact arithmetic is 2.6e-7, and below
|x| = 1 that part of |x|. The power is four squares, which are vectors on every CPU: NumPy's exp2 is that with AVX-512 only, and
takes ten times as long as four squares elsewhere. Where the power overflows, the division gives the zero that is meant; for an
infinite x it has no value, and the result is NaN. Multiplications by SCALE are left to the neighbours, whose weights are
folded anyway: the input comes times SCALE, which makes p's leading coefficient 1, and so does the result.

Where the result goes on from block to block, p has degree 8 (FINE) and the fit an error of 1e-8: the other's is the same wherever
x is the same, and would add up. In a model whose first blocks pass numbers around 3, it was half of what the embedding lost.
"""

from typing import NamedTuple

import numpy as np

from refsam.backends.fast.layout import LINE, spans
from refsam.backends.fast.scratch import Scratch
from refsam.types import Array, Float


class Fit(NamedTuple):
    """One polynomial."""

    scale: float
    monic: tuple[float, ...]
    """Coefficients of p after the leading 1, highest power first, for the scaled input."""
    added: float
    """The c above."""


SHORT = Fit(0.170256154, (-0.550071389, 0.693025191, 1.05313761, 0.456074764, 0.70036252), 0.6)
FINE = Fit(
    0.152044877,
    (-1.6133235, 1.40942365, 0.679158085, -0.343374067, 1.0193495, 1.17278413, 0.436793213, 0.818845364),
    0.42,
)
SCALE = SHORT.scale

BLOCK = 1 << 17
"""Elements in work at once: with two temporaries 1.5 MiB. Smaller blocks fit caches better, but then threads spend more time in
waiting for Python's lock between the passes."""


def scaled_gelu(scratch: Scratch, x: Float[Array, "*N"], fit: Fit = SHORT) -> None:
    """`x` becomes scale * gelu(x / scale) with the fit's scale, in place; it has to be contiguous.

    Numerics: absolute error of gelu at most 1e-6, 1.3e-7 root mean square for normal x (the definition's: 4.5e-7 and 2.4e-8);
    with FINE it is what float32 loses.
    """
    flat = x.reshape(-1)
    constants = _CONSTANTS[fit]
    with scratch.frame(), np.errstate(over="ignore"):
        temporaries = scratch.take(2, min(-(-flat.size // LINE) * LINE, BLOCK))
        for start, stop in spans(flat.size, BLOCK, LINE):
            _scaled_gelu(flat[start:stop], *temporaries[:, : stop - start], *constants)


def gelu(scratch: Scratch, x: Float[Array, "*N"]) -> None:
    """GELU in place, where no neighbour takes the scale; it has to be contiguous."""
    np.multiply(x, np.float32(SCALE), out=x)
    scaled_gelu(scratch, x)
    np.multiply(x, np.float32(1 / SCALE), out=x)


def _scaled_gelu(x: Array, size: Array, h: Array, added: Array, first: Array, *others: Array) -> None:
    np.absolute(x, size)
    np.add(size, first, h)
    for coefficient in others:
        np.multiply(h, size, h)
        np.add(h, coefficient, h)
    np.multiply(h, h, h)
    np.add(h, added, h)
    for _ in range(3):
        np.multiply(h, h, h)
    np.divide(size, h, h)
    np.maximum(x, _ZERO, out=x)
    np.subtract(x, h, x)


# Arrays without axes: NumPy takes a third less time to look at them than at numbers.
_ZERO = np.array(0, np.float32)
_CONSTANTS = {fit: tuple(np.array(value, np.float32) for value in (fit.added, *fit.monic)) for fit in (SHORT, FINE)}
