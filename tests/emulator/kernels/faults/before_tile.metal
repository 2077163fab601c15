// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

static float element(threadgroup const float *row, int i) {
    return row[i];  // FAULT thread 0: reads 4 bytes out of bounds, byte -4 of threadgroup variable `row` (128 bytes long)
}
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float row[32];
    row[t] = 1.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = element(row, int(t) - 1);
}
