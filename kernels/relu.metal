// ReLU:  y = max(x, 0)
//
// Equals    refsam.ops.activation.relu, elementwise.
// Buffers   0 x      float (n)
//           1 y      float (n), every element is written
//           2 p      ReluParams
// Bound     0: nothing is rounded. Numbers below 2^-126 may be taken for zero.
// Dispatch  one thread for each number, or fewer: threads go on by the size of the grid.
#include <metal_stdlib>
using namespace metal;

struct ReluParams {
    uint n;
};

kernel void relu(device const float *x [[buffer(0)]],
                 device float *y [[buffer(1)]],
                 constant ReluParams &p [[buffer(2)]],
                 uint gid [[thread_position_in_grid]],
                 uint grid [[threads_per_grid]])
{
    for (uint i = gid; i < p.n; i += grid) y[i] = max(x[i], 0.0f);
}
