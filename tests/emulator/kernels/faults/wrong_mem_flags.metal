// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[t] = float(t);
    threadgroup_barrier(mem_flags::mem_device);
    y[t] = tile[63 - t];  // FAULT group 0, thread 0: data race: reads byte 252 of threadgroup variable `tile`, which thread 63 wrote (line 7)
}
