"""The prompt encoder: points, boxes and a mask prompt become tokens and a map.  Upstream: prompt_encoder.py.

Coordinates are (x, y) in pixels of the padded square input; (0, 0) is the corner of the first pixel's area and its centre is
(0.5, 0.5), which is why 0.5 is added to a prompt.
"""

import numpy as np

from refsam.config import Config
from refsam.model.layers import conv2d, gelu, layer_norm_2d
from refsam.scope import Scope, replaceable
from refsam.types import Array, Float, Int

PADDING, BACKGROUND, FOREGROUND = -1, 0, 1
"""Labels of a point."""


def prompt_encoder(
    s: Scope,
    points: tuple[Float[Array, "B N 2"], Int[Array, "B N"]] | None,
    boxes: Float[Array, "B 4"] | None,
    masks: Float[Array, "#B 1 L L"] | None,
    config: Config,
) -> tuple[Float[Array, "B T D"], Float[Array, "B D E E"]]:
    """Tokens of all points and box corners (points first), and the dense embedding of the mask prompt or of its absence.

    Points without a box get one padding point more. Without points and boxes there are no tokens (T = 0).
    Upstream: PromptEncoder.forward.
    """
    dtype = s["no_mask_embed.weight"].dtype
    batch = next((len(p) for p in (points[0] if points else None, boxes, masks) if p is not None), 1)
    sparse = [np.zeros((batch, 0, config.prompt_embed_dim), dtype)]
    if points is not None:
        sparse.append(embed_points(s, *points, pad=boxes is None, image_size=config.image_size))
    if boxes is not None:
        sparse.append(embed_boxes(s, boxes, config.image_size))
    dense = embed_masks(s / "mask_downscaling", masks) if masks is not None else no_mask(s, batch, config.embedding_size)
    dense = np.broadcast_to(dense, (batch, *dense.shape[1:]))
    tokens = (s / "sparse_prompt_embeddings").tap(np.concatenate(sparse, axis=1))
    return tokens, (s / "dense_prompt_embeddings").tap(dense)


@replaceable
def embed_points(
    s: Scope, coords: Float[Array, "B N 2"], labels: Int[Array, "B N"], pad: bool, image_size: int
) -> Float[Array, "B P D"]:
    """The position's encoding plus the embedding of the label; a padding point has an embedding of its own and no position.

    Upstream: PromptEncoder._embed_points.
    """
    coords = coords + 0.5
    if pad:
        coords = np.pad(coords, ((0, 0), (0, 1), (0, 0)))
        labels = np.pad(labels, ((0, 0), (0, 1)), constant_values=PADDING)
    tokens = position_encoding(s / "pe_layer", coords / image_size)
    tokens[labels == PADDING] = s["not_a_point_embed.weight"]
    tokens[labels == BACKGROUND] += s["point_embeddings.0.weight"]
    tokens[labels == FOREGROUND] += s["point_embeddings.1.weight"]
    return tokens


@replaceable
def embed_boxes(s: Scope, boxes: Float[Array, "B 4"], image_size: int) -> Float[Array, "B 2 D"]:
    """Two corners, each with the embedding of its kind.  Upstream: PromptEncoder._embed_boxes."""
    corners = boxes.reshape(-1, 2, 2) + 0.5
    kinds = np.concatenate([s["point_embeddings.2.weight"], s["point_embeddings.3.weight"]])
    return position_encoding(s / "pe_layer", corners / image_size) + kinds


@replaceable
def embed_masks(s: Scope, masks: Float[Array, "B 1 L L"]) -> Float[Array, "B D E E"]:
    """Mask logits, four times the embedding's side, through two 2x2 convolutions of stride 2 and a 1x1.

    Upstream: PromptEncoder.mask_downscaling.
    """
    x = gelu(s / 2, layer_norm_2d(s / 1, conv2d(s / 0, masks, stride=2)))
    x = gelu(s / 5, layer_norm_2d(s / 4, conv2d(s / 3, x, stride=2)))
    return s.tap(conv2d(s / 6, x))


@replaceable
def no_mask(s: Scope, batch: int, side: int) -> Float[Array, "B D E E"]:
    """One learned vector everywhere (a broadcast view)."""
    vector = s["no_mask_embed.weight"]
    return np.broadcast_to(vector[0, :, None, None], (batch, vector.shape[1], side, side))


@replaceable
def dense_pe(s: Scope, side: int) -> Float[Array, "1 D E E"]:
    """The encoding of the cell centres of the embedding's grid, `image_pe`.  Upstream: PromptEncoder.get_dense_pe."""
    dtype = s["pe_layer.positional_encoding_gaussian_matrix"].dtype
    centres = (np.arange(side, dtype=dtype) + 0.5) / side
    x, y = np.meshgrid(centres, centres)
    encoding = position_encoding(s / "pe_layer", np.stack([x, y], axis=-1)).transpose(2, 0, 1)
    return (s / "pe_layer").tap(encoding)[None]


@replaceable
def position_encoding(s: Scope, coords: Float[Array, "*N 2"]) -> Float[Array, "*N D"]:
    """Random Fourier features: sine and cosine of 2 pi times random projections of coordinates scaled from [0, 1] to [-1, 1].

    Upstream: PositionEmbeddingRandom._pe_encoding.  Paper: arXiv 2006.10739.
    """
    matrix = s["positional_encoding_gaussian_matrix"]
    angles = 2 * np.pi * ((2 * coords.astype(matrix.dtype) - 1) @ matrix)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
