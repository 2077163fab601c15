// Dense convolution with zero padding, not flipped:  y[b, d, i, j] = bias[d] + sum over c, s, t of
//   weight[d, c, s, t] x[b, c, i stride + s - padding, j stride + t - padding]
//
// Equals    refsam.ops.conv.conv2d for kernels of any size (1x1 without padding is matmul.metal's).
// Buffers   0 x       float (batches, C, H, W)
//           1 weight  float (D, C, size, size)
//           2 bias    float (D), not read where has_bias is 0
//           3 y       float (batches, D, Ho, Wo), every element is written
//           4 p       Conv2dParams
// Bound     gamma(C size^2 + 1) (|weight| * |x| + |bias|): that many products are summed in some order, and the bias.
// Dispatch  256 threads for each 128 channels x 64 pixels of a result (conv2d), one for each number (conv2d_1_naive), or fewer;
//           any number of groups of any size is right.
// Memory    25 KB for each group.
#include <metal_stdlib>
using namespace metal;
#include "tile.h"

struct Conv2dParams {
    uint batches, C, H, W;
    uint D, Ho, Wo;
    uint size, stride, padding, has_bias;
};

// x of plane c at row iy and column ix, zero outside. The two are taken as unsigned, so that -1 is far outside as well.
inline float pixel(device const float *x, constant Conv2dParams &p, uint c, uint iy, uint ix)
{
    return iy < p.H && ix < p.W ? x[(c * p.H + iy) * p.W + ix] : 0.0f;
}

// One number for each thread: every patch is read again for each of the D channels.
kernel void conv2d_1_naive(device const float *x [[buffer(0)]],
                           device const float *weight [[buffer(1)]],
                           device const float *bias [[buffer(2)]],
                           device float *y [[buffer(3)]],
                           constant Conv2dParams &p [[buffer(4)]],
                           uint gid [[thread_position_in_grid]],
                           uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.batches * p.D * p.Ho * p.Wo; i += grid) {
        const uint ox = i % p.Wo, oy = i / p.Wo % p.Ho, d = i / p.Wo / p.Ho % p.D, batch = i / p.Wo / p.Ho / p.D;
        float sum = 0.0f;
        for (uint c = 0; c < p.C; c++)
            for (uint s = 0; s < p.size; s++)
                for (uint t = 0; t < p.size; t++) {
                    const float v = pixel(x, p, batch * p.C + c, oy * p.stride + s - p.padding, ox * p.stride + t - p.padding);
                    sum = fma(v, weight[((d * p.C + c) * p.size + s) * p.size + t], sum);
                }
        y[i] = p.has_bias ? sum + bias[d] : sum;
    }
}

// tile[k][n] = the k-th number of the patch around pixel n0 + n, zero outside: columns of a matrix that is never written down.
inline void load_patches(threadgroup float4 *tile, device const float *x, constant Conv2dParams &p, uint batch, uint n0, uint k0,
                         uint tid, uint tgsz)
{
    threadgroup float *to = (threadgroup float *)tile;
    for (uint e = tid; e < BN * BK; e += tgsz) {
        const uint n = n0 + e % BN, k = k0 + e / BN;
        float v = 0.0f;
        if (n < p.Ho * p.Wo && k < p.C * p.size * p.size) {
            const uint c = k / (p.size * p.size), s = k / p.size % p.size, t = k % p.size;
            v = pixel(x, p, batch * p.C + c, n / p.Wo * p.stride + s - p.padding, n % p.Wo * p.stride + t - p.padding);
        }
        to[e / BN * B_ROW * 4 + e % BN] = v;
    }
}

// A matrix product of the weights (D, C size^2) with the patches (C size^2, Ho Wo), which are gathered tile by tile.
[[max_total_threads_per_threadgroup(256)]]
kernel void conv2d(device const float *x [[buffer(0)]],
                   device const float *weight [[buffer(1)]],
                   device const float *bias [[buffer(2)]],
                   device float *y [[buffer(3)]],
                   constant Conv2dParams &p [[buffer(4)]],
                   uint tid [[thread_index_in_threadgroup]],
                   uint tg [[threadgroup_position_in_grid]],
                   uint ntg [[threadgroups_per_grid]],
                   uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float4 As[BK * A_ROW];
    threadgroup float4 Bs[BK * B_ROW];
    const uint pixels = p.Ho * p.Wo, K = p.C * p.size * p.size;
    const uint across = (pixels + BN - 1) / BN, down = (p.D + BM - 1) / BM;
    for (uint tile = tg; tile < p.batches * down * across; tile += ntg) {
        const uint batch = tile / across / down, d0 = tile / across % down * BM, n0 = tile % across * BN;
        for (uint first = 0; first < WORKERS; first += tgsz) {  // once where the group has 256 threads
            const uint worker = first + tid;
            float4 acc[8];
            for (uint i = 0; i < 8; i++) acc[i] = float4(0.0f);
            for (uint k0 = 0; k0 < K; k0 += BK) {
                load_tile(As, BM, A_ROW, weight, K, 1, d0, p.D, k0, K, tid, tgsz);
                load_patches(Bs, x, p, batch, n0, k0, tid, tgsz);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                if (worker < WORKERS) multiply_tiles(acc, As, Bs, worker);
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            if (worker < WORKERS) {
                const uint n = n0 + worker % (BN / 4) * 4;
                for (uint i = 0; i < 8; i++) {
                    const uint d = d0 + worker / (BN / 4) * 8 + i;
                    const float b = p.has_bias && d < p.D ? bias[d] : 0.0f;
                    for (uint j = 0; j < 4; j++)
                        if (d < p.D && n + j < pixels) y[(batch * p.D + d) * pixels + n + j] = acc[i][j] + b;
                }
            }
        }
    }
}
