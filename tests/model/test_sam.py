"""MobileSam as one object: what it takes, what it gives, what it refuses."""

from typing import Any

import numpy as np
import pytest
from golden.cases import mask_prompt
from standin import TINY, standin_weights

from refsam import CheckpointError, InputError, MobileSam, Trace, backends
from refsam.config import MOBILE_SAM
from refsam.ops import Ops

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def model() -> MobileSam:
    return MobileSam(standin_weights(TINY), TINY)


RNG = np.random.default_rng(0)
INPUT = RNG.normal(size=(1, 3, 64, 64)).astype(np.float32)
POINTS = (np.array([[[3.0, 4.0], [50.0, 20.0]]] * 2), np.array([[1, 0]] * 2))
BOXES = np.array([[1.0, 2.0, 40.0, 30.0]] * 2)
MASKS = np.stack([mask_prompt(16)] * 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes_of_the_three_parts(dtype: str) -> None:
    model = MobileSam(standin_weights(TINY), TINY, dtype=dtype)
    features = model.encode_image(INPUT)
    sparse, dense = model.encode_prompts(POINTS, BOXES, MASKS)
    logits, scores = model.decode_masks(features, model.image_pe, sparse, dense)
    shapes = [x.shape for x in (features, model.image_pe, sparse, dense, logits, scores)]
    assert shapes == [(1, 32, 4, 4), (1, 32, 4, 4), (2, 4, 32), (2, 32, 4, 4), (2, 3, 16, 16), (2, 3)]
    assert {x.dtype for x in (features, model.image_pe, sparse, dense, logits, scores)} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("prompts", "tokens"),
    [
        ({"points": POINTS}, 3),  # and one padding point
        ({"boxes": BOXES}, 2),
        ({"points": POINTS, "boxes": BOXES}, 4),
        ({"masks": MASKS}, 0),
        ({}, 0),
    ],
)
def test_tokens_of_each_kind_of_prompt(model: MobileSam, prompts: dict[str, Any], tokens: int) -> None:
    sparse, dense = model.encode_prompts(**prompts)
    batch = 2 if prompts else 1
    assert sparse.shape == (batch, tokens, 32)
    assert dense.shape == (batch, 32, 4, 4)
    assert sparse.dtype == dense.dtype == np.float32


@pytest.mark.parametrize("backend", ["reference", "fast"])
@pytest.mark.parametrize(
    "prompts",
    [
        {"points": (np.zeros((0, 2, 2)), np.zeros((0, 2), np.int64))},
        {"boxes": np.zeros((0, 4))},
        {"masks": np.zeros((0, 1, 16, 16))},
    ],
)
def test_no_prompts_have_no_masks(backend: str, prompts: dict[str, Any]) -> None:
    model = MobileSam(standin_weights(TINY), TINY, backends.create(backend, 2))
    sparse, dense = model.encode_prompts(**prompts)
    masks, scores = model.decode_masks(model.encode_image(INPUT), model.image_pe, sparse, dense)
    assert (masks.shape, scores.shape) == ((0, 3, 16, 16), (0, 3))


def test_one_mask_is_the_first_and_three_are_the_others(model: MobileSam) -> None:
    features = model.encode_image(INPUT)
    prompt = model.encode_prompts(POINTS)
    three, one = (model.decode_masks(features, model.image_pe, *prompt, multimask) for multimask in (True, False))
    assert (three[0].shape, one[0].shape, three[1].shape, one[1].shape) == ((2, 3, 16, 16), (2, 1, 16, 16), (2, 3), (2, 1))
    assert not np.isin(one[1], three[1]).any()


def test_arguments_are_not_written_to(model: MobileSam) -> None:
    arrays = [x.copy() for x in (INPUT, *POINTS, BOXES, MASKS)]
    for array in arrays:
        array.flags.writeable = False
    image, coords, labels, boxes, masks = arrays
    features = model.encode_image(image)
    features.flags.writeable = False
    sparse, dense = model.encode_prompts((coords, labels), boxes, masks)
    first = model.decode_masks(features, model.image_pe, sparse, dense)
    np.testing.assert_array_equal(model.decode_masks(features, model.image_pe, sparse, dense)[0], first[0])


def test_the_weights_are_the_models_own() -> None:
    weights = standin_weights(TINY)
    model = MobileSam(weights, TINY)
    before = model.encode_image(INPUT)
    for tensor in weights.values():
        tensor[...] = 0
    np.testing.assert_array_equal(model.encode_image(INPUT), before)


def test_a_traced_model_shares_weights_and_records_each_time_anew(model: MobileSam) -> None:
    first, second = Trace("prompt_encoder.*"), Trace("prompt_encoder.*")
    assert model.traced(first).scope.weights is model.scope.weights
    for trace in (first, second):
        traced = model.traced(trace)
        np.testing.assert_array_equal(traced.image_pe, model.image_pe)
        traced.encode_prompts(POINTS)
    assert list(first) == list(second)
    assert "prompt_encoder.pe_layer" in first
    assert model.scope.trace is None


def test_weights_sha256_is_empty_where_nobody_knows_it(model: MobileSam) -> None:
    assert model.weights_sha256 == ""
    assert MobileSam(standin_weights(TINY), TINY, metadata={"weights_sha256": "ab"}).weights_sha256 == "ab"


def test_the_operations_are_the_ones_given() -> None:
    class NoGelu(Ops):
        gelu = staticmethod(lambda x: x)

    ours, other = (MobileSam(standin_weights(TINY), TINY, ops).encode_image(INPUT) for ops in (None, NoGelu()))
    assert not np.allclose(ours, other)


def test_an_unknown_dtype() -> None:
    with pytest.raises(InputError, match="dtype is 'float16'; the model computes in 'float32' or 'float64'"):
        MobileSam(standin_weights(TINY), TINY, dtype="float16")


def test_tensors_that_do_not_fit_the_config() -> None:
    weights, bias = standin_weights(TINY), "image_encoder.layers.1.blocks.0.attn.qkv.bias"
    for wrong in ({**weights, bias: np.zeros(3, np.float32)}, {name: x for name, x in weights.items() if name != bias}):
        with pytest.raises(CheckpointError, match=f"not of the config's shape: {bias}"):
            MobileSam(wrong, TINY)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(1, 3, 64, 63), (2, 3, 64, 64), (3, 64, 64), (1, 64, 64, 3), (1, 3, 1024, 1024)])
def test_an_input_image_of_another_shape(model: MobileSam, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"input_image has shape .*; it has to be \(1, 3, 64, 64\)"):
        model.encode_image(np.zeros(shape, np.float32))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("place", range(4))
def test_tensors_for_the_decoder_of_another_shape(model: MobileSam, place: int) -> None:
    names = ("image_embeddings", "image_pe", "sparse prompt embeddings", "dense prompt embeddings")
    shapes = [(1, 32, 4, 4), (1, 32, 4, 4), (2, 3, 32), (2, 32, 4, 4)]
    tensors = [np.zeros(shape, np.float32) for shape in shapes]
    tensors[place] = tensors[place][..., :-1]
    with pytest.raises(InputError, match=f"^{names[place]} has shape"):
        model.decode_masks(*tensors)


def test_the_defaults_are_mobile_sam() -> None:
    assert MOBILE_SAM.embed_dims == (64, 128, 160, 320)
    assert MobileSam.mask_threshold == 0.0
    assert MobileSam.image_format == "RGB"
