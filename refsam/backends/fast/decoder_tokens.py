"""What the decoder computes on tokens alone, of several prompts at once: few rows, so the time goes into reading weights."""

from collections.abc import Sequence

import numpy as np

from refsam.backends.fast.decoder_weights import Block, Linear, SelfAttention
from refsam.backends.fast.norm import Norm, normalise
from refsam.backends.fast.scratch import Scratch
from refsam.ops.attention import merge_heads, split_heads
from refsam.types import Array, Float

Tokens = Float[Array, "G N D"]


def attend_to_each_other(scratch: Scratch, w: Block, heads: int, queries: Tokens, position: Tokens, first: bool) -> Tokens:
    """The first part of a block: self-attention and its norm. The first block's goes without position and without residual."""
    if first:
        y = self_attention(w.self_attention, heads, queries, queries)
    else:
        y = self_attention(w.self_attention, heads, queries + position, queries)
        y += queries
    return norm(scratch, w.norm1, y)


def after_look(scratch: Scratch, w: Block, queries: Tokens, attended: Tokens) -> Tokens:
    """What follows the attention to the image: norm, MLP, norm."""
    attended += queries
    queries = norm(scratch, w.norm2, attended)
    hidden = w.widen(queries)
    np.maximum(hidden, 0, out=hidden)
    y = w.narrow(hidden)
    y += queries
    return norm(scratch, w.norm3, y)


def self_attention(w: SelfAttention, heads: int, asking: Tokens, values: Tokens) -> Tokens:
    """Attention of the tokens to each other."""
    q, k = np.split(w.query_key(asking), 2, axis=-1)
    scores = split_heads(q, heads) @ split_heads(k, heads).swapaxes(2, 3)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return w.out(merge_heads(scores @ split_heads(w.value(values), heads)))


def norm(scratch: Scratch, w: Norm, x: Tokens) -> Tokens:
    """LayerNorm in place."""
    normalise(scratch, w, x.reshape(-1, x.shape[2]), eps=1e-5)
    return x


def mlp(layers: Sequence[Linear], x: Float[Array, "*M N C"]) -> Float[Array, "*M N D"]:
    """Linear maps with ReLU between them."""
    for layer in layers[:-1]:
        x = layer(x)
        np.maximum(x, 0, out=x)
    return layers[-1](x)
