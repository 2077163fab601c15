// run: count=64 group_size=64 buffers=1024,1024,768
#include <metal_stdlib>
using namespace metal;

// Components written one by one, packed vectors, structures by value, private arrays, helpers with threadgroup pointers.
struct Pixel { packed_float3 colour; };
static float4 turned(threadgroup const float4 *row, uint i) { return row[i].wzyx; }
kernel void k(device const float4 *x [[buffer(0)]], device float4 *y [[buffer(1)]], device Pixel *z [[buffer(2)]],
              uint t [[thread_index_in_threadgroup]]) {
    threadgroup float4 row[64];
    row[t].x = x[t].x;
    row[t].yz = x[t].yz;
    row[t].w = 1.0f;
    float own[4];
    for (uint i = 0; i < 4; i++) own[i] = float(i);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[t] = turned(row, 63 - t) + own[t % 4];
    Pixel p;
    p.colour = packed_float3(y[t].xyz);
    z[t] = p;
}
