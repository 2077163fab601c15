"""The evaluation, by models whose scores are known beforehand."""

import cv2
import numpy as np
import pytest

import refsam
from weights.train.eval_photos import Photo, held_out_photos
from weights.train.evaluate import (
    BOUNDS,
    CORRECTIONS,
    MIN_SHARE,
    Prompt,
    agreement,
    asked_objects,
    deepest,
    ellipse,
    eroded,
    evaluate,
    full_size,
    iou,
    score_photo,
    standard_errors,
    table,
)  # fmt: skip
from weights.train.numpy_segmenter import NumpySegmenter
from weights.train.prompts import bounds
from weights.train.scenes import HELD_OUT_SEEDS, scene


class Fixed:
    """Answers every prompt with the same masks, the second of three ranked first."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def embed(self, image):
        return None

    def predict(self, embedding, prompt: Prompt, several: bool):
        if not several:
            return self.mask[None], np.ones(1, np.float32)
        return np.stack([-np.ones_like(self.mask), self.mask, -self.mask]), np.array([0.2, 0.9, 0.4], np.float32)


def logits_of(mask: np.ndarray) -> np.ndarray:
    """(64, 64), of a mask (256, 256): zero where half of sixteen pixels are in it."""
    return cv2.resize(mask.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) * 2 - 1


def test_masks_at_full_size_are_those_that_logits_were_made_of() -> None:
    """A disc of 80 pixels' radius, to half a pixel at its outline: 1 - 2 pi r / 2 / (pi r^2) = 0.99."""
    yy, xx = np.mgrid[:256, :256]
    disc = np.hypot(xx - 120, yy - 130) < 80
    assert iou(full_size(logits_of(disc), 256, 256), disc) > 0.985
    large = np.hypot(np.mgrid[:1024, :512][1] - 256, np.mgrid[:1024, :512][0] - 500) < 200
    small = np.zeros((256, 256), bool)
    small[:, :128] = large[2::4, 2::4]
    assert iou(full_size(logits_of(small), 1024, 512), large) > 0.97


def test_everything_on_gets_the_objects_shares() -> None:
    """The mean share of the picture is the mean IoU of a mask of the whole picture."""
    seeds = range(3)
    shares = []
    for seed in seeds:
        s = scene(seed)
        shares += [s.mask_of(0, number).mean() for number in asked_objects(np.random.default_rng(seed), s)]
    scores, rows, _ = evaluate(Fixed(np.ones((64, 64), np.float32)), len(seeds), [])
    assert scores["objects"] == len(shares) == len(rows)
    assert scores["box"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert scores["corrected"] == scores["box"]
    assert len(scores["rounds"]) == CORRECTIONS + 1
    assert scores["click"] >= scores["box"]  # the whole that it belongs to is a legal answer too
    assert scores["best"] == scores["click"]
    assert min(shares) >= MIN_SHARE
    assert "photo_box" not in scores
    assert 0.3 < scores["ellipse"] < np.pi / 4 + 0.1
    assert 0.6 < scores["eroded"] < 0.95
    predicted, true = (np.concatenate([row[key] for row in rows]) for key in ("predicted", "true"))
    assert scores["correlation"] == pytest.approx(np.corrcoef(predicted, true)[0, 1], abs=1e-4)


def test_a_photograph_by_the_truth_itself() -> None:
    image = np.zeros((300, 512, 3), np.uint8)
    mask = np.zeros((300, 512), bool)
    mask[100:200, 40:300] = True
    small = np.zeros((256, 256), bool)
    small[:150] = mask[::2, ::2]
    photo = Photo("a", image, {"plank": mask})
    (row,) = score_photo(Fixed(logits_of(small)), photo)
    assert (row["photo"], row["object"]) == ("a", "plank")
    assert row["photo_box"] > 0.97
    assert row["photo_ellipse"] == pytest.approx(np.pi / 4, abs=0.005)
    assert agreement(Fixed(logits_of(small)), Fixed(logits_of(small)), [photo]) == 1
    assert agreement(Fixed(logits_of(small)), Fixed(-logits_of(small)), [photo]) < 0.01


def test_the_ellipse_of_a_box_has_its_area_and_stays_inside() -> None:
    box = np.array([10, 20, 90, 60], np.float32)
    mask = ellipse(box, 100, 120)
    assert mask.sum() == pytest.approx(np.pi * 40 * 20, rel=0.01)
    np.testing.assert_array_equal(bounds(mask), box)


def test_an_eroded_mask_has_lost_its_outermost_pixels_but_not_at_the_border() -> None:
    mask = np.zeros((20, 30), bool)
    mask[:8, 5:15] = True
    expected = np.zeros_like(mask)
    expected[:7, 6:14] = True
    np.testing.assert_array_equal(eroded(mask), expected)


def test_the_deepest_point_of_a_ring_with_a_thick_side() -> None:
    area = np.zeros((50, 60), bool)
    area[10:40, 10:50] = True
    area[15:35, 30:46] = False
    x, y = deepest(area)
    assert 18 <= x <= 21
    assert area[y, x]


def test_seeds_that_training_may_have_seen_are_refused() -> None:
    with pytest.raises(ValueError, match="not held out"):
        evaluate(Fixed(np.ones((64, 64), np.float32)), HELD_OUT_SEEDS + 1, [])


def test_the_table_shows_every_bound() -> None:
    lines = table({"click": 0.5, "box": 0.6}, {"click": 0.011}).splitlines()
    assert len(lines) == 2 + len(BOUNDS)
    assert "| click | 0.78 | 0.90 | 0.5 | 0.011 |" in lines
    assert "| correlation | 0.60 | 0.85 | none | none |" in lines


def scene_row(seed: int, score: float, predicted: float) -> dict[str, object]:
    return dict.fromkeys(("click", "best", "box", "corrected", "ellipse", "eroded"), score) | {
        "seed": seed, "predicted": [predicted], "true": [score],
    }  # fmt: skip


def test_standard_errors_are_those_of_scenes_not_of_their_objects() -> None:
    """Two objects alike in each of 200 scenes: the error of a mean of 200; of a correlation of n pairs (1 - r^2) / n^0.5."""
    rng = np.random.default_rng(0)
    true = rng.normal(0.8, 0.2, 200)
    predicted = true + rng.normal(0, 0.2, 200)
    rows = [scene_row(n, t, p) for n, (t, p) in enumerate(zip(true, predicted, strict=True)) for _ in range(2)]
    errors = standard_errors(rows, [{"photo": "one", "photo_box": 0.5, "photo_ellipse": 0.5}] * 2)
    assert errors["box"] == pytest.approx(true.std(ddof=1) / 200**0.5, abs=1e-4)
    r = np.corrcoef(true, predicted)[0, 1]
    assert errors["correlation"] == pytest.approx((1 - r**2) / 200**0.5, rel=0.25)
    assert "photo_box" not in errors


def test_refsam_behind_the_protocol_gives_what_the_predictor_gives() -> None:
    model = refsam.load("demo")
    image = scene(5).image
    box = bounds(scene(5).mask_of(0, scene(5).objects()[0]))
    mine, predictor = NumpySegmenter(model), refsam.SamPredictor(model)
    predictor.set_image(image)
    embedding = mine.embed(image)
    clicks, labels = np.float32([[60, 90], [200, 31]]), np.float32([1, 0])
    _, ious, logits = predictor.predict(clicks, labels.astype(int))
    three, predicted = mine.predict(embedding, Prompt(clicks, labels), several=True)
    np.testing.assert_array_equal(three, logits)
    np.testing.assert_array_equal(predicted, ious)
    _, ious, single = predictor.predict(box=box, mask_input=logits[:1], multimask_output=False)
    one, predicted = mine.predict(embedding, Prompt(box=box, mask=three[0]), several=False)
    np.testing.assert_array_equal(one, single)
    np.testing.assert_array_equal(predicted, ious)


def test_there_are_held_out_photographs() -> None:
    photos = held_out_photos()
    assert len(photos) >= 8
    assert sum(len(photo.masks) for photo in photos) >= 60
