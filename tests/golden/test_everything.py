"""Everything mode against the records of upstream's generator, on the demo model: by goldens, and live.

A record may be missing on one side only where rounding decides about it: a score within the float32 budget of a threshold, or a
suppression that hangs on two scores, or on a box IoU, that are so close. Such records are listed in the test's properties.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from golden.cases import EVERYTHING, demo, picture
from standin import weights_sha256

import refsam
from refsam import MobileSam, SamAutomaticMaskGenerator, backends
from refsam.masks import iou, rle_to_mask

Record = dict[str, Any]
SCORES = ("predicted_iou", "stability_score")


@cache
def golden(name: str) -> dict[str, Any]:
    return json.loads(EVERYTHING[name].path.read_text())


@cache
def found(name: str, backend: str) -> list[Record]:
    case = EVERYTHING[name]
    model = MobileSam(dict(demo().tensors), demo().config, backends.create(backend))
    return SamAutomaticMaskGenerator(model, **case.options).generate(picture(case.size))


@cache
def float32_error() -> dict[str, float]:
    """How far torch's float32 scores are from its float64 ones at most, over the records of all cases: what one record loses is a
    draw of luck, and of the few records of one case even the greatest loss."""
    return {score: max(golden(name)["float32_error"][score] for name in EVERYTHING) for score in SCORES}


def allowed(score: str, budget: dict[str, float], record: Record) -> float:
    """Ours may err twice as much as torch's float32, and the records compared with are torch's float32, which err once more; at
    least an ulp. A stability score moves by a pixel at either threshold, too."""
    pixels = 2 / record["area"] if score == "stability_score" else 0
    return max(3 * budget[score], 2.0**-23) + pixels


def box_iou(a: Record, b: Record) -> float:
    (x, y, w, h), (u, v, r, s) = a["bbox"], b["bbox"]
    inside = max(min(x + w, u + r) - max(x, u), 0) * max(min(y + h, v + s) - max(y, v), 0)
    return inside / (w * h + r * s - inside or 1)


def hangs_on_rounding(record: Record, others: Sequence[Record], budget: dict[str, float], options: dict[str, Any]) -> bool:
    """Whether a threshold or a suppression may as well have gone the other way."""
    if any(abs(record[score] - options[threshold]) <= allowed(score, budget, record) for score, threshold in THRESHOLDS.items()):
        return True
    room = 2 / max(min(record["bbox"][2:]), 1)  # of the box IoU, where the mask's outline moves by a pixel
    nms = options.get("box_nms_thresh", 0.7)
    return any(
        abs(box_iou(record, other) - nms) <= room
        or (box_iou(record, other) > nms and abs(record[SCORES[0]] - other[SCORES[0]]) <= allowed(SCORES[0], budget, record))
        for other in others
    )


THRESHOLDS = {"predicted_iou": "pred_iou_thresh", "stability_score": "stability_score_thresh"}


def check(mine: list[Record], theirs: list[Record], budget: dict[str, float], options: dict[str, Any]) -> list[Record]:
    """Raises AssertionError where they differ by more than rounding; returns the records that are on one side only."""
    pairs = [(a, b) for a, record in enumerate(mine) for b, other in enumerate(theirs) if same(record, other)]
    alone = [record for a, record in enumerate(mine) if a not in {a for a, _ in pairs}]
    alone += [record for b, record in enumerate(theirs) if b not in {b for _, b in pairs}]
    for record in alone:
        others = [other for other in mine + theirs if other is not record]
        assert hangs_on_rounding(record, others, budget, options), record
    for a, b in pairs:
        for score in SCORES:
            assert abs(mine[a][score] - theirs[b][score]) <= allowed(score, budget, theirs[b]), (score, mine[a], theirs[b])
    for (_, b), (_, later) in pairwise(pairs):
        close = abs(theirs[b][SCORES[0]] - theirs[later][SCORES[0]]) <= allowed(SCORES[0], budget, theirs[b])
        assert b < later or close, "the order differs"
    return alone


def same(a: Record, b: Record) -> bool:
    """The same prompt in the same crop, and as good as the same mask."""
    if (a["point_coords"], a["crop_box"]) != (b["point_coords"], b["crop_box"]):
        return False
    return iou(rle_to_mask(a["segmentation"]), rle_to_mask(b["segmentation"])) >= 0.999


# On the definition one case is enough: what differs between the backends is the model, and that has goldens of its own.
@pytest.mark.parametrize(("name", "backend"), [*((name, "fast") for name in EVERYTHING), ("grid", "reference")])
def test_upstreams_records(name: str, backend: str, record_property: Any) -> None:
    theirs, case = golden(name), EVERYTHING[name]
    assert weights_sha256(dict(demo().tensors)) == theirs["weights_sha256"]
    assert hashlib.sha256(picture(case.size).tobytes()).hexdigest() == theirs["picture_sha256"]
    assert len(theirs["records"]) >= 20
    assert [list(record) for record in found(name, backend)[:1]] == [list(theirs["records"][0])]
    alone = check(found(name, backend), theirs["records"], float32_error(), case.options)
    record_property("decided by rounding", json.dumps(alone))
    assert len(alone) <= 0.05 * len(theirs["records"])


class Remembering(MobileSam):
    """Decodes the same prompts on the same picture once, however often it is asked."""

    def encode_image(self, x: np.ndarray) -> np.ndarray:
        return self._remembered("encode_image", x)

    def decode_masks(self, *args: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._remembered("decode_masks", *args)

    def _remembered(self, name: str, *args: Any) -> Any:
        memory = self.__dict__.setdefault("memory", {})
        key = name, *(a.tobytes() if isinstance(a, np.ndarray) else a for a in args)
        if key not in memory:
            memory[key] = getattr(super(), name)(*args)
        return memory[key]


def test_the_cases_need_every_filter() -> None:
    """Without suppression, crops or small regions the goldens would not be met: they test something."""
    case, theirs = EVERYTHING["crops"], golden("crops")
    model = Remembering(dict(demo().tensors), demo().config, backends.create("fast"))
    for change in ({"box_nms_thresh": 1.0}, {"crop_nms_thresh": 1.0}, {"min_mask_region_area": 0}):
        other = SamAutomaticMaskGenerator(model, **{**case.options, **change}).generate(picture(case.size))
        with pytest.raises(AssertionError):
            check(other, theirs["records"], float32_error(), {**case.options, **change})


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_upstream_finds_the_same_live() -> None:
    import peer
    import torch
    from mobile_sam import SamAutomaticMaskGenerator as Upstream
    from mobile_sam.utils.transforms import ResizeLongestSide

    options = {**EVERYTHING["crops"].options, "points_per_side": 9, "output_mode": "uncompressed_rle"}
    image, config = picture((200, 333), 3), demo().config
    theirs = Upstream(peer.upstream(config, dict(demo().tensors), torch.float32), **options)
    theirs.predictor.transform = ResizeLongestSide(config.image_size)
    expected = theirs.generate(image)
    assert len(expected) >= 20
    mine = SamAutomaticMaskGenerator(refsam.load("demo"), **options).generate(image)
    check(mine, expected, float32_error(), options)
