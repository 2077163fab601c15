// Fast mode: linked with a kernel file into a shared library; each worker thread of Python loads a copy of its own.
#include "fibers.h"

enum Flags : u32 { FIBERS = 1, FLUSH = 2 };

// Python fills this in (library.py).
struct Launch {
    const u64 *buffers;
    const u32 *order;  // which group comes when; null: 0, 1, 2 ...
    u32 *next;         // shared by the workers: groups taken so far
    u8 *stacks;
    u64 stack_bytes;
    u32 groups, chunk, kernel, threads, width, seed, noise, flags;
    u32 stop;  // Python sets it while we run, where somebody presses Ctrl-C
    u32 diverged_group, diverged_waiting;  // results: group + 1 in which some threads missed a barrier
};

static Launch *launch;

static void barrier_reached(u32 waiting) {
    if (waiting == group.threads || launch->diverged_group) return;
    launch->diverged_group = group.index + 1;
    launch->diverged_waiting = waiting;
}

static void simd_met(u32) {}
static void lane_missed(u32) {}

extern "C" void __mtl_barrier(u32) { wait_as(AT_BARRIER); }
extern "C" void __mtl_simd_barrier(u32) { meet(0); }

// What nobody has written reads as NaN: a kernel that relies on zeros is seen.
static void poison_threadgroup_memory() {
    if (&__start_tgmem) __builtin_memset(&__start_tgmem, 0xff, (u64)(&__stop_tgmem - &__start_tgmem));
}

static void run_group(u32 index) {
    start_group(index, launch->threads, launch->width);
    poison_threadgroup_memory();
    if (launch->flags & FIBERS) run_fibers(launch->stacks, launch->stack_bytes);
    else __mtl_enter(&group, kernel_index, 0, group.threads);
}

extern "C" void __mtl_run(Launch *job) {
    launch = job;
    group.buffers = job->buffers;
    group.count = job->groups;
    kernel_index = job->kernel;
    random_state = job->seed;
    noise_seed = job->noise;
    u64 mode = float_mode();
    set_float_mode(job->flags & FLUSH ? mode | FLUSH_DENORMALS : mode & ~FLUSH_DENORMALS);
    auto stopped = [job] { return __atomic_load_n(&job->stop, __ATOMIC_RELAXED); };
    while (!stopped()) {
        u32 begin = __atomic_fetch_add(job->next, job->chunk, __ATOMIC_RELAXED);
        if (begin >= job->groups) break;
        u32 end = begin + job->chunk < job->groups ? begin + job->chunk : job->groups;
        for (u32 i = begin; i < end && !stopped(); i++) run_group(job->order ? job->order[i] : i);
    }
    set_float_mode(mode);
}
