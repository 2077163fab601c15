"""A port's masks, in whatever form it gives them, against the reference's."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from refsam.figures import rms
from refsam.mask_difference import MaskDifference, mask_difference
from refsam.transforms import postprocess_logits, resized_size
from refsam.types import Array, Bool, Float, Size
from refsam.verify.difference import aligned
from refsam.verify.precision import precision_of

_RESIZED = 4 * precision_of("float32").unit
"""What the two resizes from logits to masks cost in float32: each takes a mean along x and one along y, which is rounded. Whoever
computes in a coarser type stores in it what the first resize gives, one rounding more; that of the second moves no sign."""


def binary(masks: Array, size: Size | None = None) -> Bool[Array, "M H W"]:
    """A port's masks (H, W), (M, H, W) or (1, M, H, W), of any numbers, as booleans: inside is above 0. Where they have the
    picture's size with the masks behind it, (H, W, M) or (1, H, W, M), they are taken so."""
    given = masks_first(np.asarray(masks), size)
    found: Bool[Array, "M H W"] = np.reshape(given > 0, (math.prod(given.shape[:-2]), *given.shape[-2:]))
    return found


def masks_first(masks: Array, size: Size | None) -> Array:
    """Masks of the picture's size, (H, W, M) or (1, H, W, M), with the masks' axis before the picture's; others as they are."""
    behind = size is not None and masks.shape[-2:] != size and masks.shape[-3:-1] == size
    return np.moveaxis(masks, -1, -3) if behind else masks


def undefined(masks: Array) -> str:
    """That some of a port's masks is NaN, which is neither inside nor outside, in words; "" where none is."""
    given = np.asarray(masks)
    count = int(np.count_nonzero(np.isnan(given))) if given.dtype.kind == "f" else 0
    return f"{count} of their {given.size} values are NaN" if count else ""


def masks_of_logits(
    truth: Mapping[str, Array],
    candidate: Mapping[str, Array],
    size: Size,
    budget: Mapping[str, float],
    precision: str,
    k: float,
) -> tuple[MaskDifference, ...]:
    """A candidate's masks, each against the one that its own logits give (the truth's, where it shows none that fit).

    Args:
        truth: the reference's low_res_masks; where it has none, its masks, and then rounding excuses no pixel.
        candidate: "masks" as in `binary`; without them, or without anything of the truth's, there is nothing to compare.
        size: (height, width) of the picture.
        budget: what rounding to the precision costs the truth's logits.
        precision: what the candidate computes in.
        k: how many budgets are allowed.
    """
    if "masks" not in candidate or not ("low_res_masks" in truth or "masks" in truth):
        return ()
    masks, lacking = binary(candidate["masks"], size), undefined(candidate["masks"])
    if lacking:
        return (_misfit(masks, lacking),)
    if "low_res_masks" not in truth:
        wanted = binary(truth["masks"])
        return _each(lambda n, mask: mask_difference(wanted[n], mask, np.ones(size), 0.0), len(wanted), masks, size)
    own = aligned({"low_res_masks": truth["low_res_masks"]}, candidate)
    logits = own.get("low_res_masks", truth["low_res_masks"])[0]
    written = float(np.finfo(logits.dtype).eps) / 2 if logits.dtype.kind == "f" else 0.0  # a dump may be coarser than the port
    stored = max(_RESIZED, written, precision_of(precision).unit)
    margin = k * (stored if own else budget["low_res_masks"]) * rms(logits)
    return mask_differences(logits, masks, size, 4 * logits.shape[-1], margin)


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
    inner = resized_size(size, image_size)

    def against(number: int, mask: Bool[Array, "H W"]) -> MaskDifference:
        full = postprocess_logits(logits[number].astype(np.float64)[None, None], inner, size, image_size)[0, 0]
        return mask_difference(full > 0, mask, full, margin)

    return _each(against, len(logits), candidate, size)


def _each(
    against: Callable[[int, Bool[Array, "H W"]], MaskDifference], count: int, candidate: Bool[Array, "N P Q"], size: Size
) -> tuple[MaskDifference, ...]:  # fmt: skip
    """Each mask against the reference's of its number, a single one against the nearest of `count`."""
    if candidate.shape[1:] != size or len(candidate) not in (1, count):
        wanted = f"{len(candidate)} of {candidate.shape[1:]}; the reference has {count} of {size}"
        return (_misfit(candidate, wanted),)
    if len(candidate) == count:
        return tuple(replace(against(number, mask), number=number) for number, mask in enumerate(candidate))
    found = [replace(against(number, candidate[0]), number=number) for number in range(count)]
    return (max(found, key=lambda difference: difference.iou),)


def _misfit(candidate: Bool[Array, "N P Q"], why: str) -> MaskDifference:
    """The one result for masks that cannot be compared with the reference's."""
    return MaskDifference(0.0, candidate.size, 0, math.inf, misfit=why)
