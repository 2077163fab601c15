"""What float16 cannot hold is found at its stage, with what would have been needed."""

from functools import cache

import numpy as np
import pytest
from standin import TINY, standin_weights
from verify.mistaken import cases, run

from refsam import MobileSam
from refsam.verify.headroom import Greatest
from refsam.verify.hypotheses import float16
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import to_fp16
from refsam.verify.reference import Reference
from refsam.verify.steps import default_stages
from refsam.verify.verdict import judge

pytestmark = pytest.mark.core


@cache
def loud(name: str, factor: float) -> Reference:
    """A model with one tensor much larger: what follows it is out of float16's reach, or its square is."""
    weights = standin_weights(TINY)
    weights[name] = weights[name] * np.float32(factor)
    return Reference(MobileSam(weights, TINY, dtype="float64"), cases(TINY)["points"], default_stages(TINY))


def planted(made: Reference, name: str) -> dict[str, np.ndarray]:
    mistake = next(h for h in float16.HYPOTHESES if h.name == name)
    with np.errstate(all="ignore"):
        return dict(run(mistake.apply(Pipeline()), made.case, made.model))


def test_squares_that_overflow_are_named_with_their_size() -> None:
    made = loud("image_encoder.neck.0.weight", 400)
    verdict = judge(made, planted(made, "float16 overflow in a norm's squares"), precision="fp16")
    assert verdict.report.first == "image_encoder.neck.1"
    explanation = verdict.explanations[0]
    assert explanation.names == ("float16 overflow in a norm's squares",)
    squares = float(np.square(made.truth["image_encoder.neck.0"]).max())
    assert squares > float16.GREATEST
    assert "squares in layer_norm_2d reach" in explanation.note
    assert "times float16's greatest number (65504)" in explanation.note


def test_scores_that_overflow_make_nan_and_are_named() -> None:
    made = loud("mask_decoder.transformer.layers.1.self_attn.q_proj.weight", 1e4)
    port = planted(made, "float16 overflow in attention scores")
    verdict = judge(made, port, precision="fp16")
    assert verdict.report.first == "mask_decoder.transformer.layers.1.self_attn"
    assert verdict.report[verdict.report.first].difference.nan > 0
    assert verdict.explanations[0].names == ("float16 overflow in attention scores",)
    assert [e.stage for e in verdict.explanations] == ["mask_decoder.transformer.layers.1.self_attn"]
    assert "before scaling reach" in str(verdict)


def test_a_result_that_overflows_is_named() -> None:
    made = loud("image_encoder.neck.0.weight", 1e5)
    port = {**run(Pipeline(), made.case, made.model)}
    with np.errstate(over="ignore"):
        port["image_encoder.neck.0"] = to_fp16(port["image_encoder.neck.0"])
    verdict = judge(made, port, precision="fp16")
    assert verdict.report.first == "image_encoder.neck.0"
    assert verdict.report["image_encoder.neck.0"].difference.inf > 0
    assert verdict.explanations[0].names[0] == "results stored in float16"
    assert "results of conv2d reach" in verdict.explanations[0].note


def test_headroom_in_words() -> None:
    assert str(Greatest("squares", 131008.0)) == "squares reach 1.31e+05, 2 times float16's greatest number (65504)"
    assert str(Greatest("squares", 6550.4)) == "squares reach 6.55e+03, 10 % of float16's greatest number (65504)"
