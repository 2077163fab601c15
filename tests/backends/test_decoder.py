"""The fast backend's decoder against the definition in float64, for every kind of prompt, many at once, and many threads.

Its allowance is what the definition's own float32 loses: twice as much, since it adds and multiplies in another order. What
either loses on one prompt is a random number, and the smaller one may be small by luck (on one CPU the definition lost between
5.3e-7 and 7.5e-7 on one kind of prompt with other seeds), so losses are held against each other as root mean squares over
prompts of all kinds, and each single one against the definition's greatest. A score is one number, which may be near zero:
scores are measured by the model's usual score.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from golden.cases import demo
from hypothesis import given, settings
from hypothesis import strategies as st
from standin import TINY, standin_weights

from refsam import MobileSam, Trace, backends
from refsam.backends.fast import decoder, decoder_weights
from refsam.backends.fast.decoder_attention import fold_pays, project_pays
from refsam.config import MOBILE_SAM, Config

FACTOR = 2.0

ODD = replace(
    TINY,
    image_size=112,
    prompt_embed_dim=40,
    decoder_depth=3,
    decoder_num_heads=5,
    num_multimask_outputs=2,
    iou_head_depth=2,
    decoder_mlp_dim=56,
)
"""A grid of 7 x 7, five heads, three blocks, three masks."""

MODELS: dict[str, Callable[[], tuple[Config, dict[str, np.ndarray]]]] = {
    "tiny": lambda: (TINY, standin_weights(TINY)),
    "odd": lambda: (ODD, standin_weights(ODD)),
    "demo": lambda: (replace(demo().config, image_size=256), dict(demo().tensors)),  # a quarter of the pixels, and of the time
}
EACH_MODEL = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.core if name == "tiny" else ()) for name in MODELS]
)
Prompts = dict[str, Any]
Result = tuple[np.ndarray, np.ndarray]


@cache
def model(name: str, backend: str = "reference", threads: int | None = None, dtype: str = "float32") -> MobileSam:
    config, weights = MODELS[name]()
    return MobileSam(weights, config, backends.create(backend, threads), dtype)


@cache
def features(name: str) -> np.ndarray:
    config = model(name).config
    shape = (1, config.prompt_embed_dim, config.embedding_size, config.embedding_size)
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def decode(model: MobileSam, x: np.ndarray, prompts: Prompts, multimask_output: bool = True) -> Result:
    return model.decode_masks(x, model.image_pe, *model.encode_prompts(**prompts), multimask_output)


def draw(config: Config, count: int, points: int, box: bool, masks: int, seed: int = 0) -> Prompts:
    """`count` prompts; masks: how many mask prompts, 0, 1 (for all) or `count`."""
    rng, side = np.random.default_rng(seed), config.image_size
    prompts: Prompts = {}
    if points:
        prompts["points"] = (rng.uniform(0, side, (count, points, 2)), rng.integers(-1, 2, (count, points)))
    if box:
        prompts["boxes"] = np.sort(rng.uniform(0, side, (count, 2, 2)), axis=1).reshape(count, 4)
    if masks:
        prompts["masks"] = rng.normal(0, 5, (masks, 1, config.mask_size, config.mask_size))
    return prompts


def loss(x: np.ndarray, truth: np.ndarray) -> float:
    assert x.shape == truth.shape
    assert x.dtype == np.float32
    return float(np.linalg.norm(x - truth) / np.linalg.norm(truth)) if truth.size else 0.0


KINDS: dict[str, tuple[int, int, bool, int]] = {
    "point": (1, 1, False, 0),
    "many points, so that no attention is folded": (1, 40, False, 0),
    "box": (1, 0, True, 0),
    "box and points": (3, 2, True, 0),
    "mask": (1, 0, False, 1),
    "points and a mask each": (5, 2, False, 5),
    "points and one mask for all": (5, 2, False, 1),
    "none": (1, 0, False, 0),
    "a grid": (21, 1, False, 0),
    "many points of many": (6, 30, True, 0),
}


class Usual(NamedTuple):
    """Over prompts of all kinds: root mean squares of a model's scores, of two float32s' errors in them, and of what the two lose
    in logits; the definition's greatest loss in logits."""

    score: float
    fast_error: float
    error: float
    fast_logits_loss: float
    logits_loss: float
    greatest_logits_loss: float


@cache
def results(name: str, backend: str, dtype: str, multimask_output: bool) -> dict[str, Result]:
    """Of one prompt of each kind."""
    drawn = {kind: draw(model(name).config, *numbers) for kind, numbers in KINDS.items()}
    asked = model(name, backend, None, dtype)
    return {kind: decode(asked, features(name), prompts, multimask_output) for kind, prompts in drawn.items()}


@cache
def usual(name: str, multimask_output: bool = True) -> Usual:
    fast, ours, truth = (
        list(results(name, backend, dtype, multimask_output).values())
        for backend, dtype in (("fast", "float32"), ("reference", "float32"), ("reference", "float64"))
    )
    scores = [np.concatenate([result[1].ravel() for result in each]) for each in (truth, fast, ours)]
    errors = [rms(x - scores[0]) for x in scores[1:]]
    losses = [np.array([loss(x[0], exact[0]) for x, exact in zip(each, truth, strict=True)]) for each in (fast, ours)]
    return Usual(rms(scores[0]), *errors, *(rms(x) for x in losses), float(losses[1].max()))


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def check(got: Result, truth: Result, logits_loss: float, score_error: float) -> None:
    """A score's error is a random number of at most FACTOR times the usual deviation: 4 of them are not seen by chance."""
    __tracebackhide__ = True
    assert loss(got[0], truth[0]) <= FACTOR * logits_loss, f"{loss(got[0], truth[0]):.2e}, the definition {logits_loss:.2e}"
    assert got[1].dtype == np.float32
    assert rms(got[1] - truth[1]) <= 4 * FACTOR * score_error


@EACH_MODEL
@pytest.mark.parametrize("multimask_output", [True, False], ids=["three", "one"])
def test_scores_and_logits_lose_at_most_twice_what_the_definition_loses(name: str, multimask_output: bool) -> None:
    found = usual(name, multimask_output)
    assert found.fast_error <= FACTOR * found.error
    assert found.fast_logits_loss <= FACTOR * found.logits_loss
    assert found.error <= 1e-6 * found.score


@EACH_MODEL
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multimask_output", [True, False], ids=["three", "one"])
def test_no_kind_of_prompt_loses_more_than_twice_the_definition_s_greatest_loss(
    name: str, kind: str, multimask_output: bool
) -> None:
    fast = results(name, "fast", "float32", multimask_output)[kind]
    truth = results(name, "reference", "float64", multimask_output)[kind]
    found = usual(name, multimask_output)
    check(fast, truth, found.greatest_logits_loss, found.error)


@settings(max_examples=settings.default.max_examples // 3)  # each decodes twice
@given(
    count=st.integers(1, 13),
    points=st.integers(0, 24),
    box=st.booleans(),
    mask=st.sampled_from(["none", "one", "each"]),
    tile=st.integers(1, 49),
    multimask_output=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_so_it_does_for_any_prompts_in_tiles_of_any_size(
    count: int, points: int, box: bool, mask: str, tile: int, multimask_output: bool, seed: int
) -> None:
    alone = not points and not box
    prompts = draw(ODD, count, points, box, {"none": 0, "one": 1, "each": count}[mask], seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "TILE", tile)
        got = decode(model("odd", "fast"), features("odd"), prompts, multimask_output)
    truth, worst = (
        decode(model("odd", dtype="float64"), features("odd"), prompts, multimask_output),
        usual("odd", multimask_output),
    )
    check(got, truth, worst.greatest_logits_loss, worst.error)
    expected = 1 if alone and mask != "each" else count
    assert got[0].shape == (expected, 2 if multimask_output else 1, ODD.mask_size, ODD.mask_size)


@pytest.mark.core
def test_a_slip_in_a_folded_weight_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = decoder_weights._scaled
    slipped = lambda s, heads: decoder_weights.Linear(*(x * np.float32(1 + 1e-5) for x in scaled(s, heads)))  # noqa: E731
    monkeypatch.setattr(decoder_weights, "_scaled", slipped)
    fresh, prompts = MobileSam(standin_weights(TINY), TINY, backends.create("fast")), draw(TINY, 9, 1, False, 0)
    truth = decode(model("tiny", dtype="float64"), features("tiny"), prompts)[0]
    ours = loss(decode(model("tiny"), features("tiny"), prompts)[0], truth)
    assert loss(decode(fresh, features("tiny"), prompts)[0], truth) > FACTOR * ours


@EACH_MODEL
@pytest.mark.parametrize("count", [1, 3, 9, 30])
@pytest.mark.parametrize("masks", [False, True], ids=["points", "masks"])
def test_the_number_of_threads_does_not_show(monkeypatch: pytest.MonkeyPatch, name: str, count: int, masks: bool) -> None:
    monkeypatch.setattr(decoder, "TILE", 32)
    prompts = draw(model(name).config, count, 1, False, count if masks else 0)
    one, *others = (decode(model(name, "fast", threads), features(name), prompts) for threads in (1, 2, 5))
    for other in others:
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_callers_at_the_same_time_get_what_each_gets_alone() -> None:
    fast, config = model("demo", "fast", 2), model("demo").config
    prompts = [draw(config, count, 1, False, 0, seed=count) for count in (1, 6, 20)]
    alone = [decode(fast, features("demo"), each)[0] for each in prompts]
    together: dict[int, np.ndarray] = {}

    def decode_in_thread(k: int) -> None:
        together[k] = decode(fast, features("demo"), prompts[k])[0]

    callers = [threading.Thread(target=decode_in_thread, args=(k,)) for k in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    for k in range(3):
        np.testing.assert_array_equal(together[k], alone[k])


@EACH_MODEL
def test_a_prompt_in_a_batch_and_alone_differ_by_rounding(name: str) -> None:
    """Both are within FACTOR of the definition's loss of the truth, so twice that of each other."""
    prompts = draw(model(name).config, 10, 1, False, 0)
    coords, labels = prompts["points"]
    fast, x = model(name, "fast"), features(name)
    together = decode(fast, x, prompts)[0]
    alone = np.concatenate([decode(fast, x, {"points": (coords[k : k + 1], labels[k : k + 1])})[0] for k in range(10)])
    ours, truth = (decode(model(name, dtype=dtype), x, prompts)[0] for dtype in ("float32", "float64"))
    assert loss(together, alone.astype(np.float64)) <= 2 * FACTOR * loss(ours, truth)


@pytest.mark.core
def test_no_prompts_give_no_masks() -> None:
    masks, scores = decode(model("tiny", "fast"), features("tiny"), {"boxes": np.zeros((0, 4))})
    assert masks.shape == (0, 3, TINY.mask_size, TINY.mask_size)
    assert scores.shape == (0, 3)


@pytest.mark.core
def test_arguments_are_not_written_to_and_results_are_the_callers() -> None:
    fast, x = model("tiny", "fast", 2), features("tiny").copy()
    x.flags.writeable = False
    first = decode(fast, x, draw(TINY, 6, 1, False, 6))
    kept = [array.copy() for array in first]
    decode(fast, -x, draw(TINY, 6, 1, False, 6, seed=5))
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.c_contiguous


@pytest.mark.core
def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    """Attention to one pixel alone: exp of differences of thousands."""
    config, weights = MODELS["odd"]()
    for name in weights:
        if "cross_attn" in name and name.endswith("q_proj.weight"):
            weights[name] = weights[name] * np.float32(1000)
    prompts = draw(config, 5, 1, False, 0)
    masks, scores = decode(MobileSam(weights, config, backends.create("fast")), features("odd"), prompts)
    assert np.isfinite(masks).all()
    assert np.isfinite(scores).all()


@pytest.mark.core
def test_a_traced_stage_inside_comes_from_the_definition() -> None:
    prompts, trace = draw(TINY, 2, 1, False, 0), Trace("mask_decoder.transformer.*")
    traced = decode(model("tiny", "fast").traced(trace), features("tiny"), prompts)
    assert "mask_decoder.transformer.layers.0.norm1" in trace
    np.testing.assert_array_equal(traced[0], decode(model("tiny"), features("tiny"), prompts)[0])


@pytest.mark.core
def test_the_map_of_no_mask_prompt_takes_no_memory() -> None:
    _, dense = model("tiny", "fast").encode_prompts(**draw(TINY, 1000, 1, False, 0))
    cast = model("tiny", "fast")._cast_broadcast(dense)
    assert cast.shape == dense.shape
    assert cast.strides == (0, 4, 0, 0)
    np.testing.assert_array_equal(cast, dense)


@pytest.mark.core
@given(tokens=st.integers(1, 200), prompts=st.integers(1, 200))
def test_the_cheaper_way_is_taken(tokens: int, prompts: int) -> None:
    """Products for a pixel's scores: heads * tokens * width folded; inner * width to project it, inner * tokens after that."""
    folded, projecting, asking = 8 * tokens * 256, 128 * 256, 128 * tokens
    assert fold_pays(MOBILE_SAM, tokens) == (folded < projecting + asking)
    assert project_pays(MOBILE_SAM, tokens, prompts) == (projecting + prompts * asking < prompts * folded)
