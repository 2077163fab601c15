"""Patch embedding: two 3x3 convolutions of stride 2, over bands of rows of the result."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from refsam.backends.fast import fold
from refsam.backends.fast.activation import SCALE, scaled_gelu
from refsam.backends.fast.fold import Affine
from refsam.backends.fast.layout import channels_first, spans
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.model import tiny_vit
from refsam.scope import Scope
from refsam.types import Array, Float

BAND = 8
"""Rows of the result that a task computes."""


class Patches(NamedTuple):
    """Both convolutions as products; GELU's scale is folded: see activation.py."""

    first: Affine  # from (dy, c, dx), the order of `columns`
    second: Affine  # from (dy, dx, c)


def fold_patches(s: Scope) -> Patches:
    """The weights of the two convolutions, a patch's numbers in the order in which they lie in memory."""
    weight, bias = fold.conv_bn(s / "seq" / 0)
    first = fold.affine(weight.transpose(0, 2, 1, 3).reshape(len(bias), -1), bias, after=SCALE)
    weight, bias = fold.conv_bn(s / "seq" / 2)
    second = fold.affine(weight.transpose(0, 2, 3, 1).reshape(len(bias), -1), bias, before=SCALE)
    return fold.frozen(Patches(first, second))


@replaces(tiny_vit.patch_embed)
def patch_embed(workers: Workers, s: Scope, x: Float[Array, "B 3 S S"]) -> Float[Array, "B C S/4 S/4"]:
    """See tiny_vit.patch_embed."""
    w = s.prepared(fold_patches)
    batch, _, height, width = x.shape
    y = workers.empty(batch, height // 4, width // 4, len(w.second.bias))
    bands = [(w, *pair, *rows) for pair in zip(x, y, strict=True) for rows in spans(height // 4, BAND)]
    workers.map(embed_band, bands)
    return s.tap(channels_first(y))


def embed_band(
    scratch: Scratch, w: Patches, x: Float[Array, "3 4*H 4*W"], y: Float[Array, "H W C"], top: int, bottom: int
) -> None:
    """Rows top:bottom of the result."""
    n, width, channels = bottom - top, y.shape[1], len(w.first.bias)
    halved = scratch.take(2 * n + 1, 2 * width + 1, channels)  # a column of padding on the left; the right needs none
    first_convolution(scratch, w.first, x, 2 * top - 1, halved)
    patches = scratch.take(n, width, 3, 3 * channels)
    row, pixel, item = halved.strides
    for dy in range(3):  # three neighbouring pixels lie side by side, so a patch is three runs
        patches[:, :, dy] = as_strided(halved[dy:], (n, width, 3 * channels), (2 * row, 2 * pixel, item))
    rows = y[top:bottom].reshape(n * width, -1)
    np.matmul(patches.reshape(n * width, -1), w.second.weight, out=rows)
    np.add(rows, w.second.bias, out=rows)


def first_convolution(
    scratch: Scratch, w: Affine, x: Float[Array, "3 2*H 2*W"], first: int, out: Float[Array, "n W+1 C"]
) -> None:
    """Rows from `first` on, which may be the row of padding above the map, with a column of padding on the left; then GELU."""
    above = max(-first, 0)
    n, width = len(out) - above, out.shape[1] - 1
    columns = shifted_columns(scratch, x, 2 * (first + above) - 1, 2 * n + 1)
    row, _, item = columns.strides
    # A patch's nine columns of three rows follow each other: the windows overlap, and nothing is copied.
    patches = as_strided(columns, (n, len(w.weight), width), (2 * row, width * item, item))
    inside = out[above:, 1:]
    np.matmul(patches.transpose(0, 2, 1), w.weight, out=inside)
    np.add(inside, w.bias, out=inside)
    out[:above], out[:, 0] = 0, 0
    scaled_gelu(scratch, out)


def shifted_columns(scratch: Scratch, x: Float[Array, "3 H 2*W"], first: int, n: int) -> Float[Array, "n 9 W"]:
    """Rows from `first` on (-1 is padding), of each channel columns 2j - 1, 2j and 2j + 1."""
    width = x.shape[2] // 2
    columns = scratch.take(n, 3, 3, width)
    above = max(-first, 0)
    columns[:above] = 0
    source = x[:, first + above : first + n].transpose(1, 0, 2)
    rows = columns[above:]
    rows[:, :, 1], rows[:, :, 2] = source[:, :, 0::2], source[:, :, 1::2]
    rows[:, :, 0, 0], rows[:, :, 0, 1:] = 0, rows[:, :, 2, :-1]
    return columns.reshape(n, 9, width)
