// run: count=32 group_size=32 buffers=8:2147483648,8:4294967295
#include <metal_stdlib>
using namespace metal;

kernel void k(device int2 *x [[buffer(0)]], device const int2 *y [[buffer(1)]], uint t [[thread_position_in_grid]]) {
    if (t == 0) x[t] %= y[t];  // FAULT thread 0: integer division overflows
}
