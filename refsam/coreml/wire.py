"""Protocol Buffers' wire format: a message as a table from field number to what stands there. Knows nothing of Core ML.

Every length is checked against the bytes that are there before it is used; nothing is copied.
"""

from collections.abc import Iterator

import numpy as np

from refsam.errors import PackageError
from refsam.types import Array, Int

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; 3 and 4 are groups, which proto3 does not have."""

MAX_FIELDS = 1 << 17
"""Of one message; MobileSAM's largest has 1,168. A field may be two bytes, and takes a hundred times as many here."""

MAX_VARINT = 10
"""Bytes of a number, of 64 bits in sevens."""

PIECE = 1 << 16
"""Bytes of a list of numbers that are read at once."""

Fields = dict[int, list["int | memoryview"]]


class Message:
    """One message. Fields that are not there read as proto3's defaults: 0, "", the empty message."""

    def __init__(self, data: memoryview) -> None:
        self.size = len(data)
        self._fields: Fields = {}
        for count, (number, value) in enumerate(_fields(data)):
            if count == MAX_FIELDS:
                raise PackageError(f"a message has more than {MAX_FIELDS} fields; the file is damaged")
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def numbers(self) -> list[int]:
        """The field numbers that are there."""
        return list(self._fields)

    def integer(self, number: int) -> int:
        """A signed integer field."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise PackageError(f"field {number} of a message is not a number; the file is damaged")
        return value - (1 << 64) if value >> 63 else value

    def text(self, number: int) -> str:
        """A string field."""
        return _text(self.raw(number))

    def texts(self, number: int) -> list[str]:
        """A repeated string field."""
        return [_text(value) for value in self.all(number)]

    def raw(self, number: int) -> memoryview:
        """A bytes field."""
        found = self.all(number)
        return found[-1] if found else memoryview(b"")

    def message(self, number: int) -> "Message":
        """A field that is a message."""
        return Message(self.raw(number))

    def messages(self, number: int) -> "Iterator[Message]":
        """A repeated field of messages, one by one: all at once would hold the fields of all."""
        return (Message(value) for value in self.all(number))

    def table(self, number: int) -> dict[str, memoryview]:
        """A map from strings to the bytes of messages; a missing key or value means an empty one."""
        return {entry.text(1): entry.raw(2) for entry in self.messages(number)}

    def all(self, number: int) -> list[memoryview]:
        """Every occurrence of a field of bytes."""
        values = self._fields.get(number, [])
        if any(isinstance(value, int) for value in values):
            raise PackageError(f"field {number} of a message is a number, where bytes are needed; the file is damaged")
        return [value for value in values if not isinstance(value, int)]

    def integers(self, number: int, most: int) -> Int[Array, " n"]:
        """A repeated field of at most so many signed integers, packed or not."""
        found = [np.zeros(0, np.int64)]
        for value in self._fields.get(number, []):
            found.append(np.array([value], np.uint64).view(np.int64) if isinstance(value, int) else _varints(value, most))
            most -= len(found[-1])
            if most < 0:
                raise PackageError("a list of numbers is longer than what it is of; the file is damaged")
        return np.concatenate(found)

    def floats(self, number: int, dtype: str) -> Array:
        """A repeated field of "<f4" or "<f8", packed or not."""
        data = b"".join(self.all(number))
        if len(data) % np.dtype(dtype).itemsize:
            raise PackageError(f"{len(data)} bytes are no whole number of {dtype}; the file is damaged")
        return np.frombuffer(data, dtype)


def _fields(data: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise PackageError(f"a message has a field of wire type {kind}; the file is damaged or is no Core ML model")
        if length > end - at:
            raise PackageError(f"a message claims {length} bytes where {end - at} are left; the file is truncated or damaged")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits each, the lowest first; and where the next thing begins."""
    value = 0
    for shift in range(0, 7 * MAX_VARINT, 7):
        if at >= len(data):
            raise PackageError("a message ends within a number; the file is truncated or damaged")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise PackageError("a number is longer than ten bytes; the file is damaged")


def _varints(data: memoryview, most: int) -> Int[Array, " n"]:
    """Signed integers, no more than one beyond `most`, which is enough to tell. Piece by piece: one by one they take minutes."""
    raw = np.frombuffer(data, np.uint8)
    found, left, at = [np.zeros(0, np.int64)], most + 1, 0
    while at < len(raw) and left > 0:
        piece = raw[at : at + PIECE]
        ends = np.flatnonzero(piece < 0x80)[:left]
        if not len(ends):
            _varint(data, at)  # says what is wrong
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts + 1
        if lengths.max() > MAX_VARINT:
            _varint(data, at + int(starts[lengths.argmax()]))
        values = np.zeros(len(ends), np.uint64)
        for place in range(lengths.max()):
            longer = lengths > place
            values[longer] |= (piece[starts[longer] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
        found.append(values.view(np.int64))
        left -= len(values)
        at += int(ends[-1]) + 1
    return np.concatenate(found)


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise PackageError("a text is not UTF-8; the file is damaged") from None
