"""An executor against the package: every operation done again in float64 on the very inputs that the run gave it.

The end of a network hides a fault in its middle, and an error that has piled up looks like a fault at every later operation.
The *local* error has neither problem: it is what this one operation did to its own inputs. Rounding allows each element

    half a unit of the stored type  +  K * (the greatest error of the sums and functions within the operation)

where the second is measured, by doing the operation in float32 (or with float16 sums) on the same inputs. Operations that only
move values are allowed nothing.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.blas import one_blas_thread
from refsam.coreml.arithmetic import Arithmetic, arithmetic
from refsam.coreml.mil import MISFITS, Program, compute, placed, stored, unrounded
from refsam.coreml.ops import OPS
from refsam.coreml.types import Operation, TensorType
from refsam.errors import InputError
from refsam.types import Array, Float

K = 4.0
"""How many times the measured error of sums and functions an element may be off: programs that sum in another order, or whose
exponential is another, differ by up to about twice that of one of them."""

NUMBERS = "fiub"
"""NumPy's kinds of arrays that are read as numbers."""

LARGEST = 65504.0
SMALLEST_NORMAL = 2.0**-14


@dataclass(frozen=True)
class OpVerdict:
    """One operation of a run.

    Attributes:
        op: its type.
        name: its result's name.
        local: relative L2 of its result against float64 on the run's own inputs.
        rounding: the same for a result that is only rounded to the stored type.
        accumulated: relative L2 against float64 from the program's inputs on.
        excess: greatest error of an element in units of what rounding allows it; a fault where it is above 1.
        beyond: how many elements rounding does not explain.
        elements: how many there are.
        span: operations that this judges together: those before it whose results were not dumped, and itself.
        headroom: 65504 over the greatest magnitude, for a float16 result (below 1 it overflows).
        subnormal: part of the non-zero elements that are below float16's normal range.
        reason: what else is wrong with the result: its shape, NaN.
    """

    op: str
    name: str
    local: float
    rounding: float
    accumulated: float
    excess: float
    beyond: int
    elements: int
    span: tuple[str, ...]
    headroom: float
    subnormal: float
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether rounding explains the result."""
        return not self.reason and self.excess <= 1


@dataclass(frozen=True)
class RunVerdict:
    """All operations of a run whose results were given; true where each holds."""

    precision: str
    ops: tuple[OpVerdict, ...]

    def __bool__(self) -> bool:
        return all(op.holds for op in self.ops)

    @property
    def faults(self) -> tuple[OpVerdict, ...]:
        """The operations that rounding does not explain, in order: the first is where to look."""
        return tuple(op for op in self.ops if not op.holds)


def judge_run(
    program: Program, inputs: Mapping[str, Array], dump: Mapping[str, Array], precision: str | None = None, k: float = K
) -> RunVerdict:
    """Judge the results that an executor gave for these inputs.

    Args:
        program: the package that it ran.
        inputs: what it ran on.
        dump: results by name, as many as there are; operations between those that were dumped are judged together.
        precision: what it claims to compute in: None (as the program is typed, sums in float32) or one of PRECISIONS.
        k: how many times the measured error is allowed.

    Raises InputError where the dump has no tensor of the program, or an input is not finite.
    """
    known = {output.name for op in program.ops if not op.is_constant for output in op.outputs}
    if not known & set(dump):
        some = ", ".join(sorted(dump)[:3]) or "nothing"
        raise InputError(f"the dump has {some}, and no result of {program.path}; name its tensors as the program does")
    with arithmetic("fp64") as exact, arithmetic(precision) as declared, one_blas_thread(), np.errstate(all="ignore"):
        judge = _Judge(program, dump, exact, declared, k)
        judge.start(inputs)
        verdicts = []
        for index, op in enumerate(program.ops):
            if not op.is_constant:
                verdicts += judge.operation(op)
                judge.forget(program.last_uses.get(index, ()))
    return RunVerdict(precision or "as typed", tuple(verdicts))


class _Judge:
    """Three values of every tensor: float64 from the inputs on (truth), float64 on what the run had (own), and what an executor
    of the declared precision makes of what the run had (rounded)."""

    def __init__(self, program: Program, dump: Mapping[str, Array], exact: Arithmetic, declared: Arithmetic, k: float) -> None:
        self.program, self.dump, self.exact, self.declared, self.k = program, dump, exact, declared, k
        self.truth: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.rounded: dict[str, Any] = {}
        self.spans: dict[str, tuple[str, ...]] = {}

    def start(self, inputs: Mapping[str, Array]) -> None:
        """Inputs and constants. Constants have the values that the declared precision gives them: rounding them is no fault."""
        constants = self.program.constants(self.declared)
        self.rounded = {**constants, **self.program.given(inputs, self.declared)}
        check_finite(inputs)
        self.own = {name: _double(value) for name, value in self.rounded.items()}
        self.truth = dict(self.own)

    def operation(self, operation: Operation) -> list[OpVerdict]:
        """Do it three times; a verdict for each of its results that was dumped."""
        with placed(self.program, operation):
            truth = compute(operation, self.program.arguments(operation, self.truth, self.exact), self.exact)
            own, rounded = self._on_what_the_run_had(operation)
        span = self._span(operation)
        verdicts = []
        for output, *values in zip(operation.outputs, truth, own, rounded, strict=True):
            name, kind = output.name, output.type
            self.truth[name], self.own[name] = values[0], values[1]
            self.rounded[name] = stored(np.asarray(values[2]), kind, self.declared) if isinstance(kind, TensorType) else values[2]
            self.spans[name] = span
            if name in self.dump and isinstance(kind, TensorType):
                verdicts.append(self._verdict(operation, name, kind, *values))
                self._adopt(name, kind)
        return verdicts

    def forget(self, names: Iterable[str]) -> None:
        """Free results that no later operation needs."""
        for name in names:
            for values in (self.truth, self.own, self.rounded):
                values.pop(name, None)

    def _on_what_the_run_had(self, operation: Operation) -> tuple[list[Any], list[Any]]:
        """In float64, and in the declared precision before it is stored.

        Wrong whole numbers, which were named where they entered, can make an operation impossible: it is judged on the program's.
        """
        try:
            return self._twice(operation)
        except MISFITS:
            self._take_back([a for group in operation.inputs.values() for a in group if isinstance(a, str)])
            return self._twice(operation)

    def _twice(self, operation: Operation) -> tuple[list[Any], list[Any]]:
        own = compute(operation, self.program.arguments(operation, self.own, self.exact), self.exact)
        rounded = unrounded(operation, self.program.arguments(operation, self.rounded, self.declared), self.declared)
        return own, rounded[: len(operation.outputs)]

    def _take_back(self, names: list[str]) -> None:
        """Whole numbers, and what has another shape because of such, become the program's own again."""
        for name in names:
            if name in self.spans:  # a result
                truth, kind = self.truth[name], self.program.types[name]
                if not kind.is_float or truth.shape != self.own[name].shape:
                    self.own[name], self.rounded[name] = truth, stored(truth, kind, self.declared)

    def _span(self, operation: Operation) -> tuple[str, ...]:
        """The operations before this one whose results were not dumped, and this one."""
        before = [n for group in operation.inputs.values() for a in group if isinstance(a, str) for n in self.spans.get(a, ())]
        return (*dict.fromkeys(before), operation.name)

    def _adopt(self, name: str, kind: TensorType) -> None:
        """What follows is judged on what the run had here."""
        value = np.asarray(self.dump[name])
        if value.shape == self.own[name].shape and value.dtype.kind in NUMBERS:
            self.own[name] = value.astype(self.own[name].dtype)
            self.rounded[name] = value.astype(self.declared.dtype) if kind.is_float else self.own[name]
            self.spans[name] = ()

    def _verdict(self, operation: Operation, name: str, kind: TensorType, truth: Array, own: Array, rounded: Any) -> OpVerdict:
        found, span = np.asarray(self.dump[name]), self.spans[name]
        half = kind.is_float and self.declared.rounds(kind)
        reason = _mismatch(found, own)
        if reason:
            return OpVerdict(
                operation.type, name, math.inf, 0.0, math.inf, math.inf, own.size, own.size, span, math.inf, 0.0, reason
            )
        value, exact, reference = (np.asarray(x).astype(np.float64) for x in (found, own, truth))
        moves = OPS[operation.type].moves and len(span) == 1
        measured = 0.0 if moves else self.k * _greatest(np.asarray(rounded).astype(np.float64) - exact)
        allowed = np.zeros_like(exact) if moves else _half_unit(exact, half, kind) + measured
        if operation.type == "quantize":  # the last bit of a quotient that nearly is a half decides between neighbours
            allowed = np.maximum(allowed, 1.0)
        magnitude = _greatest(exact)
        if half:  # what is beyond float16 becomes infinity
            exact = np.where(np.abs(exact) >= LARGEST + 16, np.copysign(np.inf, exact), exact)
        off = np.where((value == exact) | (np.isnan(value) & np.isnan(exact)), 0.0, np.abs(value - exact))
        off = np.where(np.isnan(off), np.inf, off)
        accumulated = relative(value - reference, reference) if value.shape == reference.shape else math.inf
        ratio = np.divide(off, allowed, out=np.where(off > 0, np.inf, 0.0), where=allowed > 0)
        return OpVerdict(
            operation.type, name, relative(off, exact), relative(_rounding(exact, half, kind), exact),
            accumulated, float(ratio.max(initial=0.0)), int(np.count_nonzero(ratio > 1)),
            exact.size, span, LARGEST / magnitude if half and magnitude else math.inf, _subnormal(exact) if half else 0.0,
        )  # fmt: skip


def check_finite(inputs: Mapping[str, Array]) -> None:
    """Raise InputError where an input holds other things than numbers: whatever is computed of it is NaN on both sides."""
    for name, x in inputs.items():
        if not np.isfinite(x).all():
            raise InputError(f"input {name} has NaN or infinity in it, on which nothing can be judged; give finite numbers")


def _mismatch(found: Array, own: Array) -> str:
    if found.shape != own.shape:
        return f"it has shape {found.shape}, and the program makes {own.shape}"
    if found.dtype.kind not in NUMBERS:
        return f"it is an array of {found.dtype}"
    if own.dtype.kind == "f" and np.isnan(found).any() and not np.isnan(own).any():
        return f"{int(np.isnan(found).sum())} elements are NaN"
    return ""


def _double(value: Any) -> Any:
    """Floats as float64; whole numbers, texts and lists as they are."""
    if isinstance(value, list):
        return [_double(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float64)
    return value


def _half_unit(x: Float[Array, "*N"], half: bool, kind: TensorType) -> Any:
    """Half the distance between neighbouring numbers of the stored type, at each element."""
    if not kind.is_float:
        return np.zeros(x.shape)
    bits, least = (11, -14) if half else (53, -1022) if kind.dtype == "fp64" else (24, -126)
    exponent = np.maximum(np.frexp(np.where(np.isfinite(x), x, 0.0))[1] - 1, least)
    return np.ldexp(0.5, exponent - (bits - 1))


def _rounding(x: Float[Array, "*N"], half: bool, kind: TensorType) -> Any:
    """The error of only rounding `x` to the stored type."""
    dtype = np.float16 if half else np.float32
    return x.astype(dtype).astype(np.float64) - x if kind.is_float else np.zeros(x.shape)


def _greatest(x: Any) -> float:
    finite = np.abs(np.asarray(x, np.float64))
    return float(finite[np.isfinite(finite)].max(initial=0.0))


def relative(off: Any, truth: Any) -> float:
    """Relative L2: the norm of the error over the norm of the truth (over 1 where the truth is nothing)."""
    scale = float(np.linalg.norm(np.asarray(truth, np.float64)[np.isfinite(truth)]))
    error = float(np.linalg.norm(np.asarray(off, np.float64)[np.isfinite(off)]))
    return error / scale if scale else error


def _subnormal(x: Float[Array, "*N"]) -> float:
    small, present = int(np.count_nonzero((x != 0) & (np.abs(x) < SMALLEST_NORMAL))), int(np.count_nonzero(x))
    return small / max(present, 1)
