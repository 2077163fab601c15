// GELU with the exact error function:  y = x/2 (1 + erf(x / sqrt 2))
//
// Equals    refsam.ops.activation.gelu, elementwise.
// Buffers   0 x      float (n)
//           1 y      float (n), every element is written
//           2 p      GeluParams
// Bound     With t = x / sqrt 2 and u = 2^-24: t has two roundings, which erf's slope turns into 2u |t| 2/sqrt(pi) exp(-t^2).
//           The rational functions are within 3u of erf; division and exp may add 2.5 and 3 + 2 t^2 ulp of 1 - |erf| where
//           |t| > 1, so 2 (6 + 2 t^2) u (1 - |erf t|). All of that times |x|/2, and one rounding of the sum x + |x| |erf t|.
// Dispatch  one thread for each 4 numbers (gelu) or for each (gelu_1_naive), or fewer: threads go on by the size of the grid.
#include <metal_stdlib>
using namespace metal;
#include "erf.h"

struct GeluParams {
    uint n;
};

// One number for each thread: three quarters of the work on float4 are thrown away.
kernel void gelu_1_naive(device const float *x [[buffer(0)]],
                         device float *y [[buffer(1)]],
                         constant GeluParams &p [[buffer(2)]],
                         uint gid [[thread_position_in_grid]],
                         uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.n; i += grid) y[i] = gelu4(float4(x[i])).x;
}

kernel void gelu(device const float *x [[buffer(0)]],
                 device float *y [[buffer(1)]],
                 constant GeluParams &p [[buffer(2)]],
                 uint gid [[thread_position_in_grid]],
                 uint grid [[threads_per_grid]])
{
    device const float4 *x4 = (device const float4 *)x;
    device float4 *y4 = (device float4 *)y;
    for (uint i = gid; i < p.n / 4; i += grid) y4[i] = gelu4(x4[i]);
    for (uint i = p.n / 4 * 4 + gid; i < p.n; i += grid) y[i] = gelu4(float4(x[i])).x;
}
