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

from refsam.errors import InputError
from refsam.metal.sources import KERNEL, without_comments

_SCALARS = {
    "float": "<f4", "half": "<f2", "int": "<i4", "uint": "<u4", "short": "<i2", "ushort": "<u2", "char": "i1", "uchar": "u1",
}  # fmt: skip


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
    """Of a type in memory: NumPy's scalar, how many, how many bytes they take with padding, and at which multiples they begin."""

    scalar: np.dtype[Any]
    count: int
    size: int
    alignment: int


_ARGUMENT = re.compile(
    r"(const\s+)?\b(device|constant)\s+(const\s+)?(\w+)\s*(const\s*)?([*&])\s*(?:restrict\s+)?(\w+)\s*\[\[\s*buffer\s*\(\s*(\d+)\s*\)\s*\]\]"
)


def arguments(source: str, kernel: str) -> list[Argument]:
    """The buffers of `kernel`, by index.

    Raises InputError where there is no such kernel, or an index is taken twice or missing.
    """
    text = without_comments(source)
    head = re.search(rf"{KERNEL}{re.escape(kernel)}\s*\((.*?)\)\s*\{{", text, re.S)
    if head is None:
        raise InputError(f"there is no kernel {kernel!r} in this source")
    found = sorted(
        Argument(int(number), name, kind, space == "device" and not (early or const or late), mark == "&")
        for early, space, const, kind, late, mark, name, number in _ARGUMENT.findall(head[1])
    )
    if [argument.index for argument in found] != list(range(len(found))):
        raise InputError(f"kernel {kernel}: its buffers are {[a.index for a in found]}; they have to be 0, 1, 2, ... once each")
    return found


def layout(type_name: str) -> Layout:
    """Size and alignment of a scalar, a vector (float3 takes 16 bytes) or a packed vector. Raises InputError for other types."""
    match = re.fullmatch(r"(packed_)?([a-z]+)([234]?)", type_name)
    if match is None or match[2] not in _SCALARS or (match[1] and not match[3]):
        raise InputError(f"{type_name} is not a scalar or vector type that buffers here can have")
    scalar, count = np.dtype(_SCALARS[match[2]]), int(match[3] or 1)
    whole = scalar.itemsize * (4 if count == 3 else count)
    return Layout(scalar, count, *((scalar.itemsize * count, scalar.itemsize) if match[1] else (whole, whole)))


def fields(source: str, name: str) -> list[tuple[str, str]]:
    """(type, name) of each field of a struct. Raises InputError where it is not there or has more than plain fields."""
    body = re.search(rf"\bstruct\s+{re.escape(name)}\s*\{{(.*?)\}}\s*;", without_comments(source), re.S)
    if body is None:
        raise InputError(f"there is no struct {name} in this source")
    found = []
    for line in filter(None, (part.strip() for part in body[1].split(";"))):
        declaration = re.fullmatch(r"(\w+)\s+(\w+(?:\s*,\s*\w+)*)", line)
        if declaration is None:
            raise InputError(f"struct {name}: {line!r} is not a plain field")
        found += [(declaration[1], field.strip()) for field in declaration[2].split(",")]
    return found


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
        packed += _encode(name, field, place, values[field]).ljust(place.size, b"\0")
    return bytes(packed + bytes(-len(packed) % largest))


def encode(type_name: str, value: Any) -> bytes:
    """The bytes of one scalar or vector, for a parameter that is not a struct."""
    place = layout(type_name)
    return _encode("a parameter of type", type_name, place, value).ljust(place.size, b"\0")


def _encode(name: str, field: str, place: Layout, value: Any) -> bytes:
    numbers: list[Any] = np.atleast_1d(value).tolist()
    if len(numbers) != place.count:
        raise InputError(f"{name}.{field} takes {place.count} numbers; there are {len(numbers)}")
    real = place.scalar.kind == "f"
    code = place.scalar.char if real else np.dtype(place.scalar.str[-2:]).char
    try:
        return struct.pack(f"<{place.count}{code}", *(float(n) if real else index(n) for n in numbers))
    except (struct.error, OverflowError, TypeError, ValueError):
        raise InputError(f"{name}.{field} is {value!r}, which does not fit its type {place.scalar.name}") from None
