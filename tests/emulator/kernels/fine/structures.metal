// run: count=64 group_size=64 buffers=256
#include <metal_stdlib>
using namespace metal;

// Bytes that nobody writes: behind the fields of a structure, the fourth component of a float3. Elements with a number for an index.
struct Body { float3 place; float mass; uchar kind; };
kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup Body bodies[64];
    threadgroup float3 forces[64];
    threadgroup float3x3 frames[2];
    threadgroup Body ends[4];
    bodies[t].place = float3(float(t));
    bodies[t].mass = 4.0f;
    bodies[t].kind = 1;
    forces[t].x = float(t);
    forces[t].yz = float2(2.0f, 3.0f);
    if (t < 2) {
        frames[t][0] = float3(1.0f);
        frames[t][1] = float3(2.0f);
        frames[t][2].x = 5.0f;
        frames[t][2].y = 6.0f;
        frames[t][2].z = 7.0f;
    }
    if (t == 0) {
        ends[1] = bodies[0];
        ends[2] = ends[1];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const Body other = bodies[63 - t], end = ends[2];
    const float3 force = forces[63 - t];
    const float3x3 frame = frames[t % 2];
    const int3 whole = int3(force) / int3(2, 3, 1) + int3(uchar3(force));
    y[t] = other.place.x + other.mass + float(other.kind) + force.z + frame[2].y + end.mass + float(whole.x);
}
