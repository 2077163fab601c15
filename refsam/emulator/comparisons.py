"""Comparisons of vectors, `&&`, `||` and `!` of them: bool vectors in Metal, vectors of integers 0 and -1 in clang.

No option of clang changes that, so the source is changed: `a < b` becomes `__mtl_mask(a < b)`, which makes a bool vector. Which
comparisons are of vectors, only clang's tree tells, and it tells places only where no macro is in the way; so macros are expanded
first.
"""

import re
from collections.abc import Container, Iterator

from refsam.emulator.error import error
from refsam.emulator.lint import Place, rows

COMPARISON = re.compile(
    r"(?:BinaryOperator .* '[^']*ext_vector_type[^']*'.* '(?:<|>|<=|>=|==|!=|&&|\|\|)'"
    r"|UnaryOperator .* '[^']*ext_vector_type[^']*'.* '!'(?: cannot overflow)?)$",
    re.MULTILINE,
)
MARKER = re.compile(r'^(# \d+ "([^"\n]*)").*$', re.MULTILINE)
TOKEN = re.compile(rb"""\.?\d(?:[eEpP][+-]|[\w.])*|\w+|\+\+|--|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|.""")
"""A number as the preprocessor reads it, a name, an operator behind its operand, a literal, or one character: what the last token
of an operand may be."""


def are_in(tree: str, source_name: str) -> bool:
    """Whether vectors are compared anywhere in the source. What a macro of the headers begins has no place in the source."""
    return COMPARISON.search(tree, max(0, tree.find(f"<{source_name}:"))) is not None


def without_macros(preprocessed: str, names: Container[str]) -> str:
    """What clang's preprocessor made of the files of these names, without the headers, which come again by one #include."""
    lines, ours = ["#include <metal_stdlib>"], False
    for line in preprocessed.split("\n"):
        if marker := MARKER.match(line):
            line, ours = marker[1], marker[2] in names  # without its flags: of whether a file begins or ends
        if ours:
            lines.append(line)
    return "\n".join(lines) + "\n"


def numbered(text: str, source_name: str) -> str:
    """`without_macros` with its own lines' numbers, where copies of a template have the same ones."""
    return f'#line 1 "{source_name}"\n' + MARKER.sub("", text)


def with_masks(text: str, tree: str, source_name: str) -> str:
    """`without_macros` with every comparison in the tree of `numbered` in a call of __mtl_mask."""
    code = text.encode()
    begins = [0, *(found.end() for found in re.finditer(rb"\n", code))]
    inserted: list[tuple[int, bytes]] = []
    for places in set(_ranges(tree, source_name)):
        first, last = (begins[place.line - 1] + place.column - 1 for place in places)
        token = TOKEN.match(code, last)
        inserted += [(first, b"__mtl_mask("), (token.end() if token else last, b")")]
    for place, piece in sorted(inserted, reverse=True):
        code = code[:place] + piece + code[place:]
    return code.decode()


def _ranges(tree: str, source_name: str) -> Iterator[tuple[Place, Place]]:
    """Where a comparison begins, and where its last token does."""
    for places, row in rows(tree, source_name):
        if COMPARISON.search(row):
            if len(places) < 2:
                raise error("program_source: error: a comparison of vectors whose place clang does not tell: compare components")
            yield places[0], places[1]
