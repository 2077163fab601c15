"""Scaled dot-product attention, and the table that spreads TinyViT's relative biases over a window."""

from functools import cache

import numpy as np

from refsam.ops.activation import softmax
from refsam.types import Array, Float, Int

BLOCK = 256
"""Keys whose values are summed in one chain."""


def attention(
    q: Float[Array, "B K N c"],
    k: Float[Array, "B K T c"],
    v: Float[Array, "B K T d"],
    bias: Float[Array, "K N T"] | None = None,
) -> Float[Array, "B K N d"]:
    """softmax(q k^T / sqrt c + bias) v for each head.  Paper: arXiv 1706.03762."""
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    return _weighted_sum(softmax(scores if bias is None else scores + bias), v)


def _weighted_sum(weights: Float[Array, "B K N T"], v: Float[Array, "B K T d"]) -> Float[Array, "B K N d"]:
    """`weights @ v`, summed by blocks of T: one chain of 4096 float32 additions would double the error of the mask logits."""
    y = weights[..., :BLOCK] @ v[..., :BLOCK, :]
    for start in range(BLOCK, v.shape[-2], BLOCK):
        y += weights[..., start : start + BLOCK] @ v[..., start : start + BLOCK, :]
    return y


def split_heads(x: Float[Array, "B N C"], num_heads: int) -> Float[Array, "B K N c"]:
    """Neighbouring channels make a head."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, num_heads, width // num_heads).transpose(0, 2, 1, 3)


def merge_heads(x: Float[Array, "B K N c"]) -> Float[Array, "B N C"]:
    """The inverse of `split_heads`."""
    batch, heads, tokens, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * width)


@cache
def attention_bias_index(window_size: int) -> Int[Array, "N N"]:
    """Which bias each pair of the N = window_size^2 tokens has: one per (|dy|, |dx|), numbered in the order of first sight.

    Row by row, the first token already sees every distance, so the number is |dy| * window_size + |dx|.
    Upstream: tiny_vit_sam.py Attention.attention_bias_idxs.
    """
    y, x = np.divmod(np.arange(window_size**2), window_size)
    index = np.abs(y[:, None] - y) * window_size + np.abs(x[:, None] - x)
    index.flags.writeable = False  # shared by all callers
    return index
