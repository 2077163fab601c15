// One pass of a Gaussian blur along rows or columns, zero outside; two passes blur a picture.
//
// Equals    refsam.metal.definitions.gaussian_blur (both passes).
// Buffers   0 x        float (lines, n) as seen along the axis: element i of line l is at l / inner * n * inner + i * inner + l % inner
//                      (inner = 1 along rows, the width along columns)
//           1 weights  float (2 radius + 1), their sum is 1
//           2 y        float, as x, every element is written
//           3 p        BlurParams
// Bound     gamma(2 radius + 3) of the same sum over |x|: products summed in some order, the rounding of the weights, one to spare.
// Dispatch  one thread for each number (gaussian_blur_1_naive, and gaussian_blur along columns), 256 for each 256 of a row
//           (gaussian_blur along rows), or fewer; any number of groups of any size is right.
// Memory    5 KB for each group.
#include <metal_stdlib>
using namespace metal;

struct BlurParams {
    uint lines, n, inner, radius;
};

constant constexpr uint SPAN = 1024;       // results of a group at most
constant constexpr uint MAX_RADIUS = 128;  // of a kernel

// One number for each thread, 2 radius + 1 reads of device memory for it. Along columns neighbours read neighbours, and this is best.
kernel void gaussian_blur_1_naive(device const float *x [[buffer(0)]],
                                  device const float *weights [[buffer(1)]],
                                  device float *y [[buffer(2)]],
                                  constant BlurParams &p [[buffer(3)]],
                                  uint gid [[thread_position_in_grid]],
                                  uint grid [[threads_per_grid]])
{
    for (uint e = gid; e < p.lines * p.n; e += grid) {
        const uint i = e / p.inner % p.n;
        float sum = 0.0f;
        for (uint t = 0; t <= 2 * p.radius; t++) {
            const uint j = i + t - p.radius;  // before the line it wraps to far outside
            if (j < p.n) sum = fma(weights[t], x[e + (j - i) * p.inner], sum);
        }
        y[e] = sum;
    }
}

// Along rows (inner = 1): a group shares the stretch of a row that its results see.
kernel void gaussian_blur(device const float *x [[buffer(0)]],
                          device const float *weights [[buffer(1)]],
                          device float *y [[buffer(2)]],
                          constant BlurParams &p [[buffer(3)]],
                          uint tid [[thread_index_in_threadgroup]],
                          uint tg [[threadgroup_position_in_grid]],
                          uint ntg [[threadgroups_per_grid]],
                          uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float stretch[SPAN + 2 * MAX_RADIUS];
    const uint blocks = (p.n + tgsz - 1) / tgsz;
    for (uint block = tg; block < p.lines * blocks; block += ntg) {
        const uint start = block % blocks * tgsz;
        device const float *row = x + block / blocks * p.n;
        for (uint e = tid; e < tgsz + 2 * p.radius; e += tgsz) {
            const uint j = start + e - p.radius;  // before the row it wraps to far outside
            stretch[e] = j < p.n ? row[j] : 0.0f;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float sum = 0.0f;
        for (uint t = 0; t <= 2 * p.radius; t++) sum = fma(weights[t], stretch[tid + t], sum);
        if (start + tid < p.n) y[block / blocks * p.n + start + tid] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
