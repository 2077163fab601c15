"""Running a program: operation by operation, each result stored in its declared type and freed after its last use."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from refsam.blas import one_blas_thread
from refsam.coreml import mlpackage
from refsam.coreml.arithmetic import Arithmetic, arithmetic
from refsam.coreml.ops import EXACT, IGNORED, OPS
from refsam.coreml.ops.gathering import check_not_negative
from refsam.coreml.spec import Model
from refsam.coreml.types import BY_NAME, Argument, Feature, Literal, Operation, Output, TensorType, check_elements
from refsam.errors import InputError, PackageError, RefsamError, UnsupportedOp
from refsam.types import Array

MAX_BYTES = 4 << 30
"""Of all constants and results that a run holds at one time."""

Observe = Callable[[Operation, Mapping[str, Any], list[Any]], None]
"""Called after each operation with its inputs (by parameter) and its results."""


@dataclass(frozen=True)
class Program:
    """A Core ML program that can be run.

    Attributes:
        path: where it was read.
        model: what the file says.
    """

    path: str
    model: Model
    _constants: dict[Any, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Name, type and accepted shapes of each input."""
        return self.model.inputs

    @property
    def outputs(self) -> tuple[Feature, ...]:
        """Name, type and shape of each output."""
        return self.model.outputs

    @property
    def ops(self) -> tuple[Operation, ...]:
        """The operations in the order in which they run, constants included."""
        return self.model.block.operations

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The declared type of every tensor."""
        outputs = (*self.model.parameters, *(output for operation in self.ops for output in operation.outputs))
        return {name: kind for name, kind in outputs if isinstance(kind, TensorType)}

    def types_for(self, inputs: Mapping[str, Array]) -> dict[str, TensorType]:
        """The declared types with the lengths that a run on these inputs gives to the unknown ones."""
        types = dict(self.types)
        if all(None not in kind.shape for kind in types.values()):
            return types
        types |= {name: TensorType(types[name].dtype, np.shape(x)) for name, x in inputs.items() if name in types}

        def note(operation: Operation, _: Mapping[str, Any], results: list[Any]) -> None:
            for output, result in zip(operation.outputs, results, strict=True):
                types[output.name] = TensorType(types[output.name].dtype, result.shape)

        self.run(inputs, observe=note)
        return types

    def run(
        self,
        inputs: Mapping[str, Array],
        precision: str | None = None,
        *,
        observe: Observe | None = None,
        threads: int | None = None,
    ) -> dict[str, Array]:
        """The outputs for these inputs.

        Args:
            inputs: an array for each name in `inputs`.
            precision: None, as the program is typed; "fp64", "fp32", "fp16", "fp16-accumulate" (see coreml/arithmetic.py).
            observe: called after every operation that is not a constant.
            threads: None: $REFSAM_THREADS, else the CPUs that this process may use; the result does not depend on it.

        Raises InputError for an input that is missing, unknown or of another shape; PackageError, which names the operation,
        where the program asks for something impossible; UnsupportedOp where refsam has no such operation.
        """
        with arithmetic(precision, threads) as c, one_blas_thread(), np.errstate(all="ignore"):
            values = {**self.constants(c), **self.given(inputs, c)}
            self._run(values, c, observe)
            self.check_outputs(values)
            return {name: _finished(values[name], self.types.get(name)) for name in self.model.block.outputs}

    def constants(self, c: Arithmetic) -> dict[str, Any]:
        """All weights and parameters by name, compressed ones made dense; computed once for each precision."""
        if c.precision not in self._constants:
            self.check_supported()
            values: dict[str, Any] = {}
            held = 0
            exact = {a for op in self.ops for name in EXACT for a in op.inputs.get(name, ()) if isinstance(a, str)}
            for operation in self.ops:
                if operation.is_constant:
                    with placed(self, operation):
                        found = _constant(operation, values, c, operation.name in exact)
                    values |= found
                    held += sum(map(_bytes, found.values()))
                    self._check_held(held, operation)
            self._constants[c.precision] = values
        return self._constants[c.precision]

    def check_supported(self) -> None:
        """Raise UnsupportedOp where an operation is not among those that refsam computes (it names all of them), or an input or
        output is not an array."""
        for feature in (*self.inputs, *self.outputs):
            if feature.kind != "array":
                remedy = ": convert with ct.TensorType in place of ct.ImageType" if feature.kind.startswith("image") else ""
                raise UnsupportedOp(
                    f"{self.path}: {feature.name!r:.80} has the type {feature.kind}; refsam runs programs on arrays{remedy}"
                )
        missing: dict[str, str] = {}
        for operation in self.ops:
            if operation.type != "const" and operation.type not in OPS:
                missing.setdefault(operation.type, operation.name)
        if missing:
            places = ", ".join(f"{kind} (at {name})" for kind, name in list(missing.items())[:4])
            raise UnsupportedOp(f"{self.path}: refsam does not compute {places:.300}; it computes: {', '.join(sorted(OPS))}")

    def check_outputs(self, values: Mapping[str, Any]) -> None:
        """Raise PackageError where an output is not among the values at the end of a run."""
        absent = [name for name in self.model.block.outputs if name not in values]
        if absent:
            raise PackageError(f"{self.path}: no operation computes its output {absent[0]!r:.80}; the program is damaged")

    def given(self, inputs: Mapping[str, Array], c: Arithmetic) -> dict[str, Any]:
        """The inputs as the program keeps them. Raises InputError where they are not those that it needs."""
        features = {feature.name: feature for feature in self.inputs}
        unknown, missing = sorted(set(inputs) - set(features)), sorted(set(features) - set(inputs))
        if unknown or missing:
            raise InputError(f"inputs are {sorted(inputs)}; the program needs {sorted(features)}")
        given = {}
        for name, kind in self.model.parameters:
            if name not in inputs or not isinstance(kind, TensorType):
                raise PackageError(f"{self.path}: the program's input {name!r:.80} is not in its description; it is damaged")
            array = np.asarray(inputs[name])
            if array.dtype.kind not in "fiub":
                raise InputError(f"input {name} is not an array of numbers")
            if not features[name].accepts(array.shape):
                raise InputError(f"input {name} has shape {array.shape}; it has to be {features[name].expected()}")
            given[name] = stored(array.astype(c.dtype) if kind.is_float else array, kind, c)
            if not kind.is_float and not np.array_equal(given[name], array):
                raise InputError(f"input {name} has numbers that {kind.dtype} cannot hold; give whole ones within its range")
        return given

    def arguments(self, operation: Operation, values: Mapping[str, Any], c: Arithmetic) -> dict[str, Any]:
        """Parameter -> value, from earlier results and from what stands in the operation itself.

        Raises PackageError where the program's operation set has no meaning for a value.
        """
        bound = arguments(operation, values, c)
        if "indices" in bound and not self.counts_from_the_end:
            check_not_negative(operation.type, bound["indices"])
        return bound

    @cached_property
    def counts_from_the_end(self) -> bool:
        """Whether negative indices that are data count from the end: up to iOS 16 ("CoreML6"). Later ones are out of bounds."""
        number = self.model.opset.removeprefix("CoreML")
        return not number.isdecimal() or int(number) < 7

    def _run(self, values: dict[str, Any], c: Arithmetic, observe: Observe | None) -> None:
        """Fill `values` with every result, and take out those that no later operation needs."""
        last = self.last_uses
        held = sum(map(_bytes, values.values()))
        for index, operation in enumerate(self.ops):
            if operation.is_constant:
                continue
            with placed(self, operation):
                bound = self.arguments(operation, values, c)
                results = compute(operation, bound, c)
            if observe is not None:
                observe(operation, bound, results)
            for output, result in zip(operation.outputs, results, strict=True):
                values[output.name] = result
            held += sum(_bytes(result) for result in results)
            for name in last.get(index, ()):
                held -= _bytes(values.pop(name, None))
            self._check_held(held, operation)

    def _check_held(self, held: int, operation: Operation) -> None:
        if held > MAX_BYTES:
            raise PackageError(
                f"{self.path}: at {operation.name:.80} its results take {held} bytes; at most {MAX_BYTES} are held"
            )

    @cached_property
    def last_uses(self) -> dict[int, list[str]]:
        """Index of an operation -> the results that are needed there for the last time."""
        last = {}
        constant = {output.name for operation in self.ops if operation.is_constant for output in operation.outputs}
        for index, operation in enumerate(self.ops):
            for output in operation.outputs:
                last[output.name] = index
            for argument in (a for group in operation.inputs.values() for a in group):
                if isinstance(argument, str):
                    last[argument] = index
        found: dict[int, list[str]] = {}
        for name in set(last) - constant - set(self.model.block.outputs):
            found.setdefault(last[name], []).append(name)
        return found


def load(path: str | os.PathLike[str]) -> Program:
    """The program in an .mlpackage (or a bare .mlmodel). Raises PackageError, which names the path.

    Nothing outside the package is opened, and weights are read when they are needed.
    """
    return Program(os.fspath(path), mlpackage.read(path))


def compute(operation: Operation, bound: Mapping[str, Any], c: Arithmetic) -> list[Any]:
    """The results of one operation on these inputs, stored as declared. Raises PackageError where it is impossible."""
    definition = OPS[operation.type]
    known = definition.required | definition.optional
    extra, missing = set(bound) - known - IGNORED, definition.required - set(bound)
    if extra or missing:
        what = f"has no parameter {sorted(extra)[0]!r:.40}" if extra else f"lacks its parameter {sorted(missing)[0]}"
        raise UnsupportedOp(f"{operation.type} {what}; it takes {', '.join(sorted(known))}")
    if np.size(bound.get("epsilon", 0)) != 1:  # it would be broadcast
        raise PackageError(f"its epsilon has shape {np.shape(bound['epsilon'])}; it has to be one number")
    results = unrounded(operation, bound, c)
    if len(results) < len(operation.outputs):
        raise PackageError(f"it has {len(operation.outputs)} results, and {operation.type} makes {len(results)}")
    return [_result(value, output, c, definition.moves, bound) for value, output in zip(results, operation.outputs, strict=False)]


def unrounded(operation: Operation, bound: Mapping[str, Any], c: Arithmetic) -> list[Any]:
    """The results of one operation on these inputs before they are stored; there may be more than the program has names for."""
    definition = OPS[operation.type]
    given = {name: value for name, value in bound.items() if name in definition.required | definition.optional}
    if definition.wants_arithmetic:
        given["c"] = c
    if definition.wants_shape and isinstance(operation.outputs[0].type, TensorType):
        given["declared"] = operation.outputs[0].type.shape
    found = definition.function(**given)
    return found if isinstance(found, list) else [found]


def arguments(operation: Operation, values: Mapping[str, Any], c: Arithmetic) -> dict[str, Any]:
    """Parameter -> value, from earlier results and from what stands in the operation itself."""
    bound: dict[str, Any] = {}
    for name, group in operation.inputs.items():
        found = [_argument(argument, values, c, name in EXACT) for argument in group]
        bound[name] = found if name in ("values", "ref_tensors") or len(found) != 1 else found[0]
    if operation.type.startswith("constexpr_"):
        bound |= {name: _value(value, c) for name, value in operation.attributes.items() if name != "name"}
    return bound


def stored(x: Array, kind: TensorType, c: Arithmetic, exact: bool = False, fresh: bool = False) -> Array:
    """`x` as this type keeps it. `exact`: its values came from tensors of that type, so there is nothing to round.
    `fresh`: nobody else has its memory, so that may be written to."""
    if not kind.is_float:
        return x.astype(BY_NAME[kind.dtype].numpy, copy=False)
    x = x.astype(c.dtype, copy=False)
    return x if exact or not c.rounds(kind) else c.half(x, fresh)


def _argument(argument: Argument, values: Mapping[str, Any], c: Arithmetic, exact: bool) -> Any:
    if not isinstance(argument, str):
        return _value(argument, c, exact)
    if argument not in values:
        raise PackageError(f"it needs {argument!r:.80}, which no operation before it makes; the program is damaged")
    return values[argument]


def _value(value: Any, c: Arithmetic, exact: bool = False) -> Any:
    """A value of the program; floats in the type that the run computes in, rounded as it rounds unless they are `exact`."""
    found = value.read()
    if isinstance(found, list) and isinstance(value, Literal):
        return [_value(item, c) if hasattr(item, "read") else item for item in found]
    if isinstance(found, np.ndarray) and found.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return stored(found, value.type, c, exact)
    return found


def _constant(operation: Operation, values: Mapping[str, Any], c: Arithmetic, exact: bool) -> dict[str, Any]:
    if operation.type != "const":
        results = compute(operation, arguments(operation, values, c), c)
        return {output.name: result for output, result in zip(operation.outputs, results, strict=True)}
    if "val" not in operation.attributes or len(operation.outputs) != 1:
        raise PackageError("it has no value; the program is damaged")
    return {operation.name: _value(operation.attributes["val"], c, exact)}


def _result(value: Any, output: Output, c: Arithmetic, moves: bool, inputs: Mapping[str, Any]) -> Any:
    if not isinstance(output.type, TensorType):
        raise UnsupportedOp(f"its result is a {output.type}; refsam computes tensors")
    array = np.asarray(value)
    declared = output.type.shape
    if len(declared) != array.ndim or any(n not in (None, m) for n, m in zip(declared, array.shape, strict=True)):
        raise PackageError(f"its result has shape {array.shape}, and the program declares {output.type}")
    check_elements("its result", array.shape)
    given = (x for value in inputs.values() for x in (value if isinstance(value, list) else [value]))
    fresh = not any(isinstance(x, np.ndarray) and np.may_share_memory(array, x) for x in given)
    return stored(array, output.type, c, exact=moves and not c.accumulates_half, fresh=fresh)


def _finished(value: Any, kind: TensorType | None) -> Array:
    """An output in its declared type."""
    dtype = BY_NAME[kind.dtype].numpy if kind is not None and kind.is_float else None
    with np.errstate(over="ignore"):
        return np.array(value, dtype, order="C")


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 0


MISFITS = (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError, AttributeError)
"""What NumPy and the operations raise where inputs do not fit."""


class placed:
    """Errors within this block name the operation and the file."""

    def __init__(self, program: Program, operation: Operation) -> None:
        self.place = f"{program.path}: at {operation.type} {operation.name!r:.120}"

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, UnsupportedOp):
            raise UnsupportedOp(f"{self.place}: {error}") from None
        if isinstance(error, RefsamError):
            raise PackageError(f"{self.place}: {error}") from None
        if isinstance(error, MISFITS):
            raise PackageError(f"{self.place}: its inputs do not fit it ({error!s:.200})") from error
