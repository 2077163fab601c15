"""What a kernel expects in its buffers, read from its source; and parameters packed by the alignment rules of MSL.

metalcompute takes any bytes for any argument: a float64 array, a missing buffer or a wrongly laid out struct give wrong numbers
and no error. So the runner compares what it is given with what stands here.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

from refsam.emulator.parse import split
from refsam.errors import InputError
from refsam.metal.sources import KERNEL, plain, without_comments

_SCALARS = {
    "float": "<f4", "half": "<f2", "int": "<i4", "uint": "<u4", "short": "<i2", "ushort": "<u2", "char": "i1", "uchar": "u1",
    "long": "<i8", "ulong": "<u8", "atomic_int": "<i4", "atomic_uint": "<u4", "atomic_float": "<f4",
}  # fmt: skip
_ALIASES = {
    "unsigned": "uint", "unsigned int": "uint", "unsigned short": "ushort", "unsigned char": "uchar", "unsigned long": "ulong",
    **{f"{'u' * unsigned}int{bits}_t": "u" * unsigned + name
       for bits, name in ((8, "char"), (16, "short"), (32, "int"), (64, "long")) for unsigned in (0, 1)},
}  # fmt: skip
"""Other names of scalar types."""
_NO_VECTORS = ("atomic_int", "atomic_uint", "atomic_float")


@dataclass(frozen=True, order=True)
class Argument:
    """A buffer of a kernel.

    Attributes:
        index: its number in [[buffer(n)]].
        name: in the source.
        type: the element's: "float", "float4", or the name of a struct.
        writable: a device pointer that is not const.
        is_struct: parameters, taken by reference.
    """

    index: int
    name: str
    type: str
    writable: bool
    is_struct: bool


@dataclass(frozen=True)
class Layout:
    """Of a type in memory: NumPy's scalar, how many, how many bytes they take with padding, and at which multiples they begin.

    A matrix is `columns` vectors of `count / columns` numbers.
    """

    scalar: np.dtype[Any]
    count: int
    size: int
    alignment: int
    columns: int = 1


_TYPE = r"(?:unsigned(?:\s+(?:int|short|char|long))?|(?:struct\s+)?(?:metal::)?\w+(?:\s*<.*>)?)"
_BEFORE = r"((?:(?:const|volatile)\s+)*)"
_ARGUMENT = re.compile(
    rf"\s*{_BEFORE}(device|constant)\s+{_BEFORE}({_TYPE})\s*((?:(?:const|volatile)\s*)*)([*&])"
    r"\s*(?:(?:const|(?:__)?restrict(?:__)?)\s+)*(\w+)\s*\[\[\s*buffer\s*\(\s*(\d+)\s*\)\s*\]\]\s*",
    re.DOTALL,
)


def arguments(source: str, kernel: str) -> list[Argument]:
    """The buffers of `kernel`, by index.

    Raises InputError where there is no such kernel, a buffer is declared in a way that is not understood, or an index is taken
    twice or missing.
    """
    text = plain(source)
    head = re.search(rf"{KERNEL}{re.escape(kernel)}\s*\((.*?)\)\s*\{{", text, re.S)
    if head is None:
        raise InputError(f"there is no kernel {kernel!r} in this source")
    others = re.compile(r".*\[\[(?!\s*buffer\b).*\]\]\s*", re.S)  # built-in values
    found = sorted(_argument(kernel, part) for part in split(head[1]) if part.strip() and not others.fullmatch(part))
    if [argument.index for argument in found] != list(range(len(found))):
        raise InputError(f"kernel {kernel}: its buffers are {[a.index for a in found]}; they have to be 0, 1, 2, ... once each")
    return found


def _argument(kernel: str, declaration: str) -> Argument:
    match = _ARGUMENT.fullmatch(declaration)
    if match is None:
        shown = " ".join(declaration.split())
        raise InputError(
            f"kernel {kernel}: `{shown}` is not understood; a buffer is `device T *name [[buffer(0)]]`, or constant, or T &"
        )
    early, space, const, kind, late, mark, name, number = match.groups()
    constant = space == "constant" or "const" in early + const + late
    return Argument(int(number), name, _own_name(kind), not constant, mark == "&")


def _own_name(kind: str) -> str:
    """`uint` of `unsigned int` and `uint32_t`, `float4` of `metal::float4` and `vec<float, 4>`, `P` of `struct P`."""
    kind = " ".join(kind.split()).removeprefix("struct ").removeprefix("metal::")
    if vector := re.fullmatch(r"vec ?< ?(.+?) ?, ?([234]) ?>", kind):
        return _own_name(vector[1]) + vector[2]
    return _ALIASES.get(kind, kind)


def layout(type_name: str) -> Layout:
    """Size and alignment of a scalar, a vector (float3 takes 16 bytes), a packed vector or a matrix of float or half (its columns
    are vectors). Raises InputError for other types.
    """
    matrix = re.fullmatch(r"(float|half)([234])x([234])", type_name)
    if matrix is not None:
        column, columns = layout(matrix[1] + matrix[3]), int(matrix[2])
        return Layout(column.scalar, columns * column.count, columns * column.size, column.alignment, columns)
    match = re.fullmatch(r"(packed_)?([a-z_]+)([234]?)", type_name)
    if match is None or match[2] not in _SCALARS or (match[1] and not match[3]) or (match[2] in _NO_VECTORS and match[3]):
        raise InputError(f"{type_name} is not a scalar or vector type that buffers here can have")
    scalar, count = np.dtype(_SCALARS[match[2]]), int(match[3] or 1)
    whole = scalar.itemsize * (4 if count == 3 else count)
    return Layout(scalar, count, *((scalar.itemsize * count, scalar.itemsize) if match[1] else (whole, whole)))


def numbers(type_name: str) -> np.dtype[Any]:
    """NumPy's type of the numbers that a type is made of; bytes for a struct."""
    try:
        return layout(type_name).scalar
    except InputError:
        return np.dtype(np.uint8)


def fields(source: str, name: str) -> list[tuple[str, str]]:
    """(type, name) of each field of a struct. Raises InputError where it is not there or has more than plain fields."""
    body = re.search(rf"\bstruct\s+{re.escape(name)}\s*\{{(.*?)\}}\s*;", without_comments(source), re.S)
    if body is None:
        raise InputError(f"there is no struct {name} in this source")
    found = []
    for line in filter(None, (part.strip() for part in body[1].split(";"))):
        declaration = re.fullmatch(rf"({_TYPE})\s+(\w+(?:\s*,\s*\w+)*)", line, re.DOTALL)
        if declaration is None:
            raise InputError(f"struct {name}: {line!r} is not a plain field")
        found += [(_own_name(declaration[1]), field.strip()) for field in declaration[2].split(",")]
    return found


def declares(source: str, name: str) -> bool:
    """Whether a source has a struct of this name."""
    return re.search(rf"\bstruct\s+{re.escape(name)}\b", without_comments(source)) is not None


def pack(source: str, name: str, values: Mapping[str, Any]) -> bytes:
    """The bytes of struct `name` with these values: each field at a multiple of its alignment, as the Metal compiler lays it out.

    Raises InputError where a field has no value, a value no field, or a value does not fit its type.
    """
    declared = fields(source, name)
    if {field for _, field in declared} != set(values):
        raise InputError(f"{name} has the fields {[field for _, field in declared]}; values are for {sorted(values)}")
    packed, largest = bytearray(), 1
    for kind, field in declared:
        place = layout(kind)
        largest = max(largest, place.alignment)
        packed += bytes(-len(packed) % place.alignment)
        packed += _encode(f"{name}.{field}", place, values[field])
    return bytes(packed + bytes(-len(packed) % largest))


def encode(type_name: str, value: Any) -> bytes:
    """The bytes of one scalar, vector or matrix, for a parameter that is not a struct."""
    return _encode(f"a parameter of type {type_name}", layout(type_name), value)


def _encode(what: str, place: Layout, value: Any) -> bytes:
    """A matrix by its columns, one after the other."""
    numbers: list[Any] = np.ravel(value).tolist()
    if len(numbers) != place.count:
        raise InputError(f"{what} takes {place.count} numbers; there are {len(numbers)}")
    rows, room = place.count // place.columns, place.size // place.columns
    return b"".join(_pack(what, place, numbers[at : at + rows]).ljust(room, b"\0") for at in range(0, place.count, rows))


def _pack(what: str, place: Layout, numbers: list[Any]) -> bytes:
    real = place.scalar.kind == "f"
    code = place.scalar.char if real else np.dtype(place.scalar.str[-2:]).char
    try:
        return struct.pack(f"<{len(numbers)}{code}", *(float(n) if real else index(n) for n in numbers))
    except (struct.error, OverflowError, TypeError, ValueError):
        shown = numbers[0] if len(numbers) == 1 else numbers
        raise InputError(f"{what} is {shown!r}, which does not fit its type {place.scalar.name}") from None
