"""How a backend replaces model functions: when the replacement runs, what is prepared, what is shared."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from standin import TINY, standin_weights

from refsam import MobileSam, SamPredictor, Trace, backends
from refsam.backends.fast import FastOps
from refsam.model import tiny_vit
from refsam.ops import Ops
from refsam.scope import Scope, qualified_name

pytestmark = pytest.mark.core

INPUT = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
BLOCK = "image_encoder.layers.1.blocks.0"


class Zeros(Ops):
    """Replaces the transformer block by zeros, and counts."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def replacement(self, name: str) -> Any:
        return self.block if name == qualified_name(tiny_vit.tiny_vit_block) else None

    def block(self, s: Scope, x: Any, num_heads: int, window_size: int) -> Any:
        self.calls.append(s.name)
        return s.tap(np.zeros_like(x))


def run(stages: str | None = None, dtype: str = "float32") -> tuple[list[str], Trace]:
    ops, trace = Zeros(), Trace(stages or "none")
    model = MobileSam(standin_weights(TINY), TINY, ops, dtype)
    (model if stages is None else model.traced(trace)).encode_image(INPUT)
    return ops.calls, trace


EVERY = [f"image_encoder.layers.{layer}.blocks.{block}" for layer, depth in ((1, 1), (2, 2), (3, 1)) for block in range(depth)]


@pytest.mark.parametrize("stages", [None, "image_encoder", "image_encoder.neck.*,masks", "mask_decoder.*"])
def test_a_replacement_runs_where_nothing_inside_it_is_traced(stages: str | None) -> None:
    assert run(stages)[0] == EVERY


@pytest.mark.parametrize("stages", ["*", "image_encoder.*", "*.attn", "image_encoder.layers.?.blocks.[01].mlp.fc1"])
def test_the_definition_runs_where_a_stage_inside_is_traced(stages: str) -> None:
    calls, trace = run(stages)
    assert calls == []
    assert len(trace) > 0


def test_only_the_function_that_is_traced_falls_back() -> None:
    calls, trace = run(f"{BLOCK}.attn.qkv")
    assert calls == EVERY[1:]
    assert list(trace) == [f"{BLOCK}.attn.qkv"]


def test_a_functions_own_stage_comes_from_the_replacement() -> None:
    calls, trace = run(BLOCK)
    assert calls == EVERY
    assert not trace[BLOCK].any()


def test_float64_runs_on_the_definition() -> None:
    assert run(dtype="float64")[0] == []


def test_what_is_prepared_is_made_once_for_all_scopes_of_a_model() -> None:
    made = []

    def double(s: Scope, times: int = 1) -> Any:
        made.append((s.name, times))
        return s["weight"] * 2 * times

    model = MobileSam(standin_weights(TINY), TINY)
    name = "image_encoder.neck.0"
    first = (model.scope / name).prepared(double)
    assert (model.traced(Trace()).scope / "image_encoder" / "neck" / 0).prepared(double) is first
    assert (model.scope / name).prepared(double, times=2) is not first
    assert (model.scope / "image_encoder.neck.2").prepared(double) is not first
    assert made == [(name, 1), (name, 2), ("image_encoder.neck.2", 1)]
    assert (MobileSam(standin_weights(TINY), TINY).scope / name).prepared(double) is not first


def test_other_weights_are_computed_with_and_not_what_was_made_of_the_old_ones() -> None:
    models = [MobileSam(standin_weights(TINY, seed), TINY, FastOps(1)) for seed in (0, 1)]
    old, new = (model.encode_image(INPUT) for model in models)
    other = models[0].with_scope(replace(models[0].scope, weights=models[1].scope.weights))
    np.testing.assert_array_equal(other.encode_image(INPUT), new)
    np.testing.assert_array_equal(models[0].encode_image(INPUT), old)
    assert other.with_scope(replace(other.scope, trace=Trace())).scope.memo is other.scope.memo


@pytest.mark.parametrize(("backend", "threads"), [("reference", 1), ("fast", 1), ("fast", 3)])
def test_underflow_is_no_error_where_the_host_makes_it_one(backend: str, threads: int) -> None:
    """Weights so large that softmax and GELU have next to nothing in them."""
    weights = standin_weights(TINY)
    with np.errstate(all="raise"):
        model = MobileSam({**weights, **_loud(weights)}, TINY, backends.create(backend, threads))
        for seed in range(3):
            predictor = SamPredictor(model)
            predictor.set_image(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))
            masks, _, logits = predictor.predict([[9, 9]], [1], box=[3, 4, 40, 41])
            predictor.predict(mask_input=logits[:1])
            predictor.stability_scores(logits[None])
            assert masks.shape == (3, 48, 64)
        assert np.geterr()["under"] == "raise"


def _loud(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor * 30 for name, tensor in weights.items() if name.endswith(("qkv.weight", "q_proj.weight"))}
