"""Window attention on the windows' real tokens alone.

Padding tokens are zero before the LayerNorm, and standardising zero gives zero: so their keys and values are the bias of `qkv`,
the same for all, and neither they nor what they would look up has to be computed. Windows that the grid cuts off at the right, at
the bottom and in the corner have fewer tokens than whole ones; each kind is a region of its own.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from refsam.backends.fast import fold
from refsam.backends.fast.fold import Affine
from refsam.backends.fast.layout import spans
from refsam.backends.fast.norm import standardise
from refsam.backends.fast.scratch import Scratch
from refsam.ops.attention import attention_bias_index
from refsam.scope import Scope
from refsam.types import Array, Float

SCORES = 1 << 18
"""Attention scores that a task has in memory at once: 1 MiB."""

SAFE = 60.0
"""exp of scores up to this size neither overflows, however many are summed, nor comes near numbers of less precision."""


class WindowAttention(NamedTuple):
    """Norm and linear maps folded, attention's scale in the rows of q."""

    qkv: Affine  # to (q of all heads, k of all heads, v of all heads)
    bias: Float[Array, "K N N"]
    project: Affine
    window: int


class Region(NamedTuple):
    """Windows of one kind: `down` x `across` of them, each `height` x `width` real tokens, from token (top, left) on."""

    top: int
    left: int
    down: int
    across: int
    height: int
    width: int


def fold_attention(s: Scope, num_heads: int, window: int) -> WindowAttention:
    """From the scope of an attention module."""
    weight, bias = (by_kind(x, num_heads) for x in fold.normed_linear(s / "norm", s / "qkv"))
    table = fold.double(s["attention_biases"])[:, attention_bias_index(window)]
    return WindowAttention(fold.affine(weight, bias), fold.single(table), fold.linear(s / "proj"), window)


def by_kind(rows: Float[Array, "D *C"], num_heads: int) -> Float[Array, "D *C"]:
    """Rows of `qkv` from head by head to all q, all k, all v; those of q times the scale of attention's scores."""
    kinds = rows.reshape(num_heads, 3, -1, *rows.shape[1:]).swapaxes(0, 1).copy()
    kinds[0] /= np.sqrt(kinds.shape[2])
    return kinds.reshape(rows.shape)


def regions(height: int, width: int, window: int) -> Iterator[Region]:
    """All windows of a grid: whole ones, then those that the right and the bottom edge cut off."""
    for top, down, tall in _cuts(height, window):
        for left, across, wide in _cuts(width, window):
            yield Region(top, left, down, across, tall, wide)


def _cuts(length: int, window: int) -> Iterator[tuple[int, int, int]]:
    """(start, number of windows, their real length) of the whole windows, and of the one that is cut off."""
    whole, rest = divmod(length, window)
    if whole:
        yield 0, whole, window
    if rest:
        yield whole * window, 1, rest


def groups(region: Region, windows: int) -> Iterator[tuple[int, int, int, int]]:
    """(first row, last row, first column, last column) of groups of about this many windows."""
    rows = max(windows // region.across, 1)
    for up, down in spans(region.down, rows):
        for left, right in spans(region.across, max(windows // (down - up), 1)):
            yield up, down, left, right


def attend(
    scratch: Scratch,
    w: WindowAttention,
    x: Float[Array, "H W C"],
    out: Float[Array, "H W C"],
    region: Region,
    group: tuple[int, int, int, int],
) -> None:
    """x plus the attention's result, for one group of windows of a region."""
    source, target = windows(x, region, group), windows(out, region, group)
    tokens = scratch.take(*source.shape)
    tokens[...] = source
    rows = tokens.reshape(-1, x.shape[2])
    standardise(scratch, rows, eps=1e-5)
    qkv = scratch.take(len(rows), len(w.qkv.bias))
    np.matmul(rows, w.qkv.weight, out=qkv)
    np.add(qkv, w.qkv.bias, out=qkv)
    attended = scratch.take(*rows.shape)
    look_up(scratch, w, qkv.reshape(-1, region.height, region.width, qkv.shape[1]), attended)
    np.matmul(attended, w.project.weight, out=rows)
    np.add(rows, w.project.bias, out=rows)
    np.add(source, tokens, out=target)


def windows(x: Float[Array, "H W C"], region: Region, group: tuple[int, int, int, int]) -> Float[Array, "d a h w C"]:
    """A view of the windows of a group."""
    top, left, down, across, height, width = region
    part = x[top : top + down * height, left : left + across * width]
    first, last, begin, end = group
    return part.reshape(down, height, across, width, -1).transpose(0, 2, 1, 3, 4)[first:last, begin:end]


def look_up(scratch: Scratch, w: WindowAttention, qkv: Float[Array, "B h w 3*C"], out: Float[Array, "B*h*w C"]) -> None:
    """Scores, softmax and the weighted sums of values. Division by softmax's sum comes last, where there are fewest numbers."""
    count, height, width, _ = qkv.shape
    heads, keys = len(w.bias), w.window**2
    split = (heads, out.shape[1] // heads)
    kv = qkv[..., out.shape[1] :]
    if height * width < keys:
        kv = scratch.take(count, w.window, w.window, kv.shape[3])
        kv[...] = w.qkv.bias[out.shape[1] :]
        kv[:, :height, :width] = qkv[..., out.shape[1] :]
    q = qkv[..., : out.shape[1]].reshape(count, height * width, *split).transpose(0, 2, 1, 3)
    kv = kv.reshape(count, keys, 2, *split).transpose(2, 0, 3, 1, 4)
    scores = scratch.take(count, heads, height * width, keys)
    np.matmul(q, kv[0].swapaxes(-1, -2), out=scores)
    by_place = scores.reshape(count, heads, height, width, keys)
    np.add(by_place, w.bias.reshape(heads, w.window, w.window, keys)[:, :height, :width], out=by_place)
    exponentials(scores)
    sums = np.matmul(scores, _ones(keys), out=scratch.take(count, heads, height * width))
    values = out.reshape(count, height * width, *split).transpose(0, 2, 1, 3)
    np.matmul(scores, kv[1], out=values)
    np.multiply(values, np.reciprocal(sums, out=sums)[..., None], out=values)


def exponentials(scores: Float[Array, "*N T"]) -> None:
    """exp(scores) in place, but for a factor of each row that softmax's sum takes out again."""
    if scores.max() > SAFE or scores.min() < -SAFE:
        np.subtract(scores, scores.max(axis=-1, keepdims=True), out=scores)
        np.maximum(scores, np.float32(-SAFE), out=scores)
    np.exp(scores, out=scores)  # has vectors on every CPU, where exp2 has them with AVX-512 only


@cache
def _ones(size: int) -> Float[Array, " N"]:
    ones = np.ones(size, np.float32)
    ones.flags.writeable = False
    return ones
