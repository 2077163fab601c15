"""The counts of multiply-adds and bytes."""

import numpy as np
import pytest
from ops.cases import SMALL, OpCase
from standin import TINY

from benchmarks.work import RULES, Work, decoder_macs, encoder_stages, encoder_work
from refsam.config import MOBILE_SAM
from refsam.ops import Ops

UNPADDED = {"linear/tokens", "linear/vector", "conv2d/2x2-stride-2-bias", "conv2d/1x1", "conv_transpose2d/odd"}


def test_the_unpadded_cases_are_of_the_list() -> None:
    assert {case.name for case in SMALL} >= UNPADDED


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_a_rule_gives_the_shape_that_the_operation_gives(case: OpCase) -> None:
    arguments = case.seeded(np.float64)
    shape, _ = RULES[case.op](*(x.shape if isinstance(x, np.ndarray) else x for x in arguments))
    assert shape == getattr(Ops, case.op)(*arguments).shape


@pytest.mark.parametrize("case", [case for case in SMALL if case.name in UNPADDED], ids=lambda case: case.name)
def test_among_ones_each_result_is_the_number_of_its_products(case: OpCase) -> None:
    arguments = [np.ones_like(x) if isinstance(x, np.ndarray) else x for x in case.seeded(np.float64)]
    if case.shapes[-1] is not None and len(case.shapes) == 3:
        arguments[2] = np.zeros_like(arguments[2])  # the bias is no product
    _, macs = RULES[case.op](*(x.shape if isinstance(x, np.ndarray) else x for x in arguments))
    assert macs == getattr(Ops, case.op)(*arguments).sum()


def test_attention_counts_both_products() -> None:
    assert RULES["attention"]((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4))[1] == 2 * 3 * (5 * 7 * 4 + 5 * 7 * 4)


@pytest.mark.parametrize("config", [TINY, MOBILE_SAM], ids=["tiny", "mobile_sam"])
@pytest.mark.usefixtures("unchecked")
def test_every_stage_of_the_encoder_has_work(config) -> None:
    work = encoder_work(config)
    assert list(work) == encoder_stages(config)
    assert all(stage.macs > 0 and stage.bytes > 0 for stage in work.values())


@pytest.mark.usefixtures("unchecked")
def test_the_neck_is_two_convolutions() -> None:
    neck, grid = encoder_work(MOBILE_SAM)["image_encoder.neck"], 64 * 64
    weights = 320 * 256 + 9 * 256 * 256
    assert neck.macs == grid * weights
    assert neck.bytes == 4 * (grid * 320 + grid * 256 + weights + 4 * 256)


@pytest.mark.usefixtures("unchecked")
def test_a_prompt_more_costs_the_decoder_less_than_the_first() -> None:
    one, three = decoder_macs(MOBILE_SAM, 1), decoder_macs(MOBILE_SAM, 3)
    assert one < three < 1.1 * one


def test_the_roof_is_the_slower_of_arithmetic_and_traffic() -> None:
    assert Work(100, 10).least_seconds(10, 100) == 10
    assert Work(100, 10).least_seconds(1000, 1) == 10
