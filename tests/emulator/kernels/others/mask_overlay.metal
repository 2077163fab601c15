// A mask's logits turned, scaled and laid over a picture: what an app does after the decoder, on buffers in place of textures.
#include <metal_stdlib>
using namespace metal;

struct OverlayUniforms {
    uint2 imageSize;       // width, height
    uint2 maskSize;
    float3x3 imageToMask;  // pixel centres of the picture -> of the mask
    float4 color;          // with alpha
    float edge0, edge1;
};

inline float sample_clamped(device const float *mask, uint2 size, int2 at)
{
    int2 p = clamp(at, int2(0), int2(size) - 1);
    return mask[p.y * int(size.x) + p.x];
}

inline float bilinear(device const float *mask, uint2 size, float2 at)
{
    float2 corner = floor(at);
    float2 f = at - corner;
    int2 i = int2(corner);
    float top = mix(sample_clamped(mask, size, i), sample_clamped(mask, size, i + int2(1, 0)), f.x);
    float bottom = mix(sample_clamped(mask, size, i + int2(0, 1)), sample_clamped(mask, size, i + int2(1, 1)), f.x);
    return mix(top, bottom, f.y);
}

kernel void overlay(device const uchar4 *image [[buffer(0)]],
                    device const float *mask [[buffer(1)]],
                    device uchar4 *out [[buffer(2)]],
                    constant OverlayUniforms &uniforms [[buffer(3)]],
                    uint gid [[thread_position_in_grid]])
{
    if (gid >= uniforms.imageSize.x * uniforms.imageSize.y) return;
    uint2 position = uint2(gid % uniforms.imageSize.x, gid / uniforms.imageSize.x);
    float3 at = uniforms.imageToMask * float3(float2(position) + 0.5f, 1.0f);
    float logit = bilinear(mask, uniforms.maskSize, at.xy - 0.5f);
    float alpha = uniforms.color.a * smoothstep(uniforms.edge0, uniforms.edge1, logit);
    half3 blended = half3(mix(float3(image[gid].rgb), uniforms.color.rgb * 255.0f, alpha));
    out[gid] = uchar4(uchar3(round(blended)), 255);
}
