"""What every case of every operation has to pass, whatever the backend."""

from typing import Any

import numpy as np
import pytest
from ops.cases import SMALL, OpCase

from refsam.ops import Ops

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


def each_small(batched: bool = False) -> pytest.MarkDecorator:
    """Runs a test on every small case, or on those only that have a batch of several."""
    cases = [case for case in SMALL if is_batch(case) or not batched]
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def is_batch(case: OpCase) -> bool:
    shape = case.shapes[0] or ()
    return len(shape) > 1 and shape[0] > 1


def call(case: OpCase, arguments: Any, ops: Any = Ops) -> np.ndarray:
    return getattr(ops, case.op)(*arguments)


def assert_within(case: OpCase, result: np.ndarray, truth: np.ndarray, units: float) -> None:
    """`result` is as close to `truth` as rounding allows; the message says how many times the bound was needed."""
    __tracebackhide__ = True
    assert result.shape == truth.shape
    allowed = case.bound(case.seeded(np.float64), units)
    error = np.abs(result.astype(np.float64) - truth)
    worst = float(np.max(error / np.maximum(allowed, 1e-300), initial=0))
    assert worst <= 1, f"{case.name}: error is {worst:.3g} times its rounding bound"


def check_against_loops(case: OpCase) -> None:
    """float64 within the rounding of both sides: the loops round their products too, hence twice the unit."""
    arguments = case.seeded(np.float64)
    assert_within(case, call(case, arguments), case.naive(*arguments), 2 * UNIT[np.dtype(np.float64)])


def check_float32(case: OpCase, ops: Any = Ops) -> None:
    """float32 within its rounding bound of the definition in float64 (whose own error is a billionth of that)."""
    truth = call(case, case.seeded(np.float64))
    result = call(case, case.seeded(np.float32), ops)
    assert_within(case, result, truth, UNIT[np.dtype(np.float32)] * (1 + 1e-6))


def check_manners(case: OpCase, ops: Any = Ops) -> None:
    """The dtype stays, the arguments are not written to, and a second call gives the same bits."""
    for dtype in (np.float32, np.float64):
        arguments = case.seeded(dtype)
        for array in arrays(arguments):
            array.flags.writeable = False
        result = call(case, arguments, ops)
        assert result.dtype == dtype
        np.testing.assert_array_equal(call(case, arguments, ops), result)
        for array, original in zip(arrays(arguments), arrays(case.seeded(dtype)), strict=True):
            np.testing.assert_array_equal(array, original)


def check_layouts(case: OpCase, ops: Any = Ops) -> None:
    """Strided, reversed, Fortran-ordered and misaligned views of the same numbers give the same result within rounding."""
    truth = call(case, case.seeded(np.float64))
    for layout in (spread, backwards, np.asfortranarray, misaligned):
        arguments = [layout(x) if isinstance(x, np.ndarray) else x for x in case.seeded(np.float32)]
        assert_within(case, call(case, arguments, ops), truth, UNIT[np.dtype(np.float32)] * (1 + 1e-6))


def check_batch(case: OpCase, ops: Any = Ops) -> None:
    """What stands beside an item in the batch does not matter: each alone gives the same within rounding."""
    arguments = case.seeded(np.float32)
    batch = len(arguments[0])
    batched = 3 if case.op == "attention" else 1
    rows = [call(case, [x[i : i + 1] if place < batched else x for place, x in enumerate(arguments)], ops) for i in range(batch)]
    together = call(case, case.seeded(np.float64))
    assert_within(case, np.concatenate(rows), together, UNIT[np.dtype(np.float32)] * (1 + 1e-6))


def arrays(arguments: Any) -> list[np.ndarray]:
    return [x for x in arguments if isinstance(x, np.ndarray)]


def spread(x: np.ndarray) -> np.ndarray:
    """Every second element of a larger array."""
    room = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    room[..., ::2] = x
    return room[..., ::2]


def backwards(x: np.ndarray) -> np.ndarray:
    """With negative strides."""
    reverse = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[reverse])[reverse]


def misaligned(x: np.ndarray) -> np.ndarray:
    """Beginning at an odd address."""
    room = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.uint8)
    view = np.ndarray(x.shape, x.dtype, room.data)
    view[...] = x
    return view
