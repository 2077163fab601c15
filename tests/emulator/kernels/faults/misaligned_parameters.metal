// run: count=4 group_size=32 buffers=512,512
#include <metal_stdlib>
using namespace metal;

struct Row { float scale; float3 offset; };
kernel void k(device uchar *x [[buffer(0)]], device float *y [[buffer(1)]], uint t [[thread_index_in_threadgroup]]) {
    device const Row *row = (device const Row *)(x + 4);
    if (t < 4) y[t] = row->offset.x;  // FAULT group 0, thread 0: misaligned access of
}
