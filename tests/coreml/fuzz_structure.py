"""Packages whose structure is wrong although their bytes are sound: a tree of messages is changed and written again.

Fields are dropped, doubled, exchanged, renumbered, given another wire type or another message's content; lengths, offsets and
shapes become absurd; messages are nested into themselves; names become those of later, missing or own results, or lead out of the
package.
"""

import random
from pathlib import Path
from typing import Any

from coreml.faults import field, read_varint, varint
from coreml.fuzz import outcome

SOURCES = (
    "PromptEncoder.iOS15.fp16",
    "PromptEncoder.iOS18.fp16",
    "MaskDecoder.lut4",
    "MaskDecoder.sparse-18",
    "MaskDecoder.int4-block",
)
"""What is dangerous in them: lengths that are data, ranges, scatter; tables, masks and blocks of compressed weights."""

Entry = list[Any]
"""[field number, value]: a number, bytes, or a list of entries (a message)."""

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    63,
    64,
    65,
    127,
    1 << 20,
    1 << 27,
    (1 << 31) - 1,
    1 << 31,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
PATHS = (
    b"@model_path/../../../../../etc/passwd",
    b"/etc/passwd",
    b"@model_path/weights",
    b"@model_path/",
    b"@model_path/a\0b",
    b"\xff\xfe",
)
DEEPEST = 400


def parse(data: bytes) -> list[Entry] | None:
    """The message in these bytes, None where they are none."""
    entries, at = [], 0
    try:
        while at < len(data):
            key, at = read_varint(data, at)
            value, at = read_varint(data, at)
            if key & 7 == 0:
                entries.append([key >> 3, value])
            elif key & 7 == 2 and at + value <= len(data):
                content = data[at : at + value]
                inner = parse(content) if content else None
                entries.append([key >> 3, content if inner is None else inner])
                at += value
            else:
                return None
    except IndexError:
        return None
    return entries if at == len(data) and all(0 < number < 1000 for number, _ in entries) else None


def copied(value: Any) -> Any:
    """A tree that can be changed without the other; numbers and bytes cannot change."""
    return [copied(part) for part in value] if isinstance(value, list) else value


def written(value: Any) -> bytes:
    """The bytes of a value of an entry."""
    if isinstance(value, bytes):
        return value
    return b"".join(
        varint(number << 3) + varint(inner) if isinstance(inner, int) else field(number, written(inner))
        for number, inner in value
    )


def entries_of(message: list[Entry]) -> list[tuple[list[Entry], int]]:
    """Every entry in the tree, as (its message, its place there)."""
    found = []
    for place, (_, value) in enumerate(message):
        found.append((message, place))
        if isinstance(value, list):
            found.extend(entries_of(value))
    return found


def changed(tree: list[Entry], rng: random.Random) -> None:
    """Make one change in the tree."""
    everywhere = entries_of(tree)
    message, place = rng.choice(everywhere)
    other, elsewhere = rng.choice(everywhere)
    rng.choice(CHANGES)(message, place, other, elsewhere, rng)


def _drop(message: list[Entry], place: int, *_: Any) -> None:
    del message[place]


def _double(message: list[Entry], place: int, *_: Any) -> None:
    message.insert(place, copied(message[place]))


def _exchange(message: list[Entry], place: int, other: list[Entry], elsewhere: int, _: Any) -> None:
    mine, theirs = copied(message[place]), copied(other[elsewhere])
    other[elsewhere], message[place] = mine, theirs


def _content(message: list[Entry], place: int, other: list[Entry], elsewhere: int, _: Any) -> None:
    message[place][1] = copied(other[elsewhere][1])


def _renumber(message: list[Entry], place: int, _other: Any, _elsewhere: Any, rng: random.Random) -> None:
    message[place][0] = rng.choice((1, 2, 3, 4, 5, 6, 7, 10, 21, 31, 100, 502))


def _wire_type(message: list[Entry], place: int, _other: Any, _elsewhere: Any, rng: random.Random) -> None:
    message[place][1] = varint(message[place][1]) if isinstance(message[place][1], int) else rng.choice(NUMBERS)


def _number(message: list[Entry], place: int, _other: Any, _elsewhere: Any, rng: random.Random) -> None:
    """Of this entry, or of the first number from here on."""
    numbers = [entry for entry in message[place:] if isinstance(entry[1], int)] or [message[place]]
    numbers[0][1] = rng.choice(NUMBERS)


def _packed(message: list[Entry], place: int, _other: Any, _elsewhere: Any, rng: random.Random) -> None:
    """Packed numbers: the data of shapes, permutations, begins and ends."""
    message[place][1] = b"".join(varint(rng.choice(NUMBERS)) for _ in range(rng.choice((0, 1, 2, 4, 17, 300))))


def _nest(message: list[Entry], place: int, _other: Any, _elsewhere: Any, rng: random.Random) -> None:
    number, value = message[place]
    content = varint(value) if isinstance(value, int) else written(value)
    for _ in range(rng.choice((2, 20, DEEPEST))):
        content = field(number, content)
    message[place][1] = content


def _name(message: list[Entry], place: int, other: list[Entry], elsewhere: int, rng: random.Random) -> None:
    """Another text of the program, or one that nothing has, or a path."""
    texts = [entry[1] for entry in other[elsewhere:] if isinstance(entry[1], bytes)]
    message[place][1] = rng.choice((*texts, b"nothing has this name", b"", *PATHS))


CHANGES = (_drop, _double, _exchange, _content, _renumber, _wire_type, _number, _packed, _nest, _name)


def attack(package: Path, tree: list[Entry], seed: int) -> str:
    """Write a changed program into the package, load and run it; says what happened. The package stays changed."""
    write_changed(package, tree, seed)
    return outcome(package)


def write_changed(package: Path, tree: list[Entry], seed: int) -> None:
    """Write the tree with one to three changes as the package's program."""
    rng = random.Random(seed)
    own = copied(tree)
    for _ in range(rng.randint(1, 3)):
        if own:
            changed(own, rng)
    model_of(package).write_bytes(written(own))


def model_of(package: Path) -> Path:
    """Its model.mlmodel."""
    return package / "Data" / "com.apple.CoreML" / "model.mlmodel"


def tree_of(package: Path) -> list[Entry]:
    """Its program."""
    tree = parse(model_of(package).read_bytes())
    assert tree is not None
    assert written(tree) == model_of(package).read_bytes()
    return tree
