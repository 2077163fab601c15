// run: count=64 group_size=64 buffers=4
#include <metal_stdlib>
using namespace metal;

kernel void k(device uint *y [[buffer(0)]], uint t [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint count;
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);  // FAULT reads uninitialised byte 0 of threadgroup variable `count`
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t == 0) y[0] = atomic_load_explicit(&count, memory_order_relaxed);
}
