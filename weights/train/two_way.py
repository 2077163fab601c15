"""Upstream's two-way transformer with its sums in another order, about twice as fast when tokens are few.

With T tokens and H heads, T*H (56) is smaller than the inner width of the cross attention (128). So each head's key
projection moves to the token side: q.(W k) = (W'q).k, and 256 image positions need no projection at all. A bias that is
the same for all keys of a softmax drops out. The results are upstream's up to rounding
(`python -m weights.train.model`).
"""

import math

import torch
from mobile_sam.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer
from torch import Tensor


def heads(weight: Tensor, attn: Attention) -> Tensor:
    """A projection's weight (H*d, C) as (H, d, C)."""
    return weight.unflatten(0, (attn.num_heads, -1))


def split(x: Tensor, attn: Attention) -> Tensor:
    """(N, T, H*d) -> (N, H, T, d)."""
    return x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


def token_to_image(attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Tokens q (N, T, C) attend to the image k, v (N, S, C); (N, T, C)."""
    n, t, _ = q.shape
    moved = split(attn.q_proj(q), attn) @ heads(attn.k_proj.weight, attn)  # (N, H, T, C)
    moved = moved.flatten(1, 2) / math.sqrt(attn.internal_dim // attn.num_heads)
    weights = (moved @ k.transpose(1, 2)).softmax(-1)  # (N, H*T, S)
    seen = (weights @ v).view(n, attn.num_heads, t, -1) @ heads(attn.v_proj.weight, attn).transpose(1, 2)
    return attn.out_proj(seen.transpose(1, 2).flatten(2) + attn.v_proj.bias)


def image_to_token(attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The image q (N, S, C) attends to tokens k, v (N, T, C); (N, S, C)."""
    n, t, _ = k.shape
    keys = split(attn.k_proj(k), attn) / math.sqrt(attn.internal_dim // attn.num_heads)  # (N, H, T, d)
    moved = (keys @ heads(attn.q_proj.weight, attn)).flatten(1, 2)  # (N, H*T, C)
    offset = (keys @ attn.q_proj.bias.view(attn.num_heads, -1, 1)).flatten(1, 2)  # (N, H*T, 1)
    scores = torch.baddbmm(offset, moved, q.transpose(1, 2))  # (N, H*T, S)
    weights = scores.view(n, attn.num_heads, t, -1).softmax(2).flatten(1, 2)
    values = split(attn.v_proj(v), attn) @ heads(attn.out_proj.weight.t(), attn)  # (N, H, T, C)
    return torch.baddbmm(attn.out_proj.bias, weights.transpose(1, 2), values.flatten(1, 2))


def block(layer: TwoWayAttentionBlock, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
    """One layer: queries (N, T, C) and keys (N, S, C) after it."""
    if layer.skip_first_layer_pe:
        queries = layer.self_attn(queries, queries, queries)
    else:
        q = queries + query_pe
        queries = queries + layer.self_attn(q, q, queries)
    queries = layer.norm1(queries)
    k = keys + key_pe
    queries = layer.norm2(queries + token_to_image(layer.cross_attn_token_to_image, queries + query_pe, k, keys))
    queries = layer.norm3(queries + layer.mlp(queries))
    keys = layer.norm4(keys + image_to_token(layer.cross_attn_image_to_token, k, queries + query_pe, queries))
    return queries, keys


def two_way(transformer: TwoWayTransformer, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Image (N, C, G, G), its encoding (1, C, G, G), tokens (N, T, C) -> tokens (N, T, C), image (N, G*G, C)."""
    keys, key_pe = image.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2)
    queries = tokens
    for layer in transformer.layers:
        queries, keys = block(layer, queries, keys, tokens, key_pe)
    final = transformer.final_attn_token_to_image
    queries = queries + token_to_image(final, queries + tokens, keys + key_pe, keys)
    return transformer.norm_final_attn(queries), keys
