"""What checked mode says about a fault."""

from enum import IntEnum
from typing import Any

from refsam.emulator.facts import Facts
from refsam.emulator.parse import Signature


class Fault(IntEnum):
    """runtime/checker.cpp has the same list."""

    CRASH = 0
    READ_OUTSIDE = 1
    WRITE_OUTSIDE = 2
    WRITE_WRITE_RACE = 3
    READ_AFTER_WRITE_RACE = 4
    WRITE_AFTER_READ_RACE = 5
    UNINITIALISED = 6
    MISALIGNED = 7
    BARRIER_MISSED = 8
    BARRIERS_DIFFER = 9
    STEP_LIMIT = 10
    BAD_INDEX = 11
    DIVISION = 12
    CAST_OVERFLOW = 13
    INTEGER_OVERFLOW = 14
    SIMD_BARRIER_MISSED = 15
    LANE_MISSED = 16


NOWHERE, BUFFER, THREADGROUP = range(3)


def described(kind: Fault, job: Any, signature: Signature, facts: Facts, threads: int, crash: str) -> str:
    """One line: where in the source, which kernel, group and thread, and what happened to which bytes."""
    column = f":{job.column}" if job.column else ""
    where = f"program_source:{job.line}{column}" if job.line else "program_source"
    who = f"kernel '{signature.name}', group {job.group}, thread {job.thread}"
    return f"{where}: error: {who}: {_what(kind, job, signature, facts, threads, crash)}"


def _what(kind: Fault, job: Any, signature: Signature, facts: Facts, threads: int, crash: str) -> str:
    place = _place(job, signature, facts)
    other = _other(job)
    line = f" (line {job.other_line})" if job.other_line else ""
    return {
        Fault.CRASH: f"the program that ran the kernel died ({crash}){_reason(crash)}",
        Fault.READ_OUTSIDE: f"reads {job.size} bytes out of bounds, {place}{_size(job)}",
        Fault.WRITE_OUTSIDE: f"writes {job.size} bytes out of bounds, {place}{_size(job)}",
        Fault.WRITE_WRITE_RACE: f"data race: writes {place}, which {other} wrote{line} with no barrier between",
        Fault.READ_AFTER_WRITE_RACE: f"data race: reads {place}, which {other} wrote{line} with no barrier between",
        Fault.WRITE_AFTER_READ_RACE: f"data race: writes {place}, which {other} read{line} with no barrier between",
        Fault.UNINITIALISED: f"reads uninitialised {place}: no thread of the group has written it",
        Fault.MISALIGNED: f"misaligned access of {job.size} bytes, {place}: the type needs a multiple of {job.value}",
        Fault.BARRIER_MISSED: f"barrier not reached by all: {job.value} of {threads} threads wait here, {other} has returned",
        Fault.BARRIERS_DIFFER: f"divergent barriers: this thread waits here, {other} {_elsewhere(job)}",
        Fault.STEP_LIMIT: "the dispatch takes more turns of loops than step_limit allows; an endless loop?",
        Fault.BAD_INDEX: f"array index {_signed(job.value)} out of bounds",
        Fault.DIVISION: "integer division by zero" if not job.value else "integer division overflows",
        Fault.CAST_OVERFLOW: "the floating-point value does not fit the integer type that it is converted to",
        Fault.INTEGER_OVERFLOW: "signed integer overflow",
        Fault.SIMD_BARRIER_MISSED: f"divergent simdgroup_barrier: {job.value} lanes wait here, {other} does not",
        Fault.LANE_MISSED: f"reads the value of lane {job.other_thread} of its SIMD-group, which does not take part here",
    }[kind]


def _reason(crash: str) -> str:
    return "; private arrays larger than its stack do that" if crash == "SIGSEGV" else ""


def _elsewhere(job: Any) -> str:
    """Where the other thread waits; two barriers may be in one line, and one may be reached by two calls of its function."""
    return f"at line {job.other_line}" if job.other_line != job.line else "at another barrier of this line, or by another call"


def _place(job: Any, signature: Signature, facts: Facts) -> str:
    if job.place == BUFFER:
        argument = signature.buffers().get(job.slot)
        name = f" `{argument.name}`" if argument else ""
        return f"byte {job.offset} of buffer {job.slot}{name}"
    if job.place == THREADGROUP:
        return f"byte {job.offset} of threadgroup variable `{facts.variables[job.slot]}`"
    return f"address {job.offset:#x}, which is in no buffer"


def _size(job: Any) -> str:
    return f" ({job.value} bytes long)" if job.place != NOWHERE else ""


def _other(job: Any) -> str:
    thread = f"thread {job.other_thread}"
    return thread if job.other_group == job.group else f"{thread} of group {job.other_group}"


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
