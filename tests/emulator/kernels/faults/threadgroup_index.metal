// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[63];
    tile[t] = 1.0f;  // FAULT group 0, thread 63: array index 63 out of bounds
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = tile[0];
}
