// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

static void put(threadgroup float *p, uint i) {
    p[i] = 1.0f;  // FAULT group 0, thread 32: writes 4 bytes out of bounds, byte 128 of threadgroup variable `tile` (128 bytes long)
}
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[32];
    threadgroup float other[64];
    put(tile, t);
    other[t] = 1.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = tile[t % 32] + other[t];
}
