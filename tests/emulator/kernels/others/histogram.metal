// Counts of grey levels of an RGBA picture: a histogram for each threadgroup, added up at its end.
#include <metal_stdlib>
#include <metal_atomic>

using namespace metal;

constant uint BINS = 256;
constant float3 LUMA = float3(0.299f, 0.587f, 0.114f);

kernel void histogram(device const uchar4 *pixels [[buffer(0)]],
                      device atomic_uint *counts [[buffer(1)]],
                      constant uint &n [[buffer(2)]],
                      uint id [[thread_position_in_grid]],
                      uint grid [[threads_per_grid]],
                      ushort tid [[thread_index_in_threadgroup]],
                      ushort threads [[threads_per_threadgroup]])
{
    threadgroup atomic_uint local[BINS];
    for (uint bin = tid; bin < BINS; bin += threads) atomic_store_explicit(&local[bin], 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (uint i = id; i < n; i += grid) {
        float3 rgb = float3(pixels[i].rgb);
        uint bin = min(uint(dot(rgb, LUMA)), BINS - 1);
        atomic_fetch_add_explicit(&local[bin], 1u, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (uint bin = tid; bin < BINS; bin += threads) {
        uint count = atomic_load_explicit(&local[bin], memory_order_relaxed);
        if (count > 0) atomic_fetch_add_explicit(&counts[bin], count, memory_order_relaxed);
    }
}
