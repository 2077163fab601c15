//// templates
template <typename T> static inline T twice(T v) { return v + v; }
K { x[t] = twice(x[t]) + float(twice(t)); }
//// swizzles
K { float4 v = float4(1, 2, 3, 4); v.xy = v.zw; v[3] = v.r; x[t] = v.w + v.bgr.y; }
//// constructors
K { float4 v = float4(float2(1, 2), float2(3)); int3 i = int3(float3(1.5f)); x[t] = v.x + float(i.z) + float3(v.xy, 1).z; }
//// constants
constant float table[3] = {1.0f, 2.0f, 3.0f};
constant constexpr uint N = 3;
K { x[t] = table[t % N]; }
//// packed
struct P { packed_float3 a; float b; packed_half2 c; };
kernel void k(device P *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { float3 v = x[t].a; x[t].a = v * 2.0f; x[t].b = float3(x[t].a).y; }
//// names_in_the_namespace
static metal::float3 both(metal::packed_float3 v, metal::uint n) { return metal::float3(v) * float(n); }
K { metal::float4 v = metal::float4(both(metal::packed_float3(1, 2, 3), t), 1.0f); x[t] = v.z + float(metal::bool2(true).x); }
//// library_constants
K { x[t] = M_LOG10E_F + M_2_SQRTPI_F + float(MAXHALF + HALF_MAX + HALF_MIN + HALF_EPSILON + M_PI_H + M_SQRT1_2_H) + float(-HUGE_VALH < M_E_H); }
//// half_precision
K { half h = half(x[t]); half4 v = half4(h, 1.0h, 2.0h, 3.0h); x[t] = float(v.x * v.y); }
//// as_type
K { uint bits = as_type<uint>(x[t]); x[t] = as_type<float>(bits ^ 0x80000000u); }
//// references
static void add(device float &a, thread const float &b) { a += b; }
K { float v = 1; add(x[t], v); }
//// pointers
static void fill(thread float *p, uint n) { for (uint i = 0; i < n; i++) p[i] = float(i); }
K { float own[4]; fill(own, 4); x[t] = own[t % 4]; }
//// structure_methods
struct Scale { float by; float of(float v) const { return v * by; } };
K { Scale s = {2.0f}; x[t] = s.of(x[t]); }
//// precise_and_fast
K { x[t] = precise::tanh(x[t]) + fast::exp(x[t]) + metal::rsqrt(x[t]) + powr(x[t], 2.0f); }
//// common_functions
K { x[t] = clamp(mix(x[t], 1.0f, 0.5f), 0.0f, 1.0f) + fma(x[t], 2.0f, 1.0f) + select(1.0f, 2.0f, x[t] > 0.0f) + sign(x[t]); }
//// integers
K { uint a = popcount(t) + clz(t) + max(t, 3u); int b = abs(int(t) - 5); x[t] = float(a >> 1) + float(min(b, 2)); }
//// two_dimensional_index
kernel void k(device float *x [[buffer(0)]], uint2 t [[thread_position_in_grid]], uint2 n [[threads_per_grid]], uint g [[threadgroup_position_in_grid]]) { x[t.x + t.y * n.x] = float(n.y); }
//// indices_of_other_types
kernel void k(device float *x [[buffer(0)]], ushort2 t [[thread_position_in_threadgroup]], ushort2 n [[threads_per_threadgroup]],
              ushort i [[thread_index_in_threadgroup]], uint2 g [[thread_position_in_grid]], ushort2 groups [[threadgroups_per_grid]]) { x[g.x] = float(t.x + n.y + i + groups.x); }
//// atomic_floats
K {
    device atomic_float *sum = (device atomic_float *)x;
    atomic_fetch_add_explicit(sum, 1.0f, memory_order_relaxed);
    float before = atomic_exchange_explicit(sum + 1, 2.0f, memory_order_relaxed);
    atomic_fetch_sub_explicit(sum, before - atomic_load_explicit(sum + 2, memory_order_relaxed), memory_order_relaxed);
    threadgroup atomic_uint most;
    atomic_store_explicit(&most, 0, memory_order_relaxed);
    atomic_fetch_max_explicit(&most, t, memory_order_relaxed);
}
//// attribute_before_kernel
[[max_total_threads_per_threadgroup(64)]] kernel void k(device float *x [[buffer(0)]], ushort t [[thread_index_in_threadgroup]]) { x[t] = 1; }
//// kernel_as_an_attribute
[[kernel]] void k(device float *x [[buffer(0)]], uint t [[thread_position_in_grid]]) { x[t] = 1; }
//// reference_into_constant
constant float pair[2] = {1.0f, 2.0f};
K { constant float &second = pair[1]; x[t] = second; }
//// casts
struct P { float v; device float *p; thread float *get() thread { return &v; } };
template <typename T> static thread T &same(thread T &v) { return v; }
K {
    int4 v = int4(float4(x[t]));
    uint4 u = (uint4)v + (uint4)t;
    device float4 *q = reinterpret_cast<device float4 *>(x);
    thread uint *bits = (thread uint *)&u;
    P p = {float(t), x}, other = P{2.0f, x};
    other = p;
    x[t] = float(u.x) + q[0].x + float(*bits) + (float)t + same(other).v;
}
//// names_that_opencl_reserves
K { float local = 1, global = 2; x[t] = local + global; }
//// preprocessor
#if __METAL_VERSION__ >= 210
#define SCALE 2.0f
#endif
K { x[t] *= SCALE; }
//// comments_with_kernels
// kernel void old(device float *x) {}
/* kernel void older( */
K { x[t] = 1; /* [[unknown]] */ }
//// default_arguments_and_overloads
static float scaled(float v, float by = 2.0f) { return v * by; }
static float2 scaled(float2 v) { return v * 3.0f; }
K { x[t] = scaled(x[t]) + scaled(float2(x[t])).y; }
//// enumerations
enum class Mode : uint { none = 0, relu = 1 };
K { Mode m = Mode(t % 2); x[t] = m == Mode::relu ? max(x[t], 0.0f) : x[t]; }
//// references_to_arrays
static void doubled(thread float4 (&sums)[2], threadgroup half ( &tile )[64], uint t) { sums[1] += sums[1]; tile[t] *= 2.0h; }
K { float4 sums[2]; threadgroup half tile[64]; sums[1] = float4(x[t]); tile[t] = half(1); doubled(sums, tile, t);
  x[t] = sums[1].x + float(tile[t]) + float4(1)[0]; }
//// pointers_to_arrays
static void put(threadgroup half (*tile)[9], const device float4 (*rows)[2], uint t) { tile[t % 4][1] = half(rows[0][1].x); }
K { threadgroup half tile[4][9]; threadgroup float4 sums[2][3]; threadgroup float4 (*p)[3] = sums; thread float4 own = float4(x[t]);
  thread float4 *q = &own; put(tile, (const device float4 (*)[2])x, t); p[0][1] = own; x[t] = float4(*q)[1]; }
//// functions_inlined_or_not
METAL_FUNC float once(float v) { return v; }
static METAL_FUNC float twice(float v) { return v + v; }
inline __attribute__((__always_inline__)) float thrice(float v) { return 3 * v; }
__attribute__((noinline)) float four(float v) { return 4 * v; }
K { x[t] = once(x[t]) + twice(x[t]) + thrice(x[t]) + four(x[t]); }
//// what_the_platform_has
#include <metal_limits>
#if defined(__METAL_IOS__) || defined(__HAVE_BFLOAT__)
#error not here
#endif
K { x[t] = numeric_limits<float>::lowest(); }
//// buffers_without_attributes
kernel void k(device float *x, uint t [[thread_position_in_grid]]) { x[t] = 1; }
