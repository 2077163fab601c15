// run: count=4 group_size=32 buffers=512,512
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *x [[buffer(0)]], device float *y [[buffer(1)]], uint t [[thread_index_in_threadgroup]]) {
    device const float4 *v = (device const float4 *)(x + 1);
    if (t < 4) y[t] = v[t].x;  // FAULT group 0, thread 0: misaligned access of
}
