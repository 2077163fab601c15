"""MBConv and patch merging: 1x1, depthwise 3x3, 1x1, with the widened map never in memory as a whole.

A task computes a band of rows a few rows at a time; of the widened map there are only those rows and the two that the depthwise
convolution sees around them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from refsam.backends.fast import fold
from refsam.backends.fast.activation import FINE, SCALE, scaled_gelu
from refsam.backends.fast.depthwise import Depthwise, depthwise_rows, depthwise_rows_stride_2, fold_depthwise
from refsam.backends.fast.fold import Affine
from refsam.backends.fast.layout import channels_first, channels_last, spans
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.model import tiny_vit
from refsam.scope import Scope
from refsam.types import Array, Float

BAND = 32
"""Rows of the result that a task computes: more of them, and threads wait for the last one; fewer, and the two rows around a
band, which are computed twice, weigh more."""

STEP = 1 << 18
"""Elements of the widened map that are computed at once: 1 MiB."""


class Bottleneck(NamedTuple):
    """The three convolutions. GELU's scale is folded: see activation.py."""

    expand: Affine
    expand_bias: Float[Array, "W+2 K"]  # zero on the padding, which therefore stays zero through bias and GELU
    depthwise: Depthwise
    project: Affine

    def rows(self, width: int) -> int:
        """How many rows of the widened map are computed at once."""
        return max(STEP // (width * len(self.expand.bias)), 1)


def fold_bottleneck(s: Scope, width: int, after: float = 1.0) -> Bottleneck:
    """For results that are `width` pixels wide and go out times `after`."""
    expand = fold.pointwise(s / "conv1", after=SCALE)
    bias = np.zeros((width + 2, len(expand.bias)), np.float32)
    bias[1:-1] = expand.bias
    depthwise = fold_depthwise(s / "conv2", width, before=SCALE, after=SCALE)
    return fold.frozen(Bottleneck(expand, bias, depthwise, fold.pointwise(s / "conv3", before=SCALE, after=after)))


@replaces(tiny_vit.mb_conv)
def mb_conv(workers: Workers, s: Scope, x: Float[Array, "B C H W"]) -> Float[Array, "B C H W"]:
    """See tiny_vit.mb_conv."""
    pixels = channels_last(x)
    w = s.prepared(fold_bottleneck, pixels.shape[2], after=FINE.scale)
    y = workers.empty(*pixels.shape)
    bands = [(w, *pair, *rows) for pair in zip(pixels, y, strict=True) for rows in spans(pixels.shape[1], BAND)]
    workers.map(mb_conv_band, bands)
    return s.tap(channels_first(y))


def mb_conv_band(
    scratch: Scratch, w: Bottleneck, x: Float[Array, "H W C"], y: Float[Array, "H W C"], top: int, bottom: int
) -> None:
    """Rows top:bottom, with the residual sum."""
    residual = scratch.take(w.rows(x.shape[1]), *x.shape[1:])
    for start, stop, projected in bottleneck_rows(scratch, w, x, top, bottom):
        rows = residual[: stop - start]
        np.multiply(x[start:stop], np.float32(FINE.scale), out=rows)
        np.add(rows, w.project.bias, out=rows)
        np.add(rows, projected, out=rows)
        scaled_gelu(scratch, rows, FINE)
        np.multiply(rows, np.float32(1 / FINE.scale), out=y[start:stop])


def bottleneck_rows(
    scratch: Scratch, w: Bottleneck, x: Float[Array, "H W C"], top: int, bottom: int
) -> Iterator[tuple[int, int, Float[Array, "n W D"]]]:
    """(start, stop, rows start:stop of the projection without its bias), a few rows at a time from top to bottom."""
    width, step = x.shape[1], min(w.rows(x.shape[1]), bottom - top)
    wide = scratch.take(step + 2, *w.expand_bias.shape)
    filtered = scratch.take(step, width, len(w.expand.bias))
    projected = scratch.take(step, width, len(w.project.bias))
    wide[:, [0, -1]] = 0
    expand_rows(scratch, w, x, top - 1, wide[:2])
    for start in range(top, bottom, step):
        stop = min(start + step, bottom)
        n = stop - start
        if start > top:
            wide[:2] = wide[step:]
        expand_rows(scratch, w, x, start + 1, wide[2 : 2 + n])
        depthwise_rows(wide[: n + 2], w.depthwise, filtered[:n])
        scaled_gelu(scratch, filtered[:n])
        np.matmul(filtered[:n], w.project.weight, out=projected[:n])
        yield start, stop, projected[:n]


def expand_rows(scratch: Scratch, w: Bottleneck, x: Float[Array, "H W C"], first: int, wide: Float[Array, "n W+2 K"]) -> None:
    """The widened rows from `first` on, zero outside the map, as the depthwise convolution's padding wants them."""
    above, below = max(-first, 0), max(first + len(wide) - len(x), 0)
    wide[:above], wide[len(wide) - below :] = 0, 0
    inside = wide[above : len(wide) - below]
    if not len(inside):
        return
    np.matmul(x[first + above : first + above + len(inside)], w.expand.weight, out=inside[:, 1:-1])
    np.add(inside, w.expand_bias, out=inside)
    scaled_gelu(scratch, inside)


@replaces(tiny_vit.patch_merging)
def patch_merging(workers: Workers, s: Scope, x: Float[Array, "B C H W"], stride: int) -> Float[Array, "B N D"]:
    """See tiny_vit.patch_merging."""
    pixels = channels_last(x)
    batch, height, width = pixels.shape[0], pixels.shape[1] // stride, pixels.shape[2] // stride
    w = s.prepared(fold_bottleneck, width)
    y = workers.empty(batch, height, width, len(w.project.bias))
    task = merge_band if stride == 1 else halve_band
    rows = BAND // 2 if stride == 1 else w.rows(2 * width)
    workers.map(task, [(w, *pair, *band) for pair in zip(pixels, y, strict=True) for band in spans(height, rows)])
    return s.tap(y.reshape(batch, height * width, -1))


def merge_band(
    scratch: Scratch, w: Bottleneck, x: Float[Array, "H W C"], y: Float[Array, "H W D"], top: int, bottom: int
) -> None:
    """Rows top:bottom with stride 1."""
    for start, stop, projected in bottleneck_rows(scratch, w, x, top, bottom):
        np.add(projected, w.project.bias, out=y[start:stop])


def halve_band(
    scratch: Scratch, w: Bottleneck, x: Float[Array, "2*H 2*W C"], y: Float[Array, "H W D"], top: int, bottom: int
) -> None:
    """Rows top:bottom with stride 2. The first product writes even and odd columns apart, so that the depthwise convolution reads
    neighbours in memory."""
    n, width, channels = bottom - top, y.shape[1], len(w.expand.bias)
    first = 2 * top - 1
    above = max(-first, 0)  # one row of padding over the map; under it there is none, since its height is even
    even, odd = scratch.take(2 * n + 1, width, channels), scratch.take(2 * n + 1, width + 1, channels)
    source = x[first + above : 2 * bottom]
    for columns, inside in ((source[:, 0::2], even[above:]), (source[:, 1::2], odd[above:, 1:])):
        np.matmul(columns, w.expand.weight, out=inside)
        np.add(inside, w.expand.bias, out=inside)
    even[:above], odd[:above], odd[:, 0] = 0, 0, 0
    scaled_gelu(scratch, even)
    scaled_gelu(scratch, odd)
    filtered, part = scratch.take(n, width, channels), scratch.take(n, width, channels)
    depthwise_rows_stride_2(part, even, odd, w.depthwise, filtered)
    scaled_gelu(scratch, filtered)
    rows = y[top:bottom]
    np.matmul(filtered, w.project.weight, out=rows)
    np.add(rows, w.project.bias, out=rows)
