// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    if (t % 2) {
        y[t] = 1.0f;
        threadgroup_barrier(mem_flags::mem_device);
    } else {
        y[t] = 2.0f;
        threadgroup_barrier(mem_flags::mem_device);  // FAULT group 0, thread 0: divergent barriers: this thread waits here, thread 1 at line 8
    }
}
