// run: count=64 group_size=64 buffers=252
#include <metal_stdlib>
using namespace metal;

kernel void k(device atomic_uint *n [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(n + i, 1, memory_order_relaxed);  // FAULT reads 4 bytes out of bounds, byte 252 of buffer 0 `n`
}
