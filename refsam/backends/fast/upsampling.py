"""Mask logits to masks at the picture's size: the definition's two bilinear resizes as one product of banded matrices.

Both resizes are linear along each axis, so their product is one matrix per axis, with two to four weights side by side in a row.
First all rows of logits become as wide as the picture; then each strip of the picture is a small matrix times the few rows that
it sees, compared with the threshold while it is in the cache: no logits of the whole picture exist. Tiles of a strip whose
logits are all on one side of the threshold are not computed at all.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from refsam import transforms
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.ops.resize import Band, LinearTaps, linear_taps
from refsam.types import Array, Bool, Float, Int, Size

STRIP = 1 << 18
"""Pixels of a strip at most: 1 MiB of logits, a second-level cache; less would have threads meet at Python's lock too often."""

BAND = 128
"""Columns that are widened at once: more would see more logits, most of which weigh nothing in most of them."""

ROWS, COLUMNS = 64, 512
"""Of a tile at most. OpenBLAS multiplies without repacking, five times as fast here, up to a million products at once."""

PARTS = 256
"""Along a side at most, unless strips would be too large: of a picture of 1,000,000 x 1 pixels, 64 rows are too little work."""

WIDE = 1 << 24
"""Logits as wide as the picture that stand in memory at once (64 MiB) where many masks are only counted."""

MARGIN = 32 * 2.0**-24
"""How far rounding may take a value beyond the logits around it, as a part of the greatest of them. The definition mixes four
times, each with two rounded weights, two products and a sum: 20 roundings of at most 2**-24. The matrices here have fewer."""


class Tiles(NamedTuple):
    """`number` tiles side by side, each of `width` columns, from column `start` on; row n of `sees` has the columns of logits
    that tile n sees, the last one repeated where another sees more."""

    start: int
    number: int
    width: int
    sees: Int[Array, "N reach"]


class Layout(NamedTuple):
    """How a picture of one size is cut: bands of columns, tiles of columns, and strips of rows with the rows that they see."""

    columns: tuple[Band, ...]
    tiles: tuple[Tiles, ...]
    strips: tuple[Band, ...]
    sees: Int[Array, "strips reach"]


class Job(NamedTuple):
    """One strip of one mask.

    Attributes:
        strip: its rows, and their weights for those of `wide`.
        wide: the mask's logits, as wide as the picture.
        least, most: for each of the layout's Tiles, what the pixels of each tile may have at least and at most.
    """

    strip: Band
    wide: Float[Array, "h W"]
    least: list[Float[Array, " N"]]
    most: list[Float[Array, " N"]]


@replaces(transforms.postprocess_masks)
def postprocess_masks(
    workers: Workers,
    low_res_masks: Float[Array, "B M L L"],
    input_size: Size,
    original_size: Size,
    image_size: int,
    threshold: float = 0.0,
) -> Bool[Array, "B M H W"]:
    """`transforms.postprocess_masks`, except where a logit is within rounding of the threshold."""
    if not _are_finite(low_res_masks):
        return transforms.postprocess_masks(low_res_masks, input_size, original_size, image_size, threshold)
    masks = np.zeros((*low_res_masks.shape[:2], *original_size), np.bool_)  # the system's own zeros: outside costs nothing
    cut = layout(low_res_masks.shape[-1], image_size, input_size, original_size)
    jobs = _jobs(workers, low_res_masks, cut)
    workers.map(_threshold, [(job, cut.tiles, threshold, masks[index]) for index, job in jobs])
    return masks


@replaces(transforms.stability_scores)
def stability_scores(
    workers: Workers,
    low_res_masks: Float[Array, "B M L L"],
    input_size: Size,
    original_size: Size,
    image_size: int,
    threshold: float = 0.0,
    offset: float = 1.0,
) -> Float[Array, "B M"]:
    """`transforms.stability_scores`, except for pixels whose logit is within rounding of a threshold."""
    if not _are_finite(low_res_masks):
        return transforms.stability_scores(low_res_masks, input_size, original_size, image_size, threshold, offset)
    cut = layout(low_res_masks.shape[-1], image_size, input_size, original_size)
    thresholds = (threshold + offset, threshold - offset)
    batch, several, *sides = low_res_masks.shape
    masks = low_res_masks.reshape(-1, 1, *sides)
    counts = np.zeros((len(masks), len(cut.strips), 2), np.int64)
    at_once = max(WIDE // (cut.strips[-1].hi * original_size[1]), 1)
    for start in range(0, len(masks), at_once):
        part = slice(start, start + at_once)
        places = counts[part].reshape(-1, 2)  # in the order of the jobs
        jobs = _jobs(workers, masks[part], cut)
        workers.map(_count, [(job, cut.tiles, thresholds, place) for (_, job), place in zip(jobs, places, strict=True)])
    return transforms.ratio(*np.moveaxis(counts.sum(axis=1).reshape(batch, several, 2), -1, 0))


def _are_finite(logits: Float[Array, "B M L L"]) -> bool:
    """Whether a zero among the matrices' weights leaves a logit out: it does not where that is infinite or NaN."""
    return bool(np.isfinite(logits.min(initial=0)) and np.isfinite(logits.max(initial=0)))


@lru_cache(maxsize=8)
def layout(mask_size: int, image_size: int, input_size: Size, original_size: Size) -> Layout:
    """Made once for a picture's size, and shared by the masks of all its prompts."""
    height, width = original_size
    rows = max(min(STRIP // width, max(ROWS, -(-height // PARTS))), 1)
    band = max(BAND, -(-width // PARTS))
    strips = _bands(mask_size, image_size, input_size[0], height, [*range(0, height, rows), height])
    columns = _bands(mask_size, image_size, input_size[1], width, [*range(0, width, band), width])
    number = -(-width // COLUMNS)
    each, rest = divmod(width, number)
    ends = [each * n for n in range(number + 1)] + ([width] if rest else [])
    tiles = _bands(mask_size, image_size, input_size[1], width, ends)
    groups = [Tiles(0, number, each, _sees(tiles[:number]))]
    if rest:
        groups.append(Tiles(number * each, 1, rest, _sees(tiles[number:])))
    return Layout(columns, tuple(groups), strips, _sees(strips))


def _bands(mask_size: int, image_size: int, inside: int, side: int, ends: list[int]) -> tuple[Band, ...]:
    """The weights from logits to the picture's pixels along one axis: up to the input frame, cut to `inside`, to the picture."""
    bands = []
    for start, stop in pairwise(ends):
        to_picture = linear_taps(inside, side, start, stop)
        first, end = int(to_picture.near[0]), int(to_picture.far[-1]) + 1
        to_frame = linear_taps(mask_size, image_size, first, end)
        lo, hi = int(to_frame.near[0]), int(to_frame.far[-1]) + 1
        weights = _dense(to_picture, first, end) @ _dense(to_frame, lo, hi)
        bands.append(Band(start, stop, lo, hi, weights.astype(np.float32)))
    return tuple(bands)


def _dense(taps: LinearTaps, lo: int, hi: int) -> Float[Array, "n hi-lo"]:
    matrix, target = np.zeros((taps.near.size, hi - lo)), np.arange(taps.near.size)
    matrix[target, taps.near - lo] = 1 - taps.weight
    matrix[target, taps.far - lo] += taps.weight  # at the picture's end both are one pixel
    return matrix


def _sees(bands: tuple[Band, ...]) -> Int[Array, "N reach"]:
    lo, hi = np.array([[band.lo, band.hi] for band in bands]).T[..., None]
    return np.minimum(lo + np.arange((hi - lo).max()), hi - 1)


def _jobs(workers: Workers, low_res_masks: Float[Array, "B M L L"], cut: Layout) -> list[tuple[tuple[int, ...], Job]]:
    """(which mask, the job) for all strips of all masks, strip by strip; done with what they have in common."""
    wide = np.empty((*low_res_masks.shape[:2], cut.strips[-1].hi, cut.columns[-1].stop), np.float32)
    workers.map(_widen, [(low_res_masks[i], band, wide[i]) for i in range(len(wide)) for band in cut.columns])
    jobs = []
    for index in np.ndindex(*wide.shape[:2]):
        ranges = [_ranges(low_res_masks[index], cut.sees, tiles.sees) for tiles in cut.tiles]
        for number, strip in enumerate(cut.strips):
            least, most = ([ends[side][number] for ends in ranges] for side in (0, 1))
            jobs.append((index, Job(strip, wide[index], least, most)))
    return jobs


def _widen(_: Scratch, logits: Float[Array, "M L L"], band: Band, wide: Float[Array, "M h W"]) -> None:
    np.matmul(logits[:, : wide.shape[1], band.lo : band.hi], band.weights.T, out=wide[:, :, band.start : band.stop])


def _ranges(
    logits: Float[Array, "L L"], rows: Int[Array, "S r"], columns: Int[Array, "N c"]
) -> tuple[Float[Array, "S N"], Float[Array, "S N"]]:
    """The least and the greatest value that a pixel of each strip (first axis) and tile (second) may have, with rounding."""
    least = logits[rows].min(axis=1)[:, columns].min(axis=2)
    most = logits[rows].max(axis=1)[:, columns].max(axis=2)
    margin = MARGIN * np.maximum(np.abs(least), np.abs(most))
    return least - margin, most + margin


def _threshold(scratch: Scratch, job: Job, groups: tuple[Tiles, ...], threshold: float, mask: Bool[Array, "H W"]) -> None:
    for tiles, least, most in zip(groups, job.least, job.most, strict=True):
        inside = _as_tiles(mask[job.strip.start : job.strip.stop], tiles)
        inside[least > threshold] = True
        uncertain = (least <= threshold) & (most > threshold)
        if uncertain.all():
            np.greater(_logits(scratch, job, tiles, uncertain), threshold, out=inside)
        elif uncertain.any():
            inside[uncertain] = _logits(scratch, job, tiles, uncertain) > threshold


def _count(
    scratch: Scratch, job: Job, groups: tuple[Tiles, ...], thresholds: tuple[float, float], counts: Int[Array, "2"]
) -> None:
    """Add the pixels above each threshold; the first is the higher one."""
    higher, lower = thresholds
    for tiles, least, most in zip(groups, job.least, job.most, strict=True):
        counts += np.count_nonzero(least > higher) * tiles.width * len(job.strip.weights)
        uncertain = (least <= higher) & (most > lower)
        if uncertain.any():
            logits = _logits(scratch, job, tiles, uncertain)
            counts += [np.count_nonzero(logits > threshold) for threshold in thresholds]


def _logits(scratch: Scratch, job: Job, tiles: Tiles, chosen: Bool[Array, " N"]) -> Float[Array, "K rows width"]:
    """Of the chosen tiles, in one product that Python's lock is not held for."""
    source = _as_tiles(job.wide[job.strip.lo : job.strip.hi], tiles)
    if not chosen.all():
        source = source[chosen]
    out = scratch.take(len(source), len(job.strip.weights), tiles.width)
    return np.matmul(job.strip.weights, source, out=out)


def _as_tiles(rows: Array, tiles: Tiles) -> Array:
    """A view of some rows as (number, rows, width)."""
    part = rows[:, tiles.start : tiles.start + tiles.number * tiles.width]
    return part.reshape(len(rows), tiles.number, tiles.width).swapaxes(0, 1)
