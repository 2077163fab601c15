// Iterations until a point of the plane escapes: what many first programs for a GPU compute.
#include <metal_stdlib>
using namespace metal;

kernel void mandelbrot(const device float *uniform [[ buffer(0) ]],
                       device uchar4 *out [[ buffer(1) ]],
                       uint id [[ thread_position_in_grid ]]) {
    float width = uniform[0];
    float height = uniform[1];
    if (id >= uint(width * height)) { return; }
    float2 pos = float2(id % uint(width), id / uint(width));
    float2 c = (pos / float2(width, height)) * float2(3.0, 2.0) - float2(2.0, 1.0);
    float2 z = 0.0;
    int i = 0;
    const int limit = 50;
    while (i < limit && length_squared(z) < 4.0) {
        z = float2(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + c;
        i++;
    }
    float v = i / float(limit);
    out[id] = uchar4(uchar3(saturate(float3(v, v * v, sqrt(v))) * 255.0), 255);
}
