"""What ports get wrong between the image embedding and the mask logits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refsam import transforms
from refsam.config import Config
from refsam.model import mask_decoder, prompt_encoder, transformer
from refsam.model.layers import conv_transpose2d, gelu, layer_norm, layer_norm_2d
from refsam.ops import Ops
from refsam.ops.resize import bilinear
from refsam.scope import Scope
from refsam.types import Array, Size
from refsam.verify.hypotheses.encoder import op
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import definition

embed_masks = definition(prompt_encoder.embed_masks)
no_mask = definition(prompt_encoder.no_mask)
predict_masks = definition(mask_decoder.predict_masks)
two_way_block = definition(transformer.two_way_attention_block)


def function(name: str, remedy: str, place: str, replacement: Callable[..., Any]) -> Hypothesis:
    """A hypothesis about one function of the decoder."""
    return Hypothesis(name, ("decoder",), remedy, lambda pipeline: pipeline.with_function(place, replacement))


# --- positions --------------------------------------------------------------------------------------------------------------


def at_corners(s: Scope, side: int) -> Array:
    """Encoded at the corners of cells."""
    grid = np.arange(side, dtype=s.dtype) / side
    x, y = np.meshgrid(grid, grid)
    encoding = prompt_encoder.position_encoding(s / "pe_layer", np.stack([x, y], axis=-1)).transpose(2, 0, 1)
    return (s / "pe_layer").tap(encoding)[None]


def transposed(s: Scope, side: int) -> Array:
    """Encoded with x and y exchanged."""
    grid = (np.arange(side, dtype=s.dtype) + 0.5) / side
    x, y = np.meshgrid(grid, grid)
    encoding = prompt_encoder.position_encoding(s / "pe_layer", np.stack([y, x], axis=-1)).transpose(2, 0, 1)
    return (s / "pe_layer").tap(encoding)[None]


# --- the two-way transformer ------------------------------------------------------------------------------------------------


def block_with(rule: bool | None = None, query_pe: float = 1.0, key_pe: float = 1.0) -> Callable[..., Any]:
    """The two-way block with positions left out, or with the first block's rule for all (or none)."""

    def run(s: Scope, queries: Array, keys: Array, q_pe: Array, k_pe: Array, heads: int, first: bool) -> Any:
        chosen = first if rule is None else rule
        return two_way_block(s, queries, keys, q_pe * q_pe.dtype.type(query_pe), k_pe * k_pe.dtype.type(key_pe), heads, chosen)

    return run


def position_stays(s: Scope, queries: Array, keys: Array, q_pe: Array, k_pe: Array, heads: int, first: bool) -> Any:
    """The image's position added to the keys for good."""
    return two_way_block(s, queries, keys + k_pe if first else keys, q_pe, k_pe, heads, first)


def without_final_attention(s: Scope, keys: Array, key_pe: Array, tokens: Array, config: Config) -> Any:
    """Only the blocks, and the last norm."""
    queries, heads = tokens, config.decoder_num_heads
    for layer in range(config.decoder_depth):
        place = s / "layers" / layer
        queries, keys = transformer.two_way_attention_block(place, queries, keys, tokens, key_pe, heads, first=layer == 0)
    return (s / "queries").tap(layer_norm(s / "norm_final_attn", queries)), (s / "keys").tap(keys)


# --- mask prompts -----------------------------------------------------------------------------------------------------------


def mask_prompt(name: str, change: Callable[[Array, Size, int], Array]) -> Hypothesis:
    """A hypothesis about what the prompt encoder is given for a mask: (mask (1, L, L), original size, S) -> (1, L, L)."""
    return Hypothesis(name, ("decoder",), _PROMPT, lambda pipeline: replace(pipeline, mask=change))


def as_bytes(mask: Array, size: Size, side: int) -> Array:  # noqa: ARG001 - whatever the picture
    """Cast to uint8, as for a picture: what is negative wraps around."""
    return np.trunc(mask).astype(np.int64).astype(np.uint8).astype(np.float32)


def stretched_mask(mask: Array, size: Size, side: int) -> Array:
    """The picture's part of the padded frame, stretched over all of it: a mask of the picture resized to L x L."""
    cells = mask.shape[-1]
    height, width = (max(round(n * cells / side), 1) for n in transforms.resized_size(size, side))
    return bilinear(mask[..., :height, :width], (cells, cells))


def mask_ignored(s: Scope, masks: Array) -> Array:
    """No mask, whatever is given."""
    prompts = replace(s, name=s.name.rpartition(".")[0])
    return s.tap(no_mask(prompts, len(masks), masks.shape[-1] // 4))


def flag_of_minus_one(s: Scope, batch: int, side: int) -> Array:
    """has_mask_input = -1 in has * down(mask) + (1 - has) * no_mask, for a mask of zeros."""
    down = embed_masks(s / "mask_downscaling", np.zeros((batch, 1, 4 * side, 4 * side), s.dtype))
    return 2 * no_mask(s, batch, side) - down


# --- masks ------------------------------------------------------------------------------------------------------------------


def masks_from(start: int) -> Callable[..., Any]:
    """The masks and scores from another token on."""

    def decode(
        s: Scope, image: Array, pe: Array, sparse: Array, dense: Array, multimask_output: bool, config: Config
    ) -> tuple[Array, Array]:
        masks, scores = mask_decoder.predict_masks(s, image, pe, sparse, dense, config)
        count = masks.shape[1] - 1 if multimask_output else 1
        chosen = slice(start, start + count) if multimask_output else slice(start or 1, (start or 1) + 1)
        return masks[:, chosen], scores[:, chosen]

    return decode


def by_score(
    s: Scope, image: Array, pe: Array, sparse: Array, dense: Array, multimask_output: bool, config: Config
) -> tuple[Array, Array]:
    """Masks in the order of their scores."""
    masks, scores = definition(mask_decoder.mask_decoder)(s, image, pe, sparse, dense, multimask_output, config)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(masks, order[..., None, None], axis=1), np.take_along_axis(scores, order, axis=1)


def without_dense(s: Scope, image: Array, pe: Array, sparse: Array, dense: Array, config: Config) -> Any:
    """The dense prompt embedding (no_mask_embed) left out."""
    return predict_masks(s, image, pe, sparse, np.zeros_like(dense), config)


def without_norm(s: Scope, x: Array) -> Array:
    """Mask upscaling without its LayerNorm2d."""
    x = gelu(s / 2, conv_transpose2d(s / 0, x))
    return s.tap(gelu(s / 4, conv_transpose2d(s / 3, x)))


def without_last_gelu(s: Scope, x: Array) -> Array:
    """Mask upscaling without the GELU at its end."""
    x = gelu(s / 2, layer_norm_2d(s / 1, conv_transpose2d(s / 0, x)))
    return s.tap(conv_transpose2d(s / 3, x))


def transposed_phases(x: Array, weight: Array, bias: Array) -> Array:
    """A transposed convolution that puts its four results in columns first."""
    return Ops.conv_transpose2d(x, np.ascontiguousarray(weight.swapaxes(-1, -2)), bias)


def score_token_last(s: Scope, image: Array, pe: Array, sparse: Array, dense: Array, config: Config) -> Any:
    """The tokens of the masks first, that of the score behind them; results are read as if it were first."""
    tokens = np.roll(np.concatenate([s["iou_token.weight"], s["mask_tokens.weight"]]), -1, axis=0)
    names = (s / "iou_token.weight").name, (s / "mask_tokens.weight").name
    turned = {**s.weights, names[0]: tokens[:1], names[1]: tokens[1:]}
    return predict_masks(replace(s, weights=turned), image, pe, sparse, dense, config)


_PE = "add the image's position to the keys each time they are used, and never keep the sum"
_FIRST = "only the first block's self-attention replaces the queries; the others add to them"
_MASKS = "with multimask_output return masks 1 to 3 of 4, else mask 0, in this order"
_UP = "conv_transpose, LayerNorm2d, GELU, conv_transpose, GELU"
_PROMPT = (
    "a mask prompt is logits (about -10 outside, 10 inside) in the padded frame at S/4, such as low_res_masks of a prediction"
)
_BLOCK, _PREDICT = "transformer.two_way_attention_block", "mask_decoder.predict_masks"
_POSITION, _MASK = "prompt_encoder.dense_pe", "prompt_encoder.embed_masks"

HYPOTHESES = (
    function("masks 0 to 2", _MASKS, "mask_decoder.mask_decoder", masks_from(0)),
    function("masks sorted by score", _MASKS, "mask_decoder.mask_decoder", by_score),
    function("dense prompt embedding left out", "without a mask prompt add no_mask_embed everywhere", _PREDICT, without_dense),
    mask_prompt("mask prompt as uint8", as_bytes),
    mask_prompt("mask prompt of 0 and 1", lambda mask, *_: (mask > 0).astype(np.float32)),
    mask_prompt("mask prompt as probabilities", lambda mask, *_: 1 / (1 + np.exp(-mask))),
    mask_prompt("mask prompt with x and y exchanged", lambda mask, *_: mask.swapaxes(-1, -2)),
    mask_prompt("mask prompt stretched over the frame", stretched_mask),
    function("mask prompt ignored", _PROMPT, _MASK, mask_ignored),
    function("has_mask_input is -1", "has_mask_input is 1 with a mask prompt and 0 without", "prompt_encoder.no_mask",
             flag_of_minus_one),
    function("position at cell corners", "image_pe is of cell centres: (i + 0.5) / E", _POSITION, at_corners),
    function("position of the image transposed", "image_pe is (channels, y, x), of (x, y)", _POSITION, transposed),
    function("position of the image left out", _PE, _BLOCK, block_with(key_pe=0.0)),
    function("position of the queries left out", "add the first tokens to the queries", _BLOCK, block_with(query_pe=0.0)),
    function("position stays in the keys", _PE, _BLOCK, position_stays),
    function("first self-attention adds", _FIRST, _BLOCK, block_with(rule=False)),
    function("every self-attention replaces", _FIRST, _BLOCK, block_with(rule=True)),
    function("final attention left out", "after the blocks the tokens look at the image once more",
             "transformer.two_way_transformer", without_final_attention),
    function("score token behind the mask tokens", "tokens: score, four masks, prompts", _PREDICT, score_token_last),
    function("upscaling without its norm", _UP, "mask_decoder.output_upscaling", without_norm),
    function("upscaling without its last GELU", _UP, "mask_decoder.output_upscaling", without_last_gelu),
    op("GELU for ReLU", "the two-way MLP, the hypernetworks and the IoU head have ReLU", ("decoder",), relu=Ops.gelu),
    op("conv_transpose with x and y exchanged", "kernels of conv_transpose are (in, out, y, x)", ("decoder",),
       conv_transpose2d=transposed_phases),
)  # fmt: skip
