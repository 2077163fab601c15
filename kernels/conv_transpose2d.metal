// Each pixel becomes a 2x2 patch:  y[b, d, 2i + s, 2j + t] = bias[d] + sum over c of weight[c, d, s, t] x[b, c, i, j]
//
// Equals    refsam.ops.conv.conv_transpose2d (stride 2, so patches do not overlap).
// Buffers   0 x       float (batches, C, H, W)
//           1 weight  float (C, D, 2, 2)
//           2 bias    float (D)
//           3 y       float (batches, D, 2 H, 2 W), every element is written
//           4 p       ConvTransposeParams
// Bound     gamma(C + 1) (|weight| |x| + |bias|): C products summed in some order, and the bias.
// Dispatch  256 threads for each 32 channels x 64 pixels of x (conv_transpose2d), one for each number of y
//           (conv_transpose2d_1_naive), or fewer; any number of groups of any size is right.
// Memory    25 KB for each group.
#include <metal_stdlib>
using namespace metal;
#include "tile.h"

struct ConvTransposeParams {
    uint batches, C, H, W, D;
};

// One number for each thread.
kernel void conv_transpose2d_1_naive(device const float *x [[buffer(0)]],
                                     device const float *weight [[buffer(1)]],
                                     device const float *bias [[buffer(2)]],
                                     device float *y [[buffer(3)]],
                                     constant ConvTransposeParams &p [[buffer(4)]],
                                     uint gid [[thread_position_in_grid]],
                                     uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.batches * p.D * 4 * p.H * p.W; i += grid) {
        const uint ox = i % (2 * p.W), oy = i / (2 * p.W) % (2 * p.H), d = i / (4 * p.H * p.W) % p.D;
        const uint batch = i / (4 * p.H * p.W) / p.D;
        float sum = 0.0f;
        for (uint c = 0; c < p.C; c++) {
            const float v = x[((batch * p.C + c) * p.H + oy / 2) * p.W + ox / 2];
            sum = fma(v, weight[((c * p.D + d) * 2 + oy % 2) * 2 + ox % 2], sum);
        }
        y[i] = sum + bias[d];
    }
}

// A matrix product of the transposed weights (4 D, C) with x (C, H W), whose rows d, s, t go to their place in the patches.
[[max_total_threads_per_threadgroup(256)]]
kernel void conv_transpose2d(device const float *x [[buffer(0)]],
                             device const float *weight [[buffer(1)]],
                             device const float *bias [[buffer(2)]],
                             device float *y [[buffer(3)]],
                             constant ConvTransposeParams &p [[buffer(4)]],
                             uint tid [[thread_index_in_threadgroup]],
                             uint tg [[threadgroup_position_in_grid]],
                             uint ntg [[threadgroups_per_grid]],
                             uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float4 As[BK * A_ROW];
    threadgroup float4 Bs[BK * B_ROW];
    const uint M = 4 * p.D, N = p.H * p.W;
    const uint across = (N + BN - 1) / BN, down = (M + BM - 1) / BM;
    for (uint tile = tg; tile < p.batches * down * across; tile += ntg) {
        const uint batch = tile / across / down, m0 = tile / across % down * BM, n0 = tile % across * BN;
        for (uint first = 0; first < WORKERS; first += tgsz) {  // once where the group has 256 threads
            const uint worker = first + tid;
            float4 acc[8];
            for (uint i = 0; i < 8; i++) acc[i] = float4(0.0f);
            for (uint k0 = 0; k0 < p.C; k0 += BK) {
                load_tile(As, BM, A_ROW, weight, 1, M, m0, M, k0, p.C, tid, tgsz);
                load_tile(Bs, BN, B_ROW, x + batch * p.C * N, 1, N, n0, N, k0, p.C, tid, tgsz);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                if (worker < WORKERS) multiply_tiles(acc, As, Bs, worker);
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            if (worker < WORKERS) {
                for (uint i = 0; i < 8; i++) {
                    const uint m = m0 + worker / (BN / 4) * 8 + i, d = m / 4, s = m / 2 % 2, t = m % 2;
                    for (uint j = 0; j < 4; j++) {
                        const uint n = n0 + worker % (BN / 4) * 4 + j;
                        if (m < M && n < N)
                            y[((batch * p.D + d) * 2 * p.H + n / p.W * 2 + s) * 2 * p.W + n % p.W * 2 + t] = acc[i][j] + bias[d];
                    }
                }
            }
        }
    }
}
