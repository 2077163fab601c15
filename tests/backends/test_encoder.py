"""The fast backend's encoder: each replaced function and the whole, against float64; threads, callers, layouts.

A replaced function's allowance is what the definition's own float32 loses on the same input, with the fast GELU (whose error
test_fast_activation.py holds) in place of the exact one: it may lose twice as much, since it folds weights and adds in another
order. The whole model against torch is tests/golden/test_golden.py's business.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from golden.cases import demo, picture
from standin import TINY, standin_weights

from refsam import MobileSam, backends, transforms
from refsam.backends.fast import attention
from refsam.backends.fast.activation import gelu as fast_gelu
from refsam.backends.fast.registry import REPLACEMENTS
from refsam.backends.fast.scratch import Scratch
from refsam.config import Config
from refsam.model import tiny_vit
from refsam.ops import Ops
from refsam.scope import Scope, qualified_name

FACTOR = 2.0

ODD = replace(
    TINY, image_size=112, embed_dims=(12, 20, 36, 320), num_heads=(1, 1, 3, 5), window_sizes=(7, 5, 7, 9), mlp_ratio=1.5
)
"""Grids of 28, 14, 7 and 7: odd sides, windows that divide their grid, that do not, and that are larger than it."""

MODELS: dict[str, Callable[[], tuple[Config, dict[str, np.ndarray]]]] = {
    "tiny": lambda: (TINY, standin_weights(TINY)),
    "odd": lambda: (ODD, standin_weights(ODD)),
    "demo": lambda: (demo().config, dict(demo().tensors)),
}
EACH_MODEL = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.core if name == "tiny" else ()) for name in MODELS]
)


class Call(NamedTuple):
    function: Callable[..., Any]
    stage: str
    arguments: tuple[Any, ...]


class Listening(Ops):
    """The definition, noting the calls of functions that the fast backend replaces."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def replacement(self, name: str) -> Any:
        functions = {qualified_name(f): f for f in vars(tiny_vit).values() if callable(f) and hasattr(f, "__wrapped__")}
        if name not in REPLACEMENTS or name not in functions or name == "tiny_vit.tiny_vit":  # which composes the others
            return None

        def noted(s: Scope, *arguments: Any) -> Any:
            self.calls.append(Call(functions[name], s.name, arguments))
            return functions[name](replace(s, ops=Ops()), *arguments)

        return noted


class FastGelu(Ops):
    """The definition but for GELU."""

    @staticmethod
    def gelu(x: Any) -> Any:  # type: ignore[override]
        if x.dtype != np.float32:
            return Ops.gelu(x)
        y = np.array(x, order="C")
        fast_gelu(Scratch(), y)
        return y


@cache
def model(name: str, backend: str = "reference", threads: int | None = None, dtype: str = "float32") -> MobileSam:
    config, weights = MODELS[name]()
    return MobileSam(weights, config, backends.create(backend, threads), dtype)


@cache
def image(name: str) -> np.ndarray:
    return transforms.preprocess(picture((200, 256)), model(name).config.image_size)


@cache
def calls(name: str) -> list[Call]:
    config, weights = MODELS[name]()
    ops = Listening()
    MobileSam(weights, config, ops).encode_image(image(name))
    return ops.calls


def call(model: MobileSam, what: Call) -> np.ndarray:
    arguments = [x.astype(model.dtype) if isinstance(x, np.ndarray) else x for x in what.arguments]
    result = what.function(replace(model.scope, name=what.stage), *arguments)
    assert isinstance(result, np.ndarray)
    return result


def error(x: np.ndarray, truth: np.ndarray) -> float:
    assert x.shape == truth.shape
    assert x.dtype == np.float32
    return float(np.linalg.norm(x - truth) / np.linalg.norm(truth))


def losses(name: str) -> list[tuple[str, float, float]]:
    """Of each replaced function: its stage, the fast one's error, the definition's with the fast GELU."""
    config, weights = MODELS[name]()
    approximate, found = MobileSam(weights, config, FastGelu()), []
    for what in calls(name):
        truth = call(model(name, dtype="float64"), what)
        fast, ours = (error(call(m, what), truth) for m in (model(name, "fast"), approximate))
        found.append((what.stage, fast, ours))
    return found


@EACH_MODEL
def test_each_replaced_function_loses_at_most_twice_what_the_definition_loses(name: str) -> None:
    assert {what.function.__name__ for what in calls(name)} == {
        "patch_embed", "mb_conv", "patch_merging", "tiny_vit_block", "neck"
    }  # fmt: skip
    for stage, fast, ours in losses(name):
        assert fast <= FACTOR * ours, f"{stage}: {fast:.2e}, the definition's float32 {ours:.2e}"


@pytest.mark.core
def test_a_slip_in_a_fast_function_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    by_kind = attention.by_kind
    monkeypatch.setattr(attention, "by_kind", lambda rows, num_heads: by_kind(rows, num_heads) * (1 + 1e-5))
    config, weights = MODELS["tiny"]()
    slipped = MobileSam(weights, config, backends.create("fast"))
    block = next(what for what in calls("tiny") if what.function.__name__ == "tiny_vit_block")
    truth = call(model("tiny", dtype="float64"), block)
    assert error(call(slipped, block), truth) > FACTOR * error(call(model("tiny"), block), truth)


@EACH_MODEL
def test_the_number_of_threads_does_not_show(name: str) -> None:
    one, *others = (model(name, "fast", threads).encode_image(image(name)) for threads in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_callers_at_the_same_time_get_what_each_gets_alone() -> None:
    fast = model("demo", "fast", 2)
    images = [image("demo"), image("demo")[..., ::-1].copy()]
    alone = [fast.encode_image(x) for x in images]
    together: dict[int, np.ndarray] = {}
    callers = [threading.Thread(target=lambda k=k: together.update({k: fast.encode_image(images[k % 2])})) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    for k in range(4):
        np.testing.assert_array_equal(together[k], alone[k % 2])


@pytest.mark.core
def test_a_batch_is_its_images_one_by_one() -> None:
    fast = model("odd", "fast", 2)
    s = fast.scope / "image_encoder"
    images = np.concatenate([image("odd"), image("odd")[:, :, ::-1]])
    together = tiny_vit.tiny_vit(s, images, fast.config)
    for k in range(2):
        np.testing.assert_array_equal(together[k : k + 1], tiny_vit.tiny_vit(s, images[k : k + 1].copy(), fast.config))


@pytest.mark.core
def test_scores_too_great_for_a_power_of_two_are_shifted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    config, weights = MODELS["tiny"]()
    for name in weights:
        if name.endswith("attention_biases"):
            weights[name] = weights[name] * np.float32(150)
    fast = MobileSam(weights, config, backends.create("fast")).encode_image(image("tiny"))
    ours, truth = (MobileSam(weights, config, dtype=dtype).encode_image(image("tiny")) for dtype in ("float32", "float64"))
    assert error(fast, truth) <= FACTOR * error(ours, truth)


@pytest.mark.core
def test_the_picture_is_not_written_to_and_the_result_is_the_callers() -> None:
    fast, x = model("tiny", "fast", 2), image("tiny").copy()
    x.flags.writeable = False
    first = fast.encode_image(x)
    kept = first.copy()
    fast.encode_image(image("tiny")[..., ::-1])
    np.testing.assert_array_equal(first, kept)
    assert first.flags.c_contiguous
