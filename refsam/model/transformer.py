"""The two-way transformer: tokens attend to the image and the image attends to the tokens.  Upstream: transformer.py.

N tokens (scores, masks, prompts) are the queries, T = E * E pixels of the embedding the keys.
"""

from refsam.config import Config
from refsam.model.layers import layer_norm, linear, relu
from refsam.ops.attention import merge_heads, split_heads
from refsam.scope import Scope, replaceable
from refsam.types import Array, Float

Tokens = Float[Array, "B N D"]
Pixels = Float[Array, "B T D"]


@replaceable
def two_way_transformer(
    s: Scope, keys: Pixels, key_pe: Float[Array, "1 T D"], tokens: Tokens, config: Config
) -> tuple[Tokens, Pixels]:
    """Blocks, then a last look of the tokens at the image.  Upstream: TwoWayTransformer; its two results are two stages."""
    queries, heads = tokens, config.decoder_num_heads
    for layer in range(config.decoder_depth):
        queries, keys = two_way_attention_block(s / "layers" / layer, queries, keys, tokens, key_pe, heads, first=layer == 0)
    attended = attention(s / "final_attn_token_to_image", queries + tokens, keys + key_pe, keys, heads)
    queries = layer_norm(s / "norm_final_attn", queries + attended)
    return (s / "queries").tap(queries), (s / "keys").tap(keys)


@replaceable
def two_way_attention_block(
    s: Scope, queries: Tokens, keys: Pixels, query_pe: Tokens, key_pe: Float[Array, "1 T D"], heads: int, first: bool
) -> tuple[Tokens, Pixels]:
    """Tokens to tokens, tokens to image, MLP on tokens, image to tokens; a LayerNorm after each sum.

    The tokens as they came in serve as position of the queries, added anew each time; only the first block's self-attention
    goes without, and *replaces* the queries instead of adding to them.  Upstream: TwoWayAttentionBlock.
    """
    if first:
        queries = attention(s / "self_attn", queries, queries, queries, heads)
    else:
        q = queries + query_pe
        queries = queries + attention(s / "self_attn", q, q, queries, heads)
    queries = layer_norm(s / "norm1", queries)
    attended = attention(s / "cross_attn_token_to_image", queries + query_pe, keys + key_pe, keys, heads)
    queries = layer_norm(s / "norm2", queries + attended)
    queries = layer_norm(s / "norm3", queries + mlp_block(s / "mlp", queries))
    attended = attention(s / "cross_attn_image_to_token", keys + key_pe, queries + query_pe, queries, heads)
    keys = layer_norm(s / "norm4", keys + attended)
    return (s / "queries").tap(queries), (s / "keys").tap(keys)


def mlp_block(s: Scope, x: Tokens) -> Tokens:
    """Widen, ReLU (not GELU), narrow.  Upstream: common.py MLPBlock."""
    return s.tap(linear(s / "lin2", relu(s / "act", linear(s / "lin1", x))))


def attention(
    s: Scope, q: Float[Array, "B N D"], k: Float[Array, "B T D"], v: Float[Array, "B T D"], num_heads: int
) -> Float[Array, "B N D"]:
    """Multi-head attention; cross-attention works at half the width, as the weights' shapes say.  Upstream: Attention."""
    q, k, v = (
        split_heads(linear(s / name, x), num_heads) for name, x in (("q_proj", q), ("k_proj", k), ("v_proj", v))
    )  # fmt: skip
    return s.tap(linear(s / "out_proj", merge_heads(s.ops.attention(q, k, v))))
