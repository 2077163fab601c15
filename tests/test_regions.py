"""Connected regions in run-length code, against a flood fill over pixels, and against OpenCV live."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refsam.masks import mask_to_rle, plain_counts, rle_to_mask
from refsam.regions import box_of_rle, regions, remove_small_regions, to_counts, to_runs, uncrop

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))
MODES = ("holes", "islands")


def flood(mask):
    """Label of each pixel inside, 0 outside; pixels that touch at a corner are in one region."""
    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        stack, label = [start] if not labels[start] else [], labels.max() + 1
        while stack:
            y, x = stack.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not labels[y, x]:
                labels[y, x] = label
                stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels


def naive(mask, min_area, mode):
    """The definition: small holes filled, or small islands dropped, the largest island kept where all are small."""
    labels = flood(~mask if mode == "holes" else mask)
    sizes = np.bincount(labels.ravel())[1:]
    small = np.flatnonzero(sizes < min_area) + 1
    if mode == "holes":
        return mask | np.isin(labels, small)
    kept = np.setdiff1d(np.arange(1, sizes.size + 1), small)
    return np.isin(labels, kept if kept.size else [np.argmax(sizes) + 1 if sizes.size else -1])


@given(MASKS)
def test_runs_come_back_as_the_same_code(mask):
    rle = mask_to_rle(mask)
    runs = to_runs(plain_counts(rle), mask.shape[0])
    assert np.all(runs.top < runs.bottom)
    assert (runs.bottom - runs.top).sum() == mask.sum()
    assert to_counts(runs, mask.shape).tolist() == rle["counts"]


@given(MASKS)
def test_regions_are_those_of_a_flood_fill(mask):
    runs = to_runs(plain_counts(mask_to_rle(mask)), mask.shape[0])
    labels, (region, areas) = flood(mask), regions(runs)
    assert sorted(areas) == sorted(np.bincount(labels.ravel())[1:])
    pairs = {(int(labels[top, column]), int(of)) for column, top, of in zip(runs.column, runs.top, region, strict=True)}
    assert len(pairs) == areas.size == labels.max()


@pytest.mark.core
def test_a_spiral_is_one_region():
    mask = np.zeros((41, 41), np.bool_)
    for ring in range(0, 20, 2):  # rings, each joined to the next by one pixel
        mask[ring, ring : 41 - ring] = mask[40 - ring, ring : 41 - ring] = True
        mask[ring : 41 - ring, ring] = mask[ring : 41 - ring, 40 - ring] = True
        mask[ring + 1, ring + 1 + ring % 4] = True
    _, areas = regions(to_runs(plain_counts(mask_to_rle(mask)), 41))
    assert areas.tolist() == [mask.sum()]


@given(MASKS, st.integers(1, 8), st.sampled_from(MODES))
def test_small_regions_are_removed_as_from_pixels(mask, min_area, mode):
    expected = naive(mask, min_area, mode)
    rle, changed = remove_small_regions(mask_to_rle(mask), min_area, mode)
    sizes = np.bincount(flood(mask).ravel())[1:]
    if mode == "islands" and sizes.size and sizes.max() < min_area and (sizes == sizes.max()).sum() > 1:
        assert rle_to_mask(rle).sum() == sizes.max()  # which of several largest stays is OpenCV's numbering: see below
    else:
        np.testing.assert_array_equal(rle_to_mask(rle), expected)
    small = np.bincount(flood(~mask if mode == "holes" else mask).ravel())[1:] < min_area
    assert changed == bool(small.any())


@pytest.mark.core
def test_of_equal_islands_the_first_by_blocks_of_four_stays():
    mask = np.zeros((4, 8), np.bool_)
    mask[0, 5] = mask[1, 0] = mask[3, 3] = True  # row 1 lies in the first row of blocks, and further left
    rle, changed = remove_small_regions(mask_to_rle(mask), 9, "islands")
    assert changed
    assert np.argwhere(rle_to_mask(rle)).tolist() == [[1, 0]]


@given(MASKS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_crops_mask_lies_in_the_picture(mask, left, top, right, bottom):
    height, width = mask.shape
    whole = np.pad(mask, ((top, bottom), (left, right)))
    rle = mask_to_rle(mask)
    assert uncrop(rle, (left, top, left + width, top + height), whole.shape) == mask_to_rle(whole)
    rows, columns = np.nonzero(mask)
    expected = [columns.min(), rows.min(), columns.max(), rows.max()] if rows.size else [0, 0, 0, 0]
    assert box_of_rle(rle).tolist() == expected


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
def test_opencv_removes_the_same(mode):
    from mobile_sam.utils.amg import remove_small_regions as upstream

    rng = np.random.default_rng(0)
    for _ in range(300):
        mask = rng.random(rng.integers(1, 24, 2)) < rng.choice([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
        min_area = int(rng.integers(1, 12))
        theirs, changed = upstream(mask.copy(), min_area, mode)
        assert remove_small_regions(mask_to_rle(mask), min_area, mode) == (mask_to_rle(np.asarray(theirs, np.bool_)), changed)
