// run: count=64 group_size=64 buffers=4,256
#include <metal_stdlib>
using namespace metal;

kernel void k(device atomic_uint *n [[buffer(0)]], device uint *y [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);  // FAULT data race: writes byte 0 of buffer 0 `n`, which thread 0 read (line 7)
    y[i] = *(device uint *)n;
}
