// run: count=32 group_size=32 buffers=128
#include <metal_stdlib>
using namespace metal;

kernel void k(device uint *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    y[t] = uint(3.0f - float(t));  // FAULT group 0, thread 4: the floating-point value does not fit the integer type
}
