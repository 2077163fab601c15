// Part of fibers.h: what the compiler calls to round a double to half where the CPU has no instruction for it. fma of halves and
// fmod of halves become such calls.
#pragma once

// Nearest, ties to even, in whole numbers: the mode that flushes denormals does not matter.
extern "C" __attribute__((visibility("hidden"))) _Float16 __truncdfhf2(double x) {
    u64 bits;
    __builtin_memcpy(&bits, &x, 8);
    u64 sign = bits >> 63 << 15, mantissa = bits & ((1ul << 52) - 1), magnitude;
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    if (exponent == 1024 && mantissa) magnitude = 0x7e00;  // NaN
    else if (exponent > 15) magnitude = 0x7c00;            // infinity
    else if (exponent < -25) magnitude = 0;
    else {
        u64 whole = mantissa | 1ul << 52;
        int dropped = exponent < -14 ? 28 - exponent : 42;
        u64 rest = whole & ((1ul << dropped) - 1), middle = 1ul << (dropped - 1);
        u64 kept = whole >> dropped;
        kept += rest > middle || (rest == middle && kept & 1);
        // The hidden bit of a normal number adds one to the exponent's field, and so does a carry.
        magnitude = kept + (exponent < -14 ? 0 : (u64)(exponent + 14) << 10);
    }
    unsigned short result = (unsigned short)(sign | magnitude);
    _Float16 half;
    __builtin_memcpy(&half, &result, 2);
    return half;
}
