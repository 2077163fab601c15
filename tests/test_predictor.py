"""SamPredictor: upstream's interface, prompts in and masks out, and what it says about bad ones."""

import hashlib
import inspect
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from golden.cases import mask_prompt, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from standin import TINY, standin_weights

import refsam
from refsam import InputError, MobileSam, NotReady, SamPredictor, transforms

SIZE = (48, 77)
IMAGE = picture(SIZE)
CLICK: dict[str, Any] = {"point_coords": [[30, 20]], "point_labels": [1]}
PROMPTS: dict[str, dict[str, Any]] = {
    "click": CLICK,
    "clicks": {"point_coords": [[30, 20], [5.5, 40.25], [70, 3]], "point_labels": [1, 0, 1]},
    "box": {"box": [10, 5, 60, 40]},
    "box and click": {**CLICK, "box": [10, 5, 60, 40]},
    "mask": {"mask_input": mask_prompt(16)},
    "all": {**CLICK, "box": [10, 5, 60, 40], "mask_input": mask_prompt(16)},
    "none": {},
}
EACH_PROMPT = pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())


@cache
def ready(dtype: str = "float32") -> SamPredictor:
    predictor = SamPredictor(MobileSam(standin_weights(TINY), TINY, dtype=dtype))
    predictor.set_image(IMAGE)
    return predictor


@pytest.fixture
def fresh() -> SamPredictor:
    return SamPredictor(ready().model)


# --- upstream's interface: mobile_sam/predictor.py; a value in place of `REQUIRED` is the default ----------------------------

REQUIRED = inspect.Parameter.empty
UPSTREAM: dict[str, list[tuple[str, Any]]] = {
    "__init__": [("sam_model", REQUIRED)],
    "set_image": [("image", REQUIRED), ("image_format", "RGB")],
    "set_torch_image": [("transformed_image", REQUIRED), ("original_image_size", REQUIRED)],
    "predict": [
        ("point_coords", None),
        ("point_labels", None),
        ("box", None),
        ("mask_input", None),
        ("multimask_output", True),
        ("return_logits", False),
    ],
    "predict_torch": [
        ("point_coords", REQUIRED),
        ("point_labels", REQUIRED),
        ("boxes", None),
        ("mask_input", None),
        ("multimask_output", True),
        ("return_logits", False),
    ],
    "get_image_embedding": [],
    "reset_image": [],
}
OURS = {"set_torch_image": "set_transformed_image", "predict_torch": "predict_batch"}


def signature(cls: type, method: str) -> list[tuple[str, Any]]:
    parameters = list(inspect.signature(getattr(cls, method)).parameters.values())[1:]
    return [(parameter.name, parameter.default) for parameter in parameters]


@pytest.mark.core
@pytest.mark.parametrize("method", UPSTREAM)
def test_signatures_are_upstreams(method: str) -> None:
    assert signature(SamPredictor, OURS.get(method, method)) == UPSTREAM[method]


@pytest.mark.core
def test_attributes_that_upstreams_users_read(fresh: SamPredictor) -> None:
    assert not fresh.is_image_set
    fresh.set_image(IMAGE)
    assert fresh.is_image_set
    assert (fresh.original_size, fresh.input_size) == (SIZE, (40, 64))
    assert fresh.transform.target_length == 64
    assert fresh.features is fresh.get_image_embedding()
    assert (fresh.model.mask_threshold, fresh.model.image_format) == (0.0, "RGB")


# --- results ---------------------------------------------------------------------------------------------------------------


@pytest.mark.core
@EACH_PROMPT
@pytest.mark.parametrize("multimask", [True, False])
def test_shapes_and_dtypes(prompt: dict[str, Any], multimask: bool) -> None:
    count = 3 if multimask else 1
    masks, scores, logits = ready().predict(**prompt, multimask_output=multimask)
    assert (masks.shape, masks.dtype) == ((count, *SIZE), np.bool_)
    assert (scores.shape, scores.dtype) == ((count,), np.float32)
    assert (logits.shape, logits.dtype) == ((count, 16, 16), np.float32)


@pytest.mark.core
def test_a_float64_model_answers_in_float64_and_nearly_the_same() -> None:
    single, double = (ready(dtype).predict(**PROMPTS["all"], return_logits=True) for dtype in ("float32", "float64"))
    for ours, truth in zip(single, double, strict=True):
        assert (ours.dtype, truth.dtype) == (np.float32, np.float64)
        # A thousand roundings of 6e-8 in a row would be 6e-5; the two are different computations, so not 0.
        assert 0 < np.linalg.norm(ours - truth) / np.linalg.norm(truth) < 6e-5
    assert ready("float64").get_image_embedding().dtype == np.float64


@pytest.mark.core
@EACH_PROMPT
def test_masks_are_where_the_logits_are_above_zero(prompt: dict[str, Any]) -> None:
    masks, scores, low = ready().predict(**prompt)
    logits, same_scores, same_low = ready().predict(**prompt, return_logits=True)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(masks, logits > 0)
    np.testing.assert_array_equal(scores, same_scores)
    np.testing.assert_array_equal(low, same_low)


@pytest.mark.core
def test_prompts_matter() -> None:
    # Otherwise most tests here could not fail.
    logits = [ready().predict(**prompt)[2] for prompt in PROMPTS.values()]
    for i, one in enumerate(logits):
        assert all(np.linalg.norm(one - other) / np.linalg.norm(one) > 1e-3 for other in logits[:i])


@pytest.mark.core
def test_one_mask_is_not_one_of_the_three() -> None:
    three, one = (ready().predict(**CLICK, multimask_output=multimask)[2] for multimask in (True, False))
    assert not any(np.allclose(one[0], candidate) for candidate in three)


@pytest.mark.core
def test_bgr_is_rgb_flipped(fresh: SamPredictor) -> None:
    fresh.set_image(IMAGE[..., ::-1], "BGR")
    np.testing.assert_array_equal(fresh.get_image_embedding(), ready().get_image_embedding())
    fresh.set_image(IMAGE[..., ::-1])
    assert not np.allclose(fresh.get_image_embedding(), ready().get_image_embedding())


@pytest.mark.core
def test_a_kept_embedding_is_as_good_as_the_picture(fresh: SamPredictor) -> None:
    fresh.set_embedding(ready().get_image_embedding(), SIZE)
    for ours, theirs in zip(fresh.predict(**PROMPTS["all"]), ready().predict(**PROMPTS["all"]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.core
def test_a_picture_that_is_resized_already(fresh: SamPredictor) -> None:
    resized = transforms.resize(IMAGE, 64)
    fresh.set_transformed_image(resized.transpose(2, 0, 1)[None], SIZE)
    assert (fresh.original_size, fresh.input_size) == (SIZE, (40, 64))
    np.testing.assert_array_equal(fresh.get_image_embedding(), ready().get_image_embedding())


def test_the_input_size_is_that_of_the_picture_that_was_given(fresh: SamPredictor) -> None:
    # Somebody else's resizing may round another way; upstream takes the size as it is.
    fresh.set_transformed_image(np.zeros((1, 3, 39, 64), np.uint8), SIZE)
    assert fresh.input_size == (39, 64)
    assert fresh.predict(**CLICK)[0].shape == (3, *SIZE)


@pytest.mark.core
def test_a_mask_fed_back_is_the_mask_prompt() -> None:
    _, _, low = ready().predict(**CLICK)
    for k in range(3):
        again = ready().predict(**CLICK, mask_input=low[k : k + 1])[2]
        assert np.linalg.norm(again - low) / np.linalg.norm(low) > 1e-3
    batch = ready().predict_batch(*batched([CLICK]), mask_input=low[None, 2:3])[2]
    np.testing.assert_array_equal(batch[0], again)


@pytest.mark.core
def test_a_padding_point_is_ignored_wherever_it_lies() -> None:
    results = [ready().predict([[30, 20], place], [1, -1], box=[10, 5, 60, 40])[2] for place in ([0, 0], [50, 7], [-900, 1e6])]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    # It is a token nevertheless, as upstream's.
    assert not np.allclose(results[0], ready().predict(**CLICK, box=[10, 5, 60, 40])[2])


@pytest.mark.core
def test_prompts_may_be_of_any_kind_of_number() -> None:
    truth = ready().predict([[30, 20]], [1], box=[10, 5, 60, 40])[2]
    for dtype in (np.int16, np.uint8, np.float16, np.float32, np.int64):
        same = ready().predict(np.array([[30, 20]], dtype), np.array([1], dtype), box=np.array([[10, 5, 60, 40]], dtype))[2]
        np.testing.assert_array_equal(same, truth)
    np.testing.assert_array_equal(ready().predict([(30, 20)], [True], box=((10, 5), (60, 40)))[2], truth)


@pytest.mark.core
def test_no_points_at_all_are_one_padding_point() -> None:
    sparse, _ = ready().model.encode_prompts((np.zeros((1, 0, 2)), np.zeros((1, 0), int)))
    padding = ready().model.scope["prompt_encoder.not_a_point_embed.weight"]
    np.testing.assert_array_equal(sparse, padding[None])
    assert not np.allclose(ready().predict(np.zeros((0, 2)), [])[2], ready().predict()[2])


def batched(prompts: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    coords = np.array([prompt["point_coords"] for prompt in prompts], np.float64)
    return ready().transform.apply_coords(coords, SIZE), np.array([prompt["point_labels"] for prompt in prompts])


KINDS = st.sampled_from([("points",), ("boxes",), ("masks",), ("points", "boxes"), ("points", "boxes", "masks")])


@pytest.mark.usefixtures("unchecked")
@settings(max_examples=8)
@given(st.integers(2, 4), KINDS, st.booleans(), st.integers(0, 2**32 - 1))
def test_a_batch_is_its_prompts_one_by_one(count: int, kinds: tuple[str, ...], multimask: bool, seed: int) -> None:
    """Not to the bit: BLAS sums the rows of a larger product in another order. Within the rounding of the dtype it is."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 64, (count, 2, 2)), axis=1)
    everything = {
        "points": (rng.uniform(0, 64, (count, 2, 2)), rng.integers(-1, 2, (count, 2))),
        "boxes": (corners.reshape(count, 4),),
        "masks": (rng.normal(0, 5, (count, 1, 16, 16)),),
    }
    slots = {"points": ("point_coords", "point_labels"), "boxes": ("boxes",), "masks": ("mask_input",)}
    prompt: dict[str, Any] = {"point_coords": None, "point_labels": None}
    prompt |= {name: value for kind in kinds for name, value in zip(slots[kind], everything[kind], strict=True)}
    for dtype, rounding in (("float32", 2.0**-24), ("float64", 2.0**-53)):
        predict = ready(dtype).predict_batch
        together = predict(**prompt, multimask_output=multimask, return_logits=True)
        assert together[0].shape == (count, 3 if multimask else 1, *SIZE)
        for i in range(count):
            one = {name: None if value is None else value[i : i + 1] for name, value in prompt.items()}
            alone = predict(**one, multimask_output=multimask, return_logits=True)
            for ours, theirs in zip(together, alone, strict=True):
                # The decoder's longest chain has some 40 steps, which pass an error on enlarged by 25 at most.
                assert np.linalg.norm(ours[i] - theirs[0]) <= 1000 * rounding * np.linalg.norm(theirs)


# --- errors ----------------------------------------------------------------------------------------------------------------

BAD_PROMPTS: dict[str, tuple[dict[str, Any], str]] = {
    "points without labels": ({"point_coords": [[1, 2]]}, r"go together: give a label"),
    "labels without points": ({"point_labels": [1]}, r"go together: give a label"),
    "a flat point": ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords has shape \(2,\); it has to be \(N, 2\)"),
    "a batch": ({"point_coords": [[[1, 2]]], "point_labels": [[1]]}, r"\(1, 1, 2\).*predict_batch"),
    "three coordinates": ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"\(1, 3\); it has to be \(N, 2\)"),
    "too few labels": ({"point_coords": [[1, 2]] * 2, "point_labels": [1]}, r"shape \(1,\); 2 points need \(2,\)"),
    "a label 2": ({"point_coords": [[1, 2]], "point_labels": [2]}, r"point_labels are \[2.*a box goes into box="),
    "a label 0.5": ({"point_coords": [[1, 2]], "point_labels": [0.5]}, r"point_labels are \[0\.5\]"),
    "ragged labels": ({"point_coords": [[1, 2]], "point_labels": [[1], [1, 0]]}, r"point_labels is not an array of numbers"),
    "labels of text": ({"point_coords": [[1, 2]], "point_labels": ["on"]}, r"point_labels is not an array of numbers"),
    "ragged points": ({"point_coords": [[1, 2], [3]], "point_labels": [1, 1]}, r"point_coords is not an array of numbers"),
    "NaN": ({"point_coords": [[1, float("nan")]], "point_labels": [1]}, r"point_coords has NaN or infinity"),
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
    "labels that do not fit": ((np.zeros((2, 3, 2)), np.zeros((2, 1), int)), r"point labels has shape \(2, 1\).*\(2, 3\)"),
    "a flat box": ((None, None, np.zeros(4)), r"boxes has shape \(4,\); it has to be \(any, 4\)"),
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
    with pytest.raises(InputError, match=message):
        fresh.set_image(image)
    assert fresh.get_image_embedding() is not None


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
@pytest.mark.usefixtures("unchecked")
def test_an_embedding_that_does_not_fit(fresh: SamPredictor) -> None:
    with pytest.raises(InputError, match=r"embedding has shape \(1, 256, 64, 64\); this model's is \(1, 32, 4, 4\)"):
        fresh.set_embedding(np.zeros((1, 256, 64, 64), np.float32), SIZE)
    with pytest.raises(InputError, match=r"size is \(0, 5\)"):
        fresh.set_embedding(np.zeros((1, 32, 4, 4), np.float32), (0, 5))
    assert not fresh.is_image_set


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
    assert json.loads(facts["image_size"]) == [*SIZE]
    assert json.loads(facts["prompts"]) == {"point_coords": [[30, 20]], "point_labels": [1], "box": [10, 5, 60, 40]}
    assert refsam.config.Config.from_json(facts["config"]) == TINY
    assert (facts["dtype"], facts["refsam_version"], facts["numpy_version"]) == ("float32", refsam.__version__, np.__version__)
    assert all(isinstance(value, str) for value in facts.values())


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
