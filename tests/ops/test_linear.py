"""ops/linear.py against plain loops, within derived rounding bounds."""

import numpy as np
import pytest
from ops import checks
from ops.cases import OpCase

from refsam.ops.linear import linear

CASES = checks.each_small("linear")


@pytest.mark.core
@CASES
def test_definition(case: OpCase) -> None:
    checks.check_against_loops(case)
    checks.check_float32(case)


@CASES
def test_manners(case: OpCase) -> None:
    checks.check_manners(case)
    checks.check_layouts(case)


@checks.each_small("linear", batched=True)
def test_items_of_a_batch_do_not_see_each_other(case: OpCase) -> None:
    checks.check_batch(case)


def test_zero_weight_gives_the_bias_everywhere() -> None:
    bias = np.arange(3.0)
    y = linear(np.ones((2, 4, 5)), np.zeros((3, 5)), bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (2, 4, 3)))


def test_a_broadcast_input_is_taken() -> None:
    row = np.arange(5.0)
    y = linear(np.broadcast_to(row, (4, 5)), np.eye(5), np.zeros(5))
    np.testing.assert_array_equal(y, np.tile(row, (4, 1)))
