// Part of fibers.h: SIMD-group functions, by values that lanes leave for each other.
#pragma once

// The running lane brings a value and waits for the others. None of them waits in its next round before all have gone on, so
// `shared` keeps this round's values until each has read them.
static void meet(u32 value) {
    brought[current] = value;
    wait_as(AT_SIMD);
}

static bool met(u32 thread) { return round_of[thread] == round_of[current]; }

enum Operation : u32 { SUM, MAX, MIN, MAX_SIGNED, MIN_SIGNED, AND, OR, XOR, PRODUCT };

static float float_of(u32 bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

static u32 bits_of(float x) {
    u32 bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}

static u32 combined(u32 operation, u32 a, u32 b) {
    switch (operation) {
    case SUM: return a + b;
    case MAX: return a > b ? a : b;
    case MIN: return a < b ? a : b;
    case MAX_SIGNED: return (int)a > (int)b ? a : b;
    case MIN_SIGNED: return (int)a < (int)b ? a : b;
    case AND: return a & b;
    case OR: return a | b;
    case XOR: return a ^ b;
    default: return a * b;
    }
}

static u32 combined_floats(u32 operation, u32 a, u32 b) {
    float x = float_of(a), y = float_of(b);
    switch (operation) {
    case SUM: return bits_of(x + y);
    case MAX: return y > x ? b : a;
    case MIN: return y < x ? b : a;
    default: return bits_of(x * y);
    }
}

// Over the active lanes from the first up to before `end`; `start` where there are none.
static u32 fold(u32 (*combine)(u32, u32, u32), u32 operation, u32 end, u32 start) {
    bool first = true;
    u32 result = start;
    for (u32 i = first_lane(current / group.width); i < end; i++) {
        if (!met(i)) continue;
        result = first ? shared[i] : combine(operation, result, shared[i]);
        first = false;
    }
    return result;
}

extern "C" {
float __mtl_simd_reduce(u32 operation, float value) {
    meet(bits_of(value));
    return float_of(fold(combined_floats, operation, end_lane(current / group.width), 0));
}
u32 __mtl_simd_reduce_bits(u32 operation, u32 value) {
    meet(value);
    return fold(combined, operation, end_lane(current / group.width), 0);
}
float __mtl_simd_prefix(u32 operation, u32 inclusive, float value) {
    meet(bits_of(value));
    return float_of(fold(combined_floats, operation, current + inclusive, bits_of(operation == PRODUCT)));
}
u32 __mtl_simd_prefix_bits(u32 operation, u32 inclusive, u32 value) {
    meet(value);
    return fold(combined, operation, current + inclusive, operation == PRODUCT);
}
u32 __mtl_simd_lane(u32 value, u32 lane) {
    meet(value);
    u32 thread = first_lane(current / group.width) + lane;
    if (lane < group.width && thread < group.threads && met(thread)) return shared[thread];
    lane_missed(lane);
    return value;
}
// The first active lane.
u32 __mtl_simd_first() {
    meet(0);
    u32 first = first_lane(current / group.width), i = first;
    while (!met(i)) i++;
    return i - first;
}
u32 __mtl_lane() { return current % group.width; }
u32 __mtl_simd_width() { return group.width; }
}
