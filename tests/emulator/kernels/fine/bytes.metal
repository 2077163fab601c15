// run: count=64 group_size=64 buffers=64,64
#include <metal_stdlib>
using namespace metal;

// Threads on neighbouring bytes do not race.
kernel void k(device const uchar *x [[buffer(0)]], device uchar *y [[buffer(1)]], uint t [[thread_index_in_threadgroup]]) {
    y[t] = uchar(255 - x[t]);
}
