// run: count=64 group_size=32 buffers=4
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint g [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
    if (t == 0) y[0] = float(g);  // FAULT group 1, thread 0: data race: writes byte 0 of buffer 0 `y`, which thread 0 of group 0 wrote
}
