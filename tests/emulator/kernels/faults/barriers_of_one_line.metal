// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

#define SYNC threadgroup_barrier(mem_flags::mem_threadgroup)
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    if (t < 3) SYNC; else SYNC;  // FAULT thread 0: divergent barriers: this thread waits here, thread 3 at another barrier of this line
    y[t] = 1.0f;
}
