"""Two arrays of one stage: how far apart, where most, and whether one is the other with its axes in another order.

The headline is relative L2, |candidate - reference| / |reference| over the whole tensor, because that is what a rounding budget
is measured in; NMSE is its square, PSNR is what Core ML people quote.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from refsam.figures import relative, relative_l2
from refsam.types import Array

_SAME = 0.5
"""An exchange of equally long axes is believed in where it brings the relative L2 below this: unrelated tensors are at 1.4."""
_BETTER = 0.1
"""... and to less than this share of what the order as it came in gives."""
_MAX_AXES = 4
_SAMPLE = 1 << 14
_SPREAD = "the same at every place"
_LETTERS = {4: "NCHW", 3: "NTC"}


@dataclass(frozen=True)
class Difference:
    """What a comparison of two arrays found.

    Attributes:
        shape, candidate_shape: the reference's and the candidate's as they came.
        dtype: the candidate's.
        layout: how the candidate's axes were taken ("" as they are, else such as "NHWC").
        relative_l2, nmse, psnr, cosine: over all elements; PSNR in dB against the reference's greatest absolute value. NaN
            where the shapes do not fit or the candidate is not finite.
        max_abs, index, reference_value, candidate_value: the greatest difference.
        ulp: that difference in units in the last place of the candidate's dtype.
        mismatched: elements that are off by more than what is allowed of the reference's root mean square.
        nan, inf: how many the candidate has that the reference has not.
    """

    shape: tuple[int, ...]
    candidate_shape: tuple[int, ...]
    dtype: str
    layout: str = ""
    relative_l2: float = math.nan
    psnr: float = math.nan
    cosine: float = math.nan
    max_abs: float = math.nan
    index: tuple[int, ...] = ()
    reference_value: float = math.nan
    candidate_value: float = math.nan
    ulp: float = math.nan
    mismatched: int = 0
    nan: int = 0
    inf: int = 0

    @property
    def nmse(self) -> float:
        """Mean squared error over the reference's mean square."""
        return self.relative_l2 * self.relative_l2  # infinite, where a power would raise OverflowError

    @property
    def size(self) -> int:
        """How many elements the reference has."""
        return math.prod(self.shape)

    @property
    def comparable(self) -> bool:
        """Whether the shapes fit and all numbers are finite."""
        return not math.isnan(self.relative_l2)


def difference(reference: Array, candidate: Array, allowed: float = 0.0) -> Difference:
    """How far `candidate` is from `reference`, computed in float64.

    `allowed` is a relative L2, and so the share of the reference's root mean square beyond which an element counts as mismatched:
    if all elements were off by just that, the tensor would still hold.

    Where the shape is another order of the reference's axes (NHWC for NCHW), or a batch axis is missing or added, the candidate
    is taken that way and `layout` says so.
    """
    given = np.asarray(candidate)
    basics = (reference.shape, given.shape, str(given.dtype))
    aligned, layout = align(reference, given)
    if aligned is None or given.dtype.kind not in "biuf":
        return Difference(*basics)
    nan = int(np.isnan(aligned).sum() - np.isnan(reference).sum()) if aligned.dtype.kind == "f" else 0
    inf = int(np.isinf(aligned).sum() - np.isinf(reference).sum()) if aligned.dtype.kind == "f" else 0
    if nan or inf or not reference.size:
        return Difference(*basics, layout, relative_l2=math.nan if nan or inf else 0.0, nan=nan, inf=inf)
    return replace(Difference(*basics, layout), **_figures(reference, aligned, allowed))


def _figures(reference: Array, candidate: Array, allowed: float) -> dict[str, Any]:
    truth, value = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    error = value - truth
    distance = np.abs(error)
    index = np.unravel_index(int(distance.argmax()), error.shape)
    norm, error_norm = np.linalg.norm(truth), np.linalg.norm(error)
    greatest = float(distance[index])
    peak = float(np.abs(truth).max())
    rmse = error_norm / math.sqrt(error.size)
    return {
        "relative_l2": relative(float(error_norm), float(norm)),
        "psnr": math.inf if rmse == 0 else 20 * math.log10(peak / rmse) if peak / rmse else -math.inf,
        "cosine": float(np.vdot(truth, value) / (norm * np.linalg.norm(value))) if norm and value.any() else math.nan,
        "max_abs": greatest,
        "index": tuple(map(int, index)),
        "reference_value": float(truth[index]),
        "candidate_value": float(value[index]),
        "ulp": greatest / float(_spacing(candidate.dtype, float(truth[index]))),
        "mismatched": int(np.count_nonzero(distance > allowed * norm / math.sqrt(error.size))),
    }


def _spacing(dtype: np.dtype, value: float) -> float:
    """The distance to the next number of this dtype; 1 for whole numbers."""
    if dtype.kind != "f":
        return 1.0
    with np.errstate(over="ignore"):
        return float(np.spacing(np.abs(np.asarray(value, dtype))))


def align(reference: Array, candidate: Array) -> tuple[Array | None, str]:
    """The candidate with the reference's axes, and how its own were taken; None where its elements are too few or too many.

    A tensor of the right shape is taken as it is. (One that is *square and transposed* has the right shape: see `transposed`.)
    Tokens for a map, another order of axes and axes of length 1 are told apart by which order comes closest. Of a map that is the
    same at every place, as the dense prompt without a mask, one value for each channel is enough.
    """
    if candidate.shape == reference.shape:
        return candidate, ""
    if candidate.size != reference.size:
        return (_spread(candidate, reference), _SPREAD) if _is_constant_map(reference, candidate) else (None, "")
    orders = _layouts(reference, candidate)
    if not orders:
        return None, ""
    options = [(candidate.transpose(order).reshape(reference.shape), order) for order in orders]
    best, order = min(options, key=lambda option: _distance(reference, option[0]))
    return best, _name(reference, candidate, order)


def _is_constant_map(reference: Array, candidate: Array) -> bool:
    """Whether the candidate, (1, C, 1, 1) or (C,), has one value for each channel of a map that is the same at every place."""
    if reference.ndim != 4 or candidate.size != reference.shape[1] or len(reference) != 1:
        return False
    return bool((reference == reference[..., :1, :1]).all())


def _spread(candidate: Array, reference: Array) -> Array:
    return np.broadcast_to(candidate.reshape(1, -1, 1, 1), reference.shape)


def aligned(truth: Mapping[str, Array], candidate: Mapping[str, Array]) -> dict[str, Array]:
    """The candidate's stages with the reference's axes, without the masks and those that are of another size or not finite."""
    known = {}
    for name in truth:
        if name in candidate and name != "masks":
            value, _ = align(truth[name], np.asarray(candidate[name]))
            if value is not None and value.dtype.kind in "biuf" and np.isfinite(value).all():
                known[name] = value
    return known


def transposed(reference: Array, candidate: Array) -> str:
    """Which swap of equally long axes would explain the difference ("" for none): a square map with x and y exchanged."""
    taken, _ = align(reference, candidate)
    if taken is None:
        return ""
    enough = min(_SAME, _BETTER * _distance(reference, taken))
    for order in _orders(taken.ndim):
        turned = taken.transpose(order)
        if turned.shape == reference.shape and _distance(reference, turned) < enough:
            return _name(reference, taken, order)
    return ""


def _orders(axes: int) -> list[tuple[int, ...]]:
    """All orders of so many axes, the one as it is first; only that one for more axes than a tensor of this model has."""
    return list(permutations(range(axes))) if axes <= _MAX_AXES else [tuple(range(axes))]


def _layouts(reference: Array, candidate: Array) -> list[tuple[int, ...]]:
    """The orders of the candidate's axes in which it may be the reference; of those that differ in axes of length 1 alone one,
    with the reference's shape if there is such."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for order in sorted(_orders(candidate.ndim), key=lambda order: _shape(candidate, order) != reference.shape):
        axes = tuple(axis for axis in order if candidate.shape[axis] != 1)
        if axes not in found and _may_be_layout(reference, candidate, axes):
            found[axes] = order
    return list(found.values())


def _may_be_layout(reference: Array, candidate: Array, axes: tuple[int, ...]) -> bool:
    """Whether these axes of the candidate, in this order, are the reference's, maps laid out as tokens (and the other way round)
    included. Axes of length 1 count on neither side.

    An order that exchanges x and y of a map (N, C, H, W) or of a picture (H, W, 3) is no layout: it is another picture. So is one
    that exchanges axes which are one of the reference's, as the y and x of tokens are.
    """
    wanted = [axis for axis, length in enumerate(reference.shape) if length != 1]
    mine, theirs = _shape(candidate, axes), _shape(reference, wanted)
    split, joined = _groups(mine, theirs), _groups(theirs, mine)
    if split is not None:
        parts = {axis: [axes[place] for place in group] for axis, group in zip(wanted, split, strict=True)}
    elif joined is not None:
        parts = {wanted[place]: [axis] for axis, group in zip(axes, joined, strict=True) for place in group}
    else:
        return False
    plane = [axis for number in _plane(reference) for axis in parts.get(number, [])]
    return all(part == sorted(part) for part in (plane, *parts.values()))


def _plane(reference: Array) -> tuple[int, ...]:
    """The axes y and x of a map (N, C, H, W), a picture (H, W, 3) or an encoding (C, E, E); none of tokens and other tensors."""
    if reference.ndim == 4:
        return (2, 3)
    if reference.ndim != 3:
        return ()
    *_, height, width = reference.shape
    return (0, 1) if width == 3 else (1, 2) if height == width else ()


def _shape(array: Array, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(array.shape[axis] for axis in axes)


def _groups(fine: Sequence[int], coarse: Sequence[int]) -> list[range] | None:
    """Which neighbouring lengths of `fine` make each of `coarse` by their product, in order; None where they do not."""
    groups, place = [], 0
    for length in coarse:
        start, product = place, 1
        while place < len(fine) and product < length:
            product *= fine[place]
            place += 1
        if product != length:
            return None
        groups.append(range(start, place))
    return groups if place == len(fine) else None


def _name(reference: Array, candidate: Array, order: tuple[int, ...]) -> str:
    """The candidate's axes by the reference's letters, such as "NHWC"; by its shape where they are not the same axes."""
    letters = "HWC" if reference.ndim == 3 and reference.shape[2] == 3 else _LETTERS.get(reference.ndim, "")
    if not letters or _shape(candidate, order) != reference.shape:
        return f"{candidate.shape} as {reference.shape}"
    return "".join(letters[axis] for axis in np.argsort(order))


def _distance(reference: Array, candidate: Array) -> float:
    """Relative L2 on a sample of the elements: enough to tell one order of axes from another."""
    step = max(1, reference.size // _SAMPLE)
    sample = np.nan_to_num(np.asarray(candidate.ravel()[::step], np.float64), posinf=0, neginf=0)
    return relative_l2(reference.ravel()[::step], sample)
