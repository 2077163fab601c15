// run: count=32 group_size=32 buffers=128,31
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], device const uchar *x [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = float(x[i]);  // FAULT group 0, thread 31: reads 1 bytes out of bounds, byte 31 of buffer 1 `x`
}
