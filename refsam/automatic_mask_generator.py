"""Everything mode: masks of all that a grid of points finds in a picture.  Upstream: automatic_mask_generator.py.

Each point gives three masks. Those the model rates low, those that change with the threshold, those cut off by the edge of a
crop, and those that a better one makes superfluous are dropped, as early as can be: a mask that is left stands in memory as a
run-length code of some kilobytes, and no picture of logits is ever whole.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from refsam.arguments import real_number, whole_number
from refsam.crops import Crop, check_grids, crops, near_crop_edge, nms, point_grids
from refsam.errors import InputError
from refsam.images import as_image
from refsam.masks import Rle, area_of_rle, box_of, coco_encode_rle, mask_to_rle, rle_to_mask
from refsam.model.sam import MobileSam
from refsam.predictor import SamPredictor
from refsam.regions import box_of_rle, remove_small_regions, uncrop
from refsam.types import Array, Bool, Float, Int, Progress, Size, UInt8

SEGMENTATIONS: dict[str, Callable[[Rle], Any]] = {
    "binary_mask": lambda rle: rle_to_mask(rle, max_pixels=math.prod(rle["size"])),  # the caller's own picture
    "uncompressed_rle": lambda rle: rle,
    "coco_rle": coco_encode_rle,
}
"""What output_mode makes of a plain run-length code."""


@dataclass(frozen=True)
class Found:
    """Masks in the order that they were found in, or in that of a suppression: row n of every array is the n-th.

    Attributes:
        rles: plain run-length codes.
        boxes: x0, y0, x1, y1 of the first and last pixels, zeros of an empty mask.
        iou_preds: the model's own scores.
        stability_scores: how little the mask changes with the threshold.
        points: the prompts.
        crop_boxes: the parts of the picture they were found in.
    """

    rles: list[Rle]
    boxes: Int[Array, "N 4"]
    iou_preds: Float[Array, " N"]
    stability_scores: Float[Array, " N"]
    points: Float[Array, "N 2"]
    crop_boxes: Int[Array, "N 4"]

    def __len__(self) -> int:
        return len(self.rles)

    def only(self, chosen: Int[Array, " K"]) -> "Found":
        """Those of these numbers, in their order."""
        arrays = (self.boxes, self.iou_preds, self.stability_scores, self.points, self.crop_boxes)
        return Found([self.rles[number] for number in chosen], *(array[chosen] for array in arrays))

    @staticmethod
    def joined(parts: Sequence["Found"]) -> "Found":
        """One after another; there is at least one part."""
        names = ("boxes", "iou_preds", "stability_scores", "points", "crop_boxes")
        rles = [rle for part in parts for rle in part.rles]
        return Found(rles, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class SamAutomaticMaskGenerator:
    """Finds the masks of a whole picture.

    Args:
        model: the model, from `refsam.load`.
        points_per_side: of the grid of points over the picture, or over each crop; None where point_grids are given.
        points_per_batch: how many points are decoded at once: more take more memory.
        pred_iou_thresh: masks that the model rates at this or lower are dropped, from 0 (keep all) to 1.
        stability_score_thresh: masks of a lower stability score are dropped, from 0 (keep all) to 1. The score is the IoU
            of the mask at a threshold that is higher, and one that is lower, than the model's.
        stability_score_offset: by how much higher and lower, in logits.
        box_nms_thresh: of two masks of a crop whose boxes have a greater IoU, the lower-rated one is dropped.
        crop_n_layers: the picture is searched again in crops: layer n has 2**n of them to a side.
        crop_nms_thresh: as box_nms_thresh, between crops; the mask from the smaller crop is kept.
        crop_overlap_ratio: by how much neighbouring crops of layer 1 overlap, as a part of the picture's short side.
        crop_n_points_downscale_factor: layer n has points_per_side divided by this to the n-th.
        point_grids: a grid (N, 2) of x and y from 0 to 1 for each layer, in place of points_per_side.
        min_mask_region_area: holes and islands of fewer pixels are removed.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".

    Attributes:
        highest: of the last picture, the highest `predicted_iou` of all masks, and the highest `stability_score` of those that
            passed the first threshold, NaN of none: what to look at where nothing was found.

    Raises InputError where these do not fit together.
    Upstream: SamAutomaticMaskGenerator. Differs: needs neither OpenCV nor pycocotools.
    """

    def __init__(
        self,
        model: MobileSam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[Float[Array, "_ 2"]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        if output_mode not in SEGMENTATIONS:
            raise InputError(f"output_mode is {output_mode!r}; there are: {', '.join(SEGMENTATIONS)}")
        self.points_per_batch = whole_number("points_per_batch", points_per_batch, 1)
        self.pred_iou_thresh = real_number("pred_iou_thresh", pred_iou_thresh)
        self.stability_score_thresh = real_number("stability_score_thresh", stability_score_thresh)
        self.stability_score_offset = real_number("stability_score_offset", stability_score_offset, 0)
        self.box_nms_thresh = real_number("box_nms_thresh", box_nms_thresh)
        self.crop_n_layers = whole_number("crop_n_layers", crop_n_layers, 0)
        self.crop_nms_thresh = real_number("crop_nms_thresh", crop_nms_thresh)
        self.crop_overlap_ratio = real_number("crop_overlap_ratio", crop_overlap_ratio, 0)
        factor = whole_number("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1)
        self.crop_n_points_downscale_factor = factor
        self.min_mask_region_area = whole_number("min_mask_region_area", min_mask_region_area, 0)
        self.point_grids = _grids(points_per_side, point_grids, self.crop_n_layers, factor)
        self.predictor = SamPredictor(model)
        self.output_mode = output_mode
        self.highest = {"predicted_iou": math.nan, "stability_score": math.nan}

    def generate(self, image: UInt8[Array, "H W 3"], progress: Progress | None = None) -> list[dict[str, Any]]:
        """Find the masks of a picture.

        Args:
            image: RGB, height x width x 3, uint8.
            progress: called with the number of points that are done, and of all.

        Returns:
            A record for each mask, best-rated first (masks of smaller crops first, where there are crops; with
            min_mask_region_area, those that it did not change before the others):
            `segmentation`, in the form of output_mode; `area` in pixels; `bbox` x, y, width, height, where a mask one pixel
            wide has width 0, as upstream's; `predicted_iou`; `point_coords` [[x, y]], the prompt; `stability_score`;
            `crop_box` x, y, width, height of the part of the picture that it was found in.

        Raises InputError where the array is not such a picture.  Upstream: SamAutomaticMaskGenerator.generate.
        """
        self.highest = dict.fromkeys(self.highest, math.nan)
        found = self._find(as_image(image), progress or (lambda *_: None))
        if self.min_mask_region_area > 0:
            found = without_small_regions(found, self.min_mask_region_area, max(self.box_nms_thresh, self.crop_nms_thresh))
        return [self._record(found, number) for number in range(len(found))]

    def _find(self, image: UInt8[Array, "H W 3"], progress: Progress) -> Found:
        """All crops', without duplicates among them."""
        size = (image.shape[0], image.shape[1])
        all_crops = crops(size, self.crop_n_layers, self.crop_overlap_ratio)
        before = [0, *accumulate(len(self.point_grids[crop.layer]) for crop in all_crops)]
        parts = [
            self._find_in_crop(image, crop, partial(_report, progress, done, before[-1]))
            for crop, done in zip(all_crops, before, strict=False)
        ]
        found = Found.joined(parts)
        if len(all_crops) == 1:
            return found
        sides = found.crop_boxes[:, 2:] - found.crop_boxes[:, :2]
        return found.only(nms(found.boxes, np.float32(1) / sides.prod(axis=1).astype(np.float32), self.crop_nms_thresh))

    def _find_in_crop(self, image: UInt8[Array, "H W 3"], crop: Crop, progress: Callable[[int], None]) -> Found:
        """One crop's, without duplicates, in pixels of the picture."""
        x0, y0, x1, y1 = crop.box
        size = (image.shape[0], image.shape[1])
        points = self.point_grids[crop.layer] * [x1 - x0, y1 - y0]
        progress(0)
        self.predictor.set_image(image[y0:y1, x0:x1])
        parts = []
        for start in range(0, len(points), self.points_per_batch):
            parts.append(self._find_at(points[start : start + self.points_per_batch], crop, size))
            progress(min(start + self.points_per_batch, len(points)))
        self.predictor.reset_image()
        found = Found.joined(parts)
        return found.only(nms(found.boxes, found.iou_preds, self.box_nms_thresh))

    def _find_at(self, points: Float[Array, "B 2"], crop: Crop, size: Size) -> Found:
        """What a batch of points of a crop finds and the filters let through."""
        predictor = self.predictor
        coords = predictor.transform.apply_coords(points, crop.size)[:, None]
        labels = np.ones(coords.shape[:2], np.int64)
        low_res_masks, iou_preds = predictor.predict_low_res(coords, labels)
        points = points.repeat(low_res_masks.shape[1], axis=0)
        logits, iou_preds = low_res_masks.reshape(-1, 1, *low_res_masks.shape[2:]), iou_preds.ravel()
        self._note("predicted_iou", iou_preds)
        if self.pred_iou_thresh > 0:
            good = iou_preds > iou_preds.dtype.type(self.pred_iou_thresh)
            logits, iou_preds, points = logits[good], iou_preds[good], points[good]
        stability = predictor.stability_scores(logits, self.stability_score_offset)[:, 0]
        self._note("stability_score", stability)
        if self.stability_score_thresh > 0:
            good = stability >= np.float32(self.stability_score_thresh)
            logits, iou_preds, points, stability = logits[good], iou_preds[good], points[good], stability[good]
        masks = (predictor.full_size_masks(one[None])[0, 0] for one in logits)
        inside, boxes, rles = _outlines(masks, crop, size)
        boxes, points = boxes + np.array(crop.box[:2] * 2), points + crop.box[:2]
        crop_boxes = np.tile(np.array(crop.box), (len(rles), 1))
        return Found(rles, boxes[inside], iou_preds[inside], stability[inside], points[inside], crop_boxes)

    def _note(self, score: str, values: Float[Array, " N"]) -> None:
        """Remember the highest; `fmax` takes the other of two where one is NaN."""
        self.highest[score] = float(np.fmax.reduce([self.highest[score], *values]))

    def _record(self, found: Found, number: int) -> dict[str, Any]:
        rle = found.rles[number]
        return {
            "segmentation": SEGMENTATIONS[self.output_mode](rle),
            "area": area_of_rle(rle),
            "bbox": _xywh(found.boxes[number]),
            "predicted_iou": float(found.iou_preds[number]),
            "point_coords": [found.points[number].tolist()],
            "stability_score": float(found.stability_scores[number]),
            "crop_box": _xywh(found.crop_boxes[number]),
        }


def without_small_regions(found: Found, min_area: int, nms_thresh: float) -> Found:
    """Holes and islands smaller than `min_area` removed, and the duplicates that this makes; untouched masks go before others.

    Upstream: postprocess_small_regions.
    """
    rles, boxes, untouched = [], found.boxes.copy(), np.ones(len(found), np.float32)
    for number, rle in enumerate(found.rles):
        filled, had_holes = remove_small_regions(rle, min_area, "holes")
        cleaned, had_islands = remove_small_regions(filled, min_area, "islands")
        rles.append(cleaned)
        if had_holes or had_islands:
            boxes[number], untouched[number] = box_of_rle(cleaned), 0
    changed = Found(rles, boxes, found.iou_preds, found.stability_scores, found.points, found.crop_boxes)
    return changed.only(nms(boxes, untouched, nms_thresh))


def _outlines(
    masks: Iterable[Bool[Array, "h w"]], crop: Crop, size: Size
) -> tuple[Int[Array, " K"], Int[Array, "N 4"], list[Rle]]:
    """(which masks are not cut off by the crop's edge, every mask's box in the crop, the codes in the picture of those)."""
    inside, boxes, rles = [], [], []
    for number, mask in enumerate(masks):
        box = box_of(mask)
        boxes.append(np.zeros(4, np.int64) if box is None else box.astype(np.int64))
        if not near_crop_edge(boxes[-1][None], crop, size)[0]:
            inside.append(number)
            rles.append(uncrop(mask_to_rle(mask), crop.box, size) if crop.layer else mask_to_rle(mask))
    return np.array(inside, np.int64), np.array(boxes, np.int64).reshape(-1, 4), rles


def _grids(per_side: int | None, grids: Sequence[Array] | None, layers: int, factor: int) -> list[Float[Array, "_ 2"]]:
    if per_side is not None and grids is None:
        return point_grids(whole_number("points_per_side", per_side, 1), layers, factor)
    if per_side is None and grids is not None:
        return check_grids(grids, layers)
    raise InputError("give either points_per_side or point_grids, and None for the other")


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _xywh(box: Int[Array, "4"]) -> list[int]:
    """x, y, width, height as upstream counts them: last minus first. COCO, and `refsam segment`, count 1 more."""
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]
