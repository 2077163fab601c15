"""Signatures, dispatch arithmetic, sizes of types."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsam import emulator as mc
from refsam.emulator.layout import Layout
from refsam.emulator.lint import text_findings
from refsam.emulator.options import WIDTHS, Options
from refsam.emulator.parse import BUILT_IN, MAX_BUFFERS, Lines, signatures, without_comments
from refsam.emulator.plan import group_threads
from refsam.emulator.templates import instantiated
from refsam.emulator.vectors import partitions

TYPES = ("device float *", "device const float4 *", "constant uint &", "const device Params *", "constant Params &")
SPACES = st.sampled_from(["", " ", "\n  ", "/* , [[buffer(9)]] */", " // )\n"])


@given(
    kinds=st.lists(st.sampled_from(TYPES), min_size=1, max_size=6, unique=False),
    first=st.integers(0, MAX_BUFFERS - 6),
    built_in=st.sampled_from(sorted(BUILT_IN)),
    space=SPACES,
    lines=st.integers(0, 5),
)
def test_signatures_are_read_back(kinds: list[str], first: int, built_in: str, space: str, lines: int) -> None:
    arguments = [f"{kind} a{i}{space}[[buffer({first + i})]]" for i, kind in enumerate(kinds)]
    text = "\n" * lines + f"kernel{space or ' '}void k({f',{space}'.join([*arguments, f'uint t [[{built_in}]]'])}) {{}}"
    [found] = signatures(text)
    assert (found.name, found.line, found.max_threads) == ("k", lines + 1, None)
    assert [(a.type, a.buffer) for a in found.arguments[:-1]] == [(kind, first + i) for i, kind in enumerate(kinds)]
    assert found.arguments[-1].attribute == built_in


@given(st.text(alphabet="/*\"'\n\\ab", max_size=40))
def test_comments_go_and_lines_stay(text: str) -> None:
    bare = without_comments(text)
    assert bare.count("\n") == text.count("\n")
    assert len(bare) == len(text)
    assert "/*" not in bare
    assert "//" not in bare


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('a "b // c" d', "a          d"),
        ('a "b // c\nd', "a        \nd"),
        ("char a = '\"'; // b", "char a = '\"';     "),
        ("char a = '\\''; \"b\"", "char a = '\\'';    "),
        ("int a = 1'000'000; /* b */", "int a = 1'000'000;        "),
    ],
    ids=["string", "string without an end", "a quote as a character", "an escaped character", "digits in groups"],
)
def test_strings_end_and_characters_stay(text: str, bare: str) -> None:
    assert without_comments(text) == bare


@given(st.text(max_size=60))
def test_any_text_gives_signatures_or_an_error(text: str) -> None:
    message = ""
    try:
        signatures("kernel void k(" + text)
    except mc.error as reason:
        message = str(reason)
    assert re.match(r"$|program_source:\d+: error: ", message)


@given(st.text('templaTkvoidfx<>(){};,= \n"#[]/', max_size=60))
def test_any_template_is_instantiated_or_an_error(text: str) -> None:
    definition = "template <typename T> kernel void f(device T *x [[buffer(0)]]) {}\n"
    wanted = 'template [[host_name("f_float")]] kernel void f<float>(device float *);'
    message = ""
    try:
        found = instantiated(f"{definition}template <{text}\n{wanted}")
        assert found.count("\n") >= 2 + text.count("\n")
        assert "kernel void f(" not in found or "kernel void f(" in text
    except mc.error as reason:
        message = str(reason)
    assert re.match(r"$|program_source:\d+: error: ", message)


@pytest.mark.parametrize("piece", ["(float4)(", "[[ ", "(float4)(1, ", "[[buffer(0)]] ", '\\"'])
def test_the_time_for_a_text_grows_as_its_length(piece: str) -> None:
    """Four times as long: four times the time, sixteen times where it grew as the square."""
    short, long = (min(seconds(piece * n) for _ in range(3)) for n in (5000, 20_000))
    assert long < 8 * short


def seconds(text: str) -> float:
    begin = time.process_time()
    text_findings(text)
    return time.process_time() - begin


@given(st.lists(st.sampled_from(["\n", "x", '\n#line 7 "program_source"\n', "\n#line 30\n"]), max_size=20))
def test_lines_are_numbered_as_a_preprocessor_does(pieces: list[str]) -> None:
    text = "".join(pieces)
    lines, number = Lines(text), 1
    for start, row in ((found.start(), found[0]) for found in re.finditer(r"^.*$", text, re.MULTILINE)):
        assert row.startswith("#line") or lines.number(start) == lines.number(start + len(row)) == number
        number = int(row.split()[1]) if row.startswith("#line") else number + 1


@given(limit=st.none() | st.integers(1, 1024), size=st.integers(64, 1024), width=st.sampled_from(WIDTHS))
def test_a_group_is_the_greatest_number_of_whole_simdgroups(limit: int | None, size: int, width: int) -> None:
    threads = group_threads(limit, Options(group_size=size, simd_width=width))
    allowed = min(size, limit or size)
    assert threads % width == 0
    assert threads <= allowed < threads + width


@pytest.mark.parametrize(("n", "count"), [(2, 1), (3, 3), (4, 7)])
def test_partitions(n: int, count: int) -> None:
    found = partitions(n)
    assert len(found) == len(set(found)) == count
    assert all(sum(parts) == n and len(parts) > 1 for parts in found)


@pytest.mark.parametrize(
    ("kind", "stored", "size"),
    [
        ("float", 4, 4), ("half", 2, 2), ("i8", 1, 1), ("i1", 1, 1), ("ptr", 8, 8), ("<4 x float>", 16, 16),
        ("<3 x float>", 12, 16), ("<3 x i8>", 3, 4), ("<2 x half>", 4, 4), ("[5 x [3 x i16]]", 30, 30),
        ("{ i8, float }", 8, 8), ("<{ i8, float }>", 5, 5), ("%struct.P", 48, 48), ("[2 x %struct.P]", 96, 96),
    ],
)  # fmt: skip
def test_sizes_of_llvm_types(kind: str, stored: int, size: int) -> None:
    layout = Layout("%struct.V = type { float, float, float }\n%struct.P = type { i32, float, float, %struct.V, <3 x float> }\n")
    assert (layout.stored(kind), layout.size(kind)) == (stored, size)
