// run: count=64 group_size=64 buffers=256,252
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], device const float *x [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = x[i];  // FAULT group 0, thread 63: reads 4 bytes out of bounds, byte 252 of buffer 1 `x` (252 bytes long)
}
