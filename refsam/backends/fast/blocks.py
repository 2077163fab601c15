"""A transformer block in two steps: window attention by groups of windows, then local convolution and MLP by bands of rows."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from refsam.backends.fast import fold
from refsam.backends.fast.activation import SCALE, scaled_gelu
from refsam.backends.fast.attention import SCORES, Region, WindowAttention, attend, fold_attention, groups, regions
from refsam.backends.fast.depthwise import Depthwise, depthwise_rows, fold_depthwise
from refsam.backends.fast.fold import Affine
from refsam.backends.fast.layout import spans
from refsam.backends.fast.norm import standardise
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.model import tiny_vit
from refsam.model.layers import grid_side
from refsam.scope import Scope
from refsam.types import Array, Float

WIDENED = 1 << 18
"""Elements of the MLP's widened map that a task has in memory at once: 1 MiB."""


class Block(NamedTuple):
    """The weights of a block; the MLP's norm is folded into `widen`, GELU's scale into both linear maps."""

    attention: WindowAttention
    local: Depthwise
    widen: Affine
    narrow: Affine


def fold_block(s: Scope, num_heads: int, window: int, side: int) -> Block:
    """For a grid of side x side tokens."""
    widen = fold.affine(*fold.normed_linear(s / "mlp.norm", s / "mlp.fc1"), after=SCALE)
    narrow = fold.linear(s / "mlp.fc2", before=SCALE)
    attention = fold_attention(s / "attn", num_heads, window)
    return fold.frozen(Block(attention, fold_depthwise(s / "local_conv", side), widen, narrow))


@replaces(tiny_vit.tiny_vit_block)
def tiny_vit_block(
    workers: Workers, s: Scope, x: Float[Array, "B N C"], num_heads: int, window_size: int
) -> Float[Array, "B N C"]:
    """See tiny_vit.tiny_vit_block."""
    batch, tokens, channels = x.shape
    side = grid_side(tokens)
    w = s.prepared(fold_block, num_heads, window_size, side)
    grid = np.ascontiguousarray(x).reshape(batch, side, side, channels)
    padded = workers.framed(batch, side, side, channels)
    y = workers.empty(*grid.shape)
    pairs = list(zip(grid, padded[:, 1:-1, 1:-1], strict=True))
    workers.map(attend, [(w.attention, *pair, *part) for pair in pairs for part in parts(w.attention, side)])
    rows = max(WIDENED // (side * len(w.widen.bias)), 1)
    workers.map(mlp_band, [(w, *pair, *band) for pair in zip(padded, y, strict=True) for band in spans(side, rows)])
    return s.tap(y.reshape(x.shape))


def parts(w: WindowAttention, side: int) -> Iterator[tuple[Region, tuple[int, int, int, int]]]:
    """All windows in groups."""
    windows = max(SCORES // w.bias.size, 1)
    for region in regions(side, side, w.window):
        for group in groups(region, windows):
            yield region, group


def mlp_band(
    scratch: Scratch, w: Block, padded: Float[Array, "H+2 W+2 C"], y: Float[Array, "H W C"], top: int, bottom: int
) -> None:
    """Local convolution, then MLP with its residual sum, of rows top:bottom."""
    shape = (bottom - top, *y.shape[1:])
    filtered, tokens = scratch.take(*shape), scratch.take(*shape).reshape(-1, shape[2])
    depthwise_rows(padded[top : bottom + 2], w.local, filtered)
    np.copyto(tokens, filtered.reshape(tokens.shape))
    standardise(scratch, tokens, eps=1e-5)
    wide = scratch.take(len(tokens), len(w.widen.bias))
    np.matmul(tokens, w.widen.weight, out=wide)
    np.add(wide, w.widen.bias, out=wide)
    scaled_gelu(scratch, wide)
    np.matmul(wide, w.narrow.weight, out=tokens)
    np.add(tokens, w.narrow.bias, out=tokens)
    np.add(filtered, tokens.reshape(shape), out=y[top:bottom])
