"""Sources that several tests use."""

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"
SQUARE = (
    HEAD
    + """
kernel void square(device const float *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
                   uint i [[thread_position_in_grid]]) {
    if (i < n) y[i] = x[i] * x[i];
}
"""
)
IDENTITY = (
    HEAD
    + """
kernel void who(device uint *y [[buffer(0)]], uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]],
                uint g [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                uint size [[threads_per_threadgroup]], uint total [[threads_per_grid]], uint lane [[thread_index_in_simdgroup]],
                uint simd [[simdgroup_index_in_threadgroup]], uint simds [[simdgroups_per_threadgroup]],
                uint width [[threads_per_simdgroup]]) {
    device uint *mine = y + i * 10;
    mine[0] = i; mine[1] = t; mine[2] = g; mine[3] = groups; mine[4] = size;
    mine[5] = total; mine[6] = lane; mine[7] = simd; mine[8] = simds; mine[9] = width;
}
"""
)
