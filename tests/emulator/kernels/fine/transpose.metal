// run: count=1024 group_size=256 buffers=4096,4096
#include <metal_stdlib>
using namespace metal;

// Two tiles, both dimensions, barriers on both sides of the reuse.
kernel void k(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], uint t [[thread_index_in_threadgroup]],
              uint g [[threadgroup_position_in_grid]], uint size [[threads_per_threadgroup]], uint groups [[threadgroups_per_grid]]) {
    threadgroup float tile[16][17];
    for (uint part = g; part < 4; part += groups) {
        uint r0 = part / 2 * 16, c0 = part % 2 * 16;
        for (uint e = t; e < 256; e += size) tile[e / 16][e % 16] = x[(r0 + e / 16) * 32 + c0 + e % 16];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint e = t; e < 256; e += size) y[(c0 + e / 16) * 32 + r0 + e % 16] = tile[e % 16][e / 16];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
