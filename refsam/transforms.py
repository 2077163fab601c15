"""Before and after the model: picture and prompts into the padded input frame, mask logits back to the picture.

Two frames. *Image pixels*: x to the right, y down, counted in pixels of the original picture from (0, 0), its first pixel.
*Input frame*: the same after the longest side is scaled to S, with zeros to the right and below up to S x S; the half pixel to
a pixel's middle is added there, by the prompt encoder.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.images import as_image
from refsam.ops.resize import bilinear, bilinear_tile, pillow_bilinear
from refsam.types import Array, Bool, Float, Int, Size, UInt8

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
"""Mean red, green and blue of the training pictures.  Upstream: build_sam.py."""

PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)
"""Their standard deviations.  Upstream: build_sam.py."""

_TILE_ELEMENTS = 1 << 17  # logits at full size that are in work at once: what keeps large pictures within memory and cache


def resized_size(original_size: Size, image_size: int) -> Size:
    """The (height, width) of a picture whose longest side is scaled to `image_size`: half a pixel rounds up.

    Raises InputError for an empty picture, and for other than two numbers (an array's whole shape).
    Upstream: utils/transforms.py ResizeLongestSide.get_preprocess_shape.
    Differs: at least 1 pixel, where upstream gets 0 and fails (pictures more than 2 * image_size times as long as wide).
    """
    if len(original_size) != 2 or min(original_size) < 1:
        raise InputError(f"the picture's size is {original_size}; (height, width) is needed, each at least 1: image.shape[:2]")
    scale = image_size * 1.0 / max(original_size)
    height, width = (max(int(side * scale + 0.5), 1) for side in original_size)
    return height, width


def resize(image: UInt8[Array, "H W 3"], image_size: int) -> UInt8[Array, "h w 3"]:
    """The picture with its longest side scaled to `image_size`, as Pillow does it (see ops/resize.py)."""
    return pillow_bilinear(image, resized_size((image.shape[0], image.shape[1]), image_size))


def normalize_and_pad(resized: UInt8[Array, "h w 3"], image_size: int) -> Float[Array, "1 3 S S"]:
    """(pixel - mean) / std per channel, then zeros to the right and below: padding is 0 after normalising, not black before.

    Numerics: float32, bit-equal to upstream. A float64 model works on these same values.
    Upstream: modeling/sam.py Sam.preprocess.
    """
    height, width = resized.shape[:2]
    input_image = np.zeros((1, 3, image_size, image_size), np.float32)
    pixels = resized.transpose(2, 0, 1).astype(np.float32)
    input_image[0, :, :height, :width] = (pixels - PIXEL_MEAN[:, None, None]) / PIXEL_STD[:, None, None]
    return input_image


def preprocess(image: Array, image_size: int = 1024) -> Float[Array, "1 3 S S"]:
    """What the image encoder takes: the RGB picture (H, W, 3) uint8 resized, normalised and padded, always float32.

    Raises InputError where `image` is something else.
    """
    return normalize_and_pad(resize(as_image(image), image_size), image_size)


def apply_coords(coords: Any, original_size: Size, image_size: int) -> Float[Array, "*N 2"]:
    """Points (x, y) from image pixels to the input frame.

    Args:
        coords: (..., 2) numbers of any dtype.
    Returns:
        A float64 copy. Each axis has its own factor, new side / old side, because sides are rounded to whole pixels.
    Raises InputError for another shape.
    Upstream: utils/transforms.py ResizeLongestSide.apply_coords.
    """
    if np.shape(coords)[-1:] != (2,):
        raise InputError(f"coords has shape {np.shape(coords)}; it has to be (..., 2): x and y")
    height, width = resized_size(original_size, image_size)
    factors = np.array([width / original_size[1], height / original_size[0]])
    scaled: Float[Array, "*N 2"] = np.asarray(coords, np.float64) * factors
    return scaled


def apply_boxes(boxes: Any, original_size: Size, image_size: int) -> Float[Array, "B 4"]:
    """Boxes (x0, y0, x1, y1) from image pixels to the input frame, in float64.

    Raises InputError where they are not (..., 4) or corners (..., 2, 2).
    Upstream: utils/transforms.py ResizeLongestSide.apply_boxes. Differs: there, four boxes with a score each are five boxes.
    """
    if np.shape(boxes)[-1:] != (4,) and np.shape(boxes)[-2:] != (2, 2):
        raise InputError(f"boxes has shape {np.shape(boxes)}; it has to be (B, 4): x0, y0, x1, y1")
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    return apply_coords(corners, original_size, image_size).reshape(-1, 4)


def postprocess_logits(
    low_res_masks: Float[Array, "B M L L"], input_size: Size, original_size: Size, image_size: int
) -> Float[Array, "B M H W"]:
    """Mask logits at the original picture's size, in the dtype they come in: up to S, padding cut off, then to the picture.

    Args:
        low_res_masks: the mask decoder's logits in the padded input frame.
        input_size: (height, width) of the picture inside the input frame.
        original_size: (height, width) of the picture.
        image_size: S, the side of the input frame.
    Upstream: modeling/sam.py Sam.postprocess_masks.
    """
    return bilinear(_without_padding(low_res_masks, input_size, image_size), original_size)


def postprocess_masks(
    low_res_masks: Float[Array, "B M L L"], input_size: Size, original_size: Size, image_size: int, threshold: float = 0.0
) -> Bool[Array, "B M H W"]:
    """`postprocess_logits(...) > threshold`, bit for bit, tile by tile: a large picture's logits never stand in memory whole."""
    masks = np.empty((*low_res_masks.shape[:2], *original_size), np.bool_)
    for index in np.ndindex(*low_res_masks.shape[:2]):
        logits = _without_padding(low_res_masks[index], input_size, image_size)
        for rows, columns in _tiles(original_size):
            tile = bilinear_tile(logits, original_size, rows, columns)
            np.greater(tile, threshold, out=masks[index][slice(*rows), slice(*columns)])
    return masks


def stability_scores(
    low_res_masks: Float[Array, "B M L L"],
    input_size: Size,
    original_size: Size,
    image_size: int,
    threshold: float = 0.0,
    offset: float = 1.0,
) -> Float[Array, "B M"]:
    """The IoU of each mask at `threshold + offset` with that at `threshold - offset`, of pixels of the picture; NaN of none.

    Numerics: pixels are counted exactly; the quotient is float32.
    Upstream: utils/amg.py calculate_stability_score. Differs: no overflow in pictures more than 32,767 pixels wide.
    """
    counts = np.zeros((2, *low_res_masks.shape[:2]), np.int64)
    for index in np.ndindex(*low_res_masks.shape[:2]):
        logits = _without_padding(low_res_masks[index], input_size, image_size)
        for rows, columns in _tiles(original_size):
            tile = bilinear_tile(logits, original_size, rows, columns)
            counts[(slice(None), *index)] += (
                np.count_nonzero(tile > threshold + offset),
                np.count_nonzero(tile > threshold - offset),
            )
    return ratio(*counts)


def ratio(intersections: Int[Array, "*B"], unions: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """Of whole numbers, in float32; NaN where a union is 0."""
    with np.errstate(invalid="ignore"):
        return intersections.astype(np.float32) / unions.astype(np.float32)


def _without_padding(low_res_masks: Float[Array, "*B L L"], input_size: Size, image_size: int) -> Float[Array, "*B h w"]:
    """The part of the logits at S x S where the picture is."""
    return bilinear_tile(low_res_masks, (image_size, image_size), (0, input_size[0]), (0, input_size[1]))


def _tiles(size: Size) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(first row, end), (first column, end) of tiles that cover `size`; a tile is whole rows where a row is short enough."""
    height, width = size
    columns = min(width, _TILE_ELEMENTS)
    rows = _TILE_ELEMENTS // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield (top, min(top + rows, height)), (left, min(left + columns, width))


class ResizeLongestSide:
    """The functions of this module under upstream's names, for a fixed longest side.  Upstream: utils/transforms.py.

    Differs: what upstream has a second time for tensors (`apply_coords_torch`, `apply_boxes_torch`) is `apply_coords` and
    `apply_boxes`; `apply_image_torch`, which resizes floats another way than the model was trained with, is left out.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: Array) -> UInt8[Array, "h w 3"]:
        """See `resize`. Raises InputError where `image` is not (H, W, 3) uint8."""
        return resize(as_image(image), self.target_length)

    def apply_coords(self, coords: Any, original_size: Size) -> Float[Array, "*N 2"]:
        """See `apply_coords`."""
        return apply_coords(coords, original_size, self.target_length)

    def apply_boxes(self, boxes: Any, original_size: Size) -> Float[Array, "B 4"]:
        """See `apply_boxes`."""
        return apply_boxes(boxes, original_size, self.target_length)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> Size:
        """See `resized_size`."""
        return resized_size((oldh, oldw), long_side_length)
