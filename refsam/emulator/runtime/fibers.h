// Runs the threads of one threadgroup as fibers on one CPU thread: a barrier switches to the next thread.
// Freestanding: no header, no library. Included once by library.cpp (fast mode) and once by checker.cpp (checked mode),
// which define the two hooks.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

enum { MAX_THREADS = 1024, MAX_CALLS = 16 };
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
void __mtl_simd_barrier(u32 memory);
float __mtl_simd_reduce(u32 operation, float value);
u32 __mtl_simd_reduce_bits(u32 operation, u32 value);
float __mtl_simd_prefix(u32 operation, u32 inclusive, float value);
u32 __mtl_simd_prefix_bits(u32 operation, u32 inclusive, u32 value);
u32 __mtl_simd_lane(u32 value, u32 lane);
u32 __mtl_simd_first();
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

#include "switch.h"

static Group group;
static u32 kernel_index, current, simd_position, random_state, noise_seed;
static void *scheduler_stack, *stack_of[MAX_THREADS];
static State state_of[MAX_THREADS];
static u32 site_of[MAX_THREADS];   // source line a thread waits at; 0 where lines are not known
static u32 calls_of[MAX_THREADS][MAX_CALLS], depth_of[MAX_THREADS];  // those by which a thread has come to where it waits
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

// ir.with_paths puts these around every call in which a thread may wait; calls have the numbers of their order in the source.
extern "C" void __mtl_into(u32 call) {
    u32 depth = depth_of[current]++;
    if (depth < MAX_CALLS) calls_of[current][depth] = call;
}
extern "C" void __mtl_out_of() {
    u32 depth = --depth_of[current];
    if (depth < MAX_CALLS) calls_of[current][depth] = 0;
}

// Below 0 where one thread waits at a place before another's in the source, 0 where at the same one.
static int compare_places(u32 a, u32 b) {
    for (u32 i = 0; i < MAX_CALLS && (calls_of[a][i] || calls_of[b][i]); i++)
        if (calls_of[a][i] != calls_of[b][i]) return calls_of[a][i] < calls_of[b][i] ? -1 : 1;
    return 0;
}

// Lets lanes that wait at one call of a SIMD function go on together. False where none waits. The call that comes first in the
// source goes first, so that lanes in a branch or a loop catch up with those behind it.
static bool release_simd(u32 simdgroup) {
    u32 begin = first_lane(simdgroup), end = end_lane(simdgroup), first = end;
    for (u32 i = begin; i < end; i++)
        if (state_of[i] == AT_SIMD && (first == end || compare_places(i, first) < 0)) first = i;
    if (first == end) return false;
    rounds++;
    for (u32 i = begin; i < end; i++)
        if (state_of[i] == AT_SIMD && !compare_places(i, first)) state_of[i] = READY, round_of[i] = rounds, shared[i] = brought[i];
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

#include "simd.h"
#include "noise.h"
#include "half.h"

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
