"""Prompt encoder and mask decoder as MIL programs, beside `model/prompt_encoder.py`, `transformer.py` and `mask_decoder.py`.

The number N of tokens is left open (1 to 100), so a reshape says -1 in its place.
"""

import numpy as np

from refsam.config import Config
from refsam.coreml.export_layers import (
    Var,
    attend,
    constant,
    conv_transpose2d,
    emit,
    gelu,
    layer_norm,
    layer_norm_2d,
    linear,
    mlp,
    to_tokens,
)
from refsam.model.prompt_encoder import BACKGROUND, FOREGROUND, PADDING, no_mask
from refsam.scope import Scope


def prompt_encoder(s: Scope, points: Var, labels: Var, config: Config) -> tuple[Var, Var]:
    """Points (1, N, 2) in pixels of the input frame and labels (1, N) -> tokens (1, N, D), dense embedding (1, D, E, E).

    Differs from the reference: no padding point is added (the caller gives one: label -1), and there are neither boxes nor mask
    prompts, as in the article's packages.
    """
    tokens = position_encoding(s / "pe_layer", points, config.image_size)
    not_a_point = constant(s, "not_a_point_embed_weight", s["not_a_point_embed.weight"][None])
    tokens = where_label(s, PADDING, labels, not_a_point, tokens)
    for label in (BACKGROUND, FOREGROUND):
        kind = s / "point_embeddings" / label
        marked = emit(kind, "add", "sum", x=tokens, y=constant(kind, "weight", kind["weight"][None]))
        tokens = where_label(s, label, labels, marked, tokens)
    return tokens, constant(s, "dense", no_mask(s, 1, config.embedding_size))


def where_label(s: Scope, label: int, labels: Var, chosen: Var, other: Var) -> Var:
    """`chosen` for the points of this label, `other` for those of another."""
    name = {PADDING: "padding", BACKGROUND: "background", FOREGROUND: "foreground"}[label]
    equal = emit(s, "expand_dims", f"{name}_column", x=emit(s, "equal", name, x=labels, y=np.float32(label)), axes=[-1])
    mask = emit(s, "tile", f"{name}_mask", x=equal, reps=[1, 1, other.shape[-1]])
    return emit(s, "select", f"{name}_tokens", cond=mask, a=chosen, b=other)


def position_encoding(s: Scope, points: Var, image_size: int) -> Var:
    """Random Fourier features of pixels' middles."""
    middles = emit(s, "add", "middles", x=points, y=np.float32(0.5))
    parts = emit(s, "real_div", "parts", x=middles, y=np.float32(image_size))
    doubled = emit(s, "mul", "doubled", x=parts, y=np.float32(2))
    centred = emit(s, "sub", "centred", x=doubled, y=np.float32(1))
    matrix = s["positional_encoding_gaussian_matrix"]
    projected = emit(s, "linear", "projected", x=centred, weight=constant(s, "gaussian_matrix", matrix.T))
    angles = emit(s, "mul", "angles", x=projected, y=np.float32(2 * np.pi))
    waves = [emit(s, wave, wave, x=angles) for wave in ("sin", "cos")]
    return emit(s, "concat", values=waves, axis=-1)


def mask_decoder(s: Scope, image_embeddings: Var, image_pe: Var, sparse: Var, dense: Var, config: Config) -> tuple[Var, Var]:
    """All mask logits (1, 4, L, L) and scores (1, 4) of one prompt of N tokens."""
    output_tokens = np.concatenate([s["iou_token.weight"], s["mask_tokens.weight"]])[None]
    tokens = emit(s, "concat", "tokens", values=[constant(s, "output_tokens", output_tokens), sparse], axis=1)
    keys = to_tokens(s / "src", emit(s, "add", "src", x=image_embeddings, y=dense))
    tokens, keys = two_way_transformer(s / "transformer", keys, to_tokens(s / "pe", image_pe), tokens, config)
    vectors = hypernetworks(s / "output_hypernetworks_mlps", tokens, config)
    upscaled = output_upscaling(s / "output_upscaling", keys, config)
    flat = emit(s, "reshape", "upscaled_flat", x=upscaled, shape=[1, upscaled.shape[1], -1])
    masks = emit(s, "matmul", "masks_flat", x=vectors, y=flat)
    side = config.mask_size
    masks = emit(s, "reshape", "masks_square", x=masks, shape=[1, config.num_mask_tokens, side, side])
    head = s / "iou_prediction_head"
    return masks, mlp(head, token(head, tokens, 0), config.iou_head_depth)


def token(s: Scope, tokens: Var, index: int) -> Var:
    """Token `index` (1, D)."""
    width = tokens.shape[2]
    return emit(
        s, "slice_by_index", "token", x=tokens, begin=[0, index, 0], end=[1, index + 1, width],
        squeeze_mask=[False, True, False],
    )  # fmt: skip


def hypernetworks(s: Scope, tokens: Var, config: Config) -> Var:
    """One MLP for each mask token: (1, M, C)."""
    count = config.num_mask_tokens
    return emit(s, "stack", "stack", values=[mlp(s / m, token(s / m, tokens, 1 + m), depth=3) for m in range(count)], axis=1)


def output_upscaling(s: Scope, keys: Var, config: Config) -> Var:
    """(1, E * E, D) -> (1, D / 8, L, L)."""
    side = config.embedding_size
    channels_first = emit(s, "transpose", "channels_first", x=keys, perm=[0, 2, 1])
    x = emit(s, "reshape", "map", x=channels_first, shape=[1, keys.shape[2], side, side])
    x = gelu(s / 2, layer_norm_2d(s / 1, conv_transpose2d(s / 0, x)))
    return gelu(s / 4, conv_transpose2d(s / 3, x))


def two_way_transformer(s: Scope, keys: Var, key_pe: Var, tokens: Var, config: Config) -> tuple[Var, Var]:
    """Blocks, then a last look of the tokens at the image."""
    queries, heads = tokens, config.decoder_num_heads
    for layer in range(config.decoder_depth):
        queries, keys = two_way_attention_block(s / "layers" / layer, queries, keys, tokens, key_pe, heads, layer == 0)
    q, k = emit(s, "add", "queries_pe", x=queries, y=tokens), emit(s, "add", "keys_pe", x=keys, y=key_pe)
    attended = attention(s / "final_attn_token_to_image", q, k, keys, heads)
    return layer_norm(s / "norm_final_attn", emit(s, "add", "attended", x=queries, y=attended)), keys


def two_way_attention_block(
    s: Scope, queries: Var, keys: Var, query_pe: Var, key_pe: Var, heads: int, first: bool
) -> tuple[Var, Var]:
    """Tokens to tokens, tokens to image, MLP on tokens, image to tokens; a LayerNorm after each sum."""
    if first:
        queries = attention(s / "self_attn", queries, queries, queries, heads)
    else:
        q = emit(s, "add", "self_attn_queries", x=queries, y=query_pe)
        queries = emit(s, "add", "self_attn_sum", x=queries, y=attention(s / "self_attn", q, q, queries, heads))
    queries = layer_norm(s / "norm1", queries)
    positioned = emit(s, "add", "keys_pe", x=keys, y=key_pe)
    q = emit(s, "add", "queries_pe", x=queries, y=query_pe)
    attended = attention(s / "cross_attn_token_to_image", q, positioned, keys, heads)
    queries = layer_norm(s / "norm2", emit(s, "add", "cross_attn_sum", x=queries, y=attended))
    hidden = emit(s / "mlp" / "act", "relu", x=linear(s / "mlp" / "lin1", queries))
    queries = layer_norm(s / "norm3", emit(s, "add", "mlp_sum", x=queries, y=linear(s / "mlp" / "lin2", hidden)))
    q = emit(s, "add", "queries_pe_2", x=queries, y=query_pe)
    attended = attention(s / "cross_attn_image_to_token", positioned, q, queries, heads)
    return queries, layer_norm(s / "norm4", emit(s, "add", "keys_sum", x=keys, y=attended))


def attention(s: Scope, q: Var, k: Var, v: Var, num_heads: int) -> Var:
    """Multi-head attention; cross-attention works at half the width."""
    q, k, v = (_by_head(s / name, x, num_heads) for name, x in (("q_proj", q), ("k_proj", k), ("v_proj", v)))
    return linear(s / "out_proj", attend(s, q, k, v))


def _by_head(s: Scope, x: Var, num_heads: int) -> Var:
    """Projected tokens (1, N, K, c)."""
    projected = linear(s, x)
    return emit(s, "reshape", "heads", x=projected, shape=[1, -1, num_heads, projected.shape[2] // num_heads])
