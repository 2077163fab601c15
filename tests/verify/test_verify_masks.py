"""Masks against masks: flips, what explains them, how far from the edge."""

import math

import numpy as np
import pytest
from verify.mistaken import reference, run, tiny

from refsam.figures import rms
from refsam.mask_difference import boundary_distance, grow, mask_difference
from refsam.pytest_plugin import Shown
from refsam.transforms import postprocess_logits, resized_size
from refsam.verify import verify
from refsam.verify.masks import binary
from refsam.verify.pipeline import Pipeline
from refsam.verify.report.text import plain_text
from refsam.verify.verdict import judge

pytestmark = pytest.mark.core


def disc(radius: float, side: int = 64) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2
    return radius - np.hypot(x, y)


def test_equal_masks() -> None:
    found = mask_difference(disc(9) > 0, disc(9) > 0, disc(9), 0.0)
    assert (found.iou, found.flipped, found.boundary, found.holds) == (1.0, 0, 0.0, True)


def test_a_grown_mask_is_as_far_off_as_it_grew() -> None:
    found = mask_difference(disc(9) > 0, disc(12) > 0, disc(9), 0.0)
    assert found.boundary == 3.0
    assert found.flipped == np.count_nonzero((disc(12) > 0) & ~(disc(9) > 0))
    assert not found.holds


def test_flips_within_the_margin_are_explained() -> None:
    found = mask_difference(disc(9) > 0, disc(9.4) > 0, disc(9), 0.5)
    assert found.flipped > 0
    assert found.explained == found.flipped
    assert found.holds


def test_an_unrelated_mask_has_no_distance() -> None:
    assert mask_difference(disc(9) > 0, ~(disc(9) > 0), disc(9), 0.0).boundary == math.inf


@pytest.mark.parametrize("seed", range(5))
def test_distance_against_a_search_over_all_pixels(seed: int) -> None:
    rng = np.random.RandomState(seed)
    mask = grow(grow(rng.uniform(size=(20, 24)) > 0.98))
    flips = rng.uniform(size=mask.shape) > 0.97
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
    farthest = max(
        np.maximum(abs(ys - y), abs(xs - x))[mask != mask[y, x]].min() for y, x in zip(*np.nonzero(flips), strict=True)
    )
    assert boundary_distance(mask, flips) == farthest


@pytest.mark.parametrize("form", [(3, 5, 6), (1, 3, 5, 6)])
def test_masks_of_numbers_are_inside_above_zero(form: tuple[int, ...]) -> None:
    x = np.random.RandomState(0).normal(size=form)
    for given in (x, x.astype(np.float16), (x > 0).astype(np.uint8) * 255, x > 0):
        assert np.array_equal(binary(given), (x > 0).reshape(3, 5, 6))
    assert binary(x.reshape(3, 5, 6)[0]).shape == (1, 5, 6)


def test_masks_of_another_count_or_size_do_not_hold() -> None:
    made = reference("points")
    masks = np.asarray(run(Pipeline(), made.case, tiny())["masks"])
    assert judge(made, {"masks": masks})
    for wrong, shape in ((masks[:, :2], "2 of (98, 150)"), (masks[..., :-1], "3 of (98, 149)"), (masks[:, :0], "0 of (98, 150)")):
        verdict = judge(made, {"masks": wrong}, explain=wrong.size == 0)
        assert verdict.report.first == "masks"
        assert verdict.explanations == ()
        assert f"masks of the port: {shape}; the reference has 3 of (98, 150)" in str(verdict)


def test_masks_with_nan_do_not_hold() -> None:
    """NaN is above nothing, so outside of a mask it would pass for the background."""
    made = reference("points")
    shown = run(Pipeline(), made.case, tiny())
    masks = np.where(np.asarray(shown["masks"]), np.float32(1), np.float32(-1))
    masks[0, 1, :9, :7] = np.where(masks[0, 1, :9, :7] < 0, np.nan, 1)
    count = np.count_nonzero(np.isnan(masks))
    said = f"masks of the port: {count} of their {masks.size} values are NaN"
    assert count
    for given in ({"masks": masks}, {"low_res_masks": shown["low_res_masks"], "masks": masks}):
        verdict = judge(made, given)
        assert verdict.report.first == "masks"
        assert verdict.explanations == ()
        assert said in str(verdict)
        assert ("no stage was judged" in str(verdict)) is ("low_res_masks" not in given)
        (found,) = verify(Shown(given, "mine"), tiny(), [made.case], cached=False)
        assert found.verdict.report.first == "masks"
        assert [mask.misfit for mask in found.masks] == [said.removeprefix("masks of the port: ")]
        assert plain_text(found).count(said) == 2


def test_a_single_mask_is_held_against_the_nearest() -> None:
    made = reference("points")
    masks = np.asarray(run(Pipeline(), made.case, tiny())["masks"])[0]
    for number, mask in enumerate(masks):
        (found,) = judge(made, {"masks": mask}).report.masks
        assert (found.number, found.flipped) == (number, 0)
        verdict = judge(made, {"masks": grow(mask)}, explain=number == 1)
        assert verdict.report.masks[0].number == number
        assert f"mask {number}: IoU" in str(verdict)
        assert "of its own logits" not in str(verdict)
        assert verdict.explanations == ()


@pytest.mark.parametrize("number", [0, 2])
def test_logits_and_score_of_a_single_mask_are_held_against_the_nearest(number: int) -> None:
    made = reference("points")
    shown = run(Pipeline(), made.case, tiny())
    one = {name: np.asarray(shown[name])[:, number : number + 1] for name in ("low_res_masks", "iou_predictions", "masks")}
    for form in (one, {name: value[0, 0] for name, value in one.items()}):
        verdict = judge(made, form)
        assert verdict
        assert [result.difference.shape for result in verdict.report.stages] == [(1, 1, 16, 16), (1, 1)]
        assert [(mask.number, mask.flipped) for mask in verdict.report.masks] == [(number, 0)]
    wrong = judge(made, {**one, "low_res_masks": 1.01 * one["low_res_masks"]}, hypotheses=())
    assert wrong.report.first == "low_res_masks"
    assert wrong.report["low_res_masks"].difference.relative_l2 == pytest.approx(0.01, rel=1e-3)


def test_masks_behind_the_pictures_axes_are_taken_so() -> None:
    made = reference("points")
    shown = run(Pipeline(), made.case, tiny())
    behind = {"low_res_masks": shown["low_res_masks"].transpose(0, 2, 3, 1), "masks": shown["masks"][0].transpose(1, 2, 0)}
    verdict = judge(made, behind)
    assert verdict
    assert [(mask.number, mask.flipped) for mask in verdict.report.masks] == [(0, 0), (1, 0), (2, 0)]
    assert judge(made, {"masks": shown["masks"].transpose(0, 2, 3, 1)})


def test_masks_are_as_near_to_their_own_logits_as_the_precision_is() -> None:
    """A port in fp16 keeps what it resizes in fp16, and may hand over its logits in float32 all the same."""
    made = reference("points")
    low = made.truth["low_res_masks"].astype(np.float32)
    size, side = made.case.size, made.model.config.image_size
    full = postprocess_logits(low.astype(np.float64), resized_size(size, side), size, side)[0]
    masks = full > 2 * 2.0**-11 * rms(low)
    assert (masks != (full > 0)).any()
    found = {precision: judge(made, {"low_res_masks": low, "masks": masks}, precision=precision, explain=False)
             for precision in ("float32", "fp16")}  # fmt: skip
    assert found["fp16"]
    assert found["float32"].report.first == "masks"


def test_flips_without_any_edge_are_infinitely_far() -> None:
    assert boundary_distance(np.zeros((90, 90), bool), np.ones((90, 90), bool)) == math.inf
