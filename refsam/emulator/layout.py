"""Sizes of LLVM types, as the x86-64 and aarch64 data layouts have them."""

import re
from functools import cached_property

SCALARS = {"half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": 8}


class Layout:
    """Sizes of the types in one module."""

    def __init__(self, ir: str) -> None:
        self._ir = ir

    @cached_property
    def _structures(self) -> dict[str, str]:
        return dict(re.findall(r"^(%\S+) = type (.+)$", self._ir, re.MULTILINE))

    def stored(self, kind: str) -> int:
        """Bytes that a load or store of this type touches."""
        found = re.fullmatch(r"<(\d+) x (.+)>", kind)
        if found:
            return (int(found[1]) * self._bits(found[2]) + 7) // 8
        return self.size(kind)

    def touched(self, kind: str) -> int:
        """The same with the fourth component that a vector of three has in memory: some accesses include it and some do not."""
        return self.size(kind) if kind.startswith("<3 x ") else self.stored(kind)

    def size(self, kind: str) -> int:
        """Bytes from one element of an array of this type to the next."""
        return _round_up(self._extent(kind), self.alignment(kind))

    def alignment(self, kind: str) -> int:
        """Natural alignment in bytes."""
        if kind.startswith("<{"):
            return 1
        if kind.startswith("<"):
            return 1 << (self.stored(kind) - 1).bit_length()
        if kind.startswith("["):
            return self.alignment(_array(kind)[1])
        if kind.startswith("%"):
            return self.alignment(self._structures[kind])
        if kind.startswith("{"):
            return max((self.alignment(part) for part in parts(kind[1:-1])), default=1)
        return self._extent(kind)

    def _bits(self, kind: str) -> int:
        return int(kind[1:]) if re.fullmatch(r"i\d+", kind) else 8 * SCALARS[kind]

    def _extent(self, kind: str) -> int:
        if kind.startswith("<{"):
            return sum(self.size(part) for part in parts(kind[2:-2]))
        if kind.startswith("<"):
            return self.stored(kind)
        if kind.startswith("["):
            count, element = _array(kind)
            return count * self.size(element)
        if kind.startswith("%"):
            return self._extent(self._structures[kind])
        if kind.startswith("{"):
            return self._structure(parts(kind[1:-1]))
        return (self._bits(kind) + 7) // 8

    def _structure(self, members: list[str]) -> int:
        end = 0
        for member in members:
            end = _round_up(end, self.alignment(member)) + self.size(member)
        return end


def parts(text: str) -> list[str]:
    """At the commas outside all brackets."""
    found, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "<[{(") - (character in ">]})")
        if character == "," and not depth:
            found.append(text[start:position].strip())
            start = position + 1
    return [part for part in (*found, text[start:].strip()) if part]


def _array(kind: str) -> tuple[int, str]:
    count, element = kind[1:-1].split(" x ", 1)
    return int(count), element


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
