// What ports do in place of preprocess.metal: one bilinear sample for each pixel, nothing against aliasing; and the two mistakes
// of the iOS app that this repository's Core ML models come from, to be switched on: no half pixel, and a shift of all rows.
//
// Equals    refsam.metal.definitions.preprocess_bilinear. Pixel (x, y) of w x h samples the picture at (x + h2/2) W / w - 1/2 with
//           h2 = 1 (pixel centres) or 0 (the app), clamped to the border; it lands at element y S + x + shift of its plane.
// Buffers   0 src  uchar (H, W, 3)
//           1 dst  float (3, S, S), every element is written, zero where no pixel lands
//           2 p    BilinearParams
// Bound     Coordinates are whole numbers over 2w, so a weight has only its division's error: 5 units. A product of two weights
//           and a pixel has 14, three sums 3, minus mean 1: gamma(18) (255 + |mean|), over the deviation with gamma(6).
// Dispatch  one thread for each element of a plane, or fewer.  2 W (w + 1) and 2 H (h + 1) have to be below 2^31.
#include <metal_stdlib>
using namespace metal;
#include "taps.h"

struct BilinearParams {
    uint H, W, h, w, S;
    uint half_pixel, shift;
    float3 mean;
    float3 deviation;
};

inline float3 colour(device const uchar *src, uint index)
{
    return float3(float(src[index * 3]), float(src[index * 3 + 1]), float(src[index * 3 + 2]));
}

kernel void preprocess_bilinear(device const uchar *src [[buffer(0)]],
                                device float *dst [[buffer(1)]],
                                constant BilinearParams &p [[buffer(2)]],
                                uint gid [[thread_position_in_grid]],
                                uint grid [[threads_per_grid]])
{
    for (uint n = gid; n < p.S * p.S; n += grid) {
        const uint from = n - p.shift, x = from % p.S, y = from / p.S;  // below the shift it wraps to far outside
        float3 value = float3(0.0f);
        if (n >= p.shift && x < p.w && y < p.h) {
            const Taps across = taps(x, p.W, p.w, p.half_pixel), down = taps(y, p.H, p.h, p.half_pixel);
            const float3 upper = colour(src, down.near * p.W + across.near) * across.near_weight
                               + colour(src, down.near * p.W + across.far) * across.far_weight;
            const float3 lower = colour(src, down.far * p.W + across.near) * across.near_weight
                               + colour(src, down.far * p.W + across.far) * across.far_weight;
            value = (upper * down.near_weight + lower * down.far_weight - p.mean) / p.deviation;
        }
        dst[n] = value.x;
        dst[p.S * p.S + n] = value.y;
        dst[2 * p.S * p.S + n] = value.z;
    }
}
