// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

struct Body { float3 place; float mass; };
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup Body bodies[32];
    bodies[t].place = float3(float(t));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const Body other = bodies[31 - t];  // FAULT thread 0: reads uninitialised byte 1008 of threadgroup variable `bodies`
    y[t] = other.place.x;
}
