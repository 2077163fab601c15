// run: count=64 group_size=64 buffers=256,256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], device float *z [[buffer(1)]], uint t [[thread_index_in_threadgroup]]) {
    z[t] = float(t);
    threadgroup_barrier(mem_flags::mem_none);
    y[t] = z[63 - t];  // FAULT group 0, thread 0: data race: reads byte 252 of buffer 1 `z`, which thread 63 wrote (line 6)
}
