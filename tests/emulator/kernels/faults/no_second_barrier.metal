// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    float sum = 0.0f;
    for (uint i = 0; i < 2; i++) {
        tile[t] = float(t + i);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum += tile[t ^ 1];  // FAULT group 0, thread 1: data race: reads byte 0 of threadgroup variable `tile`, which thread 0 wrote (line 9)
    }
    y[t] = sum;
}
