"""What clang's C++ for OpenCL accepts and Metal does not.

Two passes: over the text, for what has been macro or attribute before clang's tree, and over clang's dump of the tree. Both err
on the side of refusing: what the emulator would run otherwise than Metal does is refused, too, and the message says so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from refsam.emulator.error import error
from refsam.emulator.parse import BUILT_IN, Lines, Signature, refusal, split, without_comments
from refsam.emulator.vectors import INTEGERS

ATTRIBUTES = {*BUILT_IN, "buffer", "max_total_threads_per_threadgroup"}
REASONS = {
    "threadgroup": "metalcompute cannot give an argument threadgroup memory; write in the kernel: threadgroup T name[N]",
    "function_constant": "metalcompute cannot set function constants; use a template, a macro or a parameter",
    "host_name": 'it is read in instantiations without macros: template [[host_name("name")]] kernel void f<float>(...);',
    "id": "argument buffers cannot be run; give the kernel each buffer as an argument of its own",
    "texture": "textures cannot be run; the emulator runs kernels on buffers",
    "sampler": "textures cannot be run; the emulator runs kernels on buffers",
}
"""Attribute of Metal that is refused -> why, or what to write."""

QUADS = r"quad_(?:all|any|and|x?or|sum|product|min|max|broadcast\w*|shuffle\w*|prefix_\w+|is_first|vote)"
MISSING = {
    QUADS: "quad functions are not in the emulator; simd_shuffle_xor(x, 1) and (x, 2) reach the lanes of a quad",
    r"simdgroup_(?:float|half|bfloat)8x8|simdgroup_matrix": "SIMD-group matrices are not in the emulator; use threadgroup memory",
    r"simd_vote|simd_ballot|simd_active_threads_mask": "simd_vote is not in the emulator; simd_any and simd_all are",
    r"simd_shuffle_(?:rotate|and_fill)_(?:up|down)": "shuffles that rotate or fill are not in the emulator; simd_shuffle is",
}
"""Names of Metal that the emulator does not have -> what it says."""

PREDEFINED = {
    "__METAL_VERSION__", "__METAL_MACOS__", "__METAL_IOS__", "__LINE__", "__FILE__", "__FAST_MATH__", "__VA_ARGS__",
}  # fmt: skip
FEATURE = r"__HAVE_\w+__"
"""Macros of Metal's library that say what a GPU has; none is defined here."""
INLINING = re.compile(r"__attribute__\s*\(\(\s*(?:always_inline|__always_inline__|noinline|__noinline__)\s*\)\)")
VECTOR = r"(?:float|half|u?int|u?short|u?char|u?long|bool)[234]"

LINE_DIRECTIVE = "#line would hide lines from the emulator, which reads kernels by theirs: remove it"
KEPT_BITS = "this cast of a vector would keep its bits; Metal's converts: write the name of the type, int4(v)"
CHOICE = "the condition of ?: has to be one bool in Metal; by components chooses select(b, a, condition)"
CONVERSION = "write the name of the vector's type, float4(v)"
HINTS = {
    r"error: (?:static_cast from|C-style cast from vector|invalid conversion between)": CONVERSION,
    r"error: .*call to deleted constructor of '.*matrix<": "write columns, float2x2(float2(1, 2), float2(3, 4))",
}
"""What clang says -> what to write."""

CONDITIONAL = "-ConditionalOperator "
WHOLE = {*INTEGERS.values(), "char"}
"""Clang's names of the integers."""

CAST = r"(?:CStyleCast|CXXFunctionalCast|CXXStaticCast|CXXReinterpretCast|CXXConstCast)Expr \S+ <[^<>]*, [^<>]*>"
"""A cast that is written out: those of the functions that clang adds to a class begin where they end."""

SPACELESS = "a pointer or reference needs an address space"
TREE_RULES = (
    (r"(?:ParmVar|Var|Field)Decl .*'[^']*__generic[^']*[*&](?:__private)?(?:\[\d*\])*'", SPACELESS),
    (rf"{CAST} (?:'[^']*':)?'[^']*__generic", SPACELESS),
    (r"(?:Function|CXXMethod)Decl [^']*'(?:\w+ )*__generic [^'(]*[*&]\(", SPACELESS),
    (
        r"(?:(?:ParmVar|Var)Decl|DeclRefExpr) .*'[^']*__local[^']*atomic(?:_float\b|<float>)",
        "atomic_float is for device memory; in threadgroup memory add the threads' parts up, or use atomic_uint",
    ),
    (r"DeclRefExpr .*'atomic_fetch_(?:min|max)_explicit' 'float ", "atomic_float has no minimum and no maximum in Metal"),
    (r"LambdaExpr", "Metal 2.3 has no lambda expressions"),
    (r"GotoStmt|LabelStmt|IndirectGotoStmt", "Metal has no goto"),
    (r"^\W*(?:virtual )?(?:public|private|protected) '", "Metal has no derived classes"),
    (r"'(?:unsigned )?long long'|'(?:unsigned )?__int128'", "Metal has no long long: long has 64 bits"),
    (r"GCCAsmStmt|MSAsmStmt", "Metal has no inline assembly"),
    (r"CXXDynamicCastExpr|CXXTypeidExpr", "Metal has no run-time type information"),
)


@dataclass(frozen=True)
class Finding:
    """A rule that a line breaks."""

    line: int
    rule: str


def refuse(findings: list[Finding]) -> None:
    """Raise error with all of them, in the form of a compiler."""
    if findings:
        raise error("\n".join(f"program_source:{f.line}: error: {f.rule}" for f in sorted(set(findings), key=lambda f: f.line)))


def explained(message: str) -> str:
    """Clang's message, with what to write behind an error whose words do not say it."""
    for words, hint in HINTS.items():
        message = re.sub(rf"^.*{words}.*", rf"\g<0>; {hint}", message, flags=re.MULTILINE)
    return message


def text_findings(source: str) -> list[Finding]:
    """The pass over the text."""
    text = without_comments(source)
    lines = Lines(text)
    rules = (_attributes, _reserved_names, _long_double, _opencl_vectors, _foreign_names, _missing_names)
    return [Finding(lines.number(position), rule) for find in rules for position, rule in find(text)]


def refuse_line_directives(source: str) -> None:
    """Raise error on a line that gives other names and numbers to those behind it: this pass and the next know lines by these.
    For the text as it was written; templates.py adds such lines."""
    text = without_comments(source)
    found = re.finditer(r"^(?:[^\S\n]|\\\n)*(?:#|%:)(?:[^\S\n]|\\\n)*(?:line\b|\d)", text, re.MULTILINE)
    refuse([Finding(text.count("\n", 0, directive.end()) + 1, LINE_DIRECTIVE) for directive in found])


def refuse_what_has_no_library(source: str, signatures: list[Signature]) -> None:
    """Raise error on kernels without Metal's library: `kernel` and `device` are macros of it here."""
    library = r"^\s*(?:#|%:)\s*(?:include|import)\s*[<\"]metal_\w+[>\"]"
    if signatures and not re.search(library, without_comments(source, strings=True), re.MULTILINE):
        raise refusal(signatures[0].line, "the emulator needs a line `#include <metal_stdlib>` before this kernel")


def refuse_what_is_not_compiled(message: str, signatures: list[Signature]) -> None:
    """Raise error on a kernel that `parse` found and the launcher did not."""
    missing = re.search(r"^launcher:.* error: no member named '(\w+)' in the global namespace", message, re.MULTILINE)
    for signature in signatures:
        if missing and missing[1] == signature.name:
            what = "is left out by the preprocessor or in a namespace: the emulator reads kernels before the preprocessor does"
            raise refusal(signature.line, f"kernel '{signature.name}' {what}")


def _attributes(text: str) -> Iterator[tuple[int, str]]:
    """Clang would ignore one that it does not know."""
    for found in re.finditer(r"\[\[((?:(?!\[\[|\]\]).)*)\]\]", text, re.DOTALL):
        for attribute in split(found[1]):
            name = re.match(r"\s*([\w:]*)", attribute)
            if name and name[1] not in ATTRIBUTES:
                reason = REASONS.get(name[1], "unknown to the emulator")
                yield found.start(), f"attribute [[{name[1]}]]: {reason}"


def _reserved_names(text: str) -> Iterator[tuple[int, str]]:
    """The emulator's own names, clang's builtins and OpenCL's keywords begin so."""
    blank = INLINING.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    for found in re.finditer(r"\b__\w+", blank):
        if found[0] not in PREDEFINED and not re.fullmatch(FEATURE, found[0]):
            yield found.start(), f"the name {found[0]} is not Metal's"


def _foreign_names(text: str) -> Iterator[tuple[int, str]]:
    """Keywords and functions of OpenCL that are nothing in Metal."""
    for found in re.finditer(r"\b(?:asm|image[123]d\w*_t|sampler_t|event_t|get_(?:global|local|group)_\w+|vec_step)\b", text):
        yield found.start(), f"'{found[0]}' is not Metal's"


def _missing_names(text: str) -> Iterator[tuple[int, str]]:
    """What would be an unknown name to clang."""
    for pattern, reason in MISSING.items():
        yield from ((found.start(), reason) for found in re.finditer(rf"\b(?:{pattern})\b", text))


def _long_double(text: str) -> Iterator[tuple[int, str]]:
    """Metal has float and half only."""
    for found in re.finditer(r"\b(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?[lL]\b", text):
        yield found.start(), f"{found[0]}: Metal has no double and no long double"


def _opencl_vectors(text: str) -> Iterator[tuple[int, str]]:
    """In C++ `(float4)(1, 2, 3, 4)` is a cast of the last number; in OpenCL a vector of the four."""
    casts = {found.end(): found for found in re.finditer(rf"\(\s*({VECTOR})\s*\)\s*(?=\()", text)}
    opened: list[re.Match[str] | None] = []
    for found in re.finditer(r"[(),]", text):
        if found[0] == "(":
            opened.append(casts.get(found.start()))
        elif found[0] == ")":
            del opened[-1:]
        elif opened and (cast := opened[-1]):
            yield cast.start(), f"({cast[1]})(...) is OpenCL's way to write a vector; Metal's is {cast[1]}(...)"
            opened[-1] = None


def findings(tree: str, source_name: str) -> list[Finding]:
    """The pass over the dump of clang's tree, as far as it is about the source itself."""
    below = {row: operand for row, operand in pairwise(tree.split("\n")) if "<BitCast>" in row or CONDITIONAL in row}
    return [
        Finding(places[0].line, rule)
        for places, row in rows(tree, source_name)
        if (rule := _broken_rule(row) or _kept_bits(row, below.get(row, "")) or _vector_choice(row, below.get(row, "")))
    ]


def _vector_choice(row: str, condition: str) -> str | None:
    """The rule that a `c ? a : b` breaks whose `c`, in the row below it, is a vector: clang chooses by the components' signs."""
    return CHOICE if CONDITIONAL in row and _element(condition)[1] else None


def _kept_bits(cast: str, operand: str) -> str | None:
    """The rule that a <BitCast> breaks, with the row below it, where it has a vector on either side and is no conversion: that of
    integers to others of the same size is both."""
    sides = [_element(cast), _element(operand)]
    if not operand or not re.search(CAST, cast) or not any(count for _, count in sides):
        return None
    return None if sides[0][1] == sides[1][1] and all(kind in WHOLE for kind, _ in sides) else KEPT_BITS


def _element(row: str) -> tuple[str, int]:
    """Type and number of the components of the vector that an expression is, 0 of anything else's."""
    found = re.search(r"> (?:'[^']*':)?'([^']*?)(?: __\w+)* __attribute__\(\(ext_vector_type\((\d)\)\)\)'", row)
    return (found[1], int(found[2])) if found else ("", 0)


class Place(NamedTuple):
    """A location in the dump of clang's tree, both numbers from 1."""

    line: int
    column: int


def rows(tree: str, source_name: str) -> Iterator[tuple[list[Place], str]]:
    """(places in the source, row) of the dump's rows about it. A location names its file and line only where they differ from
    the last one."""
    begin = tree.find(f"<{source_name}:")
    if begin < 0:
        return
    file, line = "", 0
    for row in tree[tree.rfind("\n", 0, begin) + 1 :].split("\n"):
        places = []
        for place in re.finditer(r"(?<=[<, ])(?:col|line:(\d+)|([^\s<>,:]+):(\d+)):(\d+)(?=[,> ]|$)", row):
            file, line = place[2] or file, int(place[1] or place[3] or line)
            places.append((file, Place(line, int(place[4]))))
        # The bases of a class have no location of their own.
        ours = [place for name, place in places or [(file, Place(line, 1))] if name == source_name]
        if ours and " implicit " not in row and " invalid " not in row:
            yield ours, row


def _broken_rule(row: str) -> str | None:
    if "'" not in row and "Lambda" not in row and "Stmt" not in row:
        return None
    if re.search(r"ParmVarDecl \S+ <[^>]*> (?:\S+:\d+ )?(?:used |referenced )?'", row) or "noexcept" in row:
        return None  # unnamed: of an operator that clang adds to a class
    for pattern, rule in TREE_RULES:
        if rule and re.search(pattern, row):
            return rule
    return None
