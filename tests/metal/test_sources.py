"""Kernel files as one string."""

import pytest

from refsam.errors import InputError
from refsam.metal import sources

pytestmark = pytest.mark.core


def test_a_header_takes_the_line_of_its_include(tmp_path) -> None:
    (tmp_path / "two.h").write_text("// what it is\ninline float two()\n{\n    return 2.0f;  // two\n}\n")
    (tmp_path / "k.metal").write_text('#include <metal_stdlib>\n#include "two.h"\nkernel void k() {}\n')
    lines = sources.read(tmp_path / "k.metal").splitlines()
    assert lines == ["#include <metal_stdlib>", "inline float two() { return 2.0f; }", "kernel void k() {}"]


@pytest.mark.parametrize(
    ("include", "header", "message"),
    [("missing.h", "", "cannot read .*missing.h"), ("a.h", "#define A 1\n", "has preprocessor lines"),
     ("../a.h", "float a;", "only headers of its own folder")],
)  # fmt: skip
def test_headers_that_cannot_be_pasted_are_refused(tmp_path, include, header, message) -> None:
    (tmp_path / "inner").mkdir()
    for folder in (tmp_path, tmp_path / "inner"):
        (folder / "a.h").write_text(header)
    (tmp_path / "inner" / "k.metal").write_text(f'#include "{include}"\n')
    with pytest.raises(InputError, match=message):
        sources.read(tmp_path / "inner" / "k.metal")


@pytest.mark.parametrize("raw", [None, b"\xff\xfe"])
def test_what_cannot_be_read_is_named(tmp_path, raw) -> None:
    if raw is not None:
        (tmp_path / "k.metal").write_bytes(raw)
    with pytest.raises(InputError, match=r"cannot read .*k\.metal"):
        sources.read(tmp_path / "k.metal")


def test_comments_are_blanked_in_place() -> None:
    text = 'a /* kernel\nb */ c // d\n"//" e'
    assert sources.without_comments(text) == 'a          \n     c     \n"//" e'


def test_two_kernels_of_one_name_are_refused(tmp_path) -> None:
    for name in ("a.metal", "b.metal"):
        (tmp_path / name).write_text("kernel void same(device float *x [[buffer(0)]]) {}")
    with pytest.raises(InputError, match=r"b\.metal and .*a\.metal both have a kernel same"):
        sources.kernel_files(tmp_path)
