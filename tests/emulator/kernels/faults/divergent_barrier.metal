// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    if (t < 40) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // FAULT group 0, thread 0: barrier not reached by all: 40 of 64 threads wait here, thread 40 has returned
    }
    y[t] = 1.0f;
}
