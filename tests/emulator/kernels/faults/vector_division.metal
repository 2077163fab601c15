// run: count=32 group_size=32 buffers=16,16
#include <metal_stdlib>
using namespace metal;

kernel void k(device const uint4 *x [[buffer(0)]], device uint4 *y [[buffer(1)]], uint t [[thread_position_in_grid]]) {
    if (t == 0) y[t] = uint4(1, 2, 3, 4) / x[t];  // FAULT thread 0: integer division by zero
}
