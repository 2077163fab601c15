"""Where everything mode looks: overlapping crops of the picture in layers, and a grid of points in each.  Upstream: utils/amg.py.

Boxes are (x0, y0, x1, y1) in pixels. A crop's x1 and y1 are its end, one past its last pixel; a mask's are its last pixels.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from refsam.arguments import numbers
from refsam.errors import InputError
from refsam.types import Array, Bool, Float, Int, Size

EDGE_TOLERANCE = 20.0
"""A mask whose box comes this near to the edge of its crop, in pixels, is held to be cut off by it."""

PixelBox = tuple[int, int, int, int]


class Crop(NamedTuple):
    """A part of the picture: layer 0 is all of it, layer n has 2**n crops to a side."""

    box: PixelBox
    layer: int

    @property
    def size(self) -> Size:
        """(height, width)."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def point_grid(points_per_side: int) -> Float[Array, "N 2"]:
    """Points (x, y) in the middles of a grid over [0, 1] x [0, 1], row by row.  Upstream: build_point_grid."""
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def point_grids(points_per_side: int, layers: int, downscale_factor: int) -> list[Float[Array, "N 2"]]:
    """A grid for each layer of crops, the n-th with points_per_side / downscale_factor**n to a side.

    Raises InputError where that leaves none.  Upstream: build_all_layer_point_grids.
    """
    sides = [int(points_per_side / downscale_factor**layer) for layer in range(layers + 1)]
    if min(sides) < 1:
        raise InputError(
            f"points_per_side {points_per_side} and crop_n_points_downscale_factor {downscale_factor} leave no point in layer"
            f" {sides.index(min(sides))}; give more points or a smaller factor"
        )
    return [point_grid(side) for side in sides]


def crops(size: Size, layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole picture, then each layer's crops, column by column.

    Args:
        size: (height, width) of the picture.
        layers: how many, below the whole picture.
        overlap_ratio: of neighbours in layer 1, as a part of the picture's short side; half of that in each further layer.
    Raises:
        InputError: the picture is too small for so many, or crops would overlap by more than the picture.
    Upstream: generate_crop_boxes. Differs: there, too large an overlap gives crops that begin outside the picture.
    """
    height, width = size
    if overlap_ratio > 1:
        raise InputError(f"crop_overlap_ratio is {overlap_ratio}; it is a part of the picture's short side, from 0 to 1")
    result = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / per_side))
        lefts, tops = _starts(width, per_side, overlap), _starts(height, per_side, overlap)
        crop_width, crop_height = _crop_side(width, per_side, overlap), _crop_side(height, per_side, overlap)
        boxes = [(x, y, min(x + crop_width, width), min(y + crop_height, height)) for x, y in product(lefts, tops)]
        if any(x1 <= x0 or y1 <= y0 for x0, y0, x1, y1 in boxes):
            raise InputError(f"a picture of {height} x {width} pixels is too small for crop layer {layer}; lower crop_n_layers")
        result += [Crop(box, layer) for box in boxes]
    return result


def _crop_side(side: int, crops_per_side: int, overlap: int) -> int:
    return math.ceil((overlap * (crops_per_side - 1) + side) / crops_per_side)


def _starts(side: int, crops_per_side: int, overlap: int) -> list[int]:
    return [(_crop_side(side, crops_per_side, overlap) - overlap) * number for number in range(crops_per_side)]


def near_crop_edge(boxes: Int[Array, "N 4"], crop: Crop, size: Size) -> Bool[Array, " N"]:
    """Which boxes, in the crop's own pixels, come near an edge of the crop that is not near that edge of the picture.

    Numerics: float32, as upstream.  Upstream: is_box_near_crop_edge.
    """
    in_picture = (boxes + np.array(crop.box[:2] * 2)).astype(np.float32)
    near_crop = np.abs(in_picture - np.array(crop.box, np.float32)) <= EDGE_TOLERANCE
    near_picture = np.abs(in_picture - np.array([0, 0, size[1], size[0]], np.float32)) <= EDGE_TOLERANCE
    return np.any(near_crop & ~near_picture, axis=1)


def nms(boxes: Int[Array, "N 4"], scores: Float[Array, " N"], iou_threshold: float) -> Int[Array, " K"]:
    """Non-maximum suppression: the boxes that no better-scored kept box overlaps by more than `iou_threshold`, best first.

    Numerics: of equal scores the earlier one goes first. A box's area is (x1 - x0) * (y1 - y0), in float32, so that a mask one
    pixel wide has none and suppresses nothing.
    Upstream: torchvision's batched_nms with one category. Differs: of more than 1000 boxes torchvision returns those of equal
    score in no certain order; the set is the same.
    """
    sides, order = boxes.astype(np.float32), np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[~(_box_iou(sides[[best]], sides[order]) > iou_threshold)]
    return np.array(kept, np.int64)


def _box_iou(box: Float[Array, "1 4"], others: Float[Array, "N 4"]) -> Float[Array, " N"]:
    """Intersection over union, NaN of two boxes without area; computed in float32, returned in float64 for the comparison."""
    sides = np.minimum(box[:, 2:], others[:, 2:]) - np.maximum(box[:, :2], others[:, :2])
    intersection = np.prod(np.maximum(sides, np.float32(0)), axis=1)
    with np.errstate(invalid="ignore"):
        return (intersection / (_area(box) + _area(others) - intersection)).astype(np.float64)


def _area(boxes: Float[Array, "N 4"]) -> Float[Array, " N"]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def check_grids(grids: Sequence[Array], layers: int) -> list[Float[Array, "N 2"]]:
    """Copies of the caller's own grids, in float64. Raises InputError where there are too few, or one leaves [0, 1]."""
    if len(grids) <= layers:
        raise InputError(f"point_grids has {len(grids)} grids; crop_n_layers {layers} needs {layers + 1}")
    checked = [numbers(f"point_grids[{layer}]", grid, "(N, 2)").copy() for layer, grid in enumerate(grids)]
    for layer, grid in enumerate(checked):
        if grid.ndim != 2 or grid.shape[1] != 2 or not grid.size or not np.all((grid >= 0) & (grid <= 1)):
            raise InputError(f"point_grids[{layer}] has to be (N, 2) with x and y from 0 to 1")
    return checked
