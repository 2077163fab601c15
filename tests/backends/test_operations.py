"""The fast backend's operations one by one: in parts, but the definition's. tests/test_backends.py holds them to their bounds."""

import numpy as np
import pytest
from ops.cases import SMALL, OpCase
from ops.checks import call

from refsam.backends.fast import FastOps, operations
from refsam.backends.fast.ops import SHARED
from refsam.ops import Ops

pytestmark = pytest.mark.core

OPS = {threads: FastOps(threads) for threads in (1, 2)}


@pytest.mark.parametrize("case", [case for case in SMALL if case.op in SHARED], ids=lambda case: case.name)
def test_parts_make_the_whole(case: OpCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PART", 16)
    arguments = case.seeded(np.float32)
    one, two, whole = (call(case, arguments, ops) for ops in (OPS[1], OPS[2], Ops))
    np.testing.assert_array_equal(one, two)
    if case.op in ("linear", "attention"):  # BLAS may sum in another order for another number of rows
        np.testing.assert_allclose(one, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max(initial=0))
    else:
        np.testing.assert_array_equal(one, whole)


@pytest.mark.parametrize("op", SHARED)
def test_a_large_array_is_in_parts_and_float64_is_not(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in SMALL if case.op == op and case.shapes[0] and min(case.shapes[0]) > 1)
    monkeypatch.setattr(operations, "PART", 16)
    calls: list[int] = []
    definition = getattr(Ops, op)

    def counted(*arguments: object) -> np.ndarray:
        calls.append(1)
        result: np.ndarray = definition(*arguments)
        return result

    monkeypatch.setattr(Ops, op, staticmethod(counted))
    ops = FastOps(1)
    call(case, case.seeded(np.float32), ops)
    assert len(calls) > 1
    calls.clear()
    call(case, case.seeded(np.float64), ops)
    assert len(calls) == 1
