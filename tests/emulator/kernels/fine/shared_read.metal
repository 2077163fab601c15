// run: count=256 group_size=64 buffers=4,1024
#include <metal_stdlib>
using namespace metal;

// Everybody reads one element; every thread writes its own.
kernel void k(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = x[0] + float(i);
}
