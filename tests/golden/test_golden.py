"""refsam against upstream's torch code, by the goldens that make.py wrote: every stage, every kind of prompt."""

import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from golden.cases import CASES, Case, Golden, load, picture, sample
from standin import standin_weights, weights_sha256

from refsam import MobileSam, SamPredictor, Trace, transforms

# Two float64 programs that sum in different orders differ by about the square root of the number of roundings in a row, times
# 1.1e-16: 2e-14 for the longest chain of sums here. 1e-12 of a stage's own scale leaves room for other BLAS kernels and is
# seven orders below float32's error.
FLOAT64_PARITY = 1e-12

TINY_CASES = [name for name in CASES if name.startswith("tiny")]
FULL_CASES = [name for name in CASES if not name.startswith("tiny")]


@cache
def golden(name: str) -> Golden:
    return load(CASES[name])


@cache
def run(name: str, dtype: str) -> dict[str, np.ndarray]:
    """Our own stages under the golden's names."""
    case = CASES[name]
    model = MobileSam(standin_weights(case.config), case.config, dtype=dtype)
    encoder_trace = Trace()
    encoder = SamPredictor(model.traced(encoder_trace))
    encoder.set_image(picture(case.size))
    result = dict(encoder_trace)
    for kind, prompt in case.prompts.items():
        trace = Trace()
        predictor = SamPredictor(model.traced(trace))
        predictor.set_embedding(encoder.get_image_embedding(), case.size)
        logits, _, _ = predictor.predict(**prompt, return_logits=True)
        result |= {f"{kind}/{stage}": value for stage, value in trace.items()}
        result[f"{kind}/masks"] = logits[None]
    return result


def check_float64(name: str) -> None:
    ours, theirs = run(name, "float64"), golden(name)
    for stage, facts in theirs.stages.items():
        value = ours[stage]
        assert list(value.shape) == facts["shape"], stage
        scale = facts["norm"] / max(value.size, 1) ** 0.5
        worst = np.max(np.abs(sample(value) - theirs.samples[stage]), initial=0)
        assert worst <= FLOAT64_PARITY * scale, f"{stage}: {worst / scale:.1e} of its scale"
        assert abs(np.linalg.norm(value.astype(np.float64)) - facts["norm"]) <= FLOAT64_PARITY * facts["norm"], stage


def float32_error(name: str, stage: str) -> float:
    truth = run(name, "float64")[stage]
    return float(np.linalg.norm(run(name, "float32")[stage].astype(np.float64) - truth) / np.linalg.norm(truth))


def check_float32(name: str) -> None:
    """The issue's bound: the embedding and the logits are at most twice as far from float64 as torch's own float32."""
    stages = golden(name).stages
    for stage in stages:
        if stage == "image_encoder" or stage.endswith(("low_res_masks", "iou_predictions")):
            allowed = 2 * stages[stage]["float32_error"]
            assert float32_error(name, stage) <= allowed, f"{stage}: {float32_error(name, stage):.2e}, allowed {allowed:.2e}"


def check_masks(name: str) -> None:
    """Equal to upstream's float32 masks except where the logit is within both sides' float32 error of the threshold."""
    theirs = golden(name)
    for stage, bits in theirs.masks.items():
        ours, truth = run(name, "float32")[stage], run(name, "float64")[stage]
        upstream = np.unpackbits(bits, count=ours.size).reshape(ours.shape).astype(bool)
        # A logit's error is normal with this deviation at most, so 8 of them are never seen by chance.
        deviation = 3 * theirs.stages[stage]["float32_error"] * np.linalg.norm(truth) / truth.size**0.5
        sure = np.abs(truth) > 8 * deviation
        assert np.array_equal((ours > 0)[sure], upstream[sure]), stage
        assert sure.mean() > 0.99, stage


def check_inputs(case: Case, theirs: dict[str, Any]) -> None:
    """A golden says nothing about other weights or another picture; and the resized picture is bit-exact."""
    assert weights_sha256(standin_weights(case.config)) == theirs["weights_sha256"]
    for array, name in (
        (picture(case.size), "picture"),
        (transforms.resize(picture(case.size), case.config.image_size), "resized"),
    ):
        assert hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() == theirs[f"{name}_sha256"]


@pytest.mark.core
@pytest.mark.parametrize("name", TINY_CASES)
def test_tiny(name: str) -> None:
    check_inputs(CASES[name], golden(name).metadata)
    check_float64(name)
    check_float32(name)
    check_masks(name)


@pytest.mark.parametrize("name", FULL_CASES)
def test_mobile_sam(name: str) -> None:
    check_inputs(CASES[name], golden(name).metadata)
    check_float64(name)
    check_float32(name)
    check_masks(name)


@pytest.mark.core
def test_every_stage_of_upstream_is_a_stage_of_ours_and_the_other_way_round() -> None:
    theirs = {stage.split("/")[-1] for name in TINY_CASES for stage in golden(name).stages}
    ours = {stage.split("/")[-1] for name in TINY_CASES for stage in run(name, "float64")}
    assert ours - theirs == {"transforms.resized", "transforms.point_coords", "transforms.boxes"}
    assert theirs - ours == set()


@pytest.mark.core
def test_a_picture_changes_the_embedding_so_that_these_tests_can_fail() -> None:
    one, other = (run(name, "float64")["image_encoder"] for name in ("tiny-landscape", "tiny-portrait"))
    assert np.linalg.norm(one - other) / np.linalg.norm(other) > 0.5
