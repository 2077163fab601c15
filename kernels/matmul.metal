// Matrix product with a bias and an activation, for a batch:  C[b] = act(A[b] B[b] + bias)
//
// Equals    refsam.ops.linear.linear (B transposed: its rows are the weight's), conv2d of 1x1 (A is the weight, its batch stride
//           zero), and NumPy's A @ B; act is that of refsam.ops.activation.
// Buffers   0 A      float (M, K) per batch, or (K, M) where TRANSPOSED_A; batches lie a_batch elements apart, 0: one for all
//           1 B      float (K, N), or (N, K) where TRANSPOSED_B; b_batch likewise
//           2 bias   float, N of them where bias is 1, M where it is 2, not read where it is 0
//           3 C      float (M, N) per batch, every element is written
//           4 p      MatmulParams
// Bound     gamma(K + 1) (|A| |B| + |bias|): K products are summed in some order, and the bias; zeros beyond K add nothing.
//           A GELU multiplies an error of its argument by 1.13 at most, and adds its own (gelu.metal). ReLU adds nothing.
// Dispatch  256 threads for each tile of 128 x 64 results (matmul), of 16 x 16 (matmul_2_tiled), for 256 results
//           (matmul_1_naive); any number of groups of any size is right.
// Memory    25 KB for each group.
#include <metal_stdlib>
using namespace metal;
#include "erf.h"
#include "tile.h"

struct MatmulParams {
    uint M, N, K, batches;
    uint a_batch, b_batch;
    uint transposed;  // 1: A, 2: B, 3: both
    uint bias;        // 0: none, 1: one for each column, 2: one for each row
    uint act;         // 0: none, 1: ReLU, 2: GELU
};

constant constexpr uint TRANSPOSED_A = 1;
constant constexpr uint TRANSPOSED_B = 2;

inline float4 activate(float4 x, uint act)
{
    if (act == 1) return max(x, float4(0.0f));
    if (act == 2) return gelu4(x);
    return x;
}

inline float bias_at(device const float *bias, uint kind, uint m, uint n)
{
    return kind == 0 ? 0.0f : bias[kind == 1 ? n : m];
}

// One result for each thread, operands straight from device memory: each is read M or N times.
kernel void matmul_1_naive(device const float *A [[buffer(0)]],
                           device const float *B [[buffer(1)]],
                           device const float *bias [[buffer(2)]],
                           device float *C [[buffer(3)]],
                           constant MatmulParams &p [[buffer(4)]],
                           uint gid [[thread_position_in_grid]],
                           uint grid [[threads_per_grid]])
{
    const uint a_m = (p.transposed & TRANSPOSED_A) ? 1 : p.K, a_k = (p.transposed & TRANSPOSED_A) ? p.M : 1;
    const uint b_n = (p.transposed & TRANSPOSED_B) ? p.K : 1, b_k = (p.transposed & TRANSPOSED_B) ? 1 : p.N;
    for (uint i = gid; i < p.batches * p.M * p.N; i += grid) {
        const uint n = i % p.N, m = i / p.N % p.M, batch = i / p.N / p.M;
        device const float *a = A + batch * p.a_batch + m * a_m;
        device const float *b = B + batch * p.b_batch + n * b_n;
        float sum = 0.0f;
        for (uint k = 0; k < p.K; k++) sum = fma(a[k * a_k], b[k * b_k], sum);
        C[i] = activate(float4(sum + bias_at(bias, p.bias, m, n)), p.act).x;
    }
}

// A group shares a 16 x 16 tile of each operand: device memory is read 16 times less often. Still one result for each thread,
// and so two reads of threadgroup memory for each product.
[[max_total_threads_per_threadgroup(256)]]
kernel void matmul_2_tiled(device const float *A [[buffer(0)]],
                           device const float *B [[buffer(1)]],
                           device const float *bias [[buffer(2)]],
                           device float *C [[buffer(3)]],
                           constant MatmulParams &p [[buffer(4)]],
                           uint tid [[thread_index_in_threadgroup]],
                           uint tg [[threadgroup_position_in_grid]],
                           uint ntg [[threadgroups_per_grid]],
                           uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float As[16][17];
    threadgroup float Bs[16][17];
    const uint a_m = (p.transposed & TRANSPOSED_A) ? 1 : p.K, a_k = (p.transposed & TRANSPOSED_A) ? p.M : 1;
    const uint b_n = (p.transposed & TRANSPOSED_B) ? p.K : 1, b_k = (p.transposed & TRANSPOSED_B) ? 1 : p.N;
    const uint across = (p.N + 15) / 16, down = (p.M + 15) / 16;
    for (uint tile = tg; tile < p.batches * down * across; tile += ntg) {
        const uint batch = tile / across / down, m0 = tile / across % down * 16, n0 = tile % across * 16;
        device const float *a = A + batch * p.a_batch;
        device const float *b = B + batch * p.b_batch;
        for (uint first = 0; first < 256; first += tgsz) {  // once where the group has 256 threads
            const uint worker = first + tid, x = worker % 16, y = worker / 16;
            float sum = 0.0f;
            for (uint k0 = 0; k0 < p.K; k0 += 16) {
                for (uint e = tid; e < 256; e += tgsz) {
                    const uint i = e / 16, j = e % 16;
                    As[i][j] = m0 + i < p.M && k0 + j < p.K ? a[(m0 + i) * a_m + (k0 + j) * a_k] : 0.0f;
                    Bs[i][j] = k0 + i < p.K && n0 + j < p.N ? b[(k0 + i) * b_k + (n0 + j) * b_n] : 0.0f;
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                if (worker < 256)
                    for (uint k = 0; k < 16; k++) sum = fma(As[y][k], Bs[k][x], sum);
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            if (worker < 256 && m0 + y < p.M && n0 + x < p.N) {
                const float result = sum + bias_at(bias, p.bias, m0 + y, n0 + x);
                C[(batch * p.M + m0 + y) * p.N + n0 + x] = activate(float4(result), p.act).x;
            }
        }
    }
}

// 8 x 4 results for each thread, in registers: three reads of threadgroup memory for 32 products.
[[max_total_threads_per_threadgroup(256)]]
kernel void matmul(device const float *A [[buffer(0)]],
                   device const float *B [[buffer(1)]],
                   device const float *bias [[buffer(2)]],
                   device float *C [[buffer(3)]],
                   constant MatmulParams &p [[buffer(4)]],
                   uint tid [[thread_index_in_threadgroup]],
                   uint tg [[threadgroup_position_in_grid]],
                   uint ntg [[threadgroups_per_grid]],
                   uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float4 As[BK * A_ROW];
    threadgroup float4 Bs[BK * B_ROW];
    const uint a_m = (p.transposed & TRANSPOSED_A) ? 1 : p.K, a_k = (p.transposed & TRANSPOSED_A) ? p.M : 1;
    const uint b_n = (p.transposed & TRANSPOSED_B) ? p.K : 1, b_k = (p.transposed & TRANSPOSED_B) ? 1 : p.N;
    const uint across = (p.N + BN - 1) / BN, down = (p.M + BM - 1) / BM;
    for (uint tile = tg; tile < p.batches * down * across; tile += ntg) {
        const uint batch = tile / across / down, m0 = tile / across % down * BM, n0 = tile % across * BN;
        for (uint first = 0; first < WORKERS; first += tgsz) {  // once where the group has 256 threads
            const uint worker = first + tid;
            float4 acc[8];
            for (uint i = 0; i < 8; i++) acc[i] = float4(0.0f);
            for (uint k0 = 0; k0 < p.K; k0 += BK) {
                load_tile(As, BM, A_ROW, A + batch * p.a_batch, a_m, a_k, m0, p.M, k0, p.K, tid, tgsz);
                load_tile(Bs, BN, B_ROW, B + batch * p.b_batch, b_n, b_k, n0, p.N, k0, p.K, tid, tgsz);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                if (worker < WORKERS) multiply_tiles(acc, As, Bs, worker);
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            if (worker < WORKERS) {
                const uint n = n0 + worker % (BN / 4) * 4;
                for (uint i = 0; i < 8; i++) {
                    const uint m = m0 + worker / (BN / 4) * 8 + i;
                    for (uint j = 0; j < 4 && m < p.M; j++)
                        if (n + j < p.N) acc[i][j] += bias_at(bias, p.bias, m, n + j);
                    const float4 result = activate(acc[i], p.act);
                    for (uint j = 0; j < 4; j++)
                        if (m < p.M && n + j < p.N) C[(batch * p.M + m) * p.N + n + j] = result[j];
                }
            }
        }
    }
}
