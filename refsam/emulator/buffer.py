"""Memory that a kernel and Python share."""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

import numpy as np

from refsam.emulator.error import error

ALIGNMENT = 16
"""Bytes: MSL's float4 needs them. The end is rounded up to it, too: a float3 is read as 16 bytes."""


class Buffer:
    """metalcompute's Buffer: bytes that kernels read and write, seen from Python through the buffer protocol.

    Args:
        device: where it lives.
        content: an int for that many zero bytes, or anything with the buffer protocol, which is copied.

    Raises error where that is neither, or empty.
    """

    length: int
    address: int
    device: object
    _bytes: memoryview

    def __new__(cls, device: object, content: Any) -> "Buffer":
        """The buffer protocol of a Python class begins with Python 3.12; before, an array of ctypes lends its own."""
        source = _source(content)
        length = int(content) if source is None else source.nbytes
        if length <= 0:
            raise error("Could not make buffer")
        memory, address = guarded(length)
        if sys.version_info >= (3, 12) or cls is not Buffer:
            self = object.__new__(cls)
        else:
            self = _ctypes_class(length).from_address(address)
        self.length, self.address, self.device = length, address, device
        self._bytes = memory
        if source is not None:
            self._bytes[:] = source.cast("B")
        return self

    def __init__(self, device: object, content: Any) -> None:
        pass

    def __buffer__(self, flags: int) -> memoryview:
        return self._bytes

    def __str__(self) -> str:
        return f"metalcompute.Buffer(length={self.length})"

    __repr__ = __str__


@cache
def _ctypes_class(length: int) -> Any:
    """Buffer with the memory of a ctypes array: Python < 3.12."""
    return type("Buffer", (Buffer, ctypes.c_ubyte * length), {})


def _source(content: Any) -> memoryview | None:
    """The bytes to copy, None for a length."""
    try:
        view = memoryview(content)
    except TypeError:
        if isinstance(content, (int, float, np.number)):  # as PyNumber_Long takes them
            return None
        raise error("Unsupported input format") from None
    if not view.c_contiguous:
        raise error("Unsupported input format")
    return view


def guarded(length: int) -> tuple[memoryview, int]:
    """Zeroed memory that ends where an unreadable page begins, and its address. Raises error where there is not so much."""
    page = mmap.PAGESIZE
    rounded = -(-length // ALIGNMENT) * ALIGNMENT
    pages = -(-rounded // page) * page
    try:
        mapping = mmap.mmap(-1, pages + 2 * page)
    except (OSError, OverflowError):
        raise error("Could not make buffer") from None
    whole = (ctypes.c_ubyte * len(mapping)).from_buffer(mapping)
    base = ctypes.addressof(whole)
    for border in (base, base + page + pages):
        if _libc().mprotect(ctypes.c_void_p(border), ctypes.c_size_t(page), 0):
            raise error("Could not make buffer")
    start = page + pages - rounded
    return memoryview(whole).cast("B")[start : start + length], base + start


@cache
def _libc() -> Any:
    return ctypes.CDLL(None)
