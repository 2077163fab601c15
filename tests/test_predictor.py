"""SamPredictor: upstream's interface, and prompts in and masks out."""

import inspect
from typing import Any

import numpy as np
import pytest
from golden.cases import mask_prompt
from hypothesis import given, settings
from hypothesis import strategies as st
from predicting import CLICK, EACH_PROMPT, IMAGE, PROMPTS, SIZE, ready
from standin import TINY, standin_weights

from refsam import MobileSam, SamPredictor, transforms
from refsam.model.sam import LARGEST


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
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [">f4", "f8", list])
def test_an_embedding_of_any_kind_is_copied_into_the_models(fresh: SamPredictor, kind: Any) -> None:
    embedding = ready().get_image_embedding()
    given = embedding.tolist() if kind is list else embedding.astype(kind)
    fresh.set_embedding(given, SIZE)
    given[0][0][0][0] = 99
    kept = fresh.get_image_embedding()
    assert kept.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(kept, embedding)


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
def test_a_size_may_come_as_a_list(fresh: SamPredictor) -> None:
    fresh.set_embedding(ready().get_image_embedding(), [*SIZE])  # from JSON, say; backends use it as a key
    assert fresh.original_size == SIZE


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
@pytest.mark.filterwarnings("error")
def test_the_largest_numbers_of_a_mask_prompt_overflow_nowhere() -> None:
    single, double = (ready(d).predict(mask_input=np.sign(mask_prompt(16)) * LARGEST)[2] for d in ("float32", "float64"))
    np.testing.assert_allclose(single, double, atol=1e-4 * np.abs(double).max())


@pytest.mark.core
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.float32, list])
def test_labels_of_a_batch_may_be_of_any_kind(kind: Any) -> None:
    coords, labels = np.array([[[30.0, 20.0], [5.0, 40.0]]]), np.array([[1, 0]])
    truth = ready().predict_batch(coords, labels)[2]
    same = labels.tolist() if kind is list else labels.astype(kind)
    np.testing.assert_array_equal(ready().predict_batch(coords.tolist() if kind is list else coords, same)[2], truth)


@pytest.mark.core
def test_one_mask_prompt_serves_all_prompts_of_a_batch() -> None:
    coords, labels, mask = np.array([[[30.0, 20.0]], [[5.0, 40.0]]]), np.array([[1], [1]]), mask_prompt(16)[None]
    shared = ready().predict_batch(coords, labels, None, mask)[2]
    np.testing.assert_array_equal(shared, ready().predict_batch(coords, labels, None, np.repeat(mask, 2, axis=0))[2])


@pytest.mark.core
def test_a_masks_threshold_is_the_models() -> None:
    predictor = SamPredictor(MobileSam(standin_weights(TINY), TINY))
    predictor.model.mask_threshold = 0.5
    predictor.set_image(IMAGE)
    np.testing.assert_array_equal(predictor.predict()[0], predictor.predict(return_logits=True)[0] > 0.5)


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
@settings(max_examples=settings.default.max_examples // 4)
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
                # The decoder's longest chain has some 40 steps, which pass an error on enlarged by 25 at most. A single score
                # is a sum that may come out next to 0; its terms do not.
                assert np.linalg.norm(ours[i] - theirs[0]) <= 1000 * rounding * max(np.linalg.norm(theirs), 0.1)
