"""BLAS on one thread while the model computes, so that the same input gives the same bits on any number of cores.

A matrix product that BLAS splits over threads sums in another order. threadpoolctl reaches OpenBLAS, MKL and BLIS; Apple's
Accelerate has no such switch, so there the bits are those that Accelerate gives.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _SingleThread:
    """The setting belongs to the process: the first caller in sets it, the last one out restores what the host had."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.controller: Any = None
        self.limiter: Any = None

    def enter(self) -> None:
        with self.lock:
            if self.depth == 0:
                from threadpoolctl import ThreadpoolController

                self.controller = self.controller or ThreadpoolController()  # looks through all loaded libraries: 10 ms
                self.limiter = self.controller.limit(limits=1, user_api="blas")
            self.depth += 1

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                self.limiter.restore_original_limits()


_single_thread = _SingleThread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within this block NumPy's matrix products run on the calling thread alone. May be nested and used by several threads."""
    _single_thread.enter()
    try:
        yield
    finally:
        _single_thread.leave()
