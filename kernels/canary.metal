// Known answers: what a device that runs nothing, or packs parameters in another way, cannot give. The runner asks it once.
//
// Equals    refsam.metal.definitions.canary: out[i] = (i + count) 2654435761 (modulo 2^32) xor seed; then the bits of the parameters.
// Buffers   0 out  uint (n + 8), every element is written
//           1 p    CanaryParams; a float3 takes 16 bytes and a packed_float3 12
// Bound     0: whole numbers and copies of bits.
// Dispatch  one thread for each of n, or fewer.
#include <metal_stdlib>
using namespace metal;

struct CanaryParams {
    uint n;
    float3 wide;
    packed_float3 narrow;
    uint seed;
    uchar small;
    float last;
};

kernel void canary(device uint *out [[buffer(0)]],
                   constant CanaryParams &p [[buffer(1)]],
                   uint gid [[thread_position_in_grid]],
                   uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.n; i += grid) out[i] = (i + p.n) * 2654435761u ^ p.seed;
    if (gid == 0) {
        const float3 narrow = float3(p.narrow);
        out[p.n] = as_type<uint>(p.wide.x);
        out[p.n + 1] = as_type<uint>(p.wide.y);
        out[p.n + 2] = as_type<uint>(p.wide.z);
        out[p.n + 3] = as_type<uint>(narrow.x);
        out[p.n + 4] = as_type<uint>(narrow.y);
        out[p.n + 5] = as_type<uint>(narrow.z);
        out[p.n + 6] = uint(p.small);
        out[p.n + 7] = as_type<uint>(p.last);
    }
}
