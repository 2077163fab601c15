"""Puts calls of the checker's runtime into LLVM assembly: before every access to memory, turn of a loop and library call.

It works on clang's code before any optimisation, where every load and store of the source still stands by itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from refsam.emulator.ir import FUNCTION, Module, Variable
from refsam.emulator.layout import Layout

WRITE, ANY_CONTENT, ATOMIC = 1, 2, 4
"""Bits of an access's kind; the second is a read of what nobody has to have written."""
POINTER = r"(?P<pointer>%[\w.]+|@[\w.$]+|getelementptr .*\))"
ORDER = r"(?: (?:syncscope\S+ )?(?:unordered|monotonic|acquire|release|acq_rel|seq_cst))*"
LOAD = re.compile(
    rf"  (?P<result>%[\w.]+) = load (?P<atomic>atomic )?(?:volatile )?(?P<type>.+?), ptr {POINTER}{ORDER}, align (?P<align>\d+)"
)
STORE = re.compile(rf"  store (?P<atomic>atomic )?(?:volatile )?(?P<typed>.+?), ptr {POINTER}{ORDER}, align (?P<align>\d+)")
UPDATE = re.compile(
    r"  %[\w.]+ = (?:atomicrmw (?:volatile )?\w+|cmpxchg (?:weak )?(?:volatile )?) ?"
    rf"ptr {POINTER}, (?P<type>\S+) .*align (?P<align>\d+)"
)
DERIVED = re.compile(r"  (%[\w.]+) = getelementptr [^\n]*?, ptr (%[\w.]+)[,\n]")
COPIED = r"ptr (?:(?:align \d+|dereferenceable\(\d+\)|[a-z]+) )*?(?P<{0}>[%@][\w.$]+|getelementptr .*?\))"
COPY = re.compile(
    rf"  call void @llvm\.mem(?:cpy|move|set)\S*\({COPIED.format('to')}, "
    rf"(?:{COPIED.format('from')}|i8 \S+), i64 (?P<size>\d+), i1 \w+\)"
)
FIELDS = re.compile(r"^(!\d+) = !\{(i64 \d+, i64 \d+, !\d+(?:, i64 \d+, i64 \d+, !\d+)*)\}$", re.MULTILINE)
CALL = re.compile(r'  (?:%[\w.]+ = )?(?:tail |musttail |notail )?call [^\n]*?@"?(?!llvm\.|__ubsan_)[\w.$]+"?\(')
DIVISION = re.compile(
    r"  %[\w.]+ = (?P<sign>[su])(?:div|rem) (?P<type><(?P<count>\d+) x i(?P<bits>\d+)>) "
    r"(?P<dividend>.+), (?P<divisor>%[\w.]+)(?:, !|$)"
)
CONVERSION = re.compile(
    r"  %[\w.]+ = fpto(?P<sign>[su])i (?P<type><(?P<count>\d+) x (?P<kind>float|half)>) (?P<value>%[\w.]+) "
    r"to <\d+ x i(?P<bits>\d+)>"
)
"""Of vectors: clang's sanitizers look at those of numbers only."""
DECLARATIONS = """
declare void @__mtl_access(ptr, i32, i32, i32, i32)
declare void @__mtl_step(i32)
declare void @__mtl_at(i32)
declare void @__mtl_divides(i64, i64, i32, i32)
declare void @__mtl_fits(float, i32, i32, i32)
"""


@dataclass
class Instrumented:
    """Assembly with checks, and the smallest access in it: what the shadow memory has to resolve."""

    text: str
    granule: int


def instrument(module: Module, source_name: str) -> Instrumented:
    """All functions but those of the runtime itself."""
    lines = Lines(module.text, source_name)
    layout = Layout(module.text)
    fields = fields_by_node(module.text)
    numbers = count(1)
    granule = 16

    def function(found: re.Match[str]) -> str:
        nonlocal granule
        if found[1].startswith("__mtl_"):
            return found[0]
        checks = Checks(layout, lines, fields, numbers, found[0])
        text = checks.instrumented()
        granule = min(granule, *checks.sizes, 16)
        return text

    text = FUNCTION.sub(function, module.text)
    # What clang promises about references, a buffer that is too short breaks.
    text = re.sub(r"(?<!!)\b(?:nonnull |dereferenceable\(\d+\) )", "", text)
    return Instrumented(text + DECLARATIONS + variable_table(module.variables), granule)


def variable_table(variables: list[Variable]) -> str:
    """Where threadgroup variables lie: the runtime looks accesses up in it. Ordered as in the section."""
    rows = ", ".join(f"{{ ptr, i64 }} {{ ptr @{v.symbol}, i64 {v.size} }}" for v in variables)
    count = len(variables)
    return (
        f"\n@__mtl_variables = constant [{count} x {{ ptr, i64 }}] [{rows}]\n"
        f"@__mtl_variable_count = constant i32 {count}\n"
    )  # fmt: skip


class Lines:
    """Debug metadata -> lines of the kernel's own file."""

    def __init__(self, ir: str, source_name: str) -> None:
        self._nodes = dict(re.findall(r"^(!\d+) = (?:distinct )?(!DI\w+\(.*\))$", ir, re.MULTILINE))
        self._name = source_name

    def at(self, instruction: str) -> int:
        """Line of an instruction; 0 where it is in a header."""
        found = re.search(r"!dbg (!\d+)", instruction)
        node = self._nodes.get(found[1], "") if found else ""
        line = re.search(r"\bline: (\d+)", node)
        return int(line[1]) if line and self._in_source(node) else 0

    def _in_source(self, node: str) -> bool:
        file = re.search(r"\bfile: (!\d+)", node)
        if file is None:
            scope = re.search(r"\bscope: (!\d+)", node)
            return scope is not None and self._in_source(self._nodes.get(scope[1], ""))
        name = re.search(r'filename: "([^"]*)"', self._nodes.get(file[1], ""))
        return name is not None and name[1].rsplit("/", 1)[-1] == self._name


def fields_by_node(text: str) -> dict[str, list[tuple[int, int]]]:
    """(offset, size) of the fields of structures, by the metadata that copies of them refer to."""
    return {
        node: [(int(begin), int(size)) for begin, size in re.findall(r"i64 (\d+), i64 (\d+)", fields)]
        for node, fields in FIELDS.findall(text)
    }


@dataclass
class Checks:
    """One function."""

    layout: Layout
    lines: Lines
    fields: dict[str, list[tuple[int, int]]]
    numbers: Iterator[int]
    text: str
    sizes: list[int] = field(default_factory=lambda: [16])
    private: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)

    def instrumented(self) -> str:
        """Its text with the checks."""
        rows = self.text.split("\n")
        self.partial = partial_stores(rows)
        result = []
        for row in rows:
            self._note(row)
            result += [*self._before(row), row]
        return "\n".join(result)

    def _note(self, row: str) -> None:
        """Remember what later lines refer to."""
        label = re.match(r"([\w.]+):", row)
        if label:
            self.labels.add(label[1])
        alloca = re.match(r"  (%[\w.]+) = alloca ", row)
        derived = DERIVED.match(row + "\n")
        if alloca:
            self.private.add(alloca[1])
        elif derived and derived[2] in self.private:
            self.private.add(derived[1])

    def _before(self, row: str) -> list[str]:
        """Calls to put before this line."""
        if row.startswith("  br "):
            return self._step(row)
        if load := LOAD.match(row):
            how = ANY_CONTENT if load["result"] in self.partial else ATOMIC if load["atomic"] else 0
            return self._access(row, load["pointer"], self.layout.touched(load["type"]), how, int(load["align"]))
        if store := STORE.match(row):
            size = self.layout.touched(_type_of(store["typed"]))
            how = WRITE | ATOMIC if store["atomic"] else WRITE
            return self._access(row, store["pointer"], size, how, int(store["align"]))
        if update := UPDATE.match(row):
            size, align = self.layout.stored(update["type"]), int(update["align"])
            kinds = (ATOMIC, ATOMIC | WRITE)
            return [line for how in kinds for line in self._access(row, update["pointer"], size, how, align)]
        if copy := COPY.match(row):
            reads = self._copied(row, copy["from"], int(copy["size"])) if copy["from"] else []
            return [*reads, *self._access(row, copy["to"], int(copy["size"]), WRITE, 1)]
        if division := DIVISION.match(row):
            return self._division(row, division)
        if conversion := CONVERSION.match(row):
            return self._conversion(row, conversion)
        if CALL.match(row):
            line = self.lines.at(row)
            return [f"  call void @__mtl_at(i32 {line})"] if line else []
        return []

    def _copied(self, row: str, pointer: str, size: int) -> list[str]:
        """A structure is read whole; of its bytes those between its fields have no content."""
        node = re.search(r"!tbaa\.struct (!\d+)", row)
        fields = self.fields.get(node[1], []) if node else []
        if len({byte for begin, length in fields for byte in range(begin, begin + length)}) in (0, size):
            return self._access(row, pointer, size, 0, 1)
        rows = self._access(row, pointer, size, ANY_CONTENT, 1)
        for begin, length in fields if rows else []:
            name = f"%mtl.{next(self.numbers)}"
            rows += [f"  {name} = getelementptr i8, ptr {pointer}, i64 {begin}", *self._access(row, name, length, 0, 1)]
        return rows

    def _division(self, row: str, found: re.Match[str]) -> list[str]:
        """Of each component of a vector of integers."""
        bits, line = int(found["bits"]), self.lines.at(row)
        extend = "sext" if found["sign"] == "s" else "zext"
        rows = []
        for i in range(int(found["count"])):
            values = []
            for what in ("dividend", "divisor"):
                values.append(f"%mtl.{next(self.numbers)}")
                rows.append(f"  {values[-1]}.own = extractelement {found['type']} {found[what]}, i32 {i}")
                rows.append(
                    f"  {values[-1]} = {extend} i{bits} {values[-1]}.own to i64"
                    if bits < 64
                    else f"  {values[-1]} = add i64 {values[-1]}.own, 0"
                )
            signed_bits = bits if found["sign"] == "s" else 0
            rows.append(f"  call void @__mtl_divides(i64 {values[0]}, i64 {values[1]}, i32 {signed_bits}, i32 {line})")
        return rows

    def _conversion(self, row: str, found: re.Match[str]) -> list[str]:
        """Of each component of a vector of floating-point numbers to an integer."""
        rows = []
        for i in range(int(found["count"])):
            name = f"%mtl.{next(self.numbers)}"
            rows.append(f"  {name} = extractelement {found['type']} {found['value']}, i32 {i}")
            if found["kind"] == "half":
                rows.append(f"  {name}.wide = fpext half {name} to float")
                name = f"{name}.wide"
            signed = int(found["sign"] == "s")
            rows.append(f"  call void @__mtl_fits(float {name}, i32 {found['bits']}, i32 {signed}, i32 {self.lines.at(row)})")
        return rows

    def _step(self, row: str) -> list[str]:
        """A branch to a block that came before closes a loop."""
        back = self.labels & set(re.findall(r"label %([\w.]+)", row))
        return [f"  call void @__mtl_step(i32 {self.lines.at(row)})"] if back else []

    def _access(self, row: str, pointer: str, size: int, how: int, align: int) -> list[str]:
        """Private variables are clang's business: their indices are checked by its sanitizer."""
        if pointer in self.private or size == 0:
            return []
        self.sizes.append(size & -size)
        line = self.lines.at(row)
        return [f"  call void @__mtl_access(ptr {pointer}, i32 {size}, i32 {how}, i32 {align}, i32 {line})"]


def partial_stores(rows: list[str]) -> set[str]:
    """Loads that only serve a store to the same place: `v.x = 1` on a vector in memory loads and stores all of it."""
    loaded: dict[str, tuple[str, str]] = {}
    found = set()
    for row in rows:
        if load := LOAD.match(row):
            loaded[load["result"]] = (load["result"], load["pointer"])
        elif changed := re.match(r"  (%[\w.]+) = (?:insertelement|shufflevector) (.*)", row):
            origins = [loaded[name] for name in re.findall(r"%[\w.]+", changed[2]) if name in loaded]
            if origins:
                loaded[changed[1]] = origins[0]
        elif store := STORE.match(row):
            origin = loaded.get(store["typed"].split()[-1])
            if origin and origin[1] == store["pointer"]:
                found.add(origin[0])
    return found


def _type_of(typed: str) -> str:
    """The type in `<4 x float> %x`."""
    depth = 0
    for position, character in enumerate(typed):
        depth += (character in "<[{(") - (character in ">]})")
        if character == " " and not depth:
            return typed[:position]
    return typed
