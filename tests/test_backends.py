"""Every backend against the definition, on the shared cases; and that the cases are the model's own calls."""

import importlib.util
from typing import Any

import numpy as np
import pytest
from ops import checks
from ops.cases import CASES, LARGE, SMALL, OpCase
from ops.naive import NAIVE

from refsam import InputError, MobileSam, backends
from refsam.config import MOBILE_SAM
from refsam.ops import Ops
from refsam.parameters import parameter_shapes

pytestmark = pytest.mark.core

OPERATIONS = [name for name, value in vars(Ops).items() if isinstance(value, staticmethod)]

ABSENT = {"metal"} if importlib.util.find_spec("metalcompute") is None else set()
HERE = sorted(set(backends.BACKENDS) - {"reference"} - ABSENT)  # the reference is the definition, see ops/test_definitions.py


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("op", OPERATIONS)
def test_a_backend_keeps_to_the_definition(backend: str, op: str) -> None:
    ops = backends.create(backend, threads=2)
    for case in SMALL:
        if case.op == op:
            checks.check_float32(case, ops)
            checks.check_manners(case, ops)
            checks.check_layouts(case, ops)


def test_a_backend_that_cuts_corners_is_noticed() -> None:
    class Half(Ops):
        @staticmethod
        def linear(x: Any, weight: Any, bias: Any) -> Any:  # type: ignore[override]
            return Ops.linear(x.astype(np.float16).astype(x.dtype), weight, bias)

    case = next(case for case in SMALL if case.name == "linear/tokens")
    with pytest.raises(AssertionError, match=r"linear/tokens: error is .* times its rounding bound"):
        checks.check_float32(case, Half())


def test_the_reference_is_the_definition_itself() -> None:
    assert type(backends.create("reference")) is Ops


def test_an_unknown_backend_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"backend is 'gpu'; there are: .*reference"):
        backends.create("gpu")


def test_every_operation_has_cases_loops_and_a_name() -> None:
    assert {case.op for case in SMALL} == {case.op for case in LARGE} == set(NAIVE) == set(OPERATIONS)
    assert len({case.name for case in CASES}) == len(CASES)


class ShapesOnly(Ops):
    """Computes nothing: notes each call's shapes and options, and answers with zeros that take no memory."""

    def __init__(self) -> None:
        self.calls: set[tuple[Any, ...]] = set()


def shapes_only(name: str) -> Any:
    def method(self: ShapesOnly, *arguments: Any) -> Any:
        self.calls.add((name, *call_shape(arguments)))
        small = [np.zeros(1) if x is None else x for x in arguments]
        return np.broadcast_to(np.float32(0), result_shape(name, small))

    return method


def call_shape(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.shape if isinstance(x, np.ndarray) else x for x in arguments)


def result_shape(name: str, arguments: list[Any]) -> tuple[int, ...]:
    x = arguments[0]
    if name == "linear":
        return (*x.shape[:-1], len(arguments[1]))
    if name == "conv2d":
        size, (stride, padding) = arguments[1].shape[-1], arguments[3:]
        return (len(x), len(arguments[1]), *((n + 2 * padding - size) // stride + 1 for n in x.shape[2:]))
    if name == "depthwise_conv2d":
        return (*x.shape[:2], *((n - 1) // arguments[2] + 1 for n in x.shape[2:]))
    if name == "conv_transpose2d":
        return (len(x), arguments[1].shape[1], *(2 * n for n in x.shape[2:]))
    return (*x.shape[:-1], arguments[2].shape[-1]) if name == "attention" else x.shape


for _name in OPERATIONS:
    setattr(ShapesOnly, _name, shapes_only(_name))


@pytest.mark.usefixtures("unchecked")
def test_large_cases_are_calls_that_mobile_sam_makes() -> None:
    zeros = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(MOBILE_SAM).items()}
    ops = ShapesOnly()
    model = MobileSam(zeros, MOBILE_SAM, ops)
    features = model.encode_image(np.broadcast_to(np.float32(0), (1, 3, 1024, 1024)))
    sparse, dense = model.encode_prompts((np.zeros((1, 1, 2)), np.ones((1, 1), int)))
    model.decode_masks(features, model.image_pe, sparse, dense)
    made_up = [case.name for case in LARGE if (case.op, *case.shapes, *case.options) not in ops.calls]
    assert made_up == []


def test_a_case_gives_the_same_numbers_each_time_and_in_each_dtype() -> None:
    case: OpCase = SMALL[0]
    for single, double in zip(case.seeded(np.float32), case.seeded(np.float64), strict=True):
        assert (single.dtype, double.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(single, double)
