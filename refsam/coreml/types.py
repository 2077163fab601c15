"""The parts of a program: types, values, operations, blocks. Plain data; mlpackage fills it, mil runs it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from refsam.errors import PackageError
from refsam.types import Array

Shape: TypeAlias = tuple[int | None, ...]
"""None stands for a length that only the inputs of a run decide."""

MAX_RANK = 16
MAX_ELEMENTS = 1 << 27
"""Of one tensor; the largest of MobileSAM's programs has 17 million. A program asks for lengths, so they need a bound."""


class DataType(NamedTuple):
    """An element type: its name in MIL, its bits in a file, the NumPy type that holds it in memory."""

    name: str
    bits: int
    numpy: Any


def _of(name: str, numpy: Any) -> DataType:
    return DataType(name, 8 * np.dtype(numpy).itemsize, numpy)


DATA_TYPES = {
    1: _of("bool", np.bool_), 2: DataType("string", 0, np.object_),
    10: _of("fp16", np.float16), 11: _of("fp32", np.float32), 12: _of("fp64", np.float64), 13: DataType("bf16", 16, np.float32),
    21: _of("int8", np.int8), 22: _of("int16", np.int16), 23: _of("int32", np.int32), 24: _of("int64", np.int64),
    25: DataType("int4", 4, np.int8),
    31: _of("uint8", np.uint8), 32: _of("uint16", np.uint16), 33: _of("uint32", np.uint32), 34: _of("uint64", np.uint64),
    35: DataType("uint4", 4, np.uint8), 36: DataType("uint2", 2, np.uint8), 37: DataType("uint1", 1, np.uint8),
    38: DataType("uint6", 6, np.uint8), 39: DataType("uint3", 3, np.uint8),
    40: DataType("fp8e4m3fn", 8, np.float32), 41: DataType("fp8e5m2", 8, np.float32),
}  # fmt: skip
"""By the numbers of MIL.proto's DataType."""

BY_NAME = {dtype.name: dtype for dtype in DATA_TYPES.values()}
FLOATS = ("fp16", "fp32", "fp64", "bf16", "fp8e4m3fn", "fp8e5m2")


@dataclass(frozen=True)
class TensorType:
    """An element type of DATA_TYPES and a shape; a scalar's is ()."""

    dtype: str
    shape: Shape

    @property
    def is_float(self) -> bool:
        """Whether a precision applies to it."""
        return self.dtype in FLOATS

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True)
class OtherType:
    """A list, tuple, dictionary or state."""

    kind: str

    def __str__(self) -> str:
        return self.kind


Type: TypeAlias = TensorType | OtherType


@dataclass(frozen=True)
class Literal:
    """A value that stands in the program itself: an array, a text, or a list of values."""

    type: Type
    value: Any

    def read(self) -> Any:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Blob:
    """A tensor in a file beside the program, which is read when it is asked for.

    Attributes:
        load: reads it; raises PackageError where file, offset, length or type do not fit.
    """

    type: TensorType
    file: str
    offset: int
    load: Callable[[], Array] = field(repr=False, compare=False)

    def read(self) -> Array:
        """The tensor, in the NumPy type that holds its element type."""
        return self.load()


Value: TypeAlias = Literal | Blob
Argument: TypeAlias = str | Literal | Blob
"""The name of an earlier result, or a value."""


class Output(NamedTuple):
    """A result's name and declared type."""

    name: str
    type: Type


@dataclass(frozen=True)
class Operation:
    """One operation: `conv`, `linear`, ...

    Attributes:
        inputs: parameter -> arguments; most have one, `values` of concat has many.
        attributes: parameters that are fixed; a `const` has its value in "val".
    """

    type: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[Output, ...]
    attributes: Mapping[str, Value] = field(default_factory=dict)
    blocks: "tuple[Block, ...]" = ()

    @property
    def name(self) -> str:
        """Its place in the program: the name of its first result."""
        return self.outputs[0].name if self.outputs else self.type

    @property
    def is_constant(self) -> bool:
        """Whether it is a weight: nothing that a run gives it can change it."""
        return self.type == "const" or self.type.startswith("constexpr_")


@dataclass(frozen=True)
class Block:
    """Operations in an order in which they can run, and the names of those results that are the block's."""

    inputs: tuple[Output, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Feature:
    """An input or output as the model's description has it.

    Attributes:
        shape: the default one; () where the description has none.
        ranges: for a flexible input, lowest and highest length of each axis (None: no limit).
        choices: for an input of enumerated shapes, those shapes.
        kind: "array", or what else it is: refsam runs programs on arrays only. Of a picture `shape` is (height, width).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[tuple[int, int | None], ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()
    kind: str = "array"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape may be given."""
        if self.choices:
            return shape in self.choices
        if self.ranges:
            within = zip(shape, self.ranges, strict=False)
            return len(shape) == len(self.ranges) and all(lo <= n and (hi is None or n <= hi) for n, (lo, hi) in within)
        return shape == self.shape

    def expected(self) -> str:
        """The shapes that are accepted, in words."""
        if self.choices:
            return " or ".join(map(str, self.choices))
        if self.ranges:
            lengths = (str(lo) if lo == hi else f"{lo}..{'' if hi is None else hi}" for lo, hi in self.ranges)
            return f"({', '.join(lengths)})"
        return str(self.shape)


def known_shape(what: str, shape: Shape) -> tuple[int, ...]:
    """`shape` without unknown lengths. Raises PackageError where it has some, or where so many elements are absurd."""
    lengths = tuple(n for n in shape if n is not None)
    if len(lengths) != len(shape):
        raise PackageError(f"{what} has no fixed shape; the file is damaged")
    check_elements(what, lengths)
    return lengths


def check_elements(what: str, shape: tuple[int, ...]) -> None:
    """Raise PackageError where a tensor of this shape is absurd. An axis of length 0 does not excuse the others."""
    if len(shape) > MAX_RANK or any(n < 0 for n in shape) or math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise PackageError(f"{what} would have shape {_short(shape)}; at most {MAX_ELEMENTS} elements are computed")


def check_broadcast(*values: Any) -> None:
    """Raise PackageError where what these arrays and numbers are together, broadcast, is absurd."""
    check_elements("the result", np.broadcast_shapes(*map(np.shape, values)))


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= MAX_RANK else f"of {len(shape)} axes"
