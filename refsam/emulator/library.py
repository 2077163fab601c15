"""Fast mode: a compiled file is loaded into this process, once for each worker thread."""

import _ctypes
import ctypes
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache as cached
from pathlib import Path

from refsam.emulator import cache
from refsam.emulator.buffer import Buffer, guarded
from refsam.emulator.build import Compiled
from refsam.emulator.error import error
from refsam.emulator.options import GROUP_LIMIT, Options
from refsam.emulator.parse import MAX_BUFFERS
from refsam.emulator.plan import Plan
from refsam.types import Array, Int

STACK = 64 * 1024
"""Bytes for each thread of a group."""
FIBERS, FLUSH = 1, 2


class Launch(ctypes.Structure):
    """runtime/library.cpp reads it."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("buffers", "order", "next", "stacks")),
        ("stack_bytes", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("groups", "chunk", "kernel", "threads", "width", "seed", "noise", "flags")),
        *((name, ctypes.c_uint32) for name in ("stop", "diverged_group", "diverged_waiting")),
    )
    memory: tuple[object, ...]
    """What the addresses point to: a worker that an interrupted caller has left may still be at it."""


class Library:
    """All kernels of one file, ready to run."""

    def __init__(self, compiled: Compiled, options: Options) -> None:
        self._options = options
        self._copies = [_load(compiled.path, self) for _ in range(options.workers)]
        self._stacks: list[tuple[memoryview, int]] = []
        self._lock = threading.Lock()
        self._working: list[Future[None]] = []

    def run(self, plan: Plan, buffers: Sequence[Buffer]) -> None:
        """Run all groups; returns when they are done. One run at a time: a copy has one threadgroup memory."""
        with self._lock:
            wait(self._working)  # none, but after an interrupted run
            self._run(plan, buffers)

    def _run(self, plan: Plan, buffers: Sequence[Buffer]) -> None:
        addresses = (ctypes.c_uint64 * MAX_BUFFERS)(*[buffer.address for buffer in buffers])
        order = plan.order(self._options.seed)
        taken = ctypes.c_uint32(0)
        workers = min(self._options.workers, plan.groups)
        jobs = [self._job(plan, addresses, order, taken, worker, workers) for worker in range(workers)]
        for job in jobs:
            job.memory = (self, addresses, order, taken, *buffers)
        try:
            self._do(jobs)
        except BaseException:  # Ctrl-C reaches this thread, not the workers
            for job in jobs:
                job.stop = 1
            wait(self._working)
            raise
        for job in jobs:
            if job.diverged_group:
                raise error(
                    f"{plan.kernel}: group {job.diverged_group - 1}: {job.diverged_waiting} of {plan.threads} threads wait at "
                    "a barrier that the others never reach"
                )

    def _do(self, jobs: Sequence[Launch]) -> None:
        """Each job on a worker; a single one here."""
        if len(jobs) == 1:
            self._copies[0](ctypes.byref(jobs[0]))
            return
        self._working = []
        for copy, job in zip(self._copies, jobs, strict=False):
            self._working.append(_pool(self._options.workers).submit(copy, ctypes.byref(job)))
        for working in self._working:
            working.result()

    def _job(
        self,
        plan: Plan,
        addresses: "ctypes.Array[ctypes.c_uint64]",
        order: Int[Array, "groups"] | None,
        taken: ctypes.c_uint32,
        worker: int,
        workers: int,
    ) -> Launch:
        options = self._options
        return Launch(
            buffers=ctypes.addressof(addresses),
            order=None if order is None else order.ctypes.data,
            next=ctypes.addressof(taken),
            stacks=self._stack(worker) if plan.waits else None,
            stack_bytes=STACK,
            groups=plan.groups,
            chunk=max(1, min(plan.groups // (workers * 8), (2**32 - plan.groups) // workers)),
            kernel=plan.number,
            threads=plan.threads,
            width=options.simd_width,
            seed=options.seed,
            noise=options.noise,
            flags=(FIBERS if plan.waits else 0) | (FLUSH if options.flush_denormals else 0),
        )

    def _stack(self, worker: int) -> int:
        """Address of the stacks of a worker's threads; memory that no thread touches costs nothing."""
        while len(self._stacks) <= worker:
            self._stacks.append(guarded(STACK * GROUP_LIMIT))
        return self._stacks[worker][1]


def _load(path: Path, owner: Library) -> Callable[..., None]:
    """A copy of the library with variables of its own, unloaded with its owner: the loader tells files by name and inode.

    Raises InputError where the folder takes no copy, or nothing can be loaded from there.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".copy-", suffix=".so") as copy:
            copy.write(path.read_bytes())
            copy.flush()
            loaded = ctypes.CDLL(copy.name)
    except OSError as reason:
        raise cache.unusable(f"cannot load kernels from the cache folder {path.parent}", reason) from reason
    weakref.finalize(owner, _ctypes.dlclose, loaded._handle)
    run: Callable[..., None] = loaded["__mtl_run"]
    run.restype = None  # type: ignore[attr-defined]
    return run


@cached
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="refsam-emulator")


if hasattr(os, "register_at_fork"):  # a pool's threads stay in the parent: the child would wait for ever
    os.register_at_fork(after_in_child=_pool.cache_clear)
