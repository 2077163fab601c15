// run: count=65 group_size=64 buffers=260,4:65
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], constant uint &n [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    if (i <= n) {  // the classical <= for <
        y[i] = 1.0f;  // FAULT group 1, thread 1: writes 4 bytes out of bounds, byte 260 of buffer 0 `y` (260 bytes long)
    }
}
