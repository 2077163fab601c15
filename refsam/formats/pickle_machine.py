"""A pickle as data: the part of the pickle machine that torch.save uses, without the part that calls anything.

A pickle is a program. Python's own interpreter of it can import and call whatever the program names, and its memory and
recursion follow the program's wishes. This one knows 30 opcodes, none of which allocates more than the program is long, and
a name is looked up in the table that the caller gives, or refused.  Format: Lib/pickletools.py of CPython.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from refsam.errors import CheckpointError


class Machine:
    """Runs pickles of `data`, one after another, from `position` on."""

    def __init__(self, data: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any], position: int = 0):
        self.data, self.names, self.persistent, self.position = data, names, persistent, position
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the next pickle. Raises CheckpointError for all that is not plain data or not in the table."""
        self.stack, self.marks, self.memo = [], [], {}
        try:
            while True:
                code = self.data[self.position : self.position + 1]
                self.position += 1
                if code == b".":
                    return self.stack.pop()
                step = _STEPS.get(code)
                if step is None:
                    raise CheckpointError(
                        f"the pickle has {code!r} for an instruction, which torch.save does not write, or is truncated"
                    )
                step(self)
        except CheckpointError:
            raise
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise CheckpointError(f"the pickle is damaged ({type(error).__name__} before byte {self.position})") from None

    def take(self, count: int) -> bytes:
        """The next `count` bytes of the program."""
        end = self.position + count
        if end > len(self.data):
            raise CheckpointError("the pickle ends too early: the file is truncated or damaged")
        self.position, start = end, self.position
        return self.data[start:end]

    def line(self) -> str:
        """The next line of the program."""
        end = self.data.index(b"\n", self.position, self.position + 256)
        return self.take(end + 1 - self.position)[:-1].decode("ascii")

    def number(self, format: str) -> Any:
        """The next number, packed as `format` of struct."""
        return struct.unpack(format, self.take(struct.calcsize(format)))[0]

    def pop_mark(self) -> list[Any]:
        """All values above the last mark."""
        start = self.marks.pop()
        if start > len(self.stack):
            raise IndexError
        values = self.stack[start:]
        del self.stack[start:]
        return values


def _check_protocol(protocol: int) -> None:
    if protocol > 3:  # from there on with instructions of its own, and none that torch.save needs
        raise CheckpointError(
            f"the pickle is of protocol {protocol}, and refsam reads what torch.save writes by default;"
            " save it again without pickle_protocol: torch.save(model.state_dict(), path)"
        )


def _push_name(machine: Machine) -> None:
    name = f"{machine.line()}.{machine.line()}"
    if name not in machine.names:
        raise CheckpointError(
            f"the pickle asks for {name}, which is not weights, and nothing of it was run; save only the state dict:"
            " torch.save(model.state_dict(), path)"
        )
    machine.stack.append(machine.names[name])


def _call(machine: Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if not callable(function) or not isinstance(arguments, tuple):
        raise TypeError
    machine.stack.append(function(*arguments))


def _push_tuple(machine: Machine, count: int) -> None:
    if count > len(machine.stack):
        raise IndexError
    start = len(machine.stack) - count
    machine.stack[start:] = [tuple(machine.stack[start:])]


def _set_items(machine: Machine, items: list[Any]) -> None:
    table = machine.stack[-1]
    if not isinstance(table, dict) or len(items) % 2 or not all(isinstance(key, str | int) for key in items[::2]):
        raise TypeError
    table.update(zip(items[::2], items[1::2], strict=True))


def _append(machine: Machine, items: list[Any]) -> None:
    values = machine.stack[-1]
    if not isinstance(values, list):
        raise TypeError
    values.extend(items)


def _set_state(machine: Machine) -> None:
    """The attributes of an object, in a state dict `_metadata`: of no use here."""
    machine.stack.pop()


def _pop_two(machine: Machine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _memorise(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


_STEPS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda m: _check_protocol(m.take(1)[0]),
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"J": lambda m: m.stack.append(m.number("<i")),
    b"K": lambda m: m.stack.append(m.number("<B")),
    b"M": lambda m: m.stack.append(m.number("<H")),
    b"\x8a": lambda m: m.stack.append(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    b"G": lambda m: m.stack.append(m.number(">d")),
    b"X": lambda m: m.stack.append(m.take(m.number("<I")).decode("utf-8")),
    b"U": lambda m: m.stack.append(m.take(m.number("<B")).decode("latin-1")),
    b"}": lambda m: m.stack.append({}),
    b"]": lambda m: m.stack.append([]),
    b")": lambda m: m.stack.append(()),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"t": lambda m: m.stack.append(tuple(m.pop_mark())),
    b"\x85": lambda m: _push_tuple(m, 1),
    b"\x86": lambda m: _push_tuple(m, 2),
    b"\x87": lambda m: _push_tuple(m, 3),
    b"s": lambda m: _set_items(m, _pop_two(m)),
    b"u": lambda m: _set_items(m, m.pop_mark()),
    b"a": lambda m: _append(m, [m.stack.pop()]),
    b"e": lambda m: _append(m, m.pop_mark()),
    b"q": lambda m: _memorise(m, m.number("<B")),
    b"r": lambda m: _memorise(m, m.number("<I")),
    b"h": lambda m: m.stack.append(m.memo[m.number("<B")]),
    b"j": lambda m: m.stack.append(m.memo[m.number("<I")]),
    b"c": _push_name,
    b"R": _call,
    b"b": _set_state,
    b"Q": lambda m: m.stack.append(m.persistent(m.stack.pop())),
}
