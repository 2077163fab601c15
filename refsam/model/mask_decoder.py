"""The mask decoder: image embedding and prompt tokens become mask logits and scores.  Upstream: mask_decoder.py."""

import numpy as np

from refsam.config import Config
from refsam.model.layers import conv_transpose2d, gelu, layer_norm_2d, mlp, to_tokens
from refsam.model.transformer import two_way_transformer
from refsam.scope import Scope, replaceable
from refsam.types import Array, Float


@replaceable
def mask_decoder(
    s: Scope,
    image_embeddings: Float[Array, "1 D E E"],
    image_pe: Float[Array, "1 D E E"],
    sparse: Float[Array, "B N D"],
    dense: Float[Array, "B D E E"],
    multimask_output: bool,
    config: Config,
) -> tuple[Float[Array, "B M L L"], Float[Array, "B M"]]:
    """The masks (logits) and predicted IoUs of B prompts on one image: the last three of an ambiguous prompt, else the first.

    Upstream: MaskDecoder.forward.
    """
    masks, iou_predictions = predict_masks(s, image_embeddings, image_pe, sparse, dense, config)
    chosen = slice(1, None) if multimask_output else slice(0, 1)
    return masks[:, chosen], iou_predictions[:, chosen]


@replaceable
def predict_masks(
    s: Scope,
    image_embeddings: Float[Array, "1 D E E"],
    image_pe: Float[Array, "1 D E E"],
    sparse: Float[Array, "B N D"],
    dense: Float[Array, "B D E E"],
    config: Config,
) -> tuple[Float[Array, "B M L L"], Float[Array, "B M"]]:
    """All masks (M = 4): each is the product of its token's vector with the upscaled embedding.  Upstream: predict_masks."""
    output_tokens = np.concatenate([s["iou_token.weight"], s["mask_tokens.weight"]])
    output_tokens = np.broadcast_to(output_tokens, (len(sparse), *output_tokens.shape))
    tokens = np.concatenate([output_tokens, sparse], axis=1)

    tokens, pixels = two_way_transformer(
        s / "transformer", to_tokens(image_embeddings + dense), to_tokens(image_pe), tokens, config
    )
    upscaled = output_upscaling(s / "output_upscaling", pixels.swapaxes(1, 2).reshape(dense.shape))
    vectors = hypernetworks(s / "output_hypernetworks_mlps", tokens[:, 1 : 1 + config.num_mask_tokens])
    batch, channels, height, width = upscaled.shape
    masks = (vectors @ upscaled.reshape(batch, channels, height * width)).reshape(batch, vectors.shape[1], height, width)
    return masks, mlp(s / "iou_prediction_head", tokens[:, 0], config.iou_head_depth)


@replaceable
def output_upscaling(s: Scope, x: Float[Array, "B D E E"]) -> Float[Array, "B C L L"]:
    """Twice doubles the sides and shrinks the width to an eighth; the second step has a GELU but no norm.

    Upstream: MaskDecoder.output_upscaling.
    """
    x = gelu(s / 2, layer_norm_2d(s / 1, conv_transpose2d(s / 0, x)))
    return s.tap(gelu(s / 4, conv_transpose2d(s / 3, x)))


@replaceable
def hypernetworks(s: Scope, tokens: Float[Array, "B M D"]) -> Float[Array, "B M C"]:
    """One MLP for each mask token.  Upstream: MaskDecoder.output_hypernetworks_mlps."""
    return np.stack([mlp(s / mask, tokens[:, mask], depth=3) for mask in range(tokens.shape[1])], axis=1)
