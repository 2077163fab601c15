// run: count=64 group_size=32 buffers=256
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    float before = i == 32 ? y[i - 1] : 0.0f;  // FAULT group 1, thread 0: data race: reads byte 124 of buffer 0 `y`, which thread 31 of group 0 wrote (line 7)
    y[i] = before + 1.0f;
}
