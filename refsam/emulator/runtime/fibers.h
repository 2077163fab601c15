// Runs the threads of one threadgroup as fibers on one CPU thread: a barrier switches to the next thread.
// Freestanding: no header, no library. Included once by library.cpp (fast mode) and once by checker.cpp (checked mode),
// which define the two hooks.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

enum { MAX_THREADS = 1024 };
enum State : u8 { READY, AT_BARRIER, AT_SIMD, DONE };

// What a kernel can ask about its threadgroup; the launcher (build.py) reads the same structure.
struct Group {
    const u64 *buffers;
    u32 index, count, threads, width, simdgroups;
};

extern "C" {
void __mtl_enter(const Group *group, u32 kernel, u32 first, u32 last);
void __mtl_switch(void **save, void *to);
void __mtl_barrier(u32 memory);
void __mtl_simd_barrier(u32 memory, u32 at);
float __mtl_simd_reduce(u32 at, u32 operation, float value);
u32 __mtl_simd_reduce_bits(u32 at, u32 operation, u32 value);
float __mtl_simd_prefix(u32 at, u32 operation, u32 inclusive, float value);
u32 __mtl_simd_prefix_bits(u32 at, u32 operation, u32 inclusive, u32 value);
u32 __mtl_simd_lane(u32 at, u32 value, u32 lane);
u32 __mtl_simd_first(u32 at);
u32 __mtl_lane();
u32 __mtl_simd_width();
float __mtl_noise(float value, float ulps);
float __mtl_noise_absolute(float value, float bound);
float __mtl_divide(float a, float b);
extern u8 __start_tgmem __attribute__((weak, visibility("hidden")));
extern u8 __stop_tgmem __attribute__((weak, visibility("hidden")));
}

// Hooks. All threads are at a barrier or done: `waiting` of them wait, the others have returned from the kernel.
static void barrier_reached(u32 waiting);
// The lanes of one SIMD-group meet: one round of a simdgroup_barrier or of a SIMD function.
static void simd_met(u32 simdgroup);
// The running thread asks for the value of a lane that is not there, or does not take part.
static void lane_missed(u32 lane);

#if defined(__x86_64__)
asm(R"(
.text
.globl __mtl_switch
.hidden __mtl_switch
__mtl_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static u64 *first_frame(u64 *top, void (*entry)()) {
    *--top = 0;  // where entry would return to: it never does
    *--top = (u64)entry;
    return top - 6;
}
static u64 float_mode() { u32 mode; asm volatile("stmxcsr %0" : "=m"(mode)); return mode; }
static void set_float_mode(u64 mode) { u32 low = (u32)mode; asm volatile("ldmxcsr %0" ::"m"(low)); }
static const u64 FLUSH_DENORMALS = 0x8040;
#elif defined(__aarch64__)
asm(R"(
.text
.globl __mtl_switch
.hidden __mtl_switch
__mtl_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
static u64 *first_frame(u64 *top, void (*entry)()) {
    top -= 20;
    top[11] = (u64)entry;  // x30, where the switch returns to
    return top;
}
static u64 float_mode() { u64 mode; asm volatile("mrs %0, fpcr" : "=r"(mode)); return mode; }
static void set_float_mode(u64 mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
static const u64 FLUSH_DENORMALS = 1ul << 24;
#else
#error "refsam.emulator has a fiber switch for x86-64 and aarch64 only"
#endif

static Group group;
static u32 kernel_index, current, simd_position, random_state, noise_seed;
static void *scheduler_stack, *stack_of[MAX_THREADS];
static State state_of[MAX_THREADS];
static u32 site_of[MAX_THREADS];   // source line a thread waits at; 0 where lines are not known
static u64 place_of[MAX_THREADS];  // the call of a SIMD function that a thread waits in: where in the source, then where in the code
static u32 round_of[MAX_THREADS];  // lanes that met in the same round of a SIMD function have the same number
static u32 simd_order[MAX_THREADS], rounds;
static u32 brought[MAX_THREADS], shared[MAX_THREADS];  // to the next round; in the last one

static u32 random_bits() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}

static void shuffle_simdgroups() {
    if (!random_state) return;
    for (u32 i = group.simdgroups - 1; i > 0; i--) {
        u32 j = random_bits() % (i + 1), swapped = simd_order[i];
        simd_order[i] = simd_order[j];
        simd_order[j] = swapped;
    }
}

static void switch_to(u32 thread) {
    u32 me = current;
    if (thread == me) return;
    current = thread;
    __mtl_switch(&stack_of[me], stack_of[thread]);
}

static void leave_group() {
    __mtl_switch(&stack_of[current], scheduler_stack);
}

static u32 first_lane(u32 simdgroup) { return simdgroup * group.width; }
static u32 end_lane(u32 simdgroup) {
    u32 end = (simdgroup + 1) * group.width;
    return end < group.threads ? end : group.threads;
}

// Lets lanes that wait at one call of a SIMD function go on together. False where none waits. The call that comes first in the
// source goes first, so that lanes in a branch or a loop catch up with those behind it.
static bool release_simd(u32 simdgroup) {
    u32 begin = first_lane(simdgroup), end = end_lane(simdgroup);
    u64 place = 0;
    for (u32 i = begin; i < end; i++)
        if (state_of[i] == AT_SIMD && (!place || place_of[i] < place)) place = place_of[i];
    if (!place) return false;
    rounds++;
    for (u32 i = begin; i < end; i++)
        if (state_of[i] == AT_SIMD && place_of[i] == place) state_of[i] = READY, round_of[i] = rounds, shared[i] = brought[i];
    simd_met(simdgroup);
    return true;
}

// Returns false when every thread is done.
static bool release_barrier() {
    u32 waiting = 0;
    for (u32 i = 0; i < group.threads; i++) waiting += state_of[i] == AT_BARRIER;
    if (!waiting) return false;
    barrier_reached(waiting);
    for (u32 i = 0; i < group.threads; i++)
        if (state_of[i] == AT_BARRIER) state_of[i] = READY;
    shuffle_simdgroups();
    return true;
}

static void run_next() {
    for (;;) {
        for (; simd_position < group.simdgroups; simd_position++) {
            u32 simdgroup = simd_order[simd_position];
            do {
                for (u32 i = first_lane(simdgroup); i < end_lane(simdgroup); i++)
                    if (state_of[i] == READY) return switch_to(i);
            } while (release_simd(simdgroup));
        }
        simd_position = 0;
        if (!release_barrier()) return leave_group();
    }
}

static void wait_as(State state) {
    state_of[current] = state;
    u32 next = current + 1;
    if (next < group.threads && next % group.width && state_of[next] == READY) return switch_to(next);
    run_next();
}

static void fiber_entry() {
    __mtl_enter(&group, kernel_index, current, current + 1);
    wait_as(DONE);
    __builtin_trap();
}

static void start_group(u32 index, u32 threads, u32 width) {
    group.index = index;
    group.threads = threads;
    group.width = width;
    group.simdgroups = (threads + width - 1) / width;
    for (u32 s = 0; s < group.simdgroups; s++) simd_order[s] = s;
    shuffle_simdgroups();
}

static void run_fibers(u8 *stacks, u64 stack_bytes) {
    for (u32 i = 0; i < group.threads; i++) {
        // Staggered by cache lines: stacks at one power-of-two distance would all fall into the same cache sets.
        u64 top = (u64)(stacks + (i + 1ul) * stack_bytes) - 64 - i * 192ul % 4096;
        stack_of[i] = first_frame((u64 *)(top & ~63ul), fiber_entry);
        state_of[i] = READY;
        site_of[i] = 0;
    }
    simd_position = 0;
    current = simd_order[0] * group.width;
    __mtl_switch(&scheduler_stack, stack_of[current]);
}

// The running lane brings a value and waits for the others. None of them waits in its next round before all have gone on, so
// `shared` keeps this round's values until each has read them.
static void meet(u32 value, u32 at, void *call) {
    brought[current] = value;
    place_of[current] = (u64)at << 32 | (u32)(u64)call;
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
float __mtl_simd_reduce(u32 at, u32 operation, float value) {
    meet(bits_of(value), at, __builtin_return_address(0));
    return float_of(fold(combined_floats, operation, end_lane(current / group.width), 0));
}
u32 __mtl_simd_reduce_bits(u32 at, u32 operation, u32 value) {
    meet(value, at, __builtin_return_address(0));
    return fold(combined, operation, end_lane(current / group.width), 0);
}
float __mtl_simd_prefix(u32 at, u32 operation, u32 inclusive, float value) {
    meet(bits_of(value), at, __builtin_return_address(0));
    return float_of(fold(combined_floats, operation, current + inclusive, bits_of(operation == PRODUCT)));
}
u32 __mtl_simd_prefix_bits(u32 at, u32 operation, u32 inclusive, u32 value) {
    meet(value, at, __builtin_return_address(0));
    return fold(combined, operation, current + inclusive, operation == PRODUCT);
}
u32 __mtl_simd_lane(u32 at, u32 value, u32 lane) {
    meet(value, at, __builtin_return_address(0));
    u32 thread = first_lane(current / group.width) + lane;
    if (lane < group.width && thread < group.threads && met(thread)) return shared[thread];
    lane_missed(lane);
    return value;
}
// The first active lane.
u32 __mtl_simd_first(u32 at) {
    meet(0, at, __builtin_return_address(0));
    u32 first = first_lane(current / group.width), i = first;
    while (!met(i)) i++;
    return i - first;
}
u32 __mtl_lane() { return current % group.width; }
u32 __mtl_simd_width() { return group.width; }
}

// A number in [-1, 1) that depends on the value's bits and the seed only: the same run gives the same noise.
static float noise_of(float value) {
    u32 bits;
    __builtin_memcpy(&bits, &value, 4);
    bits ^= noise_seed * 0x9e3779b9u;
    bits = (bits ^ bits >> 16) * 0x85ebca6bu;
    bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
    return (float)(int)(bits ^ bits >> 16) * 0x1p-31f;
}

// Moves a correctly rounded value by at most `ulps` units in the last place, its own half included.
extern "C" float __mtl_noise(float value, float ulps) {
    u32 bits;
    __builtin_memcpy(&bits, &value, 4);
    u32 exponent = bits >> 23 & 255;
    if (!noise_seed || exponent == 255 || exponent < 24) return value;
    u32 unit_bits = (exponent - 23) << 23;
    float unit;
    __builtin_memcpy(&unit, &unit_bits, 4);
    return value + noise_of(value) * (ulps - 1.0f) * unit;
}

extern "C" float __mtl_noise_absolute(float value, float bound) {
    return noise_seed ? value + noise_of(value) * bound : value;
}

extern "C" float __mtl_divide(float a, float b) {
    return __mtl_noise(a / b, a == 1.0f ? 1.0f : 2.5f);
}

extern "C" void *memset(void *to, int value, u64 count) {
    for (u64 i = 0; i < count; i++) {
        ((u8 *)to)[i] = (u8)value;
        asm volatile("");  // or the loop becomes a call of memset
    }
    return to;
}

extern "C" void *memcpy(void *to, const void *from, u64 count) {
    for (u64 i = 0; i < count; i++) {
        ((u8 *)to)[i] = ((const u8 *)from)[i];
        asm volatile("");
    }
    return to;
}
