// run: count=65 group_size=64 buffers=260
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    y[i] = 1.0f;  // FAULT group 1, thread 1: writes 4 bytes out of bounds, byte 260 of buffer 0 `y`
}
