// A row of softmax for each threadgroup, reduced first within SIMD-groups and then between them, as in ports of GPT-2.
#include <metal_stdlib>
#include <metal_simdgroup>

using namespace metal;

struct SoftmaxArgs {
    int rows;
    int columns;
    float temperature;
};

template <typename Op>
static float block_reduce(float value, threadgroup float *shared, uint lane, uint simd, uint simds, float identity, Op op)
{
    value = op.simd(value);
    if (lane == 0) shared[simd] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    value = lane < simds ? shared[lane] : identity;
    value = op.simd(value);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return value;
}

struct Max { float simd(float v) { return simd_max(v); } };
struct Sum { float simd(float v) { return simd_sum(v); } };

[[kernel]] void softmax_forward(const device float *logits [[buffer(0)]],
                                device float *probabilities [[buffer(1)]],
                                constant SoftmaxArgs &args [[buffer(2)]],
                                uint row [[threadgroup_position_in_grid]],
                                uint tid [[thread_position_in_threadgroup]],
                                uint threads [[threads_per_threadgroup]],
                                uint lane [[thread_index_in_simdgroup]],
                                uint simd [[simdgroup_index_in_threadgroup]],
                                uint simds [[simdgroups_per_threadgroup]])
{
    threadgroup float shared[64];
    if (int(row) >= args.rows) return;
    const device float *x = logits + row * args.columns;
    device float *y = probabilities + row * args.columns;

    float top = -INFINITY;
    for (int i = tid; i < args.columns; i += threads) top = max(top, x[i]);
    top = block_reduce(top, shared, lane, simd, simds, -INFINITY, Max());

    float total = 0;
    for (int i = tid; i < args.columns; i += threads) {
        float e = exp((x[i] - top) / args.temperature);
        y[i] = e;
        total += e;
    }
    total = block_reduce(total, shared, lane, simd, simds, 0.0f, Sum());
    for (int i = tid; i < args.columns; i += threads) y[i] /= total;
}
