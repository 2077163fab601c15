"""SamPredictor and refsam.trace: what they say about bad arguments, and what a trace says of itself."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from predicting import CLICK, IMAGE, PROMPTS, SIZE, ready
from standin import TINY, standin_weights

import refsam
from refsam import InputError, MobileSam, NotReady, SamPredictor, transforms


@pytest.fixture
def fresh() -> SamPredictor:
    return SamPredictor(ready().model)


# --- errors ----------------------------------------------------------------------------------------------------------------

BAD_PROMPTS: dict[str, tuple[dict[str, Any], str]] = {
    "points without labels": ({"point_coords": [[1, 2]]}, r"go together: give a label"),
    "labels without points": ({"point_labels": [1]}, r"go together: give a label"),
    "a flat point": ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords has shape \(2,\); it has to be \(N, 2\)"),
    "a batch": ({"point_coords": [[[1, 2]]], "point_labels": [[1]]}, r"\(1, 1, 2\).*predict_batch"),
    "three coordinates": ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"\(1, 3\); it has to be \(N, 2\)"),
    "too few labels": ({"point_coords": [[1, 2]] * 2, "point_labels": [1]}, r"shape \(1,\); the points need \(2,\)"),
    "a label 2": ({"point_coords": [[1, 2]], "point_labels": [2]}, r"point_labels are \[2.*a box goes into box="),
    "a label 0.5": ({"point_coords": [[1, 2]], "point_labels": [0.5]}, r"point_labels are \[0\.5\]"),
    "ragged labels": ({"point_coords": [[1, 2]], "point_labels": [[1], [1, 0]]}, r"point_labels is not an array of numbers"),
    "labels of text": ({"point_coords": [[1, 2]], "point_labels": ["on"]}, r"point_labels is not an array of numbers"),
    "ragged points": ({"point_coords": [[1, 2], [3]], "point_labels": [1, 1]}, r"point_coords is not an array of numbers"),
    "NaN": ({"point_coords": [[1, float("nan")]], "point_labels": [1]}, r"point_coords has NaN or infinity"),
    "more than float32 has": (
        {"point_coords": [[1e300, 4]], "point_labels": [1]},
        r"point_coords has 1e\+300 in it; numbers up to",
    ),
    "logits whose squares float32 lacks": (
        {"mask_input": np.full((1, 16, 16), -1e20)},
        r"mask_input has 1e\+20 in it; numbers up to",
    ),
    "infinity": ({"box": [0, 0, float("inf"), 4]}, r"box has NaN or infinity"),
    "a box of three": ({"box": [1, 2, 3]}, r"box has shape \(3,\); it has to be \(4,\): x0, y0, x1, y1"),
    "two boxes": ({"box": [[1, 2, 3, 4]] * 2}, r"box has shape \(2, 4\).*predict_batch"),
    "a box right to left": ({"box": [9, 2, 3, 4]}, r"box is \[9\.0, 2\.0, 3\.0, 4\.0\]; x0 <= x1 and y0 <= y1"),
    "a box upside down": ({"box": [1, 8, 3, 4]}, r"x0 <= x1 and y0 <= y1"),
    "a box of text": ({"box": "1,2,3,4"}, r"box is not an array of numbers"),
    "a mask without its axis": ({"mask_input": np.zeros((16, 16))}, r"mask_input has shape \(16, 16\).*\(1, 16, 16\): low_res"),
    "three masks": ({"mask_input": np.zeros((3, 16, 16))}, r"mask_input has shape \(3, 16, 16\)"),
    "a mask of the picture": ({"mask_input": np.zeros((1, *SIZE))}, r"\(1, 48, 77\); it has to be \(1, 16, 16\)"),
    "NaN in a mask": ({"mask_input": np.full((1, 16, 16), np.nan)}, r"mask_input has NaN"),
}


@pytest.mark.core
@pytest.mark.parametrize(("prompt", "message"), BAD_PROMPTS.values(), ids=BAD_PROMPTS.keys())
def test_a_bad_prompt_is_explained(prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready().predict(**prompt)


BAD_BATCHES: dict[str, tuple[tuple[Any, ...], str]] = {
    "points without labels": ((np.zeros((1, 2, 2)), None), "go together"),
    "labels without points": ((None, np.zeros((1, 2), int)), "go together"),
    "no batch axis": (
        (np.zeros((2, 2)), np.zeros(2, int)),
        r"point coordinates has shape \(2, 2\); it has to be \(any, any, 2\)",
    ),
    "labels that do not fit": ((np.zeros((2, 3, 2)), np.zeros((2, 1), int)), r"point_labels has shape \(2, 1\).*\(2, 3\)"),
    "a label 7": ((np.zeros((1, 1, 2)), np.array([[7]])), r"point_labels are \[\[7"),
    "NaN points": ((np.full((1, 1, 2), np.nan), np.array([[1]])), r"point coordinates has NaN"),
    "a flat box": ((None, None, np.zeros(4)), r"boxes has shape \(4,\); it has to be \(any, 4\)"),
    "a box right to left": (
        (None, None, np.array([[1, 2, 3, 4], [9, 2, 3, 4]])),
        r"one of the boxes is \[9\.0, 2\.0, 3\.0, 4\.0\]; x0 <= x1 and y0 <= y1",
    ),
    "a small mask": ((None, None, None, np.zeros((1, 1, 8, 8))), r"masks has shape \(1, 1, 8, 8\).*\(any, 1, 16, 16\)"),
    "different numbers": (
        (np.zeros((3, 1, 2)), np.ones((3, 1), int), np.zeros((2, 4))),
        r"\[2, 3\] prompts; give as many of each",
    ),
}


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("arguments", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_a_bad_batch_is_explained(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready().predict_batch(*arguments)


@pytest.mark.core
def test_nothing_works_before_a_picture_is_set(fresh: SamPredictor) -> None:
    for call in (
        lambda: fresh.predict(**CLICK),
        lambda: fresh.predict_batch(None, None),
        lambda: fresh.predict(point_coords=[[1, 2]]),
        lambda: fresh.full_size_masks(np.zeros((1, 1, 16, 16), np.float32)),
        lambda: fresh.stability_scores(np.zeros((1, 1, 16, 16), np.float32)),
        fresh.get_image_embedding,
    ):
        with pytest.raises(NotReady, match="set_image"):
            call()
        with pytest.raises(RuntimeError):  # what upstream raises
            call()


@pytest.mark.core
def test_reset_forgets_the_picture(fresh: SamPredictor) -> None:
    fresh.set_image(IMAGE)
    fresh.reset_image()
    assert not fresh.is_image_set
    with pytest.raises(NotReady):
        fresh.predict(**CLICK)


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 3)), "uint8"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ([[0]], "NumPy array"),
    ],
)
def test_a_bad_picture_is_explained_and_the_old_one_stays(fresh: SamPredictor, image: Any, message: str) -> None:
    fresh.set_image(IMAGE)
    embedding, sizes = fresh.get_image_embedding(), (fresh.original_size, fresh.input_size)
    with pytest.raises(InputError, match=message):
        fresh.set_image(image)
    assert fresh.get_image_embedding() is embedding
    assert (fresh.original_size, fresh.input_size) == sizes == (SIZE, (40, 64))


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(3, 16, 16), (16, 16), (1, 3, 48, 77)])
def test_logits_of_another_shape_are_explained(shape: tuple[int, ...]) -> None:
    for call in (ready().full_size_masks, ready().stability_scores):
        with pytest.raises(
            InputError, match=r"low_res_masks has shape \(.*; it has to be \(B, M, 16, 16\): of one predict, logits\["
        ):
            call(np.zeros(shape, np.float32))


@pytest.mark.core
def test_an_unknown_channel_order(fresh: SamPredictor) -> None:
    with pytest.raises(InputError, match="image_format is 'RGBA'; it has to be 'RGB' or 'BGR'"):
        fresh.set_image(IMAGE, "RGBA")


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 3, 64, 65), np.uint8),
        np.zeros((1, 3, 40, 63), np.uint8),
        np.zeros((2, 3, 40, 64), np.uint8),
        np.zeros((1, 40, 64, 3), np.uint8),
        np.zeros((1, 3, 40, 64), np.float32),
        np.zeros((3, 40, 64), np.uint8),
    ],
)
def test_a_resized_picture_that_does_not_fit(fresh: SamPredictor, image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"has to be uint8 \(1, 3, height, width\) with a longest side of 64"):
        fresh.set_transformed_image(image, SIZE)


@pytest.mark.core
@pytest.mark.parametrize(("size", "fits"), [((40, 64), True), ((41, 64), True), ((20, 2000), False), ((64, 40), False)])
def test_a_resized_picture_of_another_size(fresh: SamPredictor, size: tuple[int, int], fits: bool) -> None:
    image = np.zeros((1, 3, 40, 64), np.uint8)
    if fits:
        fresh.set_transformed_image(image, size)
    else:
        with pytest.raises(InputError, match="resized is"):
            fresh.set_transformed_image(image, size)
    assert fresh.is_image_set == fits


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_a_resized_picture_without_pixels(fresh: SamPredictor) -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 64, 0\); a picture of \(2000, 1\) resized is \(1, 3, \*\(64, 1\)\)"):
        fresh.set_transformed_image(np.zeros((1, 3, 64, 0), np.uint8), (2000, 1))


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_an_embedding_that_does_not_fit(fresh: SamPredictor) -> None:
    with pytest.raises(InputError, match=r"embedding has shape \(1, 256, 64, 64\); this model's is \(1, 32, 4, 4\)"):
        fresh.set_embedding(np.zeros((1, 256, 64, 64), np.float32), SIZE)
    with pytest.raises(InputError, match=r"size is \(0, 5\)"):
        fresh.set_embedding(np.zeros((1, 32, 4, 4), np.float32), (0, 5))
    with pytest.raises(InputError, match="the embedding is not an array of numbers"):
        fresh.set_embedding(np.full((1, 32, 4, 4), "a"), SIZE)
    assert not fresh.is_image_set


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", [(0, 5), (48, 77, 3)])
def test_an_embedding_of_no_size_leaves_the_picture_that_was_set(fresh: SamPredictor, size: tuple[int, ...]) -> None:
    fresh.set_image(IMAGE)
    before = fresh.get_image_embedding()
    with pytest.raises(InputError, match=r"size is \(.*; \(height, width\) is needed"):
        fresh.set_embedding(np.zeros((1, 32, 4, 4), np.float32), size)
    assert fresh.get_image_embedding() is before
    assert fresh.original_size == SIZE


# --- refsam.trace ----------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_trace_has_the_results_and_knows_where_it_comes_from() -> None:
    model = MobileSam(standin_weights(TINY), TINY, metadata={"weights_sha256": "12ab"})
    trace = refsam.trace(model, IMAGE, **PROMPTS["all"])
    masks, scores, low = ready().predict(**PROMPTS["all"])
    np.testing.assert_array_equal(trace["masks"][0], masks)
    np.testing.assert_array_equal(trace["iou_predictions"][0], scores)
    np.testing.assert_array_equal(trace["low_res_masks"][0], low)
    np.testing.assert_array_equal(trace["image_encoder"], ready().get_image_embedding())
    np.testing.assert_array_equal(trace["input_image"], transforms.preprocess(IMAGE, 64))
    np.testing.assert_array_equal(trace["transforms.resized"], transforms.resize(IMAGE, 64))
    facts = trace.metadata
    assert facts["weights_sha256"] == "12ab"
    assert facts["image_sha256"] == hashlib.sha256(IMAGE.tobytes()).hexdigest()
    assert json.loads(facts["original_size"]) == [*SIZE]
    mask = PROMPTS["all"]["mask_input"]
    assert json.loads(facts["prompts"]) == {
        "point_coords": [[30, 20]],
        "point_labels": [1],
        "box": [10, 5, 60, 40],
        "mask_input": {"shape": [1, 16, 16], "float32_sha256": hashlib.sha256(mask.tobytes()).hexdigest()},
    }
    assert refsam.config.Config.from_json(facts["config"]) == TINY
    assert (facts["dtype"], facts["refsam_version"], facts["numpy_version"]) == ("float32", refsam.__version__, np.__version__)
    assert all(isinstance(value, str) for value in facts.values())


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_a_trace_tells_of_no_prompt_that_never_was() -> None:
    trace = refsam.trace(ready().model, IMAGE, stages="masks", mask_input=None, multimask_output=np.True_, box=None)
    assert json.loads(trace.metadata["prompts"]) == {"mask_input": None, "multimask_output": True, "box": None}


@pytest.mark.core
def test_a_trace_keeps_what_is_asked_for() -> None:
    model = ready().model
    assert list(refsam.trace(model, IMAGE, stages="masks,image_encoder.neck")) == ["image_encoder.neck", "masks"]
    assert list(refsam.trace(model, IMAGE, stages="prompt_encoder.pe_layer")) == ["prompt_encoder.pe_layer"]
    assert list(refsam.trace(model, IMAGE, stages="nothing")) == []


@pytest.mark.core
def test_a_trace_complains_as_predict_does() -> None:
    with pytest.raises(InputError, match="point_coords is not an array of numbers"):
        refsam.trace(ready().model, IMAGE, point_coords=[[1], [2, 3]], point_labels=[1, 1])
    with pytest.raises(TypeError, match="point"):
        refsam.trace(ready().model, IMAGE, points=[[1, 2]])


@pytest.mark.core
def test_a_predictor_on_a_traced_model_can_only_be_used_once() -> None:
    trace = refsam.Trace("masks")
    predictor = SamPredictor(ready().model.traced(trace))
    predictor.set_image(IMAGE)
    predictor.predict(**CLICK)
    with pytest.raises(refsam.RefsamError, match="stage masks ran twice"):
        predictor.predict(**CLICK)
