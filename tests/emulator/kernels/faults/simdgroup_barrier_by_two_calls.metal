// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

static void wait() {
    simdgroup_barrier(mem_flags::mem_device);  // FAULT divergent simdgroup_barrier: 3 lanes wait here, thread 31 does not
}
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    if (t < 3)
        wait();
    else
        wait();
    y[t] = 1.0f;
}
