"""A port that shows one mask where the reference has several: which of them its logits and score are held against."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from refsam.figures import relative_l2
from refsam.masks import iou
from refsam.transforms import postprocess_masks, resized_size
from refsam.types import Array, Bool, Size
from refsam.verify.difference import align
from refsam.verify.masks import binary

_ANSWERS = ("low_res_masks", "iou_predictions")


def narrowed(truth: Mapping[str, Array], candidate: Mapping[str, Array]) -> tuple[Mapping[str, Array], int | None]:
    """The truth, of whose logits and scores only those of one mask are left where the candidate shows one of several: the mask
    nearest to its logits; where it shows no single logits, to its single mask; where it has none, to its score. Also that mask's
    number, None where the logits are left as they are."""
    single = [name for name in _ANSWERS if name in truth and name in candidate and _is_single(truth[name], candidate[name])]
    if not single:
        return truth, None
    possible = range(truth[single[0]].shape[1]) if "low_res_masks" in single else _of_mask(truth, candidate)
    number = _nearest(truth[single[0]], np.asarray(candidate[single[0]]), possible)
    left = {**truth, **{name: truth[name][:, number : number + 1] for name in single}}
    return left, number if "low_res_masks" in single else None


def _is_single(truth: Array, candidate: Array) -> bool:
    return truth.ndim > 1 and truth.shape[1] > 1 and np.size(candidate) * truth.shape[1] == truth.size


def _of_mask(truth: Mapping[str, Array], candidate: Mapping[str, Array]) -> Sequence[int]:
    """Of the truth's masks those nearest to the candidate's single one (several where they are equally near); all, where it shows
    no single one that fits."""
    every = range(truth[_ANSWERS[1]].shape[1])
    if "masks" not in candidate or not ("masks" in truth or "low_res_masks" in truth):
        return every
    masks = binary(candidate["masks"], truth["masks"].shape[-2:] if "masks" in truth else None)
    ours = binary(truth["masks"]) if "masks" in truth else _postprocessed(truth["low_res_masks"], masks.shape[1:])
    if len(masks) != 1 or ours.shape != (len(every), *masks.shape[1:]):
        return every
    shared = [iou(mask, masks[0]) for mask in ours]
    return [number for number in every if shared[number] == max(shared)]


def _postprocessed(logits: Array, size: Size) -> Bool[Array, "M H W"]:
    side = 4 * logits.shape[-1]
    return postprocess_masks(logits, resized_size(size, side), size, side)[0]


def _nearest(truth: Array, candidate: Array, possible: Sequence[int]) -> int:
    """Which of the truth's masks that are possible; the first, where the candidate is none of numbers."""

    def distance(number: int) -> float:
        taken, _ = align(truth[:, number : number + 1], candidate)
        far = math.inf if taken is None else relative_l2(truth[:, number : number + 1], taken)
        return math.inf if math.isnan(far) else far

    return min(possible, key=distance)
