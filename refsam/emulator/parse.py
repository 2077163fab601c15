"""The signatures of the kernels in a .metal file: which buffers, which built-in arguments, in which order.

Clang checks everything else. What is not understood is an error, never a guess.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from refsam.emulator.error import error

MAX_BUFFERS = 31
"""Argument slots that Metal has for buffers."""

BUILT_IN = {
    "thread_position_in_grid": "g->index * g->threads + t",
    "thread_position_in_threadgroup": "t",
    "thread_index_in_threadgroup": "t",
    "threadgroup_position_in_grid": "g->index",
    "threadgroups_per_grid": "g->count",
    "threads_per_threadgroup": "g->threads",
    "dispatch_threads_per_threadgroup": "g->threads",
    "threads_per_grid": "g->count * g->threads",
    "simdgroup_index_in_threadgroup": "t / g->width",
    "simdgroups_per_threadgroup": "g->simdgroups",
    "dispatch_simdgroups_per_threadgroup": "g->simdgroups",
    "thread_index_in_simdgroup": "t % g->width",
    "threads_per_simdgroup": "g->width",
    "thread_execution_width": "g->width",
}
"""Attribute of a kernel's argument -> its value in the launcher; `g` is the group, `t` the thread in it."""

SCALAR_ONLY = {name for name in BUILT_IN if "simd" in name or name in ("thread_index_in_threadgroup", "thread_execution_width")}
ONE_OF = ("thread_execution_width", "threads_per_simdgroup")
"""Two names of one value; Apple's compiler takes one of them in a kernel."""
ALIKE = (
    ("thread_position_in_grid", "threads_per_grid"),
    ("thread_position_in_threadgroup", "threads_per_threadgroup", "dispatch_threads_per_threadgroup"),
)
"""Attributes whose arguments are of one type in a kernel."""
SIZES = {name for name in BUILT_IN if name.endswith(("_per_grid", "_per_threadgroup"))}
"""Attributes whose missing dimensions are 1, not 0."""


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: `buffer` is its slot, or `attribute` says what built-in value it is."""

    type: str
    name: str
    attribute: str
    buffer: int | None

    def expression(self) -> str:
        """What the launcher passes."""
        if self.buffer is not None:
            if self.type.endswith("&"):
                return f"*({self.type[:-1]} *)g->buffers[{self.buffer}]"
            return f"({self.type})g->buffers[{self.buffer}]"
        scalar, dimensions = re.fullmatch(r"(\w+?)([23]?)", self.type).groups()  # type: ignore[union-attr]
        value = f"({scalar})({BUILT_IN[self.attribute]})"
        if not dimensions:
            return value
        rest = ["1" if self.attribute in SIZES else "0"] * (int(dimensions) - 1)
        return f"{self.type}({', '.join([value, *rest])})"


@dataclass(frozen=True)
class Signature:
    """One kernel of a file."""

    name: str
    line: int
    arguments: tuple[Argument, ...]
    max_threads: int | None

    def buffers(self) -> dict[int, Argument]:
        """Slot -> argument."""
        return {a.buffer: a for a in self.arguments if a.buffer is not None}


def signatures(source: str) -> list[Signature]:
    """All kernels, in the file's order.

    Raises error, with the line, on a signature that the emulator cannot call.
    """
    text = without_comments(source)
    lines = Lines(text)
    words = re.finditer(r"\b(?:kernel|vertex|fragment)\b", text)
    found = [_signature(text, match, lines.number(match.start())) for match in words]
    for signature in found:
        if [s.name for s in found].count(signature.name) > 1:
            raise refusal(signature.line, f"redefinition of kernel '{signature.name}'")
    return found


def without_comments(source: str, *, strings: bool = False) -> str:
    """The same text with comments and, unless `strings`, string literals blank; every line keeps its number.

    A string that has no end goes on to the end of its line, as a compiler reads it; a quote in a character opens none.
    """
    pattern = r"""//[^\n]*|/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])'"""

    def blank(match: re.Match[str]) -> str:
        kept = match[0][0] == "'" or (strings and match[0][0] == '"')
        return match[0] if kept else re.sub(r"[^\n]", " ", match[0])

    return re.sub(pattern, blank, source, flags=re.DOTALL)


def with_keywords(source: str) -> str:
    """`[[kernel]] void` in its older form, `kernel void`; every character behind it keeps its place."""
    return re.sub(r"\[\[\s*kernel\s*\]\]", lambda match: "kernel".ljust(len(match[0])), source)


def refusal(line: int, what: str) -> error:
    """An error in the form of Apple's compiler."""
    return error(f"program_source:{line}: error: {what}")


class Lines:
    """The line numbers of a text. Its lines are found once: asking for many numbers takes no longer in a long text."""

    def __init__(self, text: str) -> None:
        markers = [*re.finditer(r"\n#line (\d+)", text)]
        self.ends = [found.start() for found in re.finditer(r"\n", text)]
        self.markers = [found.start(1) for found in markers]
        # What to add to the number of line ends before a position behind the marker, whose next line has the marker's number.
        self.shifts = [int(found[1]) - 2 - bisect_left(self.ends, found.start()) for found in markers]

    def number(self, position: int) -> int:
        """From 1, or from what the last #line before it says (templates.py writes such)."""
        last = bisect_right(self.markers, position) - 1
        return bisect_left(self.ends, position) + (1 if last < 0 else self.shifts[last])


def line_of(text: str, position: int) -> int:
    """One number of `Lines`."""
    return Lines(text).number(position)


def _signature(text: str, match: re.Match[str], line: int) -> Signature:
    if match[0] != "kernel":
        raise refusal(line, f"{match[0]} functions cannot be run; the emulator runs kernels on buffers")
    head = re.compile(r"kernel\s+(?:\[\[[^\]]*\]\]\s*)?void\s+(?:\[\[[^\]]*\]\]\s*)?(\w+)\s*\(").match(text, match.start())
    if head is None:
        raise refusal(line, "a kernel is written `kernel void name(`")
    end = closing(text, head.end(), line)
    parts = [part for part in split(text[head.end() : end]) if part.strip()]
    arguments = tuple(_argument(part, line, head[1]) for part in _with_slots(parts))
    _refuse_double_slots(arguments, line, head[1])
    _refuse_what_does_not_agree(arguments, line, head[1])
    begin = max(text.rfind(";", 0, match.start()), text.rfind("}", 0, match.start())) + 1
    return Signature(head[1], line, arguments, _max_threads(text[begin : head.end()], line))


def _max_threads(text: str, line: int) -> int | None:
    found = re.search(r"\[\[\s*max_total_threads_per_threadgroup\s*\(\s*(\w+)\s*\)\s*\]\]", text)
    if found is None:
        return None
    if not found[1].isdigit() or not 1 <= int(found[1]) <= 1024:
        raise refusal(line, f"max_total_threads_per_threadgroup({found[1]}): the emulator takes a number from 1 to 1024")
    return int(found[1])


def closing(text: str, start: int, line: int, pair: str = "()") -> int:
    """Where the bracket that is open at `start` closes."""
    depth = 1
    for position in range(start, len(text)):
        depth += {pair[0]: 1, pair[1]: -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise refusal(line, f"a list or body does not end: `{pair[1]}` is missing")


def split(text: str) -> Iterator[str]:
    """At the commas outside all brackets."""
    depth = start = 0
    for position, character in enumerate(text):
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _with_slots(parts: list[str]) -> list[str]:
    """Arguments with the buffer slots that Metal gives where the kernel names none: 0, 1, 2 ... in their order."""
    if any(re.search(r"\[\[\s*buffer\b", part) for part in parts):
        return parts
    slots = count()
    bare = r"[^\[\]]*\b(?:device|constant)\b[^\[\]]*[*&][^\[\]]*\w\s*"
    return [f"{part.rstrip()} [[buffer({next(slots)})]]" if re.fullmatch(bare, part) else part for part in parts]


def _argument(text: str, line: int, kernel: str) -> Argument:
    found = re.fullmatch(r"\s*(.*?)(\w+)\s*\[\[\s*(\w+)\s*(?:\(\s*(\w+)\s*\))?\s*\]\]\s*", text, re.DOTALL)
    shown = " ".join(text.split())
    if found is None:
        raise refusal(line, f"kernel '{kernel}': argument `{shown}` has no attribute that the emulator knows")
    kind, name, attribute, number = " ".join(found[1].split()), found[2], found[3], found[4]
    if attribute == "buffer":
        return Argument(kind, name, attribute, _slot(kind, shown, number, line))
    if attribute not in BUILT_IN:
        raise refusal(line, f"kernel '{kernel}': attribute [[{attribute}]] of `{shown}` is unknown to the emulator")
    kind = kind.removeprefix("const ").removeprefix("metal::")
    if not re.fullmatch(r"(uint|ushort)" + ("" if attribute in SCALAR_ONLY else "[23]?"), kind):
        raise refusal(line, f"kernel '{kernel}': [[{attribute}]] cannot be of type `{kind}`")
    return Argument(kind, name, attribute, None)


def _slot(kind: str, shown: str, number: str | None, line: int) -> int:
    if number is None or not number.isdigit() or int(number) >= MAX_BUFFERS:
        raise refusal(line, f"`{shown}`: buffer slots are numbers from 0 to {MAX_BUFFERS - 1}; write no name or macro for one")
    if not re.search(r"\b(device|constant)\b", kind) or not kind.endswith(("*", "&")):
        raise refusal(line, f"`{shown}`: a buffer is a pointer or reference in address space device or constant")
    return int(number)


def _refuse_double_slots(arguments: tuple[Argument, ...], line: int, kernel: str) -> None:
    slots = [a.buffer for a in arguments if a.buffer is not None]
    for slot in slots:
        if slots.count(slot) > 1:
            raise refusal(line, f"kernel '{kernel}': two arguments have [[buffer({slot})]]")


def _refuse_what_does_not_agree(arguments: tuple[Argument, ...], line: int, kernel: str) -> None:
    """Built-in values that are vectors have as many components as each other; some have to be of one type."""
    vectors = [a for a in arguments if a.buffer is None and a.type[-1] in "23"]
    for other in vectors[1:]:
        if other.type[-1] != vectors[0].type[-1]:
            shown = [f"{a.type} [[{a.attribute}]]" for a in (vectors[0], other)]
            raise refusal(line, f"kernel '{kernel}': {' and '.join(shown)} have to have as many components as each other")
    types = {a.attribute: a.type for a in arguments}
    for names in ALIKE:
        shown = [f"{types[name]} [[{name}]]" for name in names if name in types]
        if len({types[name] for name in names if name in types}) > 1:
            raise refusal(line, f"kernel '{kernel}': {' and '.join(shown)} have to be of one type")
    position, index = (types.get(f"thread_{what}_in_threadgroup", "") for what in ("position", "index"))
    if position.startswith("uint") and index == "ushort":
        what = "[[thread_index_in_threadgroup]] has to be uint where [[thread_position_in_threadgroup]] is"
        raise refusal(line, f"kernel '{kernel}': {what}")
    if types.keys() >= set(ONE_OF):
        raise refusal(line, f"kernel '{kernel}': only one of {' and '.join(f'[[{name}]]' for name in ONE_OF)} can be an argument")
