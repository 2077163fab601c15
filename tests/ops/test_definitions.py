"""Every operation against plain loops, within derived rounding bounds, and what is expected of any function on arrays."""

import pytest
from ops import checks
from ops.cases import OpCase


@pytest.mark.core
@checks.each_small()
def test_definition(case: OpCase) -> None:
    checks.check_against_loops(case)
    checks.check_float32(case)


@checks.each_small()
def test_manners(case: OpCase) -> None:
    checks.check_manners(case)
    checks.check_layouts(case)


@checks.each_small(batched=True)
def test_items_of_a_batch_do_not_see_each_other(case: OpCase) -> None:
    checks.check_batch(case)
