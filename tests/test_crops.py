"""Grids, crops, the edge filter and suppression, against hand-made examples, a naive loop and upstream live."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refsam.crops import Crop, check_grids, crops, near_crop_edge, nms, point_grid, point_grids
from refsam.errors import InputError

BOXES = st.lists(st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 4)), max_size=25)


def as_arrays(found):
    boxes = np.array([(min(x, u), min(y, v), max(x, u), max(y, v)) for x, y, u, v, _ in found], np.int64).reshape(-1, 4)
    return boxes, np.array([score for *_, score in found], np.float32)


def naive_nms(boxes, scores, threshold):
    order = sorted(range(len(scores)), key=lambda number: (-scores[number], number))
    kept: list[int] = []
    for number in order:
        if not any(overlap(boxes[better], boxes[number]) > threshold for better in kept):
            kept.append(number)
    return kept


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return float(np.float32(inside) / np.float32(union)) if union else 0  # torchvision compares as double, NumPy 2 would as float


@given(BOXES, st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
@example([(2, 7, 0, 0, 0), (4, 0, 0, 3, 0)], 0.3)  # 6 of 20 pixels in float32 are more than 0.3
def test_nms_is_the_naive_loop_with_many_ties(found, threshold):
    boxes, scores = as_arrays(found)
    assert nms(boxes, scores, threshold).tolist() == naive_nms(boxes.tolist(), scores, threshold)


@pytest.mark.core
def test_a_grid_lies_in_the_middles_row_by_row():
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert [len(grid) for grid in point_grids(9, 2, 2)] == [81, 16, 4]
    with pytest.raises(InputError, match="no point in layer 2"):
        point_grids(3, 2, 2)


@pytest.mark.core
def test_crops_overlap_and_cover():
    found = crops((60, 100), 1, 0.5)
    assert found[0] == Crop((0, 0, 100, 60), 0)
    assert [crop.box for crop in found[1:]] == [(0, 0, 65, 45), (0, 15, 65, 60), (35, 0, 100, 45), (35, 15, 100, 60)]
    assert found[1].size == (45, 65)
    with pytest.raises(InputError, match="too small for crop layer 3"):
        crops((4, 4), 3, 0.0)
    assert [crop.box for crop in crops((60, 60), 1, 1.0)] == [(0, 0, 60, 60)] * 5
    with pytest.raises(InputError, match=r"crop_overlap_ratio is 1\.5"):  # else crops would begin at -15
        crops((60, 60), 1, 1.5)


@pytest.mark.core
def test_a_mask_cut_off_by_its_crop_is_told_from_one_at_the_pictures_edge():
    crop = Crop((0, 0, 100, 100), 1)
    boxes = np.array([[0, 0, 79, 79], [0, 0, 80, 50], [30, 30, 79, 80], [21, 21, 79, 79]])
    assert near_crop_edge(boxes, crop, (300, 300)).tolist() == [False, True, True, False]
    assert not near_crop_edge(boxes, Crop((0, 0, 100, 100), 0), (100, 100)).any()


@pytest.mark.core
@pytest.mark.parametrize("grid", [np.zeros((0, 2)), np.zeros(2), np.array([[0.5, 1.5]]), np.array([[np.nan, 0.5]])])
def test_grids_of_the_callers_are_checked(grid):
    with pytest.raises(InputError, match="grid"):
        check_grids([grid], 0)
    with pytest.raises(InputError, match="needs 2"):
        check_grids([point_grid(2)], 1)


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("grid", [[[0.5, 0.5], [0.1]], np.array([["a", "b"]]), [[None, {}]]])
def test_a_grid_without_numbers_is_named_by_its_layer(grid):
    with pytest.raises(InputError, match=r"point_grids\[1\] is not an array of numbers; it has to be \(N, 2\)"):
        check_grids([point_grid(2), grid], 1)


@pytest.mark.core
def test_a_grid_of_the_callers_is_not_kept_but_copied():
    own = np.array([[0.5, 0.25]])
    (kept,) = check_grids([own], 0)
    own[...] = 7
    assert kept.tolist() == [[0.5, 0.25]]


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_upstream_cuts_and_suppresses_alike():
    import torch
    from mobile_sam.utils import amg
    from torchvision.ops.boxes import batched_nms

    rng = np.random.default_rng(0)
    for height, width, layers, ratio in ((60, 100, 2, 512 / 1500), (333, 77, 3, 0.1), (1000, 999, 1, 0.9)):
        boxes, layer = amg.generate_crop_boxes((height, width), layers, ratio)
        assert [(list(crop.box), crop.layer) for crop in crops((height, width), layers, ratio)] == [*zip(boxes, layer)]  # noqa: B905
    for number in (0, 1, 300, 1500):  # above 1000 boxes torchvision goes another way
        corners = np.sort(rng.integers(0, 60, (number, 2, 2)), axis=1)
        boxes, scores = corners.reshape(-1, 4), rng.integers(0, 50, number).astype(np.float32)
        theirs = batched_nms(torch.tensor(boxes).float(), torch.tensor(scores), torch.zeros(number), 0.5)
        mine = nms(boxes, scores, 0.5)
        assert set(mine.tolist()) == set(theirs.tolist())
        np.testing.assert_array_equal(scores[mine], scores[theirs.numpy()])
        if number <= 1000:  # above, torchvision's last sort is not stable: the order of equal scores is chance
            assert mine.tolist() == theirs.tolist()
