// |erf| and GELU of four numbers. The rational functions are those of refsam/ops/activation.py (NEAR_32, FAR_32, FAR_OVER_32).
inline float4 erf_magnitude(float4 x)
{
    const float4 size = min(abs(x), float4(4.0f));  // erf is 1 to the last bit from there on
    const float4 square = size * size, s = min(square, float4(1.0f));
    float4 near = fma(float4(7.888318e-05f), s, float4(-0.0008020589f));
    near = fma(near, s, float4(0.0051895054f));
    near = fma(near, s, float4(-0.026854428f));
    near = fma(near, s, float4(0.112835996f));
    near = fma(near, s, float4(-0.37612626f));
    near = fma(near, s, float4(0.12837917f));
    float4 far = fma(float4(3.1419943e-06f), size, float4(0.09211236f));
    far = fma(far, size, float4(0.45536712f));
    far = fma(far, size, float4(0.98742294f));
    far = fma(far, size, float4(0.9999147f));
    float4 over = fma(float4(0.16340981f), size, float4(0.8053937f));
    over = fma(over, size, float4(1.8442655f));
    over = fma(over, size, float4(2.1151762f));
    over = fma(over, size, float4(1.0f));
    const float4 inner = fma(size, near, size), outer = 1.0f - exp(-square) * (far / over);
    return float4(size.x <= 1.0f ? inner.x : outer.x, size.y <= 1.0f ? inner.y : outer.y,
                  size.z <= 1.0f ? inner.z : outer.z, size.w <= 1.0f ? inner.w : outer.w);
}

// x/2 (1 + erf(x / sqrt 2)). Since erf is odd, x erf(x) = |x| |erf(x)|, and no sign is needed.
inline float4 gelu4(float4 x)
{
    return 0.5f * fma(abs(x), erf_magnitude(x * 0.70710678f), x);
}
