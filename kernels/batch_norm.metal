// BatchNorm by the statistics of training:  y = (x - mean) / sqrt(variance + eps) * weight + bias  for each channel
//
// Equals    refsam.ops.norm.batch_norm.
// Buffers   0 x         float (batches, C, pixels)
//           1 mean      float (C)
//           2 variance  float (C)
//           3 weight    float (C)
//           4 bias      float (C)
//           5 y         float (batches, C, pixels), every element is written
//           6 p         BatchNormParams
// Bound     scale = weight rsqrt(variance + eps): roundings of eps and the sum (halved by the root), of rsqrt (2 ulp, 4 units) and
//           the product: 7; two products and two sums more on the longest way: gamma(11) (|x| scale + |mean| scale + |bias|).
// Dispatch  one group of any size for each plane of pixels, or fewer.
#include <metal_stdlib>
using namespace metal;

struct BatchNormParams {
    uint planes, C, pixels;
    float eps;
};

kernel void batch_norm(device const float *x [[buffer(0)]],
                       device const float *mean [[buffer(1)]],
                       device const float *variance [[buffer(2)]],
                       device const float *weight [[buffer(3)]],
                       device const float *bias [[buffer(4)]],
                       device float *y [[buffer(5)]],
                       constant BatchNormParams &p [[buffer(6)]],
                       uint tid [[thread_index_in_threadgroup]],
                       uint tg [[threadgroup_position_in_grid]],
                       uint ntg [[threadgroups_per_grid]],
                       uint tgsz [[threads_per_threadgroup]])
{
    for (uint plane = tg; plane < p.planes; plane += ntg) {
        const uint c = plane % p.C;
        const float scale = weight[c] * rsqrt(variance[c] + p.eps);
        const float shift = bias[c] - mean[c] * scale;
        for (uint i = tid; i < p.pixels; i += tgsz) y[plane * p.pixels + i] = fma(x[plane * p.pixels + i], scale, shift);
    }
}
