"""Rounding to a declared precision."""

import dataclasses

import numpy as np
import pytest
from standin import TINY, standin_weights
from verify.mistaken import cases, tiny

from refsam import InputError, MobileSam, Trace
from refsam.verify.precision import model_of_precision, precision_of, to_bf16, to_fp16, to_int8_weights

pytestmark = pytest.mark.core

WIDE = dataclasses.replace(TINY, image_size=1024)


def test_fp16_overflows_as_on_a_device() -> None:
    assert to_fp16(np.array([65504, 65520, -1e5], np.float32)).tolist() == [65504, np.inf, -np.inf]


def test_bf16_rounds_to_nearest_even() -> None:
    one_ulp = 2.0**-7
    x = np.array([1 + one_ulp / 2, 1 + one_ulp * 1.5, 1 + one_ulp * 0.4, np.inf, -0.0], np.float32)
    assert to_bf16(x).tolist() == [1.0, 1 + 2 * one_ulp, 1.0, np.inf, 0.0]


def test_int8_has_one_scale_for_each_row_and_leaves_small_tensors() -> None:
    x = np.random.RandomState(0).normal(size=(32, 128)).astype(np.float32)
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    assert np.abs(to_int8_weights(x) - x).max() <= step.max() / 2 * 1.001
    assert np.allclose(np.rint(to_int8_weights(x) / step) * step, to_int8_weights(x), atol=1e-6)
    assert np.array_equal(to_int8_weights(x[:4]), x[:4])


def test_names() -> None:
    assert precision_of("float16").name == "fp16"
    with pytest.raises(InputError, match=r"precision is 'fp8'.*float32, fp16, bf16, int8"):
        precision_of("fp8")


def test_every_stage_of_an_fp16_model_is_representable() -> None:
    model = model_of_precision(MobileSam(standin_weights(TINY), TINY), "fp16")
    trace = cases(TINY)["points"].run(model, Trace())
    inside = [name for name in trace if name.startswith(("image_encoder", "mask_decoder"))]
    assert len(inside) > 100
    for name in inside:
        assert np.array_equal(trace[name], trace[name].astype(np.float16).astype(np.float32)), name


def test_float32_is_the_definition_itself() -> None:
    case = cases(TINY)["points"]
    ours = case.run(model_of_precision(tiny(), "float32"), Trace("low_res_masks"))
    plain = case.run(MobileSam(standin_weights(TINY), TINY), Trace("low_res_masks"))
    assert np.array_equal(ours["low_res_masks"], plain["low_res_masks"])


def test_an_fp16_model_encodes_positions_of_rounded_coordinates() -> None:
    """A half pixel is lost beyond 512 where coordinates are stored: the tokens have to show it."""
    coords, labels = np.array([[[600.3, 41.7]]]), np.array([[1]])
    exact = MobileSam(standin_weights(WIDE), WIDE).encode_prompts((coords, labels))[0]
    rounded = model_of_precision(MobileSam(standin_weights(WIDE), WIDE), "fp16").encode_prompts((coords, labels))[0]
    lost = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 2**-11 < lost < 0.05
    assert np.array_equal(rounded, rounded.astype(np.float16).astype(np.float32))
