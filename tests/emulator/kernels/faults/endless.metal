// run: count=32 group_size=32 buffers=128 step_limit=100000
#include <metal_stdlib>
using namespace metal;

kernel void k(device float *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    uint i = 0;
    while (i < 10) {  // FAULT group 0, thread 0: the dispatch takes more turns of loops than step_limit allows
        y[t] = float(i);
    }
}
