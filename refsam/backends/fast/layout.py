"""Channels last in memory. The definition's axes are (B, C, H, W); here a pixel's channels lie side by side, so that 1x1
convolutions are plain matrix products and elementwise steps run over long rows. Results are views with the definition's axes on
such memory, and the next replaced function finds its input in place; the definition takes them too, at the price of a copy.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from refsam.types import Array, Float

LINE = 16
"""float32 numbers in a cache line of 64 bytes."""


def channels_last(x: Float[Array, "B C H W"]) -> Float[Array, "B H W C"]:
    """Contiguous; no copy where `x` came from `channels_first`."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def channels_first(x: Float[Array, "B H W C"]) -> Float[Array, "B C H W"]:
    """A view with the definition's axes."""
    return x.transpose(0, 3, 1, 2)


def empty(*shape: int) -> Float[Array, "*N"]:
    """Uninitialised float32 that begins with a cache line. NumPy's own begins anywhere, and then every vector load straddles two
    lines: a product of arrays in the second-level cache takes twice as long."""
    size = math.prod(shape)
    room = np.empty(size + LINE, np.float32)
    start = -room.ctypes.data // room.itemsize % LINE
    return room[start : start + size].reshape(shape)


def spans(length: int, step: int, unit: int = 1) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive parts, as equal as can be: all but the last are multiples of `unit`, none is longer
    than `step`, or than one unit where that is more."""
    units = -(-length // unit)
    parts = max(-(-units // max(step // unit, 1)), 1)
    return pairwise([*(units * part // parts * unit for part in range(parts)), length])
