// run: count=32 group_size=32 buffers=128 step_limit=100000
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    do {
        threadgroup_barrier(mem_flags::mem_device);
    } while (true);  // FAULT the dispatch takes more turns of loops than step_limit allows
}
