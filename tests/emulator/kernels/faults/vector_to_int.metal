// run: count=32 group_size=32 buffers=16:1333788672,16
#include <metal_stdlib>
using namespace metal;

kernel void k(device const float4 *x [[buffer(0)]], device int4 *y [[buffer(1)]], uint t [[thread_position_in_grid]]) {
    if (t == 0) y[t] = int4(x[t]);  // FAULT thread 0: the floating-point value does not fit the integer type
}
