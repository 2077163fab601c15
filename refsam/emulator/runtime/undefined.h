// Part of checker.cpp: what clang's sanitizers call when arithmetic or an index is undefined.
#pragma once

struct Location { const char *file; u32 line, column; };

[[noreturn]] static void undefined(Fault kind, const Location *where, u64 value) {
    remember(0);
    if (__builtin_strncmp(where->file, "program_source", 14) == 0) job->line = where->line, job->column = where->column;
    fault(kind, value);
}

extern "C" {
void __ubsan_handle_out_of_bounds_abort(Location *at, u64 index) { undefined(BAD_INDEX, at, index); }
void __ubsan_handle_divrem_overflow_abort(Location *at, u64, u64 divisor) { undefined(DIVISION, at, divisor); }
void __ubsan_handle_float_cast_overflow_abort(Location *at, u64) { undefined(CAST_OVERFLOW, at, 0); }
void __ubsan_handle_add_overflow_abort(Location *at, u64, u64) { undefined(INTEGER_OVERFLOW, at, 0); }
void __ubsan_handle_sub_overflow_abort(Location *at, u64, u64) { undefined(INTEGER_OVERFLOW, at, 0); }
void __ubsan_handle_mul_overflow_abort(Location *at, u64, u64) { undefined(INTEGER_OVERFLOW, at, 0); }
void __ubsan_handle_negate_overflow_abort(Location *at, u64) { undefined(INTEGER_OVERFLOW, at, 0); }

int strncmp(const char *a, const char *b, u64 count) {
    for (u64 i = 0; i < count; i++)
        if (a[i] != b[i] || !a[i]) return a[i] - b[i];
    return 0;
}
}
