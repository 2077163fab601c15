// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    float own[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    y[t] = own[t];  // FAULT group 0, thread 4: array index 4 out of bounds
}
