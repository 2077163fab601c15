"""Checked mode: each dispatch runs in a program of its own, which stops at the first fault and says what it was.

Whatever a kernel does, Python lives on: the program shares one file with it, the job, and nothing else.
"""

import ctypes
import mmap
import os
import signal
import subprocess
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from refsam.emulator import cache
from refsam.emulator.buffer import Buffer
from refsam.emulator.build import Compiled
from refsam.emulator.error import error
from refsam.emulator.faults import Fault, described
from refsam.emulator.options import Options
from refsam.emulator.parse import MAX_BUFFERS
from refsam.emulator.plan import Plan


class Segment(ctypes.Structure):
    """Where a buffer lies in the file."""

    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class Job(ctypes.Structure):
    """runtime/checker.cpp reads the first part and writes the second."""

    _fields_ = (
        ("bytes", ctypes.c_uint64),
        ("steps", ctypes.c_uint64),
        *((n, ctypes.c_uint32) for n in ("groups", "kernel", "threads", "width", "seed", "noise", "flags", "buffers", "granule")),
        ("reserved", ctypes.c_uint32),
        ("segments", Segment * MAX_BUFFERS),
        *((n, ctypes.c_uint32) for n in ("finished", "fault", "group", "thread", "line")),
        *((n, ctypes.c_uint32) for n in ("other_group", "other_thread", "other_line", "place", "slot", "size", "column")),
        ("offset", ctypes.c_int64),
        ("value", ctypes.c_uint64),
    )


class Flag(IntEnum):
    """Bits of Job.flags."""

    FLUSH = 2


class Checker:
    """All kernels of one file, ready to be run with checks."""

    def __init__(self, compiled: Compiled, options: Options) -> None:
        self._compiled = compiled
        self._options = options

    def run(self, plan: Plan, buffers: Sequence[Buffer]) -> None:
        """Run all groups. Buffers change only where no fault was found.

        Raises error describing the first fault.
        """
        descriptor = os.memfd_create("refsam-job")
        try:
            job, segments, shared = self._job(descriptor, plan, buffers)
            code = _execute(self._compiled.path, descriptor)
            if job.fault or not job.finished:
                raise error(self._fault(plan, job, code))
            for buffer, segment in zip(buffers, segments, strict=True):
                ctypes.memmove(buffer.address, shared + segment, buffer.length)
        finally:
            os.close(descriptor)

    def _job(self, descriptor: int, plan: Plan, buffers: Sequence[Buffer]) -> tuple[Job, list[int], int]:
        """The file: the job, the order of the groups, the buffers' bytes. Its address here, and where the buffers are in it."""
        options = self._options
        head = ctypes.sizeof(Job) + 4 * plan.groups
        offsets, end = [], _pages(head)
        for buffer in buffers:
            offsets.append(end)
            end += _pages(buffer.length)
        os.ftruncate(descriptor, end)
        mapping = mmap.mmap(descriptor, end)
        job = Job.from_buffer(mapping)
        shared = ctypes.addressof(job)
        job.bytes, job.steps = head, options.step_limit
        job.groups, job.kernel, job.threads, job.width = plan.groups, plan.number, plan.threads, options.simd_width
        job.seed, job.noise, job.buffers, job.granule = options.seed, options.noise, len(buffers), self._compiled.facts.granule
        job.flags = Flag.FLUSH if options.flush_denormals else 0
        order = (ctypes.c_uint32 * plan.groups).from_buffer(mapping, ctypes.sizeof(Job))
        shuffled = plan.order(options.seed)
        order[:] = list(range(plan.groups)) if shuffled is None else shuffled.tolist()
        for slot, (buffer, offset) in enumerate(zip(buffers, offsets, strict=True)):
            job.segments[slot] = Segment(offset, buffer.length)
            ctypes.memmove(shared + offset, buffer.address, buffer.length)
        return job, offsets, shared

    def _fault(self, plan: Plan, job: Job, code: int) -> str:
        kind = Fault(job.fault) if job.fault else Fault.CRASH
        crash = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        signature = next(s for s in self._compiled.signatures if s.name == plan.kernel)
        return described(kind, job, signature, self._compiled.facts, plan.threads, crash)


def _execute(program: Path, descriptor: int) -> int:
    """Its exit code; negative: the signal that ended it. Raises InputError where it cannot be run from its folder."""
    quiet = subprocess.DEVNULL
    try:
        return subprocess.run([program], stdin=descriptor, stdout=quiet, stderr=quiet, env={}, check=False).returncode
    except OSError as reason:
        raise cache.unusable(f"cannot run kernels from the cache folder {program.parent}", reason) from reason


def _pages(length: int) -> int:
    return -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
