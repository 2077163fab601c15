// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

kernel void k(device int *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    y[t] = int(t) * 1000000000;  // FAULT group 0, thread 3: signed integer overflow
}
