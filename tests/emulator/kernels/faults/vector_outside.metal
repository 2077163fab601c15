// run: count=32 group_size=32 buffers=500,128
#include <metal_stdlib>
using namespace metal;

kernel void k(device const float4 *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = x[i].w;  // FAULT group 0, thread 31: reads
}
