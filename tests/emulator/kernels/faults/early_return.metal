// run: count=100 group_size=64 buffers=400
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    if (i >= 100) return;
    tile[t] = float(i);
    threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT group 1, thread 0: barrier not reached by all: 36 of 64 threads wait here, thread 36 has returned
    y[i] = tile[t];
}
