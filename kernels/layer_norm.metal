// LayerNorm of each row over its C channels:  y = (x - mean) / sqrt(variance + eps) * weight + bias
//
// Equals    refsam.ops.norm.layer_norm; the variance is biased, and of the centred numbers.
// Buffers   0 x       float (rows, C)
//           1 weight  float (C)
//           2 bias    float (C)
//           3 y       float (rows, C), every element is written
//           4 p       LayerNormParams
// Bound     that of tests/ops/bounds.py layer_norm, with C + 5 roundings in the mean and C + 6 in the variance (MSL's division is
//           good to 2.5 ulp, 5 units) and 8 afterwards (rsqrt to 2 ulp, 4 units).
// Dispatch  16 threads for each row (layer_norm), one (layer_norm_1_naive), or fewer.
// Memory    4 KB for each group.
#include <metal_stdlib>
using namespace metal;

struct LayerNormParams {
    uint rows, C;
    float eps;
};

// One thread for each row: neighbouring threads read C numbers apart.
kernel void layer_norm_1_naive(device const float *x [[buffer(0)]],
                               device const float *weight [[buffer(1)]],
                               device const float *bias [[buffer(2)]],
                               device float *y [[buffer(3)]],
                               constant LayerNormParams &p [[buffer(4)]],
                               uint gid [[thread_position_in_grid]],
                               uint grid [[threads_per_grid]])
{
    for (uint row = gid; row < p.rows; row += grid) {
        float mean = 0.0f, variance = 0.0f;
        for (uint c = 0; c < p.C; c++) mean += x[row * p.C + c];
        mean /= float(p.C);
        for (uint c = 0; c < p.C; c++) variance += (x[row * p.C + c] - mean) * (x[row * p.C + c] - mean);
        const float scale = rsqrt(variance / float(p.C) + p.eps);
        for (uint c = 0; c < p.C; c++) y[row * p.C + c] = (x[row * p.C + c] - mean) * scale * weight[c] + bias[c];
    }
}

// The sum of what the row's threads have put down. Each of them adds all up for itself: 16 reads cost less than a tree's barriers.
inline float row_sum(threadgroup const float *partial, uint lanes)
{
    float sum = 0.0f;
    for (uint i = 0; i < lanes; i++) sum += partial[i];
    return sum;
}

// 16 neighbouring threads share a row.
kernel void layer_norm(device const float *x [[buffer(0)]],
                       device const float *weight [[buffer(1)]],
                       device const float *bias [[buffer(2)]],
                       device float *y [[buffer(3)]],
                       constant LayerNormParams &p [[buffer(4)]],
                       uint tid [[thread_index_in_threadgroup]],
                       uint tg [[threadgroup_position_in_grid]],
                       uint ntg [[threadgroups_per_grid]],
                       uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float partial[1024];  // one for each thread; no group has more
    const uint lanes = min(16u, tgsz), slots = tgsz / lanes;
    const uint slot = tid / lanes, lane = tid % lanes;
    for (uint row0 = tg * slots; row0 < p.rows; row0 += ntg * slots) {
        const uint row = row0 + slot;
        const bool live = slot < slots && row < p.rows;
        float sum = 0.0f;
        for (uint c = lane; c < p.C && live; c += lanes) sum += x[row * p.C + c];
        partial[tid] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const float mean = live ? row_sum(partial + slot * lanes, lanes) / float(p.C) : 0.0f;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum = 0.0f;
        for (uint c = lane; c < p.C && live; c += lanes) sum += (x[row * p.C + c] - mean) * (x[row * p.C + c] - mean);
        partial[tid] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const float variance = live ? row_sum(partial + slot * lanes, lanes) / float(p.C) : 0.0f;
        const float scale = rsqrt(variance + p.eps);
        for (uint c = lane; c < p.C && live; c += lanes)
            y[row * p.C + c] = (x[row * p.C + c] - mean) * scale * weight[c] + bias[c];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
