"""BLAS on one thread while the model computes, so that the same input gives the same bits on any number of cores.

A matrix product that BLAS splits over threads may sum in another order. threadpoolctl reaches OpenBLAS, MKL and BLIS; Apple's
Accelerate has no such switch, so there the bits are those that Accelerate gives.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _SingleThread:
    """Most libraries have one setting for the process: the first caller in sets it, the last one out restores what the host had.
    OpenBLAS on OpenMP has one for each thread: every caller sets and restores its own.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.own = threading.local()
        self.of_process: Any = None
        self.of_thread: Any = None
        self.limiter: Any = None

    def enter(self) -> Any:
        with self.lock:
            if self.of_process is None:
                self._find_libraries()
            if self.depth == 0:
                self._take_control()
                self.limiter = self.of_process.limit(limits=1, user_api="blas")
            self.depth += 1
            self.own.depth = self._own_depth() + 1
        return self.of_thread.limit(limits=1, user_api="blas")

    def leave(self, own: Any) -> None:
        own.restore_original_limits()
        with self.lock:
            self.depth -= 1
            self.own.depth -= 1
            self._restore_if_unused()

    def forget_other_threads(self) -> None:
        """In the child of a fork, which has none of them: they will never leave. `lock` is held, as it was before the fork."""
        if self.depth:
            self.depth = self._own_depth()
            self._restore_if_unused()
        self.lock.release()

    def _own_depth(self) -> int:
        """Of the calling thread alone."""
        return getattr(self.own, "depth", 0)

    def _restore_if_unused(self) -> None:
        if self.depth == 0:
            self._take_control()
            self.limiter.restore_original_limits()
            self._take_control()

    def _find_libraries(self) -> None:
        """Once: it looks through all loaded libraries, which takes 10 ms."""
        from threadpoolctl import ThreadpoolController

        libraries = ThreadpoolController().select(user_api="blas")
        self.of_thread = libraries.select(internal_api="openblas").select(threading_layer="openmp")
        per_thread = {library.filepath for library in self.of_thread.lib_controllers}
        self.of_process = libraries.select(
            filepath=[x.filepath for x in libraries.lib_controllers if x.filepath not in per_thread]
        )

    def _take_control(self) -> None:
        """threadpoolctl 3.8 lets only the first thread that ever set OpenBLAS's number set it again, and ignores others: the last
        one out would restore nothing. Here the lock keeps callers apart, and afterwards anyone may take control again.
        """
        for library in self.of_process.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)


_single_thread = _SingleThread()
if hasattr(os, "register_at_fork"):
    # A child gets the lock as it is at that moment, and never the thread that holds it: so the one that forks takes it first.
    os.register_at_fork(
        before=lambda: _single_thread.lock.acquire(),
        after_in_parent=lambda: _single_thread.lock.release(),
        after_in_child=lambda: _single_thread.forget_other_threads(),
    )


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within this block NumPy's matrix products run on the calling thread alone. May be nested and used by several threads."""
    own = _single_thread.enter()
    try:
        yield
    finally:
        _single_thread.leave(own)
