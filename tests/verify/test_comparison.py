"""Reports: what holds, what does not, and what is said of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from verify.mistaken import reference, run, tiny

import refsam.verify
from refsam import InputError
from refsam.verify import compare, judge
from refsam.verify.local import LocalError
from refsam.verify.pipeline import Pipeline
from refsam.verify.words import in_words

pytestmark = pytest.mark.core


def clean() -> dict[str, np.ndarray]:
    return dict(run(Pipeline(), reference("points").case, tiny()))


def test_a_clean_port_holds() -> None:
    made = reference("points")
    report = compare(made.truth, clean(), budget=made.budget("float32"))
    assert report
    assert report.first is None
    assert report.required_k == pytest.approx(1.0)
    assert in_words(report, "x").startswith("x: ")


def test_the_first_stage_that_does_not_hold_is_named() -> None:
    made, port = reference("points"), clean()
    port["image_encoder.neck.1"] = port["image_encoder.neck.1"] * 1.001
    port["low_res_masks"] = port["low_res_masks"] + 1
    report = compare(made.truth, port, budget=made.budget("float32"))
    assert not report
    assert report.first == "image_encoder.neck.1"
    assert [result.stage for result in report.failing] == ["image_encoder.neck.1", "low_res_masks"]
    text = in_words(report, "port 'x'")
    assert text.startswith("port 'x' first differs at image_encoder.neck.1\n  stage 29 of 54; 28 before it hold\n")
    assert "greatest difference" in text


def test_nan_and_wrong_shapes_do_not_hold_at_any_k() -> None:
    made = reference("points")
    for broken, words in ((np.full((1, 32, 4, 4), np.nan), "512 NaN"), (np.zeros((1, 31, 4, 4)), "the reference has shape")):
        report = compare(made.truth, {"image_encoder": broken}, k=1e9)
        assert report.required_k == math.inf
        assert words in in_words(report)


def test_the_budget_may_come_with_the_trace_or_from_the_precision() -> None:
    truth = {"a": np.ones(4)}
    assert compare(truth, {"a": np.full(4, 1 + 1e-6)})
    assert not compare(truth, {"a": np.full(4, 1 + 1e-4)})
    assert compare(truth, {"a": np.full(4, 1 + 1e-4)}, precision="fp16")
    stored = refsam.Trace(metadata={"budget": json.dumps({"a": 1e-3}), "budget_precision": "float32"})
    stored.record("a", np.ones(4))
    assert compare(stored, {"a": np.full(4, 1 + 1e-4)})
    stored.metadata["budget_precision"] = "fp16"  # measured for a coarser port: of no use for this one
    assert not compare(stored, {"a": np.full(4, 1 + 1e-4)})
    assert compare(stored, {"a": np.full(4, 1 + 1e-4)}, precision="float16")


def test_names_that_the_reference_does_not_know_are_told() -> None:
    assert compare({"a": np.ones(2)}, {"a": np.ones(2), "image_encodr": np.ones(2)}).missing == ("image_encodr",)


def test_nothing_in_common_is_an_error_not_a_pass() -> None:
    with pytest.raises(InputError, match=r"no stage.*image_encodr"):
        compare({"image_encoder": np.ones(2)}, {"image_encodr": np.ones(2)})


def test_masks_are_compared_by_pixels() -> None:
    """With the logits' margin where there are logits, without one where there are none."""
    made = reference("points")
    port = {name: clean()[name] for name in ("image_encoder", "low_res_masks", "masks")}
    logits = {name: made.truth[name] for name in ("image_encoder", "low_res_masks", "masks")}
    for truth in (logits, {"masks": logits["masks"]}):
        report = compare(truth, port)
        assert [(mask.number, mask.flipped) for mask in report.masks] == [(0, 0), (1, 0), (2, 0)]
        assert report
        inverted = compare(truth, {**port, "masks": ~port["masks"]})
        assert (bool(inverted), inverted.first) == (False, "masks")
        one = compare(truth, {"masks": port["masks"][0, 2]})
        assert [(mask.number, mask.flipped) for mask in one.masks] == [(2, 0)]
        assert not compare(truth, {"masks": port["masks"][:, :2]})


def test_masks_of_an_unknown_picture_are_not_compared_and_told() -> None:
    truth = {"a": np.ones(2), "low_res_masks": np.ones((1, 3, 16, 16))}
    assert compare(truth, {"a": np.ones(2), "masks": np.ones((3, 5, 6))}).missing == ("masks",)
    with pytest.raises(InputError, match="no stage has a name"):
        compare(truth, {"masks": np.ones((3, 5, 6))})


def test_masks_of_a_reference_that_has_nothing_to_hold_them_against_are_told() -> None:
    stages = {"image_encoder": np.ones(2)}
    report = compare(stages, {**stages, "masks": np.ones((3, 5, 6))}, size=(5, 6))
    assert report
    assert report.missing == ("masks",)


@pytest.mark.parametrize("of_logits", [False, True])
def test_a_score_is_held_against_that_of_its_mask(of_logits: bool) -> None:
    made, port = reference("points"), clean()
    truth = {name: made.truth[name] for name in ("iou_predictions", "low_res_masks" if of_logits else "masks")}
    size, budget = made.case.size, made.budget("float32")
    for number in range(3):
        shown = {"masks": port["masks"][0, 0], "iou_predictions": port["iou_predictions"][:, number : number + 1]}
        report = compare(truth, shown, budget=budget, size=size)
        assert (report.first is None) == (number == 0)
        assert report.masks[0].number == 0


def test_logits_of_one_mask_may_come_with_all_masks() -> None:
    """As they are handed on for the next prompt."""
    made, port = reference("points"), clean()
    shown = {"low_res_masks": port["low_res_masks"][:, 1:2], "masks": port["masks"]}
    budget, size = made.budget("float32"), made.case.size
    report = compare(made.truth, shown, budget=budget, size=size)
    assert report
    assert [mask.number for mask in report.masks] == [0, 1, 2]
    wrong = compare(made.truth, {**shown, "masks": ~port["masks"]}, budget=budget, size=size)
    assert wrong.first == "masks"
    assert "of its own logits" not in in_words(wrong)


def test_a_stage_of_another_shape_does_not_come_before_an_earlier_one() -> None:
    made, port = reference("points"), clean()
    wrong = {"image_encoder": 2 * port["image_encoder"], "low_res_masks": port["low_res_masks"][:, :2]}
    assert compare(made.truth, wrong).first == "image_encoder"


@pytest.mark.parametrize("k", [0, -1, math.nan, math.inf])
def test_a_k_that_measures_nothing_is_an_error(k: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        compare({"a": np.ones(2)}, {"a": np.ones(2)}, k=k)


def test_a_stage_that_holds_clears_itself_of_a_dump_before_it() -> None:
    """What is dumped as the coordinates is not what the port encodes."""
    made, port = reference("points"), clean()
    names = ("transforms.point_coords", "low_res_masks", "iou_predictions")
    shown = {**{name: port[name] for name in names}, "transforms.point_coords": port["transforms.point_coords"] + 0.5}
    verdict = judge(made, shown, hypotheses=())
    assert verdict.report.first == "transforms.point_coords"
    assert [result.stage for result in verdict.report.stages if result.local_fault] == ["transforms.point_coords"]
    assert verdict.report.unused == ("low_res_masks", "transforms.point_coords")
    said = "low_res_masks holds although transforms.point_coords before it does not"
    assert said in " ".join(in_words(verdict.report).split())


@pytest.mark.parametrize(("earlier", "off", "unused"), [("low_res_masks", 9.0, False), ("keys", 9.0, True), ("keys", 3.5, False)])
def test_scores_do_not_clear_themselves_of_masks_nor_by_rounding(earlier: str, off: float, unused: bool) -> None:
    """A fault in the upscaling leaves the scores right: they do not follow from the masks."""
    truth = {earlier: np.ones(4), "iou_predictions": np.ones(3)}
    budget = dict.fromkeys(truth, 1e-6)
    report = compare(truth, {**truth, earlier: np.zeros(4)}, budget=budget)
    local = LocalError(error=off * 1e-6, budget=1e-7)
    assert (replace(report.stages[1], local=local)).off_its_inputs
    report = replace(report, stages=(report.stages[0], replace(report.stages[1], local=local)))
    assert report.unused == (("iou_predictions", "keys") if unused else None)


def test_a_report_is_json() -> None:
    made = reference("points")
    document = compare(made.truth, clean(), budget=made.budget("float32")).to_dict()
    assert json.loads(json.dumps(document))["holds"] is True
    assert [row["stage"] for row in document["stages"]][:2] == ["transforms.resized", "input_image"]


def test_the_public_names() -> None:
    assert refsam.verify.compare is compare
