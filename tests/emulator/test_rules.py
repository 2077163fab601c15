"""What Apple's compiler rejects is rejected with the line, what it takes is taken: snippets of both kinds."""

import re
from pathlib import Path

import pytest

from refsam import emulator

SNIPPETS = Path(__file__).parent / "snippets"
HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"
KERNEL = "kernel void k(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]])"


def snippets(name: str) -> dict[str, str]:
    """Name -> source; `K {` stands for the usual kernel."""
    parts = re.split(r"^//// (\w+)\n", (SNIPPETS / name).read_text("utf-8"), flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {name: HEAD + re.sub(r"^K \{", KERNEL + " {", body, flags=re.MULTILINE) for name, body in pairs}


ILLEGAL = snippets("illegal.metal")
LEGAL = snippets("legal.metal")


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_snippet_is_rejected_with_its_line(name: str) -> None:
    rows = enumerate(ILLEGAL[name].split("\n"), 1)
    [(line, text)] = [(number, mark[1]) for number, row in rows if (mark := re.search(r"// ERROR (.+)", row))]
    with pytest.raises(emulator.error) as caught:
        emulator.Device(threads=1).kernel(ILLEGAL[name])
    message = str(caught.value)
    assert re.search(rf"program_source:{line}(:\d+)?: (fatal )?error: [^\n]*{re.escape(text)}", message), message


def test_a_source_without_the_library_is_rejected_with_the_line_of_its_kernel() -> None:
    with pytest.raises(emulator.error, match=r"program_source:3: error: .*#include <metal_stdlib>"):
        emulator.Device(threads=1).kernel("// a kernel\n\n" + KERNEL + " { x[t] = 1; }")


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_snippet_compiles_and_runs(name: str) -> None:
    device = emulator.Device(threads=1, group_size=64)
    device.kernel(LEGAL[name]).function("k")(64, device.buffer(4096))
    assert len(LEGAL) + len(ILLEGAL) >= 54
