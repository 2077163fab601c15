"""The standard library beyond what our own kernels use: what kernels of others call does what the specification says."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from emulator.sources import HEAD

from refsam import emulator as mc

ARGUMENTS = "device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]"
X = np.linspace(-3, 5, 64).astype(np.float32)
MODES = pytest.mark.parametrize("options", [{}, {"checked": True}], ids=["fast", "checked"])


def per_thread(statements: str, x: np.ndarray = X, dtype: Any = np.float32, rows: int = 1, **options: Any) -> np.ndarray:
    """y (rows, threads) of a kernel whose thread i of `n` has x[i] as `a`, its lane as `lane`, and sets `y[row * n + i]`."""
    kind = {np.float32: "float", np.int32: "int", np.uint32: "uint"}[dtype]
    arguments = ARGUMENTS.replace("float", kind) + ", uint lane [[thread_index_in_simdgroup]]"
    given = f"const uint n = {x.size}; if (i >= n) return; {kind} a = x[i]; float2 both;"
    source = HEAD + f"kernel void k({arguments}) {{ {given} {statements} }}"
    device = mc.Device(**{"group_size": 64, "threads": 2, **options})
    y = device.buffer(4 * rows * x.size)
    device.kernel(source).function("k")(x.size, x.astype(dtype), y)
    return np.frombuffer(y, dtype).reshape(rows, -1).copy()


def each(expressions: Iterable[str], *arguments: Any, **options: Any) -> dict[str, np.ndarray]:
    """Expression -> what each thread gets. All in one kernel: compiling is what takes time."""
    places = list(expressions)
    statements = "".join(f"y[{place} * n + i] = {expression};" for place, expression in enumerate(places))
    return dict(zip(places, per_thread(statements, *arguments, rows=len(places), **options), strict=True))


V = X.astype(np.float64)
EXPRESSIONS = {
    "precise::atan2(a, 2.0f)": np.arctan2(V, 2),
    "precise::atan2(a, -2.0f)": np.arctan2(V, -2),
    "atan2(a, -1.5f)": np.arctan2(V, -1.5),
    "fmod(a, 0.75f)": np.fmod(V, 0.75),
    "fmod(a * 1.0e8f, 7.0f)": np.fmod((X * np.float32(1e8)).astype(np.float64), 7),
    "precise::pow(float2(abs(a)), float2(1.5f, 2.0f)).y": V**2,
    "smoothstep(0.0f, 4.0f, a)": np.clip(V / 4, 0, 1) ** 2 * (3 - 2 * np.clip(V / 4, 0, 1)),
    "cross(float3(a, 1, 2), float3(3, a, 1)).z": V * V - 3,
    "distance(float2(a, 1), float2(0, 1))": abs(V),
    "length_squared(float3(a, 2, 0))": V * V + 4,
    "max3(a, 0.5f, 1.0f) - min3(a, 0.5f, 1.0f)": np.maximum(V, 1) - np.minimum(V, 0.5),
    "ldexp(a, -3) + divide(a, 2.0f) + fdim(a, 1.0f)": V / 8 + V / 2 + np.maximum(V - 1, 0),
    "float(abs(short2(int2(int(a)))).y) + float(absdiff(int(a), 2))": abs(np.trunc(V)) + abs(np.trunc(V) - 2),
    "float(reverse_bits(uint(1) << uint(i % 32)) >> 31) + float(signbit(a))": 1.0 * (np.arange(64) % 32 == 0) + (V < 0),
    "reflect(float3(a, 1, 2), float3(0, 2, 0)).y + float(reflect(half2(1, half(i)), half2(0, 2)).y)": -1.0 - np.arange(64),
    "-1.0f / sign(a - a) + 1.0f / float(sign(half2(-0.0h)).y) + 1.0f / sign(float2(-0.0f)).x": -np.inf,
    "float(absdiff(-2147483647 - 1, 2147483647 - int(i)))": np.float32(4294967295 - np.arange(64)),
    "float(absdiff(char4(-128), char4(char(i))).w) + float(absdiff(ushort(3), ushort(i)))": 128.0
    + np.arange(64)
    + abs(np.arange(64) - 3),
    "float(absdiff(-1, 1) - 3u > 7u)": 1.0,
    "float(sizeof(bool2) + 10 * alignof(bool2) + 100 * sizeof(bool3) + 1000 * alignof(bool3) + 10000 * alignof(bool4))": 44422.0,
    "float(int(sqrt(x[0])) + int2(float2(sqrt(x[0]), a)).x) + float(int2(float2(sqrt(x[0]), a)).y)": np.trunc(V),
    "float(short(sqrt(x[0]))) + float(ulong(sqrt(x[0]))) + float(uchar4(half4(half(sqrt(x[0])))).y)": 0.0,
    "vec<float, 3>(float3(a, 2, 3)).x": V,
    "float(popcount(ulong(i) << 40 | 7ul)) + float(popcount(short(-1)))": [bin(i).count("1") + 3 + 16 for i in range(64)],
    "float(clz(ushort2(ushort(i))).y) + float(clz(long(i)))": [16 + 64 - 2 * i.bit_length() for i in range(64)],
    "float(ctz(ushort(0))) + float(ctz(1ul << i)) + float(reverse_bits(ushort(1)))": 16 + 2**15 + np.arange(64),
    "float(rotate(uchar2(uchar(i)), uchar2(7)).x) + float(abs(char(-5)))": [(i >> 1) + i % 2 * 128 + 5 for i in range(64)],
    "float(mulhi(-1l, long(i) << 60))": [-(0 < i % 16 < 8) for i in range(64)],
    "float(mulhi(uint(i) << 26, 1u << 31) >> 25)": np.arange(64),
    "float(addsat(uchar(250), uchar(i)))": np.minimum(250 + np.arange(64), 255),
    "float(subsat(short2(-32767), short2(i)).y)": np.maximum(-32767 - np.arange(64), -32768),
    "float(hadd(char(-3), char(-4))) + float(rhadd(2147483647, 2147483647) == 2147483647)": -3.0,
    "float(fract(-1e-9f) < 1.0f) + float(all(fract(half2(-1e-7h)) < 1.0h)) + fract(a)": 2 + V - np.floor(V),
    "(sign(float2(a)) + step(float2(1, 0), float2(a))).x": np.sign(V) + (V >= 1),
    "median3(a, 0.5f, 1.0f) + precise::divide(a, 2.0f)": np.clip(V, 0.5, 1) + V / 2,
    "fast::clamp(a, 0.0f, 1.0f)": np.clip(V, 0, 1),
    "sincos(float2(a), both).y": np.sin(V),
    "both.x": np.cos(V),
    "reflect(float2(a, 1), float2(0, 1)).y + faceforward(float3(1), float3(a), float3(1)).x": -1.0 - np.sign(V),
}


def test_an_expression_is_what_it_is_in_float64() -> None:
    for expression, result in each(EXPRESSIONS, fast_math=False).items():
        # A few roundings of numbers below 10.
        np.testing.assert_allclose(result, EXPRESSIONS[expression], rtol=4e-7, atol=1e-6, err_msg=expression)


@MODES
def test_packed_vectors_are_made_indexed_and_computed_with(options: dict[str, Any]) -> None:
    statements = """
        packed_float3 v = packed_float3(a, 2, 3);
        v[1] = v[0] + 1;
        v *= 2.0f;
        v += float3(1, 0, 0);
        v -= v / packed_float3(float3(2));
        float3 w = v * 2 + 1.0f / packed_float3(1, 2, 4);
        y[i] = w.x; y[n + i] = w[1]; y[2 * n + i] = w.z;"""
    x = np.arange(64, dtype=np.float32)
    expected = [2 * x + 2, 2 * (x + 1) + 0.5, np.full(64, 6.25)]
    np.testing.assert_array_equal(per_thread(statements, x, rows=3, **options), expected)


def test_the_edges_of_atan2_and_fmod() -> None:
    inf, nan = np.inf, np.nan
    y = np.float32([0.0, -0.0, 0.0, -0.0, inf, -inf, inf, 1.0, nan])
    x = np.float32([-1.0, -1.0, 0.0, -0.0, inf, inf, -inf, -inf, 1.0])
    edges = each(["precise::atan2(a, x[(i + 9) % n])", "fmod(5.0f, a)"], np.concatenate([y, x]), fast_math=False)
    result, expected = edges["precise::atan2(a, x[(i + 9) % n])"][:9], np.arctan2(y, x)
    np.testing.assert_allclose(result, expected, rtol=1e-7)
    np.testing.assert_array_equal(np.signbit(result[:-1]), np.signbit(expected[:-1]))
    np.testing.assert_array_equal(edges["fmod(5.0f, a)"][[0, 4, 7, 8, 9]], [nan, 5.0, 0.0, nan, 0.0])


HALVES = (
    HEAD
    + """
kernel void k(device const half *x [[buffer(0)]], device half *y [[buffer(1)]], constant uint &n [[buffer(2)]],
              uint i [[thread_position_in_grid]]) {
    if (i >= n) return;
    y[i] = fma(x[i], x[(i + 1) % n], x[(i + 2) % n]);
    y[n + i] = fmod(x[i], x[(i + 1) % n]);
    y[2 * n + i] = fma(half2(x[i]), half2(1), half2(0)).y;
}
"""
)


@MODES
def test_fma_and_fmod_of_halves_round_once(options: dict[str, Any]) -> None:
    """Compilers go through double for them, and the CPU has no instruction from there to half."""
    bits = np.random.default_rng(6).integers(0, 2**16, 4000).astype(np.uint16)
    x = np.concatenate([bits.view(np.float16), np.float16([65504, 1, 16, np.inf, 0, -0.0, 6e-8, 0.5, 3e-8, -6e-8])])
    device = mc.Device(group_size=64, fast_math=False, flush_denormals=False, threads=1, **options)
    y = device.buffer(3 * x.nbytes)
    device.kernel(HALVES).function("k")(x.size, x, y, np.uint32(x.size))
    found = np.frombuffer(y, np.float16).reshape(3, -1)
    wide, one, two = (np.roll(x, -step).astype(np.float64) for step in range(3))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found[0], (wide * one + two).astype(np.float16))
        np.testing.assert_array_equal(found[1], np.fmod(wide, one).astype(np.float16))
    np.testing.assert_array_equal(found[2], x)


def test_limits_and_what_nan_is_to_functions_of_two_and_three() -> None:
    expected = {
        "numeric_limits<float>::lowest() + metal::numeric_limits<float>::max()": 0.0,
        "float(numeric_limits<half>::max() / numeric_limits<half>::lowest())": -1.0,
        "float(numeric_limits<half>::epsilon()) + 1.0f / numeric_limits<float>::infinity()": 2.0**-10,
        "numeric_limits<float>::min() / FLT_MIN + numeric_limits<float>::epsilon()": 1 + 2.0**-23,
        "float(numeric_limits<char>::lowest()) + float(numeric_limits<uchar>::max())": 127.0,
        "float(numeric_limits<short>::min()) + float(SHRT_MAX + USHRT_MAX + CHAR_MIN + UCHAR_MAX)": 65661.0,
        "float(numeric_limits<int>::min() == INT_MIN) + float(numeric_limits<ulong>::max() == ULONG_MAX)": 2.0,
        "float(numeric_limits<long>::max() + LONG_MIN)": -1.0,
        "fmin3(a, 1.0f, float(NAN)) + float(fmax3(half2(half(i)), half2(1), half2(2)).y)": np.minimum(X, 1)
        + np.maximum(np.arange(64), 2),
        "fmedian3(a, 1.0f, 0.0f)": np.clip(X, 0, 1),
        "float(isunordered(a, float(NAN))) + 2.0f * float(isordered(float2(a, NAN), float2(1)).x)": 3.0,
        "float(isordered(half2(half(i), NAN), half2(1)).y)": 0.0,
    }
    for expression, result in each(expected, fast_math=False).items():
        np.testing.assert_allclose(result, np.broadcast_to(expected[expression], 64), rtol=1e-6, err_msg=expression)


REDUCTIONS = {
    "simd_sum(a)": lambda g: np.full(g.size, g.sum()), "simd_max(a)": lambda g: np.full(g.size, g.max()),
    "simd_min(a)": lambda g: np.full(g.size, g.min()), "simd_prefix_inclusive_sum(a)": np.cumsum,
    "simd_prefix_exclusive_sum(a)": lambda g: np.cumsum(g) - g, "simd_broadcast(a, 3)": lambda g: np.full(g.size, g[3]),
    "simd_broadcast_first(a)": lambda g: np.full(g.size, g[0]), "simd_shuffle_xor(a, 5)": lambda g: g[np.arange(g.size) ^ 5],
    "simd_shuffle(a, 15 - lane % 16)": lambda g: g[15 - np.arange(g.size) % 16],
    "simd_shuffle_down(a, 4)": lambda g: np.concatenate([g[4:], g[-4:]]),
    "simd_shuffle_up(a, 2)": lambda g: np.concatenate([g[:2], g[:-2]]),
}  # fmt: skip
"""Expression -> what a SIMD-group with the values g gets. Sums here are of whole numbers, and so exact in any order."""


@MODES
@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32])
def test_simd_functions_work_on_a_group_of_any_width(dtype: Any, width: int, options: dict[str, Any]) -> None:
    x = np.random.default_rng(5).integers(0 if dtype == np.uint32 else -50, 100, 64)
    for expression, result in each(REDUCTIONS, x, dtype, simd_width=width, **options).items():
        groups = [REDUCTIONS[expression](x[start : start + width]) for start in range(0, 64, width)]
        np.testing.assert_array_equal(result, np.concatenate(groups), err_msg=expression)


@MODES
def test_simd_functions_in_a_branch_work_on_the_lanes_in_it(options: dict[str, Any]) -> None:
    """Two branches with a function each, and lanes that have met before by themselves."""
    ones = np.ones(64, np.uint32)
    statements = """
        if (lane < 5) a = simd_sum(a) + 1;
        uint all = simd_sum(a);
        if (lane % 2) y[i] = all + simd_sum(uint(1)); else y[i] = all + 100 * simd_sum(uint(1));
        if (simd_any(lane == 31) && !simd_all(lane == 31)) y[i] += 1000000;
        if (simd_is_first()) y[i] += 1000;
        uint turns = 0;
        for (uint k = 0; k < lane; k++) turns += simd_sum(uint(1)) > 16;
        y[i] += 10000000 * (simd_sum(uint(1)) == 32) + 100000000 * turns;"""
    [result] = per_thread(statements, ones, np.uint32, **options)
    everyone = 5 * 6 + 27
    lane = np.arange(64) % 32
    expected = np.where(lane % 2, everyone + 16, everyone + 1600) + 11000000 + 1000 * (lane == 0)
    expected += 100000000 * np.minimum(lane, 15)  # the k-th turn of the loop is taken by 31 - k lanes
    np.testing.assert_array_equal(result, expected)


HELPER = (
    HEAD
    + """
static uint total(uint v) { return simd_sum(v); }
kernel void k(device uint *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    uint sum = 0;
    if (t < 3) sum = total(1); else sum = total(2);
    for (uint j = 0; j < t % 4; j++) sum += 100 * total(1);
    y[t] = sum + 10000 * total(1);
}
"""
)


@MODES
def test_a_simd_function_in_a_helper_works_on_the_lanes_of_each_call(options: dict[str, Any]) -> None:
    device = mc.Device(group_size=32, **options)
    y = device.buffer(128)
    device.kernel(HELPER).function("k")(32, y)
    lane = np.arange(32)
    expected = np.where(lane < 3, 3, 58) + 100 * np.array([0, 24, 40, 48])[lane % 4] + 320000
    np.testing.assert_array_equal(np.frombuffer(y, np.uint32), expected)


ATOMICS = (
    HEAD
    + """
kernel void k(device atomic_uint *n [[buffer(0)]], device atomic_float *sum [[buffer(1)]], device atomic_int *range [[buffer(2)]],
              uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint bins[4];
    if (t < 4) atomic_store_explicit(&bins[t], 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&bins[t % 4], 1, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < 4) atomic_fetch_add_explicit(n + t, atomic_load_explicit(&bins[t], memory_order_relaxed), memory_order_relaxed);
    atomic_fetch_add_explicit(sum, 0.5f, memory_order_relaxed);
    atomic_fetch_max_explicit(range, int(i) - 7, memory_order_relaxed);
    atomic_fetch_min_explicit(range + 1, -int(i), memory_order_relaxed);
    atomic_fetch_xor_explicit(n + 4, i, memory_order_relaxed);
    uint old = atomic_load_explicit(n + 5, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(n + 5, &old, old + 3, memory_order_relaxed, memory_order_relaxed)) {}
}
"""
)


@pytest.mark.parametrize("options", [{"threads": 2}, {"checked": True}, {"checked": True, "seed": 3}], ids=str)
def test_atomics_lose_nothing_between_threads_groups_and_workers(options: dict[str, Any]) -> None:
    device = mc.Device(group_size=64, **options)
    n, total, ends = device.buffer(6 * 4), device.buffer(4), device.buffer(8)
    count = 640
    device.kernel(ATOMICS).function("k")(count, n, total, ends)
    assert np.frombuffer(n, np.uint32).tolist() == [160] * 4 + [int(np.bitwise_xor.reduce(np.arange(count))), 3 * count]
    assert np.frombuffer(total, np.float32)[0] == count / 2
    assert np.frombuffer(ends, np.int32).tolist() == [count - 8, -(count - 1)]


MATRICES = (
    HEAD
    + """
struct Camera { float3x3 turn; float4x4 move; half2x2 small; };
static float4 moved(constant Camera &c, float4 v) { return c.move * v; }
kernel void k(constant Camera &c [[buffer(0)]], device float4x4 *m [[buffer(1)]], device float *y [[buffer(2)]],
              uint t [[thread_index_in_threadgroup]]) {
    if (t) return;
    float3 v = c.turn * float3(1, 2, 3);
    float3 w = float3(1, 2, 3) * c.turn;
    float3x3 square = transpose(c.turn) * c.turn;
    float2x3 tall = float2x3(v, w);
    float4 p = moved(c, float4(1, 0, 0, 1));
    m[1] = 2.0f * m[0] + float4x4(1.0f) - m[0];
    m[1][3].xy = float2(7, 8);
    array<float, 3> a;
    for (uint i = 0; i < a.size(); i++) a[i] = square[i][0];
    float results[] = {v.x, v.y, v.z, w.x, w.y, w.z, a[0], a[1], a[2], determinant(c.turn), (tall * float2(1, 1)).x, p.x, p.w,
                       float((c.small * half2(1, 1)).x)};
    for (uint i = 0; i < 14; i++) y[i] = results[i];
}
"""
)


@MODES
def test_matrices_are_columns_and_multiply_as_such(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    turn, move = rng.integers(-4, 5, (3, 3)).astype(float), rng.integers(-4, 5, (4, 4)).astype(float)  # row, column
    small, other = np.array([[1, 2], [3, 4]], np.float16), rng.integers(-4, 5, (4, 4)).astype(np.float32)
    columns = np.zeros((3, 4), np.float32)  # a float3 takes 16 bytes
    columns[:, :3] = turn.T
    camera = columns.tobytes() + move.T.astype(np.float32).tobytes() + small.T.tobytes() + bytes(8)
    device = mc.Device(group_size=32, **options)
    m, y = device.buffer(np.stack([other, other])), device.buffer(14 * 4)
    device.kernel(MATRICES).function("k")(1, camera, m, y)
    v, w = turn @ [1, 2, 3], np.array([1, 2, 3]) @ turn
    p = move @ [1, 0, 0, 1]
    expected = [*v, *w, *(turn.T @ turn)[0], np.linalg.det(turn), (v + w)[0], p[0], p[3], 3]
    np.testing.assert_allclose(np.frombuffer(y, np.float32), expected, rtol=1e-6)
    stored = np.frombuffer(m, np.float32).reshape(2, 4, 4)[1]
    wanted = other + np.eye(4, dtype=np.float32)
    wanted[3, :2] = 7, 8
    np.testing.assert_array_equal(stored, wanted)
