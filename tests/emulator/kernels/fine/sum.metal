// run: count=300 group_size=64 buffers=1200,20,4:300
#include <metal_stdlib>
using namespace metal;

// Tree reduction with a tail: each group writes the sum of its part.
kernel void k(device const float *x [[buffer(0)]], device float *sums [[buffer(1)]], constant uint &n [[buffer(2)]],
              uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]],
              uint g [[threadgroup_position_in_grid]], uint size [[threads_per_threadgroup]]) {
    threadgroup float partial[1024];
    partial[t] = i < n ? x[i] : 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint step = size / 2; step > 0; step /= 2) {
        if (t < step) partial[t] += partial[t + step];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (t == 0) sums[g] = partial[0];
}
