"""Memory for the temporaries of one task: one block per thread, used anew by each task, so that it stays in the cache and the
operating system is not asked for pages again and again (which costs torch half of its time here)."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from refsam.backends.fast.layout import LINE, empty
from refsam.types import Array


class Scratch:
    """A stack of float32 arrays in one block. The block grows to the largest task's need and no further."""

    def __init__(self) -> None:
        self.block = np.empty(0, np.float32)
        self.used = 0

    def take(self, *shape: int) -> Array:
        """An array with arbitrary contents, valid until the `frame` around the call ends."""
        size = math.prod(shape)
        start = self.used
        self.used = start + -(-size // LINE) * LINE
        if self.used > self.block.size:  # arrays taken before keep the old block alive
            self.block = empty(self.used)
        return self.block[start : start + size].reshape(shape)

    def leave_block(self) -> None:
        """Leave the block to the arrays that were taken so far, and to whoever writes to them: the next ones get another."""
        self.block = np.empty(0, np.float32)

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Give back at the end what was taken inside."""
        used = self.used
        try:
            yield
        finally:
            self.used = used


_local = threading.local()


def of_thread() -> Scratch:
    """The calling thread's own."""
    if not hasattr(_local, "scratch"):
        _local.scratch = Scratch()
    found: Scratch = _local.scratch
    return found
