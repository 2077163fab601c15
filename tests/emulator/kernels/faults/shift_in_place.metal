// run: count=32 group_size=32 buffers=132
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    float next = y[i + 1];
    y[i] = next;  // FAULT group 0, thread 1: data race: writes byte 4 of buffer 0 `y`, which thread 0 read (line 6) with no barrier between
}
