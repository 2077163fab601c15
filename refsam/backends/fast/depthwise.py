"""Depthwise 3x3 convolution of rows, channels last.

One einsum is the nine products and sums, each pass a fused multiply-add over a result that stays in the cache. A kernel's weights
are repeated for as many neighbouring pixels as make a long inner loop.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from refsam.backends.fast import fold
from refsam.scope import Scope
from refsam.types import Array, Float

RUN = 1280
"""Elements of an inner loop at most: long enough to hide its start, short enough for the first-level cache."""


class Depthwise(NamedTuple):
    """`taps[dy, dx]` and `bias` hold their C numbers over and over, for P pixels."""

    taps: Float[Array, "3 3 PC"]
    bias: Float[Array, " PC"]


def fold_depthwise(s: Scope, width: int, before: float = 1.0, after: float = 1.0) -> Depthwise:
    """For rows of `width` pixels; scales as in fold.affine."""
    weight, bias = fold.conv_bn(s)
    pixels = max(n for n in range(1, width + 1) if width % n == 0 and (n == 1 or n * len(bias) <= RUN))
    taps = weight[:, 0].transpose(1, 2, 0) * (after / before)
    return Depthwise(fold.single(np.tile(taps, pixels)), fold.single(np.tile(bias * after, pixels)))


def depthwise_rows(x: Float[Array, "n+2 W+2 C"], w: Depthwise, out: Float[Array, "n W C"]) -> None:
    """Of rows with a pixel of padding on every side."""
    n, width, channels = out.shape
    run = len(w.bias)
    runs = out.reshape(n, width * channels // run, run)
    row, pixel, step = x.strides[0], x.strides[1], run * x.itemsize
    taps = as_strided(x, (3, 3, *runs.shape), (row, pixel, row, step, x.itemsize))
    np.einsum("ijnks,ijs->nks", taps, w.taps, out=runs)
    np.add(runs, w.bias, out=runs)


def depthwise_rows_stride_2(
    scratch_row: Float[Array, "n W C"],
    even: Float[Array, "2*n+1 W C"],
    odd: Float[Array, "2*n+1 W+1 C"],
    w: Depthwise,
    out: Float[Array, "n W C"],
) -> None:
    """With stride 2, of columns that are apart already: even ones, and odd ones behind a column of padding."""
    n, width, channels = out.shape
    run = len(w.bias)
    runs, part = (x.reshape(n, width * channels // run, run) for x in (out, scratch_row))
    for dx, columns in enumerate((odd, even, odd[:, 1:])):
        row, step = columns.strides[0], run * columns.itemsize
        taps = as_strided(columns, (3, *runs.shape), (row, 2 * row, step, columns.itemsize))
        np.einsum("inks,is->nks", taps, w.taps[:, dx], out=part if dx else runs)
        np.add(runs, part if dx else w.bias, out=runs)
