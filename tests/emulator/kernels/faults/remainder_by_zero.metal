// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

kernel void k(device int *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    y[t] = 7 % (int(t) - 5);  // FAULT group 0, thread 5: integer division by zero
}
