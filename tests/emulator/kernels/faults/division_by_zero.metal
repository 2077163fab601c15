// run: count=32 group_size=32 buffers=128,4:0
#include <metal_stdlib>
using namespace metal;

kernel void k(device uint *y [[buffer(0)]], constant uint &n [[buffer(1)]], uint t [[thread_index_in_threadgroup]]) {
    y[t] = t / n;  // FAULT group 0, thread 0: integer division by zero
}
