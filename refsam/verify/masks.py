"""A port's masks, in whatever form it gives them, against the reference's."""

import math
from dataclasses import replace

import numpy as np

from refsam.mask_difference import MaskDifference, mask_difference
from refsam.transforms import postprocess_logits, resized_size
from refsam.types import Array, Bool, Float, Size


def binary(masks: Array) -> Bool[Array, "M H W"]:
    """A port's masks (H, W), (M, H, W) or (1, M, H, W), of any numbers, as booleans: inside is above 0."""
    given = np.asarray(masks)
    found: Bool[Array, "M H W"] = np.reshape(given > 0, (math.prod(given.shape[:-2]), *given.shape[-2:]))
    return found


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
