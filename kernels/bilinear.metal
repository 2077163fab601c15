// Bilinear resize of mask logits (align_corners=False, not antialiased), whole or cropped, as numbers or as a mask.
//
// Equals    refsam.ops.resize.bilinear_tile for the tile that begins at (0, 0), and that > threshold. Two calls are
//           refsam.transforms.postprocess_masks: to S x S cropped to the picture, then to the picture's size with a threshold.
// Buffers   0 x  float (planes, H, W)
//           1 y  float (bilinear) or uchar 0, 1 (bilinear_threshold), (planes, rows, columns): every element is written
//           2 p  ResizeParams; h x w is the size of the whole result, of which the first rows and columns are made
// Bound     Coordinates are whole numbers over 2h and 2w, so a weight has only its division's error, 2.5 ulp, and where h or w is
//           above 2^23 a rounding: 6 units. Two such weights, two products, two sums: gamma(16) bilinear(|x|). A mask may differ
//           where a logit is within that of the threshold.
// Dispatch  one thread for each result, or fewer.  2 H (h + 1) and 2 W (w + 1) have to be below 2^31.
#include <metal_stdlib>
using namespace metal;
#include "taps.h"

struct ResizeParams {
    uint planes, H, W;
    uint h, w, rows, columns;
    float threshold;
};

inline float sample(device const float *x, constant ResizeParams &p, uint n)
{
    const Taps across = taps(n % p.columns, p.W, p.w, 1), down = taps(n / p.columns % p.rows, p.H, p.h, 1);
    device const float *upper = x + (n / p.columns / p.rows * p.H + down.near) * p.W;
    device const float *lower = x + (n / p.columns / p.rows * p.H + down.far) * p.W;
    const float above = upper[across.near] * across.near_weight + upper[across.far] * across.far_weight;
    const float below = lower[across.near] * across.near_weight + lower[across.far] * across.far_weight;
    return above * down.near_weight + below * down.far_weight;
}

kernel void bilinear(device const float *x [[buffer(0)]],
                     device float *y [[buffer(1)]],
                     constant ResizeParams &p [[buffer(2)]],
                     uint gid [[thread_position_in_grid]],
                     uint grid [[threads_per_grid]])
{
    for (uint n = gid; n < p.planes * p.rows * p.columns; n += grid) y[n] = sample(x, p, n);
}

kernel void bilinear_threshold(device const float *x [[buffer(0)]],
                               device uchar *y [[buffer(1)]],
                               constant ResizeParams &p [[buffer(2)]],
                               uint gid [[thread_position_in_grid]],
                               uint grid [[threads_per_grid]])
{
    for (uint n = gid; n < p.planes * p.rows * p.columns; n += grid) y[n] = sample(x, p, n) > p.threshold ? 1 : 0;
}
