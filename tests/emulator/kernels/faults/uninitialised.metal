// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float sum;
    if (t == 0) sum += 1.0f;  // FAULT group 0, thread 0: reads uninitialised byte 0 of threadgroup variable `sum`
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = sum;
}
