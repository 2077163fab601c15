// The two steps that every blocked matrix product here is made of: copy a tile of each operand to threadgroup memory, multiply
// the tiles in registers. A group works on BM x BN results; WORKERS of its threads hold 8 x 4 of them each.
constant constexpr uint BM = 128;
constant constexpr uint BN = 64;
constant constexpr uint BK = 32;
constant constexpr uint WORKERS = 256;
constant constexpr uint A_ROW = BM / 4 + 1;  // float4s in a row of a tile; one is empty, so that a column is not all in one bank
constant constexpr uint B_ROW = BN / 4 + 1;

// tile[k][i] = X[(i0 + i) * i_stride + (k0 + k) * k_stride], zero outside the matrix. Neighbouring threads read neighbours.
inline void load_tile(threadgroup float4 *tile, uint width, uint row, device const float *X, uint i_stride, uint k_stride,
                      uint i0, uint i_end, uint k0, uint k_end, uint tid, uint tgsz)
{
    threadgroup float *to = (threadgroup float *)tile;
    for (uint e = tid; e < width * BK; e += tgsz) {
        const uint i = k_stride == 1 ? e / BK : e % width;
        const uint k = k_stride == 1 ? e % BK : e / width;
        const bool inside = i0 + i < i_end && k0 + k < k_end;
        to[k * row * 4 + i] = inside ? X[(i0 + i) * i_stride + (k0 + k) * k_stride] : 0.0f;
    }
}

// acc[i] += rows of the A tile times 4 columns of the B tile: BK outer products of 8 by 4.
inline void multiply_tiles(thread float4 *acc, threadgroup const float4 *A, threadgroup const float4 *B, uint worker)
{
    const uint tx = worker % (BN / 4), ty = worker / (BN / 4);
    for (uint k = 0; k < BK; k++) {
        const float4 b = B[k * B_ROW + tx];
        const float4 upper = A[k * A_ROW + ty * 2], lower = A[k * A_ROW + ty * 2 + 1];
        acc[0] = fma(float4(upper.x), b, acc[0]);
        acc[1] = fma(float4(upper.y), b, acc[1]);
        acc[2] = fma(float4(upper.z), b, acc[2]);
        acc[3] = fma(float4(upper.w), b, acc[3]);
        acc[4] = fma(float4(lower.x), b, acc[4]);
        acc[5] = fma(float4(lower.y), b, acc[5]);
        acc[6] = fma(float4(lower.z), b, acc[6]);
        acc[7] = fma(float4(lower.w), b, acc[7]);
    }
}
