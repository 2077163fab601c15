// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    y[int(i) - 1] = 1.0f;  // FAULT group 0, thread 0: writes 4 bytes out of bounds, byte -4 of buffer 0 `y`
}
