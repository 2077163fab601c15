// 3x3 convolution of each channel with its own kernel, zero padding 1, stride 1 or 2, not flipped.
//
// Equals    refsam.ops.conv.depthwise_conv2d.
// Buffers   0 x       float (planes, H, W), planes being batches x C
//           1 weight  float (C, 3, 3)
//           2 y       float (planes, Ho, Wo), every element is written; Ho = (H - 1) / stride + 1, Wo likewise
//           3 p       DepthwiseParams
// Bound     gamma(10) (|weight| * |x|): nine products summed, beginning from zero.
// Dispatch  one thread for each 4 results of a row (depthwise_conv2d), for each result (depthwise_conv2d_1_naive), or fewer.
#include <metal_stdlib>
using namespace metal;

struct DepthwiseParams {
    uint planes, C, H, W;
    uint Ho, Wo, stride;
};

// One result for each thread: nine reads for nine products.
kernel void depthwise_conv2d_1_naive(device const float *x [[buffer(0)]],
                                     device const float *weight [[buffer(1)]],
                                     device float *y [[buffer(2)]],
                                     constant DepthwiseParams &p [[buffer(3)]],
                                     uint gid [[thread_position_in_grid]],
                                     uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.planes * p.Ho * p.Wo; i += grid) {
        const uint ox = i % p.Wo, oy = i / p.Wo % p.Ho, plane = i / p.Wo / p.Ho;
        float sum = 0.0f;
        for (uint s = 0; s < 3; s++)
            for (uint t = 0; t < 3; t++) {
                const uint iy = oy * p.stride + s - 1, ix = ox * p.stride + t - 1;  // -1 wraps to far outside
                if (iy < p.H && ix < p.W) sum = fma(x[(plane * p.H + iy) * p.W + ix], weight[plane % p.C * 9 + s * 3 + t], sum);
            }
        y[i] = sum;
    }
}

// Four neighbouring results from the numbers of a row that they share, held in registers: 6 reads (9 for stride 2) for 12 products.
inline float4 row_products(device const float *row, uint W, uint ix0, uint stride, float w0, float w1, float w2, float4 sum)
{
    float in[9];
    for (uint i = 0; i < 3 * stride + 3; i++) in[i] = ix0 + i < W ? row[ix0 + i] : 0.0f;  // -1 wraps to far outside
    const float4 left = stride == 1 ? float4(in[0], in[1], in[2], in[3]) : float4(in[0], in[2], in[4], in[6]);
    const float4 middle = stride == 1 ? float4(in[1], in[2], in[3], in[4]) : float4(in[1], in[3], in[5], in[7]);
    const float4 right = stride == 1 ? float4(in[2], in[3], in[4], in[5]) : float4(in[2], in[4], in[6], in[8]);
    return fma(right, float4(w2), fma(middle, float4(w1), fma(left, float4(w0), sum)));
}

kernel void depthwise_conv2d(device const float *x [[buffer(0)]],
                             device const float *weight [[buffer(1)]],
                             device float *y [[buffer(2)]],
                             constant DepthwiseParams &p [[buffer(3)]],
                             uint gid [[thread_position_in_grid]],
                             uint grid [[threads_per_grid]])
{
    const uint strips = (p.Wo + 3) / 4;
    for (uint i = gid; i < p.planes * p.Ho * strips; i += grid) {
        const uint ox = i % strips * 4, oy = i / strips % p.Ho, plane = i / strips / p.Ho;
        device const float *w = weight + plane % p.C * 9;
        float4 sum = float4(0.0f);
        for (uint s = 0; s < 3; s++) {
            const uint iy = oy * p.stride + s - 1;  // -1 wraps to far outside
            if (iy < p.H)
                sum = row_products(x + (plane * p.H + iy) * p.W, p.W, ox * p.stride - 1, p.stride,
                                   w[s * 3], w[s * 3 + 1], w[s * 3 + 2], sum);
        }
        for (uint j = 0; j < 4; j++)
            if (ox + j < p.Wo) y[(plane * p.Ho + oy) * p.Wo + ox + j] = sum[j];
    }
}
