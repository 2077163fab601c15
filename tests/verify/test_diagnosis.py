"""Each known mistake, planted in a port, is named first; clean ports are left alone; unknown ones are not given a wrong name."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from standin import TINY
from verify.mistaken import case_for, cases, reference, run, tiny

from refsam import InputError
from refsam.model import prompt_encoder
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.verify import hypotheses
from refsam.verify.bench import Bench
from refsam.verify.hypotheses import known
from refsam.verify.hypothesis import Hypothesis, pipeline_of
from refsam.verify.pipeline import Pipeline, definition
from refsam.verify.verdict import judge

PLANTED = known()
features, embed_boxes = (definition(f) for f in (prompt_encoder.position_encoding, prompt_encoder.embed_boxes))
SOME = PLANTED[1::12]  # `make evidence` plants half of them


@pytest.mark.parametrize("mistake", SOME, ids=lambda h: h.name.replace(" ", "-"))
def test_a_planted_mistake_is_named_first(mistake: Hypothesis) -> None:
    made = reference(case_for(mistake))
    verdict = judge(made, run(mistake.apply(Pipeline()), made.case, tiny()))
    assert not verdict
    named = mistake.parts or (mistake,)
    assert verdict.explanations[0].names == tuple(each.name for each in named)
    assert verdict.explanations[0].explained > 0.99
    assert verdict.explanations[0].remedies == tuple(each.remedy for each in named)


@pytest.mark.parametrize("case", ["points", "box", "portrait"])
@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_clean_port_is_left_alone(case: str, precision: str) -> None:
    verdict = judge(reference(case), run(Pipeline(), reference(case).case, tiny()), precision=precision)
    assert verdict
    assert verdict.explanations == ()


@pytest.mark.parametrize("name", ["points not scaled", "half a pixel missing"])
def test_a_port_that_shows_one_of_several_masks_is_diagnosed(name: str) -> None:
    (mistake,) = [h for h in PLANTED if h.name == name]
    made = reference("points")
    full = run(mistake.apply(Pipeline()), made.case, tiny())
    whole = {stage: full[stage] for stage in ("input_image", "image_encoder")}
    one = {stage: full[stage][:, 1:2] for stage in ("low_res_masks", "iou_predictions", "masks")}
    verdict = judge(made, {**whole, **one})
    assert verdict.report.first == "low_res_masks"
    assert verdict.report["low_res_masks"].local is not None
    assert [e.names for e in verdict.explanations] == [(name,)]
    assert verdict.explanations[0].explained > 0.99


@pytest.mark.parametrize("case", ["box", "box and points"])
@pytest.mark.parametrize(
    ("name", "place", "function"),
    [
        ("sines and cosines exchanged", "position_encoding", lambda s, coords: np.roll(features(s, coords), 16, axis=-1)),
        ("box corners exchanged", "embed_boxes", lambda s, boxes, side: embed_boxes(s, boxes[:, [2, 3, 0, 1]], side)),
    ],
)
def test_what_is_done_to_a_box_is_named(case: str, name: str, place: str, function) -> None:
    made = reference(case)
    pipeline = Pipeline().with_function(f"prompt_encoder.{place}", function)
    verdict = judge(made, run(pipeline, made.case, tiny()))
    assert [e.names for e in verdict.explanations] == [(name,)], "the image's own encoding included"
    assert verdict.explanations[0].explained > 0.9999


@pytest.mark.parametrize(
    ("scale", "name"),
    [(1, "encoder normalises its input"), (1 / 255, "encoder normalises its input as if from 0 to 1")],
)
def test_an_encoder_that_normalises_what_is_normalised_is_told_so(scale: float, name: str) -> None:
    """Exports often have mean and deviation in the graph."""
    made = reference("points")
    mean, std = (x.reshape(3, 1, 1) * scale for x in (PIXEL_MEAN, PIXEL_STD))
    again = ((made.truth["input_image"] - mean) / std).astype(np.float32)
    verdict = judge(made, {"image_encoder": tiny().encode_image(again)})
    assert [e.names for e in verdict.explanations] == [(name,)]


def test_normalising_twice_is_told_as_that() -> None:
    made = reference("points")
    twice = made.truth["input_image"][0].copy()
    height, width = made.truth["transforms.resized"].shape[:2]
    twice[:, :height, :width] -= (PIXEL_MEAN / 255).reshape(3, 1, 1)
    twice /= (PIXEL_STD / 255).reshape(3, 1, 1)
    verdict = judge(made, {"input_image": twice[None].astype(np.float32)})
    assert [e.names for e in verdict.explanations] == [("normalised twice",)]


def test_mistakes_together_are_named_together() -> None:
    mistakes = [h for h in PLANTED if h.name in ("no antialias, no half pixel", "BGR")]
    pipeline = Pipeline()
    for mistake in mistakes:
        pipeline = mistake.apply(pipeline)
    verdict = judge(reference("points"), run(pipeline, reference("points").case, tiny()))
    assert {*verdict.explanations[0].names} == {"no antialias, no half pixel", "BGR"}
    assert verdict.explanations[0].explained > 0.9999


def test_mistakes_in_two_places_are_told_apart() -> None:
    mistakes = [h for h in PLANTED if h.name in ("window padding masked", "final attention left out")]
    pipeline = mistakes[1].apply(mistakes[0].apply(Pipeline()))
    verdict = judge(reference("points"), run(pipeline, reference("points").case, tiny()))
    assert [e.names for e in verdict.explanations] == [("window padding masked",), ("final attention left out",)]
    assert verdict.explanations[0].also


def test_masks_are_named_beside_a_fault_in_the_model() -> None:
    mistakes = [h for h in PLANTED if h.name in ("final attention left out", "mask inverted")]
    pipeline = mistakes[1].apply(mistakes[0].apply(Pipeline()))
    verdict = judge(reference("points"), run(pipeline, reference("points").case, tiny()))
    assert [e.names for e in verdict.explanations] == [("final attention left out",), ("mask inverted",)]


def test_nan_is_followed_to_its_first_stage_only() -> None:
    port = dict(run(Pipeline(), reference("points").case, tiny()))
    for stage in ("image_encoder.neck.1", "image_encoder", "low_res_masks"):
        port[stage] = np.full_like(port[stage], np.nan)
    verdict = judge(reference("points"), port)
    assert [e.stage for e in verdict.explanations if e.stage != "masks"] == ["image_encoder.neck.1"]


def test_a_stage_that_is_right_bit_for_bit_is_harmed_by_a_mistake() -> None:
    made = reference("points")
    mistake, other = (next(h for h in PLANTED if h.name == name) for name in ("BGR", "masks 0 to 2"))
    right = Bench(made, {}, "input_image", np.asarray(pipeline_of([]).input_image(made.case.image, TINY.image_size)))
    assert right.fit([mistake]) == -1
    assert right.fit([other]) == 0


def test_a_hypothesis_with_a_bug_is_reported_and_the_others_are_tried() -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise KeyError("oops")

    own = Hypothesis("broken", ("preprocessing",), "", lambda pipeline: replace(pipeline, picture=broken))
    bgr = next(h for h in PLANTED if h.name == "BGR")
    made = reference("points")
    with pytest.warns(UserWarning, match="'broken' fails at .*KeyError"):
        verdict = judge(made, run(bgr.apply(Pipeline()), made.case, tiny()), hypotheses=[own, bgr])
    assert verdict.explanations[0].names == ("BGR",)


def test_an_unknown_mistake_is_not_given_a_name() -> None:
    port = dict(run(Pipeline(), reference("points").case, tiny()))
    noise = np.random.RandomState(0).normal(size=port["image_encoder"].shape).astype(np.float32)
    port["image_encoder"] = port["image_encoder"] + 0.1 * noise
    verdict = judge(reference("points"), {name: port[name] for name in ("input_image", "image_encoder")})
    assert verdict.report.first == "image_encoder"
    assert verdict.explanations[0].names == ()
    assert "nothing known explains" in str(verdict)


@pytest.mark.parametrize(("count", "seed"), [(3, 8), (1, 0), (1, 1)])
def test_of_few_numbers_none_is_explained_by_chance(count: int, seed: int) -> None:
    """Of hundreds of hypotheses some come near to any one number, or three."""
    made = reference("points")
    right = run(Pipeline(), made.case, tiny())
    scores = right["iou_predictions"] + np.random.RandomState(seed).normal(0, 0.3, (1, 3))
    port = {"image_encoder": right["image_encoder"], "iou_predictions": scores[:, :count]}
    verdict = judge(made, port)
    assert not verdict
    assert [e.names for e in verdict.explanations] == [()]


@pytest.mark.parametrize("name", ["score token behind the mask tokens", "half a pixel missing"])
def test_of_one_number_a_mistake_is_still_named(name: str) -> None:
    (mistake,) = [h for h in PLANTED if h.name == name]
    made = reference("points")
    wrong = run(mistake.apply(Pipeline()), made.case, tiny())
    port = {"image_encoder": wrong["image_encoder"], "iou_predictions": wrong["iou_predictions"][:, 1:2]}
    assert [e.names for e in judge(made, port).explanations] == [(name,)]


def test_a_port_that_shows_only_masks_is_judged_too() -> None:
    mistake = next(h for h in PLANTED if h.name == "mask inverted")
    port = run(mistake.apply(Pipeline()), reference("points").case, tiny())
    verdict = judge(reference("points"), {"masks": port["masks"]})
    assert not verdict
    assert verdict.report.first == "masks"
    assert verdict.explanations[0].names == ("mask inverted",)


def test_users_can_add_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypotheses, "_registered", {})

    def brighter(image: np.ndarray) -> np.ndarray:
        return np.minimum(image, 205) + np.uint8(50)

    own = Hypothesis("brighter", ("preprocessing",), "do not", lambda pipeline: replace(pipeline, picture=brighter))
    hypotheses.register(own)
    verdict = judge(reference("points"), run(own.apply(Pipeline()), reference("points").case, tiny()))
    assert verdict.explanations[0].names == ("brighter",)
    with pytest.raises(InputError, match="brighter"):
        hypotheses.register(own)
    with pytest.raises(InputError, match="'BGR' already"):
        hypotheses.register(replace(own, name="BGR"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("areas", [("preprocess",), "encoder", ()])
def test_an_area_that_is_none_is_an_error(areas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypotheses, "_registered", {})
    with pytest.raises(InputError, match=r"the areas of 'mine' are .*preprocessing, prompts"):
        hypotheses.register(Hypothesis("mine", areas, "do not", lambda pipeline: pipeline))


def test_names_are_unique() -> None:
    assert len({h.name for h in PLANTED}) == len(PLANTED)


HEIGHT, WIDTH = cases(TINY)["points"].size
MARGIN = (0, (TINY.image_size - round(HEIGHT * TINY.image_size / WIDTH)) / 2 * WIDTH / TINY.image_size)
"""Of the picture's pixels: what a centred picture has to the left and above."""


@pytest.mark.parametrize(
    ("moved", "name"),
    [
        (lambda points: points * [1, -1] + [0, HEIGHT], "y of points from the bottom"),
        (lambda points: points + MARGIN, "points on a centred picture"),
        (lambda points: points / 2, "points of a 2x screen"),
        (lambda points: points / 3, "points of a 3x screen"),
    ],
)
def test_a_port_that_is_asked_at_another_place_is_told_so(moved: Callable[[np.ndarray], np.ndarray], name: str) -> None:
    """The model is right; whoever calls it hands it other points."""
    case = reference("points").case
    points = moved(np.array(case.prompts["point_coords"]))
    port = run(Pipeline(), replace(case, prompts={**case.prompts, "point_coords": points}), tiny())
    (explanation,) = judge(reference("points"), port).explanations
    assert explanation.names == (name,), str(explanation)


@pytest.mark.parametrize(("axis", "name"), [(-2, "mask upside down"), (-1, "mask mirrored")])
def test_a_mask_that_was_turned_over_is_told_so(axis: int, name: str) -> None:
    case = reference("points").case
    port = dict(run(Pipeline(), case, tiny()))
    port["masks"] = np.flip(port["masks"], axis)
    (explanation,) = judge(reference("points"), port).explanations
    assert (explanation.stage, explanation.names) == ("masks", (name,))
