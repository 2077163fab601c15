// LayerNorm of each pixel over its C channels, channels first:  y = (x - mean) / sqrt(variance + eps) * weight + bias
//
// Equals    refsam.ops.norm.layer_norm_2d; the variance is biased, and of the centred numbers.
// Buffers   0 x       float (batches, C, pixels)
//           1 weight  float (C)
//           2 bias    float (C)
//           3 y       float (batches, C, pixels), every element is written
//           4 p       LayerNorm2dParams
// Bound     as layer_norm.metal.
// Dispatch  one thread for each pixel, or fewer. Neighbouring threads read neighbouring pixels, so nothing has to be shared.
#include <metal_stdlib>
using namespace metal;

struct LayerNorm2dParams {
    uint batches, C, pixels;
    float eps;
};

kernel void layer_norm_2d(device const float *x [[buffer(0)]],
                          device const float *weight [[buffer(1)]],
                          device const float *bias [[buffer(2)]],
                          device float *y [[buffer(3)]],
                          constant LayerNorm2dParams &p [[buffer(4)]],
                          uint gid [[thread_position_in_grid]],
                          uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.batches * p.pixels; i += grid) {
        const uint start = i / p.pixels * p.C * p.pixels + i % p.pixels;
        float mean = 0.0f, variance = 0.0f;
        for (uint c = 0; c < p.C; c++) mean += x[start + c * p.pixels];
        mean /= float(p.C);
        for (uint c = 0; c < p.C; c++) {
            const float centred = x[start + c * p.pixels] - mean;
            variance = fma(centred, centred, variance);
        }
        const float scale = rsqrt(variance / float(p.C) + p.eps);
        for (uint c = 0; c < p.C; c++) {
            const uint at = start + c * p.pixels;
            y[at] = fma((x[at] - mean) * scale, weight[c], bias[c]);
        }
    }
}
