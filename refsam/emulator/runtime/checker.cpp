// Checked mode: linked with an instrumented kernel file into a program of its own, which runs one dispatch.
//
// instrument.py puts a call of __mtl_access before every load and store, of __mtl_step at every turn of a loop, of __mtl_at
// before every call of a library function, of __mtl_divides and __mtl_fits before arithmetic of vectors; clang's sanitizers call
// the __ubsan_handle_... functions. The first fault is written into the job, which Python shares as standard input, and ends the
// program. No library: system calls only.
#include "fibers.h"

enum Fault : u32 {
    NONE, READ_OUTSIDE, WRITE_OUTSIDE, WRITE_WRITE_RACE, READ_AFTER_WRITE_RACE, WRITE_AFTER_READ_RACE, UNINITIALISED, MISALIGNED,
    BARRIER_MISSED, BARRIERS_DIFFER, STEP_LIMIT, BAD_INDEX, DIVISION, CAST_OVERFLOW, INTEGER_OVERFLOW, SIMD_BARRIER_MISSED, LANE_MISSED,
};
enum Place : u32 { NOWHERE, BUFFER, THREADGROUP };
enum Flags : u32 { FLUSH = 2 };
enum How : u32 { WRITE = 1, ANY_CONTENT = 2, ATOMIC = 4 };
static const u64 STACK = 256 * 1024, RED_ZONE = 8192;  // the zone is that of ir.py

struct Segment { u64 offset, length; };

// Python fills in the first part and reads the second (checker.py).
struct Job {
    u64 bytes, steps;
    u32 groups, kernel, threads, width, seed, noise, flags, buffers, granule, reserved;
    Segment segments[31];

    u32 finished, fault, group, thread, line, other_group, other_thread, other_line, place, slot, size, column;
    long offset;
    u64 value;
    u32 order[];
};

struct Variable { u64 address, size; };
extern "C" const Variable __mtl_variables[];
extern "C" const u32 __mtl_variable_count;
extern "C" u8 __ehdr_start __attribute__((visibility("hidden")));
extern "C" u8 _end __attribute__((visibility("hidden")));

#include "system.h"

// What is remembered of the accesses to a few bytes: the last writer, up to two readers since that no barrier has ordered,
// and one reader of another group. Threads are numbered from 1 in the whole grid.
struct Access { u32 thread, phase, simd_phase, line : 31, atomic : 1; };
struct Cell { Access writer, reader, second, foreign; };

// Barriers order memory of the kinds that their mem_flags name: one clock each.
struct Clock { u32 phase, simd_phase[MAX_THREADS]; };
enum Memory { DEVICE_MEMORY, THREADGROUP_MEMORY };

static Job *job;
static u32 line_of[MAX_THREADS], barrier_flags;
static Clock clocks[2];
static Cell *buffer_cells[31], *threadgroup_cells;
static u64 stacks_begin, stacks_end;

// Buffers lie a terabyte apart, each in the middle of its own: an index that is wrong by any 32-bit amount still names its buffer.
static u64 window(u32 buffer) { return (buffer + 16ul) << 40 | 1ul << 39; }

static u32 number_of(u32 thread) { return group.index * group.threads + thread + 1; }

static void remember(u32 line) {
    if (line) line_of[current] = line;
    job->group = group.index;
    job->thread = current;
    job->line = line_of[current];
}

[[noreturn]] static void fault(Fault kind, u64 value = 0) {
    job->fault = kind;
    job->value = value;
    leave(0);
}

static void other(u32 group_index, u32 thread, u32 line) {
    job->other_group = group_index;
    job->other_thread = thread;
    job->other_line = line;
}

[[noreturn]] static void race(Fault kind, const Access &with) {
    other((with.thread - 1) / group.threads, (with.thread - 1) % group.threads, with.line);
    fault(kind);
}

// Whether an earlier access and one of the running thread are in an order: same thread, both atomic, or a barrier between them.
static bool ordered(const Access &earlier, Memory kind, u32 how) {
    if (!earlier.thread || (earlier.atomic && how & ATOMIC)) return true;
    u32 thread = (earlier.thread - 1) % group.threads;
    if ((earlier.thread - 1) / group.threads != group.index) return kind == THREADGROUP_MEMORY;
    if (thread == current || earlier.phase != clocks[kind].phase) return true;
    return thread / group.width == current / group.width && earlier.simd_phase != clocks[kind].simd_phase[current / group.width];
}

static void check_cell(Cell &cell, Memory kind, u32 how, u32 line) {
    Access now = {number_of(current), clocks[kind].phase, clocks[kind].simd_phase[current / group.width], line, !!(how & ATOMIC)};
    if (!ordered(cell.writer, kind, how)) race(how & WRITE ? WRITE_WRITE_RACE : READ_AFTER_WRITE_RACE, cell.writer);
    if (how & WRITE) {
        if (!ordered(cell.reader, kind, how)) race(WRITE_AFTER_READ_RACE, cell.reader);
        if (!ordered(cell.second, kind, how)) race(WRITE_AFTER_READ_RACE, cell.second);
        if (!ordered(cell.foreign, kind, how)) race(WRITE_AFTER_READ_RACE, cell.foreign);
        cell.writer = now;
        return;
    }
    bool written = cell.writer.thread && (cell.writer.thread - 1) / group.threads == group.index;
    if (kind == THREADGROUP_MEMORY && !written && !(how & ANY_CONTENT)) fault(UNINITIALISED);
    if (cell.reader.thread && (cell.reader.thread - 1) / group.threads != group.index) cell.foreign = cell.reader, cell.reader = now;
    else if (ordered(cell.reader, kind, how)) cell.reader = now;
    else cell.second = now;
}

static void check_cells(Cell *cells, u64 offset, u32 size, Memory kind, u32 how, u32 line) {
    for (u64 i = offset / job->granule; i <= (offset + size - 1) / job->granule; i++) check_cell(cells[i], kind, how, line);
}

static void place(Place kind, u32 slot, u64 offset, u32 size) {
    job->place = kind;
    job->slot = slot;
    job->offset = (long)offset;
    job->size = size;
}

static void check_threadgroup(u64 address, u32 size, u32 how, u32 line) {
    u32 nearest = 0;
    while (nearest + 1 < __mtl_variable_count && address >= __mtl_variables[nearest + 1].address - RED_ZONE / 2) nearest++;
    const Variable &variable = __mtl_variables[nearest];
    u64 offset = address - variable.address;  // beyond the size where it lies before the variable
    place(THREADGROUP, nearest, offset, size);
    if (offset > variable.size || offset + size > variable.size) fault(how & WRITE ? WRITE_OUTSIDE : READ_OUTSIDE, variable.size);
    check_cells(threadgroup_cells, address - (u64)&__start_tgmem, size, THREADGROUP_MEMORY, how, line);
}

static void check_buffer(u32 slot, u64 address, u32 size, u32 how, u32 line) {
    u64 offset = address - window(slot);
    place(BUFFER, slot, offset, size);
    u64 length = job->segments[slot].length;
    if (offset > length || offset + size > length) fault(how & WRITE ? WRITE_OUTSIDE : READ_OUTSIDE, length);
    check_cells(buffer_cells[slot], offset, size, DEVICE_MEMORY, how, line);
}

extern "C" void __mtl_access(u64 address, u32 size, u32 how, u32 alignment, u32 line) {
    remember(line);
    line = line_of[current];
    if (address >= stacks_begin && address < stacks_end) return;
    bool in_threadgroup = &__start_tgmem && address >= (u64)&__start_tgmem && address < (u64)&__stop_tgmem;
    u64 slot = (address >> 40) - 16;
    if (in_threadgroup) check_threadgroup(address, size, how, line);
    else if (slot < job->buffers) check_buffer((u32)slot, address, size, how, line);
    else if (address < (u64)&__ehdr_start || address >= (u64)&_end || how & WRITE) {
        place(NOWHERE, 0, address, size);
        fault(how & WRITE ? WRITE_OUTSIDE : READ_OUTSIDE);
    }
    if (address % alignment) fault(MISALIGNED, alignment);
}

extern "C" void __mtl_at(u32 line) { remember(line); }

extern "C" void __mtl_step(u32 line) {
    remember(line);
    if (!job->steps--) fault(STEP_LIMIT);
}

static void advance(u32 flags, u32 first_simdgroup, u32 end_simdgroup, bool whole_group) {
    for (u32 kind = 0; kind < 2; kind++) {
        if (!(flags >> kind & 1)) continue;
        if (whole_group) clocks[kind].phase++;
        for (u32 s = first_simdgroup; s < end_simdgroup; s++) clocks[kind].simd_phase[s]++;
    }
}

static u32 first_in(State state) {
    u32 i = 0;
    while (i < group.threads && state_of[i] != state) i++;
    return i;
}

static void barrier_reached(u32 waiting) {
    u32 first = first_in(AT_BARRIER);
    job->group = group.index;
    job->thread = first;
    job->line = site_of[first];
    if (waiting != group.threads) {
        other(group.index, first_in(DONE), 0);
        fault(BARRIER_MISSED, waiting);
    }
    for (u32 i = 0; i < group.threads; i++) {
        if (!compare_places(i, first)) continue;
        other(group.index, i, site_of[i]);
        fault(BARRIERS_DIFFER);
    }
    advance(barrier_flags, 0, group.simdgroups, true);
}

static u8 at_simd_barrier[MAX_THREADS];

// simd_sum and the like work on the active lanes; simdgroup_barrier has to be reached by all.
static void simd_met(u32 simdgroup) {
    u32 begin = first_lane(simdgroup), end = end_lane(simdgroup), waiting = 0, absent = begin;
    for (u32 i = begin; i < end; i++) {
        if (at_simd_barrier[i] && state_of[i] == READY && round_of[i] == rounds) waiting++, job->thread = i;
        else absent = i;
    }
    if (!waiting) return;
    job->group = group.index;
    job->line = site_of[job->thread];
    if (waiting != end - begin) {
        other(group.index, absent, site_of[absent]);
        fault(SIMD_BARRIER_MISSED, waiting);
    }
    for (u32 i = begin; i < end; i++) at_simd_barrier[i] = 0;
    advance(barrier_flags, simdgroup, simdgroup + 1, false);
}

static void lane_missed(u32 lane) {
    remember(0);
    other(group.index, lane, 0);
    fault(LANE_MISSED);
}

extern "C" void __mtl_barrier(u32 memory) {
    barrier_flags = memory;
    site_of[current] = line_of[current];
    wait_as(AT_BARRIER);
}

extern "C" void __mtl_simd_barrier(u32 memory) {
    barrier_flags = memory;
    site_of[current] = line_of[current];
    at_simd_barrier[current] = 1;
    meet(0);
}

// A component of a vector of integers of so many bits, 0 where they are unsigned.
extern "C" void __mtl_divides(long dividend, long divisor, u32 bits, u32 line) {
    remember(line);
    if (!divisor || (bits && divisor == -1 && dividend == (long)(~0ul << (bits - 1)))) fault(DIVISION, (u64)divisor);
}

// NaN fits nowhere: every comparison with it is false.
extern "C" void __mtl_fits(float value, u32 bits, u32 is_signed, u32 line) {
    remember(line);
    double half = (double)(1ul << (bits - 1)), x = value;
    bool fits = !is_signed ? x > -1.0 && x < 2 * half : (bits == 64 ? x >= -half : x > -half - 1.0) && x < half;
    if (!fits) fault(CAST_OVERFLOW);
}

#include "undefined.h"

static u64 addresses[31];

static void map_job() {
    u64 header = map(0, PAGE, READ_WRITE, SHARED, 0, 0);
    job = (Job *)map(0, ((Job *)header)->bytes, READ_WRITE, SHARED, 0, 0);
    for (u32 i = 0; i < job->buffers; i++) {
        const Segment &segment = job->segments[i];
        addresses[i] = map(window(i), segment.length, READ_WRITE, SHARED | FIXED, 0, segment.offset);
        buffer_cells[i] = (Cell *)anonymous((segment.length / job->granule + 1) * sizeof(Cell));
    }
    if (&__start_tgmem) threadgroup_cells = (Cell *)anonymous((u64)(&__stop_tgmem - &__start_tgmem) * sizeof(Cell));
}

// Every stack ends at a page that nobody may touch.
static void map_stacks() {
    u64 length = job->threads * STACK;
    stacks_begin = map(0, length, NO_ACCESS, PRIVATE | ANONYMOUS | NO_RESERVE, -1, 0);
    stacks_end = stacks_begin + length;
    for (u64 stack = stacks_begin; stack < stacks_end; stack += STACK)
        map(stack + PAGE, STACK - PAGE, READ_WRITE, PRIVATE | ANONYMOUS | NO_RESERVE | FIXED, -1, 0);
}

enum { DEATH_SIGNAL = 1, KILL = 9 };

extern "C" void __mtl_main() {
    system_call(PRCTL, DEATH_SIGNAL, KILL, 0, 0, 0, 0);  // no endless loop outlives the Python that waits for it
    map_job();
    map_stacks();
    group.buffers = addresses;
    group.count = job->groups;
    kernel_index = job->kernel;
    random_state = job->seed;
    noise_seed = job->noise;
    if (job->flags & FLUSH) set_float_mode(float_mode() | FLUSH_DENORMALS);
    for (u32 i = 0; i < job->groups; i++) {
        start_group(job->order[i], job->threads, job->width);
        advance(3, 0, group.simdgroups, true);
        for (const Variable *v = __mtl_variables; v < __mtl_variables + __mtl_variable_count; v++)
            __builtin_memset((void *)v->address, 0xff, v->size);
        run_fibers((u8 *)stacks_begin, STACK);
    }
    job->finished = 1;
    leave(0);
}
