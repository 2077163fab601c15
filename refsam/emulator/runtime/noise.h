// Part of fibers.h: results moved within the bounds of the specification (ulps.py).
#pragma once

// A number in [-1, 1) that depends on the value's bits and the seed only: the same run gives the same noise.
static float noise_of(float value) {
    u32 bits;
    __builtin_memcpy(&bits, &value, 4);
    bits ^= noise_seed * 0x9e3779b9u;
    bits = (bits ^ bits >> 16) * 0x85ebca6bu;
    bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
    return (float)(int)(bits ^ bits >> 16) * 0x1p-31f;
}

// The unit in the last place of a value of at least 2^-103.
static float last_place(float value) {
    u32 bits;
    __builtin_memcpy(&bits, &value, 4);
    bits = ((bits >> 23 & 255) - 23) << 23;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

// Moves a correctly rounded value by at most `ulps` units in the last place, its own half included.
extern "C" float __mtl_noise(float value, float ulps) {
    u32 bits;
    __builtin_memcpy(&bits, &value, 4);
    u32 exponent = bits >> 23 & 255;
    if (!noise_seed || exponent == 255 || exponent < 24) return value;
    return value + noise_of(value) * (ulps - 1.0f) * last_place(value);
}

// The same within an absolute bound, of which half a unit is the value's and half a unit, of a larger value maybe, the sum's.
extern "C" float __mtl_noise_absolute(float value, float bound) {
    return noise_seed ? value + noise_of(value) * (bound - last_place(__builtin_fabsf(value) + bound)) : value;
}

extern "C" float __mtl_divide(float a, float b) {
    return __mtl_noise(a / b, a == 1.0f ? 1.0f : 2.5f);
}
