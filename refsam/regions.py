"""Masks as vertical runs of pixels: connected regions, and masks of a crop in the whole picture, without any picture in memory.

A run-length code goes down the columns, so cutting it at the ends of columns gives runs; a mask of 12 megapixels has a few
thousand of them.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from refsam.masks import Rle, plain_counts
from refsam.types import Array, Bool, Int, Size


class Runs(NamedTuple):
    """Rows top:bottom of a column, column by column from the left, each from the top."""

    column: Int[Array, " N"]
    top: Int[Array, " N"]
    bottom: Int[Array, " N"]

    def only(self, chosen: Bool[Array, " N"]) -> "Runs":
        """Those of them."""
        return Runs(self.column[chosen], self.top[chosen], self.bottom[chosen])


def to_runs(counts: Int[Array, " C"], height: int) -> Runs:
    """The runs inside of plain counts."""
    ends = np.cumsum(counts)[1::2]
    starts = ends - counts[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    first = starts // height
    columns = (ends - 1) // height - first + 1  # that a run of the code goes through
    part = np.arange(columns.sum()) - np.repeat(np.cumsum(columns) - columns, columns)
    column = np.repeat(first, columns) + part
    top = np.maximum(np.repeat(starts, columns) - column * height, 0)
    return Runs(column, top, np.minimum(np.repeat(ends, columns) - column * height, height))


def to_counts(runs: Runs, size: Size) -> Int[Array, " C"]:
    """Plain counts of a picture of this size; a run that touches the next in the order of the code is joined to it."""
    height, width = size
    starts, ends = runs.column * height + runs.top, runs.column * height + runs.bottom
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.append(True, apart)[: starts.size]], ends[np.append(apart, True)[: ends.size]]
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(bounds, prepend=0, append=height * width)
    return counts if counts[-1] or counts.size == 1 else counts[:-1]


def uncrop(rle: Mapping[str, Any], crop_box: tuple[int, int, int, int], size: Size) -> Rle:
    """The plain run-length code in the whole picture of a mask of its part `crop_box`.  Upstream: utils/amg.py uncrop_masks."""
    x0, y0, _, y1 = crop_box
    runs = to_runs(plain_counts(rle), y1 - y0)
    moved = Runs(runs.column + x0, runs.top + y0, runs.bottom + y0)
    return {"size": [*size], "counts": to_counts(moved, size).tolist()}


def box_of_rle(rle: Mapping[str, Any]) -> Int[Array, "4"]:
    """x0, y0, x1, y1 of the first and last pixels inside, zeros of an empty mask.  Upstream: utils/amg.py batched_mask_to_box."""
    column, top, bottom = to_runs(plain_counts(rle), rle["size"][0])
    if not column.size:
        return np.zeros(4, np.int64)
    return np.array([column[0], top.min(), column[-1], bottom.max() - 1])


def remove_small_regions(rle: Mapping[str, Any], min_area: int, mode: Literal["holes", "islands"]) -> tuple[Rle, bool]:
    """The mask without its holes, or without its islands, of fewer than `min_area` pixels, and whether it had any.

    Pixels that touch at a corner belong to one region. Where all islands are small, the largest stays.
    Upstream: utils/amg.py remove_small_regions, which needs OpenCV.
    """
    size = (int(rle["size"][0]), int(rle["size"][1]))
    counts = plain_counts(rle)
    runs = to_runs(_complement(counts) if mode == "holes" else counts, size[0])
    region, areas = regions(runs)
    small = areas < min_area
    if not small.any():
        return {"size": [*size], "counts": counts.tolist()}, False
    if small.all() and mode == "islands":
        small[_largest(runs, region, areas)] = False
    kept = to_counts(runs.only(~small[region]), size)
    return {"size": [*size], "counts": (_complement(kept) if mode == "holes" else kept).tolist()}, True


def _complement(counts: Int[Array, " C"]) -> Int[Array, " D"]:
    """Inside and outside exchanged."""
    return counts[1:] if counts[0] == 0 else np.append(0, counts)


def regions(runs: Runs) -> tuple[Int[Array, " N"], Int[Array, " R"]]:
    """The number of each run's region, and the regions' areas; runs that touch, also at a corner, are in one region."""
    here, there = _touching(runs)
    label = np.arange(runs.column.size)
    while True:
        # Hook the root of each pair's higher label to the lower label, then let every run point at its root.
        lower, higher = np.minimum(label[here], label[there]), np.maximum(label[here], label[there])
        if np.array_equal(lower, higher):
            break
        np.minimum.at(label, higher, lower)
        while not np.array_equal(label, label[label]):
            label = label[label]
    _, region = np.unique(label, return_inverse=True)
    return region, np.bincount(region, runs.bottom - runs.top).astype(np.int64)


def _touching(runs: Runs) -> tuple[Int[Array, " E"], Int[Array, " E"]]:
    """Pairs of runs in neighbouring columns that touch: bottom >= the other's top and top <= the other's bottom.

    Positions leave a gap of 2 between columns, so that no run touches one over the end of its column. Those that touch one run
    follow one another in the next column.
    """
    stride = int(runs.bottom.max(initial=0)) + 2
    starts, ends = runs.column * stride + runs.top, runs.column * stride + runs.bottom
    first, stop = np.searchsorted(ends, starts + stride), np.searchsorted(starts, ends + stride, side="right")
    pairs = stop - first
    here = np.repeat(np.arange(pairs.size), pairs)
    return here, np.arange(here.size) - np.repeat(np.cumsum(pairs) - pairs, pairs) + np.repeat(first, pairs)


def _largest(runs: Runs, region: Int[Array, " N"], areas: Int[Array, " R"]) -> int:
    """The region of the greatest area; of several, OpenCV's first: it numbers regions by 2 x 2 blocks, row by row."""
    block = runs.top // 2 * (int(runs.column.max()) // 2 + 1) + runs.column // 2
    first_block = np.full(areas.size, block.max())
    np.minimum.at(first_block, region, block)
    return int(np.lexsort((first_block, -areas))[0])
