"""A binary mask against the reference's: IoU, flipped pixels, and how far from the edge they are."""

import math
from dataclasses import dataclass

import numpy as np

from refsam.masks import area, box_of, iou
from refsam.types import Array, Bool, Float

_FARTHEST = 64  # pixels: beyond that a mask is another mask, and its edge has not moved
_ANOTHER = 0.5  # IoU up to which the same is said without looking


@dataclass(frozen=True)
class MaskDifference:
    """One mask against the reference's.

    Attributes:
        iou: intersection over union; 1 for two empty masks.
        flipped: pixels that are inside in one and outside in the other.
        explained: of these, the ones whose reference logit is so near the threshold that rounding may flip them.
        boundary: how many pixels (in the greater of x and y) the farthest flipped pixel lies from the reference's edge; 0 where
            none is flipped, infinite beyond 64.
        number: of the reference's mask.
        misfit: count and size of the port's masks and of the reference's, where they are others, that some of them is NaN, or why
            there are none; "" where they fit.
    """

    iou: float
    flipped: int
    explained: int
    boundary: float
    number: int = 0
    misfit: str = ""

    @property
    def holds(self) -> bool:
        """Whether rounding explains every flipped pixel."""
        return not self.misfit and self.flipped == self.explained


def mask_difference(
    reference: Bool[Array, "H W"], candidate: Bool[Array, "H W"], logits: Float[Array, "H W"], margin: float
) -> MaskDifference:
    """Compare two masks.

    Args:
        reference: where `logits` are above 0.
        candidate: the port's mask of the same prompt.
        logits: the reference's, at the picture's size.
        margin: how far rounding at the declared precision may move a logit.
    """
    flips = reference ^ candidate
    explained = int(np.count_nonzero(flips & (np.abs(logits) <= margin)))
    overlap = iou(reference, candidate)
    boundary = boundary_distance(reference, flips) if overlap > _ANOTHER else math.inf
    return MaskDifference(overlap, area(flips), explained, boundary)


def boundary_distance(mask: Bool[Array, "H W"], flips: Bool[Array, "H W"]) -> float:
    """The greatest distance, over the pixels of `flips`, to the edge of `mask`: 1 for a pixel that touches the other side.

    Distances are Chebyshev's: the greater of the steps in x and y.
    """
    box = box_of(flips)
    if box is None:
        return 0.0
    left, top, right, bottom = box.astype(int)
    near = (
        slice(max(top - _FARTHEST, 0), bottom + _FARTHEST + 1),
        slice(max(left - _FARTHEST, 0), right + _FARTHEST + 1),
    )
    inside, left_over = mask[near], flips[near]
    sides = [(grown, left_over & ~grown) for grown in (inside, ~inside)]
    for step in range(1, _FARTHEST + 1):
        sides = [(grow(grown), pixels) for grown, pixels in sides]
        sides = [(grown, pixels & ~grown) for grown, pixels in sides]
        if not any(pixels.any() for _, pixels in sides):
            return float(step)
    return math.inf


def grow(mask: Bool[Array, "H W"]) -> Bool[Array, "H W"]:
    """The mask and all eight neighbours of its pixels."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    grown = wide.copy()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown
