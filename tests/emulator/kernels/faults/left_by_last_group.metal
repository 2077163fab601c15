// run: count=128 group_size=64 buffers=512
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    if (i < 64) tile[t] = 1.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = tile[t];  // FAULT group 1, thread 0: reads uninitialised byte 0 of threadgroup variable `tile`
}
