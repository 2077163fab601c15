"""Cutting a token grid into square windows and back."""

import numpy as np

from refsam.types import Array, Float


def window_partition(x: Float[Array, "B H W C"], size: int) -> Float[Array, "Bn nn C"]:
    """Windows in reading order, after padding with zeros at the bottom and right to whole windows."""
    batch, height, width, channels = x.shape
    down, across = -(-height // size), -(-width // size)
    x = np.pad(x, ((0, 0), (0, down * size - height), (0, across * size - width), (0, 0)))
    x = x.reshape(batch, down, size, across, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch * down * across, size * size, channels)


def window_reverse(windows: Float[Array, "Bn nn C"], size: int, height: int, width: int) -> Float[Array, "B H W C"]:
    """The inverse of `window_partition`: a grid of height x width tokens, the padding cut off."""
    down, across = -(-height // size), -(-width // size)
    x = windows.reshape(-1, down, across, size, size, windows.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, down * size, across * size, windows.shape[-1])[:, :height, :width]
