"""The generator's own promises: forms of output, filters, progress, errors. Upstream's records are in tests/golden."""

import tracemalloc
from functools import cache

import numpy as np
import pytest
from golden.cases import picture
from pycocotools import mask as coco
from standin import TINY, standin_weights

from refsam import MobileSam, SamAutomaticMaskGenerator, transforms
from refsam.crops import point_grid
from refsam.errors import InputError
from refsam.masks import box_of, rle_to_mask

IMAGE = picture((48, 77))
KEEP = {"points_per_side": 5, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.3, "stability_score_offset": 0.1}


@cache
def model() -> MobileSam:
    return MobileSam(standin_weights(TINY), TINY)


def records(**options):
    return SamAutomaticMaskGenerator(model(), **{**KEEP, "box_nms_thresh": 1.0, **options}).generate(IMAGE)


@pytest.mark.core
def test_a_record_says_what_its_mask_is():
    found = records()
    assert len(found) > 5
    assert [r["predicted_iou"] for r in found] == sorted((r["predicted_iou"] for r in found), reverse=True)
    for record in found:
        mask, (x0, y0, x1, y1) = record["segmentation"], box_of(record["segmentation"])
        assert mask.dtype == np.bool_
        assert mask.shape == (48, 77)
        assert record["area"] == mask.sum()
        assert record["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert record["crop_box"] == [0, 0, 77, 48]
        assert record["stability_score"] >= 0.3


@pytest.mark.core
def test_the_three_forms_hold_the_same_masks():
    binary, plain, packed = (records(output_mode=mode) for mode in ("binary_mask", "uncompressed_rle", "coco_rle"))
    for a, b, c in zip(binary, plain, packed, strict=True):
        np.testing.assert_array_equal(a["segmentation"], rle_to_mask(b["segmentation"]))
        theirs = coco.encode(np.asfortranarray(a["segmentation"].astype(np.uint8)))["counts"]
        assert c["segmentation"]["counts"].encode() == theirs


@pytest.mark.core
def test_the_callers_own_picture_may_be_of_any_size(monkeypatch):
    """Run-length codes of strangers may not: there the limit is the one for pictures from files."""
    monkeypatch.setattr(rle_to_mask, "__defaults__", (48 * 77 - 1,))
    assert len(records(output_mode="binary_mask")) == len(records(output_mode="coco_rle")) > 5


@pytest.mark.core
def test_own_grids_and_batches_change_nothing():
    expected = records(output_mode="coco_rle")
    assert records(output_mode="coco_rle", points_per_side=None, point_grids=[point_grid(5)]) == expected
    assert [r["segmentation"] for r in records(output_mode="coco_rle", points_per_batch=7)] == [
        r["segmentation"] for r in expected
    ]


@pytest.mark.core
def test_stability_is_counted_at_the_pictures_size():
    low = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    sizes = (transforms.resized_size((90, 130), 64), (90, 130), 64)
    logits = transforms.postprocess_logits(low, *sizes)
    expected = (logits > 0.7).sum((2, 3)) / (logits > -0.3).sum((2, 3))
    np.testing.assert_allclose(transforms.stability_scores(low, *sizes, 0.2, 0.5), expected, rtol=2**-22)
    assert np.isnan(transforms.stability_scores(low - 99, *sizes)).all()


def test_progress_counts_the_points_of_all_crops():
    steps = []
    generator = SamAutomaticMaskGenerator(model(), **KEEP, points_per_batch=10, crop_n_layers=1, crop_n_points_downscale_factor=2)
    generator.generate(IMAGE, lambda *step: steps.append(step))
    assert steps[:5] == [(0, 41), (10, 41), (20, 41), (25, 41), (25, 41)]
    assert steps[-1] == (41, 41)
    assert steps == sorted(steps)


@pytest.mark.core
def test_where_nothing_is_found_the_highest_scores_are_told():
    generator = SamAutomaticMaskGenerator(model(), 3, pred_iou_thresh=99.0)
    assert generator.generate(IMAGE) == []
    assert -5 < generator.highest["predicted_iou"] < 5
    assert np.isnan(generator.highest["stability_score"])


def test_masks_of_a_large_picture_are_not_kept_as_pixels():
    image = np.repeat(np.repeat(IMAGE, 12, axis=0), 12, axis=1)  # half a megapixel
    generator = SamAutomaticMaskGenerator(model(), **KEEP, box_nms_thresh=1.0, output_mode="uncompressed_rle")
    tracemalloc.start()
    found = generator.generate(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    masks = len(found) * image.shape[0] * image.shape[1]
    assert len(found) > 20
    assert peak < masks / 2, (peak, masks)


@pytest.mark.core
def test_masks_that_small_regions_were_removed_from_come_after_the_others():
    before = [r["segmentation"] for r in records(output_mode="coco_rle")]
    found = records(output_mode="coco_rle", min_mask_region_area=3)
    changed = [r["segmentation"] not in before for r in found]
    assert 0 < sum(changed) < len(changed)
    assert changed == sorted(changed)


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_mode": "png"}, "output_mode is 'png'"),
        ({"points_per_side": None}, "either points_per_side or point_grids"),
        ({"point_grids": [point_grid(2)]}, "either points_per_side or point_grids"),
        ({"points_per_side": 0}, "points_per_side is 0"),
        ({"points_per_batch": 0}, "points_per_batch is 0"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1"),
        ({"min_mask_region_area": -1}, "min_mask_region_area is -1"),
        ({"stability_score_offset": float("nan")}, "stability_score_offset is nan"),
        ({"points_per_side": None, "point_grids": [point_grid(2)], "crop_n_layers": 1}, "needs 2"),
        ({"points_per_side": 2.5}, "points_per_side is 2.5, a float; a whole number is needed"),
        ({"points_per_batch": 2.0}, "points_per_batch is 2.0, a float; a whole number is needed"),
        ({"points_per_batch": "8"}, "points_per_batch is '8', a str; a whole number is needed"),
        ({"crop_n_layers": 1.5}, "crop_n_layers is 1.5, a float"),
        ({"crop_n_points_downscale_factor": 1.5}, "crop_n_points_downscale_factor is 1.5, a float"),
        ({"min_mask_region_area": None}, "min_mask_region_area is None, a NoneType"),
        ({"pred_iou_thresh": float("nan")}, "pred_iou_thresh is nan; a finite number is needed"),
        ({"stability_score_thresh": float("inf")}, "stability_score_thresh is inf; a finite number is needed"),
        ({"stability_score_offset": "1"}, "stability_score_offset is '1', a str; a number is needed"),
        ({"stability_score_offset": -1.0}, "stability_score_offset is -1.0; it has to be at least 0"),
        ({"box_nms_thresh": None}, "box_nms_thresh is None, a NoneType; a number is needed"),
        ({"box_nms_thresh": float("nan")}, "box_nms_thresh is nan"),
        ({"crop_nms_thresh": float("nan")}, "crop_nms_thresh is nan"),
        ({"crop_overlap_ratio": float("nan")}, "crop_overlap_ratio is nan"),
        ({"points_per_side": None, "point_grids": [[[0.5, 0.5], [0.1]]]}, r"point_grids\[0\] is not an array of numbers"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SamAutomaticMaskGenerator(model(), **options)


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_numbers():
    given = {"points_per_side": np.int64(5), "points_per_batch": np.uint8(9), "box_nms_thresh": np.float32(1), "crop_n_layers": 0}
    assert records(output_mode="coco_rle", **given) == records(output_mode="coco_rle", points_per_batch=9)
