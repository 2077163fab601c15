// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    if (t < 20)
        y[t] = simd_shuffle_down(float(t), 8);  // FAULT reads the value of lane 20 of its SIMD-group, which does not take part
}
