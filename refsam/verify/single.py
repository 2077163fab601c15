"""A port that shows one mask where the reference has several: which of them its logits and score are held against."""

import math
from collections.abc import Mapping

import numpy as np

from refsam.figures import relative_l2
from refsam.types import Array
from refsam.verify.difference import align

_ANSWERS = ("low_res_masks", "iou_predictions")


def narrowed(truth: Mapping[str, Array], candidate: Mapping[str, Array]) -> tuple[Mapping[str, Array], int | None]:
    """The truth, of whose logits and scores only those of one mask are left where the candidate shows one of several: the mask
    nearest to its logits, or to its score where it shows no single logits. Also that mask's number, None where the logits are
    left as they are."""
    single = [name for name in _ANSWERS if name in truth and name in candidate and _is_single(truth[name], candidate[name])]
    if not single:
        return truth, None
    number = _nearest(truth[single[0]], np.asarray(candidate[single[0]]))
    left = {**truth, **{name: truth[name][:, number : number + 1] for name in single}}
    return left, number if "low_res_masks" in single else None


def _is_single(truth: Array, candidate: Array) -> bool:
    return truth.ndim > 1 and truth.shape[1] > 1 and np.size(candidate) * truth.shape[1] == truth.size


def _nearest(truth: Array, candidate: Array) -> int:
    """Which of the truth's masks; the first, where the candidate is none of numbers."""

    def distance(number: int) -> float:
        taken, _ = align(truth[:, number : number + 1], candidate)
        far = math.inf if taken is None else relative_l2(truth[:, number : number + 1], taken)
        return math.inf if math.isnan(far) else far

    return min(range(truth.shape[1]), key=distance)
