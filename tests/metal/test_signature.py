"""Signatures read from source, and parameters packed as the Metal compiler lays them out."""

import re
import struct

import numpy as np
import pytest

from refsam.errors import InputError
from refsam.metal import sources
from refsam.metal.signature import arguments, encode, fields, layout, pack

pytestmark = pytest.mark.core

SOURCE = """
// kernel void not_me(device float *x [[buffer(0)]]) {}
struct P { uint n, m; float3 mean; packed_float3 scale; uchar flag; half2 h; float last; };
[[max_total_threads_per_threadgroup(64)]]
kernel void k(constant P &p [[buffer(1)]], /* the first */ device const float4 *x [[ buffer(0) ]],
              device uint *out [[buffer(2)]], const device uchar *late [[buffer(3)]], constant float &f [[buffer(4)]],
              uint gid [[thread_position_in_grid]])
{ out[gid] = 1; }
kernel void gap(device float *x [[buffer(1)]]) { }
"""


def test_arguments_are_read_in_the_order_of_their_buffers() -> None:
    found = arguments(SOURCE, "k")
    assert [(a.index, a.name, a.type) for a in found] == [
        (0, "x", "float4"), (1, "p", "P"), (2, "out", "uint"), (3, "late", "uchar"), (4, "f", "float")
    ]  # fmt: skip
    assert [a.writable for a in found] == [False, False, True, False, False]
    assert [a.is_struct for a in found] == [False, True, False, False, True]


def test_types_have_other_names() -> None:
    names = ("unsigned int", "unsigned", "uint32_t", "vec<float, 4>", "vec<uint8_t,2>", "int64_t", "ulong", "device_array")
    listed = ", ".join(f"constant {name} *x{i} [[buffer({i})]]" for i, name in enumerate(names))
    found = arguments(f"kernel void k({listed}, uint t [[thread_position_in_grid]]) {{ }}", "k")
    assert [a.type for a in found] == ["uint", "uint", "uint", "float4", "uchar2", "long", "ulong", "device_array"]


@pytest.mark.parametrize(
    "last", ["device float *(y)[4] [[buffer(1)]]", "device float *y BUFFER(1)", "device float y [[buffer(1)]]"]
)
def test_a_buffer_that_is_not_understood_is_not_left_out(last) -> None:
    """The runner would give it no memory, and nobody would tell."""
    with pytest.raises(InputError, match=re.escape(f"kernel k: `{last}` is not understood")):
        arguments(f"kernel void k(device float *x [[buffer(0)]], {last}) {{ }}", "k")


def test_a_kernel_from_a_template_has_its_host_name() -> None:
    source = """template <typename T> [[kernel]] void add(device const T *x [[buffer(0)]], device T *y [[buffer(1)]]) { }
    template [[host_name("add_h")]] kernel void add<half>(device const half *, device half *);"""
    assert sources.kernel_names(source) == ["add_h"]
    assert [(a.type, a.writable) for a in arguments(source, "add_h")] == [("half", False), ("half", True)]
    with pytest.raises(InputError, match="program_source:2: error: kernel 'add_h': add has 1 template parameters"):
        arguments(source.replace("<half>", "<half, 2>"), "add_h")


@pytest.mark.parametrize(("kernel", "message"), [("not_me", "no kernel 'not_me'"), ("gap", r"its buffers are \[1\]")])
def test_signatures_that_cannot_be_served_are_refused(kernel, message) -> None:
    with pytest.raises(InputError, match=message):
        arguments(SOURCE, kernel)


@pytest.mark.parametrize(
    ("name", "size", "alignment"),
    [("float", 4, 4), ("float2", 8, 8), ("float3", 16, 16), ("float4", 16, 16), ("packed_float3", 12, 4), ("uchar4", 4, 4),
     ("half3", 8, 8), ("packed_half4", 8, 2), ("uint3", 16, 16), ("char", 1, 1), ("atomic_uint", 4, 4), ("long", 8, 8),
     ("ulong3", 32, 32),
     ("float2x2", 16, 8), ("float3x3", 48, 16), ("float4x3", 64, 16), ("half2x4", 16, 8), ("half3x2", 12, 4)],
)  # fmt: skip
def test_layouts_of_the_metal_specification(name, size, alignment) -> None:
    assert (layout(name).size, layout(name).alignment) == (size, alignment)


@pytest.mark.parametrize("name", ["double", "float5", "packed_float", "texture2d", "uint3x3", "float5x2", "atomic_uint2"])
def test_types_without_a_layout_here_are_refused(name) -> None:
    with pytest.raises(InputError, match=f"{name} is not a scalar or vector"):
        layout(name)


def test_fields_lie_at_multiples_of_their_alignment() -> None:
    values = {"n": 1, "m": 2, "mean": (1.5, 2.5, 3.5), "scale": (4, 5, 6), "flag": 7, "h": (0.5, 0.25), "last": 9}
    expected = struct.pack("<II8x3f4x3fB3x2ef8x", 1, 2, 1.5, 2.5, 3.5, 4, 5, 6, 7, 0.5, 0.25, 9)
    assert len(expected) == 64
    assert pack(SOURCE, "P", values) == expected


def test_numpy_s_numbers_and_booleans_are_values() -> None:
    source = "struct Q { uint n; uint flag; float x; };"
    assert pack(source, "Q", {"n": np.int64(3), "flag": True, "x": np.float32(0.5)}) == struct.pack("<IIf", 3, 1, 0.5)


def test_fields_have_types_of_other_names() -> None:
    source = "struct R { uint32_t n; unsigned int m, k; unsigned c; metal::float2 v; vec<half, 2> h; };"
    values = {"n": 1, "m": 2, "k": 3, "c": 4, "v": (5, 6), "h": (0.5, 0.25)}
    assert pack(source, "R", values) == struct.pack("<IIIIffee4x", 1, 2, 3, 4, 5, 6, 0.5, 0.25)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"n": 1.5}, "n is 1.5"), ({"n": 1 << 32}, "n is 4294967296"), ({"n": (1, 2)}, "takes 1 numbers; there are 2"),
     ({}, "values are for"), ({"n": 1, "x": 2}, "values are for"), ({"n": "many"}, "n is 'many'")],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(values, message) -> None:
    with pytest.raises(InputError, match=message):
        pack("struct N { uint n; };", "N", values)


@pytest.mark.parametrize("body", ["float x[4];", "constant float *p;", "float x : 3;"])
def test_structs_of_more_than_plain_fields_are_refused(body) -> None:
    with pytest.raises(InputError, match="not a plain field"):
        fields(f"struct S {{ {body} }};", "S")


def test_single_values() -> None:
    assert encode("float3", [1, 2, 3]) == struct.pack("<3f4x", 1, 2, 3)
    assert encode("uint", 7) == struct.pack("<I", 7)


def test_every_kernel_of_ours_can_be_served() -> None:
    for name, path in sources.kernel_files(sources.folder()).items():
        source = sources.read(path)
        *arrays, params = arguments(source, name)
        assert params.is_struct
        assert fields(source, params.type)
        assert [a.writable for a in arrays].count(True) == 1
        assert all(layout(a.type).size for a in arrays)


def test_a_matrix_is_packed_by_columns_each_with_its_padding() -> None:
    packed = pack("struct M { float s; float2x3 m; };", "M", {"s": 9, "m": [[1, 2, 3], [4, 5, 6]]})
    assert np.frombuffer(packed, np.float32).tolist() == [9, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0]
    with pytest.raises(InputError, match=r"M.m takes 6 numbers; there are 5"):
        pack("struct M { float2x3 m; };", "M", {"m": [1, 2, 3, 4, 5]})
