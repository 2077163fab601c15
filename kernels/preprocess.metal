// From the picture to the encoder's input: Pillow's antialiased resize, normalised, padded with zeros, one plane for each channel.
//
// Equals    refsam.transforms.preprocess = normalize_and_pad(ops.resize.pillow_bilinear(...)).
//           resize_columns:            mid[i, x, ch] = (2^21 + sum over t of weights[x, t] src[i, first[x] + t, ch]) >> 22
//           resize_rows_and_normalize: the same down the columns, then (pixel - mean) / deviation, in the planes of the input
// Buffers   resize_columns:            0 src uchar (H, W, 3), 1 first int (w), 2 weights int (w, taps), 3 mid uchar (H, w, 3),
//                                      4 p ColumnsParams
//           resize_rows_and_normalize: 0 mid uchar (H, w, 3), 1 first int (h), 2 weights int (h, taps), 3 dst float (3, S, S),
//                                      4 p RowsParams
//           Weights are Pillow's, 22 bits after the point, zero beyond a pixel's support, and a row of them never leaves the
//           picture. Every element of mid and dst is written.
// Bound     The resize is exact: sums of whole numbers below 2^30. (pixel - mean) has one rounding, MSL's division 2.5 ulp:
//           gamma(6) |dst|. Padding is exactly 0.
// Dispatch  one thread for each pixel of mid and of dst, or fewer.
#include <metal_stdlib>
using namespace metal;

struct ColumnsParams {
    uint H, W, w, taps;
};

struct RowsParams {
    uint H, w, h, S, taps;
    float3 mean;
    float3 deviation;
};

inline int to_byte(int sum)
{
    return min((sum + (1 << 21)) >> 22, 255);
}

kernel void resize_columns(device const uchar *src [[buffer(0)]],
                           device const int *first [[buffer(1)]],
                           device const int *weights [[buffer(2)]],
                           device uchar *mid [[buffer(3)]],
                           constant ColumnsParams &p [[buffer(4)]],
                           uint gid [[thread_position_in_grid]],
                           uint grid [[threads_per_grid]])
{
    for (uint n = gid; n < p.H * p.w; n += grid) {
        const uint x = n % p.w, row = n / p.w;
        int3 sum = int3(0);
        for (uint t = 0; t < p.taps; t++) {
            device const uchar *pixel = src + (row * p.W + uint(first[x]) + t) * 3;
            sum += weights[x * p.taps + t] * int3(int(pixel[0]), int(pixel[1]), int(pixel[2]));
        }
        mid[n * 3] = uchar(to_byte(sum.x));
        mid[n * 3 + 1] = uchar(to_byte(sum.y));
        mid[n * 3 + 2] = uchar(to_byte(sum.z));
    }
}

kernel void resize_rows_and_normalize(device const uchar *mid [[buffer(0)]],
                                      device const int *first [[buffer(1)]],
                                      device const int *weights [[buffer(2)]],
                                      device float *dst [[buffer(3)]],
                                      constant RowsParams &p [[buffer(4)]],
                                      uint gid [[thread_position_in_grid]],
                                      uint grid [[threads_per_grid]])
{
    for (uint n = gid; n < p.S * p.S; n += grid) {
        const uint x = n % p.S, y = n / p.S;
        float3 value = float3(0.0f);
        if (x < p.w && y < p.h) {
            int3 sum = int3(0);
            for (uint t = 0; t < p.taps; t++) {
                device const uchar *pixel = mid + ((uint(first[y]) + t) * p.w + x) * 3;
                sum += weights[y * p.taps + t] * int3(int(pixel[0]), int(pixel[1]), int(pixel[2]));
            }
            value = (float3(float(to_byte(sum.x)), float(to_byte(sum.y)), float(to_byte(sum.z))) - p.mean) / p.deviation;
        }
        dst[n] = value.x;
        dst[p.S * p.S + n] = value.y;
        dst[2 * p.S * p.S + n] = value.z;
    }
}
