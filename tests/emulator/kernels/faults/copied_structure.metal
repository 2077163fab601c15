// run: count=32 group_size=32 buffers=384,380
#include <metal_stdlib>
using namespace metal;

struct Three { float a, b, c; };
kernel void k(device Three *y [[buffer(0)]], device const Three *x [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    y[i] = x[i];  // FAULT group 0, thread 31: reads 12 bytes out of bounds, byte 372 of buffer 1 `x`
}
