// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    for (uint i = 0; i < 1 + t / 32; i++) {
        threadgroup_barrier(mem_flags::mem_device);  // FAULT group 0, thread 32: barrier not reached by all: 32 of 64 threads wait here
    }
    y[t] = 1.0f;
}
