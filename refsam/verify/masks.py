"""Binary masks against the reference's: IoU, flipped pixels, and how far from the edge they are."""

import math
from dataclasses import dataclass, replace

import numpy as np

from refsam.masks import area, box_of, iou
from refsam.transforms import postprocess_logits, resized_size
from refsam.types import Array, Bool, Float, Size

_FARTHEST = 64  # pixels: beyond that a mask is another mask, and its edge has not moved
_ANOTHER = 0.5  # IoU up to which the same is said without looking


def binary(masks: Array) -> Bool[Array, "M H W"]:
    """A port's masks (H, W), (M, H, W) or (1, M, H, W), of any numbers, as booleans: inside is above 0."""
    given = np.asarray(masks)
    found: Bool[Array, "M H W"] = np.reshape(given > 0, (math.prod(given.shape[:-2]), *given.shape[-2:]))
    return found


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
        misfit: count and size of the port's masks and of the reference's, where they are others; "" where they fit.
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


def mask_differences(
    logits: Float[Array, "M L L"], candidate: Bool[Array, "N P Q"], size: Size, image_size: int, margin: float
) -> tuple[MaskDifference, ...]:
    """Masks at the picture's size against those that postprocessing in float64 makes of `logits`, one after the other; a single
    one against the nearest of them. Of another count or size there is one result, a misfit.

    Args:
        size: (height, width) of the picture.
        image_size: S.
        margin: how far rounding may move a logit.
    """
    if candidate.shape[1:] != size or len(candidate) not in (1, len(logits)):
        wanted = f"{len(candidate)} of {candidate.shape[1:]}; the reference has {len(logits)} of {size}"
        return (MaskDifference(0.0, candidate.size, 0, math.inf, misfit=wanted),)

    def against(number: int, mask: Bool[Array, "H W"]) -> MaskDifference:
        inner = resized_size(size, image_size)
        full = postprocess_logits(logits[number].astype(np.float64)[None, None], inner, size, image_size)[0, 0]
        return replace(mask_difference(full > 0, mask, full, margin), number=number)

    if len(candidate) == len(logits):
        return tuple(against(number, mask) for number, mask in enumerate(candidate))
    found = [against(number, candidate[0]) for number in range(len(logits))]
    return (max(found, key=lambda difference: difference.iou),)


def rms(x: Array) -> float:
    """The root of the mean square, in float64."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


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
