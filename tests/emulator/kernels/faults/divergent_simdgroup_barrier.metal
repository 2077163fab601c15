// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
    y[t] = 1.0f;
    if (lane < 3) {
        simdgroup_barrier(mem_flags::mem_none);  // FAULT group 0, thread 2: divergent simdgroup_barrier: 3 lanes wait here
    }
}
