"""A pool of threads that share the tasks of a step. NumPy gives up Python's lock inside its loops, so threads do compute at once.

Results do not depend on the number of threads because tasks do not: which thread runs a task is chance, what it computes is not.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol

import numpy as np

from refsam.backends.fast import layout, scratch
from refsam.backends.fast.scratch import Scratch
from refsam.blas import one_blas_thread
from refsam.threads import thread_count
from refsam.types import Array, Float

P = ParamSpec("P")


class Workers:
    """The caller's thread and `threads - 1` others. Several threads may call `map` at the same time."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count(threads)
        self._start_pool()
        _all.add(self)

    def _start_pool(self) -> None:
        """Its threads start as they are needed."""
        self._pool = ThreadPoolExecutor(self.threads - 1, "refsam") if self.threads > 1 else None

    def __reduce__(self) -> tuple[Callable[[int], "Workers"], tuple[int]]:
        """A copy, in this process or another one, has threads of its own, as many."""
        return type(self), (self.threads,)

    def map(self, task: Callable[Concatenate[Scratch, P], None], arguments: Sequence[tuple[object, ...]]) -> None:
        """Call `task(scratch, *each)` for each of the arguments, in any order and on any of the threads, and wait for all.

        An exception stops the rest, and is raised here when no task is running any more; but not one that interrupts this thread
        (Ctrl-C, an alarm) while it waits for the others.
        """
        queue = _Queue(arguments)
        try:
            errors = self._share(task, queue, min(self.threads, len(arguments)) - 1)
        except BaseException:
            # Where it was an interrupt, tasks may still write to what this thread took.
            queue.stop()
            scratch.of_thread().leave_block()
            raise
        if errors:
            raise errors[0]

    def _share(self, task: Callable[..., None], queue: "_Queue", helpers: int) -> list[BaseException]:
        """Do the tasks on this thread and `helpers` others; the errors of these."""
        futures = self._ask_pool(task, queue, helpers)
        try:
            work(task, queue)
        finally:
            queue.stop()
            # One that never began has nothing to do any more. Waiting for it would be waiting for ever where the pool's threads
            # are busy with a caller of their own.
            running = [future for future in futures if not future.cancel()]
            errors = [error for future in running if (error := future.exception()) is not None]
        return errors

    def _ask_pool(self, task: Callable[..., None], queue: "_Queue", helpers: int) -> list[Future[None]]:
        """For the help of so many threads; none helps any more where the main thread has ended, and others live on."""
        asked: list[Future[None]] = []
        try:
            while self._pool and len(asked) < helpers:
                asked.append(self._pool.submit(_help, np.geterr(), task, queue))
        except RuntimeError as error:
            if "cannot schedule new futures" not in str(error):  # but that the system starts no more threads
                raise
        return asked

    def empty(self, *shape: int) -> Float[Array, "*N"]:
        """Uninitialised float32 for the results of tasks."""
        return layout.empty(*shape)

    def framed(self, batch: int, height: int, width: int, channels: int) -> Float[Array, "B H+2 W+2 C"]:
        """The same for maps, with a pixel of zeros around each."""
        padded = self.empty(batch, height + 2, width + 2, channels)
        padded[:, [0, -1]] = 0
        padded[:, :, [0, -1]] = 0
        return padded

    def seen(self, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """An array with these numbers that tasks can read, wherever they run: `x` itself, for threads."""
        return x

    @contextmanager
    def sharing(self) -> Iterator[bool]:
        """Whether `empty` gives, within this block, memory that is wanted back: what outlives the block has to be copied."""
        yield False


_all: weakref.WeakSet[Workers] = weakref.WeakSet()


def _start_pools() -> None:
    """In the child of a fork, where the threads of all pools are lost."""
    for workers in _all:
        workers._start_pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_pools)


class Queue(Protocol):
    """Hands out each task once, to all that iterate over it together."""

    def __iter__(self) -> Iterator[tuple[object, ...]]: ...

    def stop(self) -> None:
        """Hand out nothing more."""


class _Queue:
    """For threads."""

    def __init__(self, arguments: Sequence[tuple[object, ...]]) -> None:
        self._lock = threading.Lock()
        self._rest = iter(arguments)

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        while True:
            with self._lock:
                found = next(self._rest, None)
            if found is None:
                return
            yield found

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._rest = iter(())


def _help(errors: Mapping[str, Any], task: Callable[..., None], queue: Queue) -> None:
    """`work` on a thread of the pool, with the caller's settings of what numbers' errors are warned of: it has others."""
    with np.errstate(**errors):
        work(task, queue)


def work(task: Callable[..., None], queue: Queue) -> None:
    """Do the tasks that the queue hands out to this thread. An exception stops the queue."""
    mine = scratch.of_thread()
    try:
        with one_blas_thread(), np.errstate(under="ignore"):  # each thread has settings of its own
            for arguments in queue:
                with mine.frame():
                    task(mine, *arguments)
    except BaseException:
        queue.stop()
        raise
