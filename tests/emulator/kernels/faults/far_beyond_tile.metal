// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

static float element(threadgroup const float *row, uint i) {
    return row[i];  // FAULT thread 0: reads 4 bytes out of bounds, byte 800 of threadgroup variable `near` (128 bytes long)
}
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float near[32];
    threadgroup float far[512];
    near[t] = 1.0f;
    for (uint i = t; i < 512; i += 32) far[i] = 2.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = element(near, 200 + t) + far[t];
}
