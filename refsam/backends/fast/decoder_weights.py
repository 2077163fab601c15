"""The decoder's weights in the form that the fast decoder reads: transposed, per head, with scales and constants folded in.

Folding is done in float64, so that a folded weight has one rounding.
"""

from typing import NamedTuple

import numpy as np

from refsam.backends.fast.activation import SCALE
from refsam.backends.fast.fold import frozen
from refsam.backends.fast.norm import Norm
from refsam.config import Config
from refsam.scope import Scope
from refsam.types import Array, Float


class Linear(NamedTuple):
    """`x @ weight + bias`; with one more axis in front, a stack of such maps."""

    weight: Float[Array, "*M C D"]
    bias: Float[Array, "*M D"]

    def __call__(self, x: Float[Array, "*B N C"]) -> Float[Array, "*B N D"]:
        """The map of some rows."""
        y = np.matmul(x, self.weight)
        y += self.bias[..., None, :]
        return y


class SelfAttention(NamedTuple):
    """Queries, already scaled, and keys of the tokens come from one product."""

    query_key: Linear
    value: Linear
    out: Linear


class TokensToImage(NamedTuple):
    """Tokens ask, pixels answer. The key's bias adds the same to all scores of a token, which the softmax takes away again."""

    query: Linear
    key: Float[Array, "K c D"]
    value: Float[Array, "K c D"]
    value_bias: Float[Array, " I"]
    out: Linear


class ImageToTokens(NamedTuple):
    """Pixels ask, tokens answer. `out_bias` is a head's share: a pixel's weights sum to 1 in each head."""

    query: Float[Array, "K c D"]
    query_bias: Float[Array, "K c 1"]
    key: Linear
    value: Linear
    out: Float[Array, "K c D"]
    out_bias: Float[Array, " D"]


class Block(NamedTuple):
    """transformer.two_way_attention_block."""

    self_attention: SelfAttention
    norm1: Norm
    look: TokensToImage
    norm2: Norm
    widen: Linear
    narrow: Linear
    norm3: Norm
    tell: ImageToTokens
    norm4: Norm


class Upscaling(NamedTuple):
    """mask_decoder.output_upscaling: rows are (position in the 2x2 block, channel). See decoder_upscaling.py."""

    first: Float[Array, "4*C D"]
    first_bias: Float[Array, "4*C 1"]
    norm: Norm
    second: Float[Array, "4*Co C"]
    second_bias: Float[Array, "4*Co 1"]


class Decoder(NamedTuple):
    """mask_decoder.mask_decoder; `vectors` are the hypernetworks, their last layers divided by GELU's scale."""

    tokens: Float[Array, "N D"]
    blocks: list[Block]
    last_look: TokensToImage
    last_norm: Norm
    upscaling: Upscaling
    vectors: list[Linear]
    scores: list[Linear]


def fold(s: Scope, config: Config) -> Decoder:
    """The weights at the mask decoder's place."""
    heads, t = config.decoder_num_heads, s / "transformer"
    decoder = Decoder(
        tokens=np.concatenate([s["iou_token.weight"], s["mask_tokens.weight"]]),
        blocks=[_block(t / "layers" / layer, heads) for layer in range(config.decoder_depth)],
        last_look=_tokens_to_image(t / "final_attn_token_to_image", heads),
        last_norm=_norm(t / "norm_final_attn"),
        upscaling=_upscaling(s / "output_upscaling"),
        vectors=_hypernetworks(s / "output_hypernetworks_mlps", config.num_mask_tokens),
        scores=[_linear(s / "iou_prediction_head" / "layers" / layer) for layer in range(config.iou_head_depth)],
    )
    return frozen(decoder)


def _block(s: Scope, heads: int) -> Block:
    norm4 = _norm(s / "norm4")
    return Block(
        self_attention=_self_attention(s / "self_attn", heads),
        norm1=_norm(s / "norm1"),
        look=_tokens_to_image(s / "cross_attn_token_to_image", heads),
        norm2=_norm(s / "norm2"),
        widen=_linear(s / "mlp" / "lin1"),
        narrow=_linear(s / "mlp" / "lin2"),
        norm3=_norm(s / "norm3"),
        tell=_image_to_tokens(s / "cross_attn_image_to_token", heads),
        norm4=Norm(norm4.weight[:, None], norm4.bias[:, None]),
    )


def _self_attention(s: Scope, heads: int) -> SelfAttention:
    query, key = _scaled(s / "q_proj", heads), _linear(s / "k_proj")
    both = Linear(*(np.concatenate(parts, axis=-1) for parts in zip(query, key, strict=True)))
    return SelfAttention(both, _linear(s / "v_proj"), _linear(s / "out_proj"))


def _tokens_to_image(s: Scope, heads: int) -> TokensToImage:
    key, value = (s[f"{name}_proj.weight"] for name in "kv")
    return TokensToImage(
        query=_scaled(s / "q_proj", heads),
        key=_by_head(key, heads),
        value=_by_head(value, heads),
        value_bias=s["v_proj.bias"],
        out=_linear(s / "out_proj"),
    )


def _image_to_tokens(s: Scope, heads: int) -> ImageToTokens:
    query = _scaled(s / "q_proj", heads)
    return ImageToTokens(
        query=_by_head(query.weight.T, heads),
        query_bias=query.bias.reshape(heads, -1, 1),
        key=_linear(s / "k_proj"),
        value=_linear(s / "v_proj"),
        out=_by_head(s["out_proj.weight"].T, heads),
        out_bias=s["out_proj.bias"] / np.float32(heads),
    )


def _upscaling(s: Scope) -> Upscaling:
    """Each 2x2 transposed convolution as one matrix. The first has the mean over a pixel's channels taken away."""
    first, second = (s[f"{n}.weight"].astype(np.float64).transpose(2, 3, 1, 0) for n in (0, 3))
    first = first - first.mean(axis=2, keepdims=True)
    bias = s["0.bias"] - s["0.bias"].mean(dtype=np.float64)
    norm = Norm(*(_single(s[f"1.{name}"][:, None] * SCALE) for name in ("weight", "bias")))
    return Upscaling(
        first=_single(first.reshape(-1, first.shape[3])),
        first_bias=_single(np.tile(bias, 4)[:, None]),
        norm=norm,
        second=_single(second.reshape(-1, second.shape[3])),
        second_bias=_single(np.tile(s["3.bias"] * SCALE, 4)[:, None]),
    )


def _hypernetworks(s: Scope, count: int) -> list[Linear]:
    """The MLPs side by side, layer by layer."""
    layers = [[_linear(s / mask / "layers" / layer) for mask in range(count)] for layer in range(3)]
    stacked = [Linear(*(np.stack(parts) for parts in zip(*masks, strict=True))) for masks in layers]
    last = stacked.pop()
    return [*stacked, Linear(*(_single(part.astype(np.float64) / SCALE) for part in last))]


def _scaled(s: Scope, heads: int) -> Linear:
    """A query projection with the 1 / sqrt(width of a head) of attention in it."""
    scale = (len(s["bias"]) // heads) ** -0.5
    return Linear(*(_single(part.astype(np.float64) * scale) for part in _linear(s)))


def _linear(s: Scope) -> Linear:
    return Linear(np.ascontiguousarray(s["weight"].T), s["bias"])


def _norm(s: Scope) -> Norm:
    return Norm(s["weight"], s["bias"])


def _by_head(weight: Float[Array, "I D"], heads: int) -> Float[Array, "K c D"]:
    return np.ascontiguousarray(weight).reshape(heads, -1, weight.shape[1])


def _single(x: Array) -> Array:
    return np.ascontiguousarray(x, np.float32)
