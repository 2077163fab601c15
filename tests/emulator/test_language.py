"""What clang's language lacks and the emulator makes up for: comparisons of vectors, kernels from templates."""

import numpy as np
import pytest
from emulator.sources import HEAD

from refsam import emulator

MODES = [{"checked": True}, {"threads": 1}]
COMPARED = (
    HEAD
    + """
// Ünïcode before what is compared
#define EPS 1e-3f
#define LESS(a, b) ((a) < (b))
#define CMP(a, b) a < b
template <typename T> static T low(T a, T b) { return select(b, a, a < b); }
static bool4 within(float4 v, float low, float high) { return v >= low && v <= high; }
kernel void k(device float *y [[buffer(0)]], uint t [[thread_position_in_grid]]) {
    if (t) return;
    const float4 v = float4(0, 1, 2, 3);
    y[0] = low(1.0f, 2.0f);
    y[1] = low(float4(1, 2, 3, 4), float4(2, 1, 1, 9)).z;
    y[2] = any(v < EPS) ? 7 : 8;
    y[3] = float(all(v > 2));
    y[4] = float2(float2(1) < float2(2)).y;
    y[5] = dot(float4(!within(v, 1.0f, 2.0f)), float4(1, 10, 100, 1000));
    y[6] = ((v > 0) == (v >
                        1)).y;
    y[7] = float(any(isnan(v) || isinf(v)));
    y[8] = (uint3(1, 2, 3) == uint3(3, 2, 1))[1] + 2 * bool2(true, false).x;
    bool3 odd = bool3(uint3(1, 2, 3) & 1);
    y[9] = int3(odd).z + int(odd.y);
    y[10] = (ulong2(1, 2) >= 2ul).y + (half2(1, 2) != half2(1)).y;
    y[11] = any(LESS(v, v)) + all(CMP(v, v + 1.0f));
    int4 low = int4(0), high = int4(1);
    bool4 behind = low++ < high--;
    y[12] = behind.x + 10 * low.x + 100 * (low > high--).x + 1000 * (low == 'a').y;
    const int4 bits = int4(0, 1, 2, 0);
    y[13] = dot(float4(bits && bits), float4(1, 10, 100, 1000)) + 2 * dot(float4(!bits || v > 2), float4(1, 10, 100, 1000));
    y[14] = int4(!v).x + 10 * int4(!(bits > 1) && !(v == 0)).y + 100 * all(!float2(0));
}
"""
)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_comparing_vectors_gives_bool_vectors(options) -> None:
    device = emulator.Device(**options)
    y = device.buffer(15 * 4)
    device.kernel(COMPARED).function("k")(1, y)
    np.testing.assert_array_equal(np.frombuffer(y, np.float32), [1, 1, 7, 0, 1, 1001, 0, 0, 3, 1, 2, 1, 111, 2112, 111])


TEMPLATE = (
    HEAD
    + """
// template [[host_name("not_this")]] kernel void turned<float>(device float *, uint, uint);
template <typename T, uint n = 4>
[[max_total_threads_per_threadgroup(64)]]
kernel void turned(device T *x [[buffer(0)]],
                   uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup T tile[n];
    if (i < n) tile[t] = select(x[i], T(0), x[i] < T(0));
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (uint j = 0; j < 1; j++)
        if (i <= n - 1) x[i] = T(2) * tile[n - 1 - t];
}
template [[host_name("turned_f")]] kernel void turned<float, 8>(device float *x [[buffer(0)]],
    uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]);
template [[host_name("turned_i2")]] [[kernel]] void turned<int2>(device int2 *, uint, uint);
kernel void last(device float *x [[buffer(0)]], uint which [[thread_position_in_grid]]) { x[which] = 1; }
"""
)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_kernels_from_a_template_have_their_host_names(options) -> None:
    device = emulator.Device(**options)
    kernels = device.kernel(TEMPLATE)
    x = device.buffer(np.arange(-2, 6, dtype=np.float32))
    kernels.function("turned_f")(8, x)
    np.testing.assert_array_equal(np.frombuffer(x, np.float32), [10, 8, 6, 4, 2, 0, 0, 0])
    x = device.buffer(np.arange(8, dtype=np.int32))
    kernels.function("turned_i2")(4, x)
    np.testing.assert_array_equal(np.frombuffer(x, np.int32), [12, 14, 8, 10, 4, 6, 0, 2])
    assert [(s.name, s.line, s.max_threads) for s in kernels.compiled.signatures] == [
        ("last", 19, None), ("turned_f", 7, 64), ("turned_i2", 7, 64)
    ]  # fmt: skip


def test_a_fault_in_a_template_has_the_template_s_line() -> None:
    device = emulator.Device(checked=True)
    wrong = TEMPLATE.replace("i <= n - 1", "i <= n")
    with pytest.raises(emulator.error, match=r"program_source:14:35: error: kernel 'turned_f', group 0, thread 8: array index"):
        device.kernel(wrong).function("turned_f")(9, device.buffer(64))


GENERATED = """
#import <metal_stdlib>
using metal::uint;
struct P { metal::float4x4 m; metal::int32_t n; metal::half2x3 h; };
kernel void k(device metal::float4 *y [[buffer(0)]], constant P &p [[buffer(1)]], metal::uint i [[thread_position_in_grid]]) {
    if (i == 0) y[i] = p.m * metal::float4(1.0f, 2.0f, 3.0f, metal::float3(4.0f).x) + float(p.n);
}
"""


@pytest.mark.parametrize("options", MODES, ids=str)
def test_names_with_their_namespace_as_generators_write_them(options) -> None:
    device = emulator.Device(**options)
    y = device.buffer(16)
    p = np.zeros(28, np.float32)
    p[:16] = np.arange(16)
    p[16:17].view(np.int32)[:] = 5
    device.kernel(GENERATED).function("k")(1, y, p)
    np.testing.assert_array_equal(np.frombuffer(y, np.float32), np.arange(16).reshape(4, 4).T @ [1, 2, 3, 4] + 5)
