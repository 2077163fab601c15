// run: count=32 group_size=32 buffers=128,124
#include <metal_stdlib>
using namespace metal;

static float load(device const float *p, uint i) {
    return p[i];  // FAULT group 0, thread 31: reads 4 bytes out of bounds, byte 124 of buffer 1 `x`
}
kernel void k(device float *y [[buffer(0)]], device const float *x [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = load(x, i);
}
