// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[t] = float(t);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = tile[t < 32 ? 31 - t : t - 32];  // FAULT group 0, thread 32: data race: reads byte 0 of threadgroup variable `tile`, which thread 0 wrote (line 7)
}
