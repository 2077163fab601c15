"""A package against refsam: where does a fault of the converter, or of a hand, enter?

The program runs in float64. Each result is looked for among the values that refsam computed (events): the same numbers, perhaps
in another layout. What is found is *trusted*, and its exact value takes the place of the program's own, so that no error is
carried on. What is not found waits: a later result that is found clears it. Where an operation that refsam has too (a linear
map, a convolution, a softmax ...) gives something else, the fault is at the first waiting operation before it; refsam's value
takes its place, and the search goes on behind it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.blas import one_blas_thread
from refsam.coreml.arithmetic import Arithmetic, arithmetic
from refsam.coreml.export import Part
from refsam.coreml.mil import MISFITS, Program, compute, placed
from refsam.coreml.ops.norm import BATCH_NORM_EPSILON
from refsam.coreml.roles import part_of, roles_of
from refsam.coreml.types import Operation
from refsam.coreml.verdicts.events import Event, decoder_events, encoder_events, prompt_events
from refsam.coreml.verdicts.executor import LARGEST, check_finite
from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.types import Array

BUDGETS = {"fp16": 2e-3, "fp32": 2e-5}
"""Relative L2 of one operation on refsam's own inputs, by the type that weights are stored in: eight times the 2.4e-4 that
rounding weights to float16 costs; for float32 four times the converter's epsilon of 5e-6 (see `epsilon_faults`)."""

NEAR = 0.3
"""Relative L2 up to which a result is taken for refsam's value with an error, not for something else."""

AHEAD = 24
"""Events after the last one that was found which are looked at."""

EXACT = {"softmax": 5e-6, "gelu": 5e-6, "relu": 5e-6, "sin": 5e-6, "cos": 5e-6}
"""The same for operations without weights: events are float32, which a softmax or a sine makes ten times worse."""

ANCHORS = ("conv", "conv_transpose", "linear", "layer_norm", "batch_norm", "softmax", "gelu", "relu", "sin", "cos", "concat")
"""Operations that refsam has too, in the same layout: each is held against one of its own kind, and no two against the same."""

RESHAPING = ("reshape", "transpose", "expand_dims", "squeeze")
PARTS = ("slice_by_index", "split", "gather")
"""Operations that hand on a part: that it is right says nothing of the rest."""

NEAREST = 0.1
"""Relative L2 up to which a result on trusted inputs, of refsam's kind and size, is refsam's with an error: 10 % of a scale."""
MAX_SORTED = 1 << 21


@dataclass(frozen=True)
class Finding:
    """One operation of the package.

    Attributes:
        op: its type; name: its result; stage: what refsam calls that value, "" where it has none.
        error: relative L2 on refsam's inputs; infinite where nothing like it is expected there.
        segment: for a fault, the operations between the last trusted values and the first wrong one.
    """

    op: str
    name: str
    stage: str
    error: float
    segment: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackageVerdict:
    """What was found; true where no fault is above the budget.

    Attributes:
        found: operations whose results refsam has.
        faults: where results go wrong, in order.
        unmatched: operations that neither were found nor led to one that was.
        epsilon: batch_norms with the converter's needless epsilon, and the relative error that it makes.
        budget: what one operation may be off.
        overflow: results typed float16 that are beyond its greatest number on these inputs, and by what factor. That is no fault
            of the package's numbers: with others it does not happen. The square within a LayerNorm2d that was converted step by
            step is where it does, from a distance of 256 to the mean on.
        compressed: weights that are stored as tables, masks, blocks or integers. No budget stands for what that costs: held
            against the weights that it was made from, such a package has faults all over.
    """

    part: str
    found: tuple[Finding, ...]
    faults: tuple[Finding, ...]
    unmatched: tuple[str, ...]
    epsilon: tuple[tuple[str, float], ...]
    budget: float
    overflow: tuple[tuple[str, float], ...] = ()
    compressed: int = 0

    def __bool__(self) -> bool:
        return not self.faults


def judge_package(program: Program, model: MobileSam, inputs: Mapping[str, Array]) -> PackageVerdict:
    """Hold a package of one of SAM's three parts against refsam with the weights that it was made from.

    Raises InputError where the program's inputs are not those of a part, or these do not fit it or the model, or are not finite.
    """
    part = part_of(program.path, program.inputs)
    with arithmetic("fp64") as c:
        program.given(inputs, c)  # says what is wrong with them
    check_finite(inputs)
    events = _events(part, model, {role: np.asarray(inputs[name]) for role, name in roles_of(part, program.inputs).items()})
    budget = BUDGETS["fp16" if any(kind.dtype == "fp16" for kind in program.types.values()) else "fp32"]
    with arithmetic("fp64") as c, one_blas_thread(), np.errstate(all="ignore"):
        search = _Search(program, events, budget, c)
        search.run(inputs)
    return PackageVerdict(
        part.replace("_", " "),
        tuple(search.found),
        tuple(search.faults),
        tuple(search.waiting),
        tuple(epsilon_faults(program)),
        budget,
        tuple(search.overflow),
        sum(op.is_constant and op.type not in ("const", "constexpr_cast") for op in program.ops),
    )


def _events(part: Part, model: MobileSam, given: Mapping[str, Array]) -> list[Event]:
    try:
        if part == "image_encoder":
            return encoder_events(model, given["image"])
        if part == "mask_decoder":
            return decoder_events(model, given)
        return prompt_events(model, given["points"], given["labels"])
    except MISFITS as error:
        shapes = ", ".join(str(x.shape) for x in given.values())
        raise InputError(
            f"refsam's {part.replace('_', ' ')} with these weights cannot take inputs of {shapes} ({error!s:.200})"
        ) from None


def epsilon_faults(program: Program) -> list[tuple[str, float]]:
    """The batch_norms that stand for gamma x + beta: mean 0, variance 1, and an epsilon that scales by 1 / sqrt(1 + epsilon).

    coremltools' pass fuse_elementwise_to_batchnorm makes them of LayerNorm2d's last step and leaves the epsilon at its default.
    """
    with arithmetic("fp64") as c:
        constants = program.constants(c)
        faults = []
        for op in program.ops:
            if op.type == "batch_norm":
                mean, variance, epsilon = (_known(op, name, constants) for name in ("mean", "variance", "epsilon"))
                size = BATCH_NORM_EPSILON if epsilon is None else float(np.max(epsilon, initial=0.0))
                plain = mean is not None and variance is not None and not np.any(mean) and np.all(variance == 1)
                if plain and size > 0:
                    faults.append((op.name, abs(1 / math.sqrt(1 + size) - 1)))
    return faults


def _known(operation: Operation, name: str, constants: Mapping[str, Any]) -> Any:
    """A parameter that no input of the program changes, else None."""
    (argument, *_) = operation.inputs.get(name) or (None,)
    return constants.get(argument) if isinstance(argument, str) else None if argument is None else argument.read()


class _Search:
    def __init__(self, program: Program, events: list[Event], budget: float, c: Arithmetic) -> None:
        self.program, self.events, self.budget, self.c = program, events, budget, c
        self.norms = [float(np.linalg.norm(event.value)) for event in events]
        self.last = 0
        self.values: dict[str, Any] = {}
        self.found: list[Finding] = []
        self.faults: list[Finding] = []
        self.overflow: list[tuple[str, float]] = []
        self.waiting: dict[str, Operation] = {}
        self.behind: dict[str, tuple[str, ...]] = {}
        self.rearranged: set[str] = set()
        self.taken: set[int] = set()

    def run(self, inputs: Mapping[str, Array]) -> None:
        """All operations in order."""
        self.values = {**self.program.constants(self.c), **self.program.given(inputs, self.c)}
        for index, operation in enumerate(self.program.ops):
            if not operation.is_constant:
                self._operation(operation)
                for name in self.program.last_uses.get(index, ()):
                    self.values.pop(name, None)
        self._end()

    def _operation(self, operation: Operation) -> None:
        with placed(self.program, operation):
            results = compute(operation, self.program.arguments(operation, self.values, self.c), self.c)
        inputs = [a for group in operation.inputs.values() for a in group if isinstance(a, str)]
        for output, value in zip(operation.outputs, results, strict=True):
            name = output.name
            self.values[name] = value
            self.behind[name] = tuple(dict.fromkeys([*(n for a in inputs for n in self.behind.get(a, ())), name]))
            if value.dtype.kind != "f" or value.size < 2:
                continue
            greatest = float(np.abs(value).max())
            if getattr(output.type, "dtype", "") == "fp16" and greatest > LARGEST:
                self.overflow.append((name, greatest / LARGEST))
            index, error, flat = self._nearest(value, operation.type)
            if error <= self._budget(operation, inputs):
                self._trust(operation, name, index, error, flat)
            elif index >= 0 and error <= NEAREST and self.events[index].kind == operation.type and self._trusted(inputs):
                self._fault(operation, name, index)
            elif operation.type in ANCHORS and (expected := self._expected(operation.type, value)) is not None:
                self._fault(operation, name, expected)
            else:
                self.waiting[name] = operation

    def _budget(self, operation: Operation, inputs: list[str]) -> float:
        """Without weights, and on inputs that are refsam's own, nothing but float32 is allowed."""
        return EXACT.get(operation.type, self.budget) if self._trusted(inputs) else self.budget

    def _trusted(self, names: list[str]) -> bool:
        return all(not self.behind.get(name) for name in names)

    def _nearest(self, value: Array, kind: str = "") -> tuple[int, float, bool]:
        """(event, relative L2, whether in the same order) of what is most like `value`; an anchor's is of its kind."""
        best, anchor = (-1, math.inf, False), kind in ANCHORS
        norm = float(np.linalg.norm(value))
        for index in range(max(0, self.last - AHEAD), min(len(self.events), self.last + AHEAD)):
            event = self.events[index]
            if anchor and (event.kind not in (kind, "") or index in self.taken):
                continue
            if event.kind == "cast" != kind:  # an input: what computes on it has another result
                continue
            if event.value.size == value.size and abs(self.norms[index] - norm) <= NEAR * norm:
                error, flat = self._distance(value, index)
                if error < best[1] and (flat or not anchor):
                    best = (index, error, flat)
        return best

    def _distance(self, value: Array, index: int) -> tuple[float, bool]:
        """Relative L2 in the same order, or, where that is far, of the sorted numbers: of the same ones in another layout."""
        expected, norm = self.events[index].value, self.norms[index] or 1.0
        in_order = self._in_order(value, index)
        if in_order <= NEAR or value.size > MAX_SORTED:
            return in_order, True
        any_order = float(np.linalg.norm(np.sort(value, axis=None) - np.sort(expected, axis=None))) / norm
        return (any_order, False) if any_order <= self.budget else (in_order, True)

    def _in_order(self, value: Array, index: int) -> float:
        difference = value.reshape(-1) - self.events[index].value.reshape(-1)
        return float(np.linalg.norm(difference)) / (self.norms[index] or 1.0)

    def _expected(self, kind: str, value: Array) -> int | None:
        """The next event of an operation of this kind and size."""
        ahead = range(self.last + 1, len(self.events))
        fits = (i for i in ahead if self.events[i].kind == kind and self.events[i].value.size == value.size)
        return next((i for i in fits if i not in self.taken), None)

    def _trust(self, operation: Operation, name: str, index: int, error: float, flat: bool) -> None:
        event = self.events[index]
        self.last = max(self.last, index) if flat else self.last
        if operation.type in ANCHORS and event.kind:
            self.taken.add(index)
        if flat:
            self._clear(name, operation.type not in PARTS)
            self.values[name] = event.value.astype(np.float64).reshape(self.values[name].shape)
            self.found.append(Finding(operation.type, name, event.name, error))
        else:  # the numbers are right; whether the layout is, the next operation on them shows
            self.waiting[name] = operation
            self.rearranged.add(name)

    def _clear(self, name: str, earlier_too: bool = True) -> None:
        for waiting in self.behind[name] if earlier_too else (name,):
            self.waiting.pop(waiting, None)
        self.behind[name] = ()

    def _fault(self, operation: Operation, name: str, index: int) -> None:
        """It enters at the first operation that waits before this one, or at this one. Those with refsam's numbers in another
        order are passed over, unless that order is all that is wrong here: then it is one of them, a mere reshaping last.
        """
        self.waiting[name] = operation
        segment = tuple(n for n in self.behind[name] if n in self.waiting)
        event = self.events[index]
        if operation.type in ("conv", "conv_transpose") or self._distance(self.values[name], index)[1]:
            suspects = [n for n in segment if n not in self.rearranged]
        else:
            suspects = [n for n in segment[:-1] if self.waiting[n].type not in RESHAPING] or list(segment)
        first = self.waiting[suspects[0]]
        self._clear(name)
        self.taken.add(index)
        self.faults.append(Finding(first.type, first.name, event.name, self._in_order(self.values[name], index), segment))
        self.last = index
        self.values[name] = event.value.astype(np.float64).reshape(self.values[name].shape)

    def _end(self) -> None:
        """An output that refsam does not have is wrong too."""
        self.program.check_outputs(self.values)
        for name in self.program.model.block.outputs:
            waiting = [n for n in self.behind.get(name, ()) if n in self.waiting]
            if waiting:
                first = self.waiting[waiting[0]]
                index, error, _ = self._nearest(np.asarray(self.values[name]))
                stage = self.events[index].name if index >= 0 else name
                self.faults.append(Finding(first.type, first.name, stage, error, tuple(waiting)))
                for n in waiting:
                    self.waiting.pop(n)
