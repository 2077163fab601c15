"""Memory that processes share: one block without a name, mapped by each of them, from which one process takes float32 arrays."""

import mmap
import os
import tempfile
import weakref
from bisect import insort
from collections import deque

import numpy as np

from refsam.backends.fast.layout import LINE
from refsam.types import Array

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Of an array in the block: first byte, shape, strides in bytes. It means the same in every process."""

LINE_BYTES = LINE * 4


class Arena:
    """A block of `size` bytes, mapped from an open file.

    Pages that were never written take no memory, so that a large block costs the most that was in use at a time: arrays are put
    at the lowest place where they fit, and where one was until its last view is gone is free again.
    """

    def __init__(self, file: int, size: int) -> None:
        self.file, self.size = file, size
        self._memory = mmap.mmap(file, size)
        self._address = np.frombuffer(self._memory, np.uint8).__array_interface__["data"][0]
        self._holes = [(0, size)]
        self._freed: deque[tuple[int, int]] = deque()  # filled at any moment, by any thread, where a garbage collection happens

    def empty(self, *shape: int) -> Array | None:
        """An array with arbitrary contents that begins with a cache line; None where there is no room. One thread at a time."""
        elements = int(np.prod(shape, dtype=np.int64))
        length = max(-(-elements * 4 // LINE_BYTES), 1) * LINE_BYTES
        while self._freed:
            insort(self._holes, self._freed.popleft())
        self._holes = merged(self._holes)
        for number, (start, stop) in enumerate(self._holes):
            if stop - start >= length:
                self._holes[number : number + 1] = [(start + length, stop)] if stop - start > length else []
                array = np.frombuffer(self._memory, np.float32, elements, start)
                weakref.finalize(array, self._freed.append, (start, start + length))
                return array.reshape(shape)  # a view; it and all views of it keep `array` alive
        return None

    def place(self, array: Array) -> Place | None:
        """Where an array is, or None where it is not in this block."""
        start = array.__array_interface__["data"][0] - self._address
        return (start, array.shape, array.strides) if 0 <= start < self.size else None

    def at(self, place: Place) -> Array:
        """The array at a place that another process took."""
        start, shape, strides = place
        return np.ndarray(shape, np.float32, self._memory, start, strides)


def merged(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans of bytes, neighbours made one."""
    out: list[tuple[int, int]] = []
    for start, stop in holes:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return out


def nameless_file(size: int) -> int:
    """A file of `size` zeros that is in no folder and is gone when it is closed everywhere: in memory on Linux, elsewhere one of
    the disk's, which the system keeps in memory as long as there is room. Raises OSError where there may be none."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("refsam")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    try:
        os.ftruncate(file, size)
    except OSError:
        os.close(file)
        raise
    return file
