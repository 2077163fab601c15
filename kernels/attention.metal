// Scaled dot-product attention of each head:  o = softmax(q k^T scale + bias) v
//
// Equals    refsam.ops.attention.attention; scale is 1 / sqrt(c). Windows are heads of their own: jobs is batches x heads, and
//           all batches share the bias of a head.
// Buffers   0 q     float (jobs, lq, c)
//           1 k     float (jobs, lk, c)
//           2 v     float (jobs, lk, d)
//           3 bias  float (heads, lq, lk), not read where has_bias is 0
//           4 o     float (jobs, lq, d), every element is written
//           5 p     AttentionParams
// Bound     A score (c products, the scale and its own rounding, the bias, one to spare) is off by e = gamma(c + 4) (|q| |k| scale
//           + |bias|), its distance z below the row's greatest by 2e and a rounding. MSL's exp adds 3 + 2|z| ulp; rescaling splits z
//           into parts, whose errors are 3 ulp more for each tile of 32 keys. Sums over lk keys, their rescaling and the division (2.5 ulp) add
//           gamma(2 lk + 2 tiles + 16). Numerator and denominator both have all of that: see tests/kernels or refsam/metal/bounds.py.
// Dispatch  64 threads for each 64 queries of a job (attention_16, _32, _64: c and d at most that), one for each number of o
//           (attention_1_naive: any c and d), or fewer; any number of groups of any size is right.
// Memory    4, 8, 16 KB for each group.
#include <metal_stdlib>
using namespace metal;

struct AttentionParams {
    uint jobs, heads, lq, lk, c, d;
    float scale;
    uint has_bias;
};

constant constexpr uint KEYS = 32;     // in a tile
constant constexpr uint QUERIES = 64;  // of a group
constant constexpr float LOWEST = -3.0e38f;

inline float score(device const float *q, device const float *k, device const float *bias, constant AttentionParams &p, uint job,
                   uint i, uint j)
{
    float sum = 0.0f;
    for (uint c = 0; c < p.c; c++) sum = fma(q[(job * p.lq + i) * p.c + c], k[(job * p.lk + j) * p.c + c], sum);
    sum *= p.scale;
    return p.has_bias ? sum + bias[(job % p.heads * p.lq + i) * p.lk + j] : sum;
}

// One number of o for each thread, which computes its query's scores twice: for the greatest, then for the sums.
kernel void attention_1_naive(device const float *q [[buffer(0)]],
                              device const float *k [[buffer(1)]],
                              device const float *v [[buffer(2)]],
                              device const float *bias [[buffer(3)]],
                              device float *o [[buffer(4)]],
                              constant AttentionParams &p [[buffer(5)]],
                              uint gid [[thread_position_in_grid]],
                              uint grid [[threads_per_grid]])
{
    for (uint n = gid; n < p.jobs * p.lq * p.d; n += grid) {
        const uint d = n % p.d, i = n / p.d % p.lq, job = n / p.d / p.lq;
        float greatest = LOWEST, sum = 0.0f, total = 0.0f;
        for (uint j = 0; j < p.lk; j++) greatest = max(greatest, score(q, k, bias, p, job, i, j));
        for (uint j = 0; j < p.lk; j++) {
            const float weight = exp(score(q, k, bias, p, job, i, j) - greatest);
            total += weight;
            sum = fma(weight, v[(job * p.lk + j) * p.d + d], sum);
        }
        o[n] = sum / total;
    }
}

// tile[r][j] = rows[first + r][j] with zeros beyond the array's width and end.
inline void load_rows(threadgroup float *tile, uint room, device const float *rows, uint width, uint first, uint end, uint tid,
                      uint tgsz)
{
    for (uint e = tid; e < KEYS * room; e += tgsz) {
        const uint r = first + e / room, j = e % room;
        tile[e] = r < end && j < width ? rows[r * width + j] : 0.0f;
    }
}

// The work of one group: a query for each thread, keys and values shared by tiles, the softmax on the way ("online"): where a
// tile has a greater score, what is summed so far shrinks. W float4s hold a query, a key or a value.
template <uint W>
inline void attend(threadgroup float4 *Ks, threadgroup float4 *Vs, device const float *q, device const float *k,
                   device const float *v, device const float *bias, device float *o, constant AttentionParams &p, uint tid,
                   uint tg, uint ntg, uint tgsz)
{
    const uint queries = min(QUERIES, tgsz), blocks = (p.lq + queries - 1) / queries;
    for (uint block = tg; block < p.jobs * blocks; block += ntg) {
        const uint job = block / blocks, i = block % blocks * queries + tid;
        const bool live = tid < queries && i < p.lq;
        float4 query[W], sum[W];
        for (uint w = 0; w < W; w++) {
            float4 part = float4(0.0f);
            for (uint e = 0; e < 4; e++)
                if (live && w * 4 + e < p.c) part[e] = q[(job * p.lq + i) * p.c + w * 4 + e] * p.scale;
            query[w] = part;
            sum[w] = float4(0.0f);
        }
        float greatest = LOWEST, total = 0.0f;
        for (uint j0 = 0; j0 < p.lk; j0 += KEYS) {
            load_rows((threadgroup float *)Ks, W * 4, k + job * p.lk * p.c, p.c, j0, p.lk, tid, tgsz);
            load_rows((threadgroup float *)Vs, W * 4, v + job * p.lk * p.d, p.d, j0, p.lk, tid, tgsz);
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (live) {
                const uint keys = min(KEYS, p.lk - j0);
                float scores[KEYS];
                float top = greatest;
                for (uint j = 0; j < keys; j++) {
                    float4 products = float4(0.0f);
                    for (uint w = 0; w < W; w++) products = fma(query[w], Ks[j * W + w], products);
                    float s = (products.x + products.y) + (products.z + products.w);
                    if (p.has_bias) s += bias[(job % p.heads * p.lq + i) * p.lk + j0 + j];
                    scores[j] = s;
                    top = max(top, s);
                }
                const float shrink = top > greatest ? exp(greatest - top) : 1.0f;
                greatest = top;
                float4 part[W];  // summed by tiles: one chain over all keys would have a greater error
                for (uint w = 0; w < W; w++) part[w] = float4(0.0f);
                float part_total = 0.0f;
                for (uint j = 0; j < keys; j++) {
                    const float weight = exp(scores[j] - top);
                    part_total += weight;
                    for (uint w = 0; w < W; w++) part[w] = fma(float4(weight), Vs[j * W + w], part[w]);
                }
                total = fma(total, shrink, part_total);
                for (uint w = 0; w < W; w++) sum[w] = fma(sum[w], float4(shrink), part[w]);
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        for (uint w = 0; w < W; w++)
            for (uint e = 0; e < 4; e++)
                if (live && w * 4 + e < p.d) o[(job * p.lq + i) * p.d + w * 4 + e] = sum[w][e] / total;
    }
}

[[max_total_threads_per_threadgroup(64)]]
kernel void attention_16(device const float *q [[buffer(0)]],
                         device const float *k [[buffer(1)]],
                         device const float *v [[buffer(2)]],
                         device const float *bias [[buffer(3)]],
                         device float *o [[buffer(4)]],
                         constant AttentionParams &p [[buffer(5)]],
                         uint tid [[thread_index_in_threadgroup]],
                         uint tg [[threadgroup_position_in_grid]],
                         uint ntg [[threadgroups_per_grid]],
                         uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float4 Ks[KEYS * 4];
    threadgroup float4 Vs[KEYS * 4];
    attend<4>(Ks, Vs, q, k, v, bias, o, p, tid, tg, ntg, tgsz);
}

[[max_total_threads_per_threadgroup(64)]]
kernel void attention_32(device const float *q [[buffer(0)]],
                         device const float *k [[buffer(1)]],
                         device const float *v [[buffer(2)]],
                         device const float *bias [[buffer(3)]],
                         device float *o [[buffer(4)]],
                         constant AttentionParams &p [[buffer(5)]],
                         uint tid [[thread_index_in_threadgroup]],
                         uint tg [[threadgroup_position_in_grid]],
                         uint ntg [[threadgroups_per_grid]],
                         uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float4 Ks[KEYS * 8];
    threadgroup float4 Vs[KEYS * 8];
    attend<8>(Ks, Vs, q, k, v, bias, o, p, tid, tg, ntg, tgsz);
}

[[max_total_threads_per_threadgroup(64)]]
kernel void attention_64(device const float *q [[buffer(0)]],
                         device const float *k [[buffer(1)]],
                         device const float *v [[buffer(2)]],
                         device const float *bias [[buffer(3)]],
                         device float *o [[buffer(4)]],
                         constant AttentionParams &p [[buffer(5)]],
                         uint tid [[thread_index_in_threadgroup]],
                         uint tg [[threadgroup_position_in_grid]],
                         uint ntg [[threadgroups_per_grid]],
                         uint tgsz [[threads_per_threadgroup]])
{
    threadgroup float4 Ks[KEYS * 16];
    threadgroup float4 Vs[KEYS * 16];
    attend<16>(Ks, Vs, q, k, v, bias, o, p, tid, tg, ntg, tgsz);
}
