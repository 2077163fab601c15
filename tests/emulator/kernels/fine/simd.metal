// run: count=128 group_size=128 buffers=512
#include <metal_stdlib>
using namespace metal;

// SIMD functions over the active lanes, and a simdgroup_barrier that is enough.
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
              uint width [[threads_per_simdgroup]]) {
    threadgroup float tile[128];
    float sum = simd_sum(1.0f);
    if (lane < 5) sum += simd_max(float(lane));
    tile[t] = sum;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = tile[t - lane + (lane + 1) % width];
}
