"""The definitions, in NumPy, of what kernels compute and the model does not."""

from typing import Any

import numpy as np

from refsam.ops.resize import bilinear
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.types import Array, Float, Size, UInt8

CANARY: dict[str, Any] = {
    "n": 2000,
    "wide": (1.0, -2.0, 3.0),
    "narrow": (4.0, 5.0, -6.0),
    "seed": 0x5EED,
    "small": 200,
    "last": 0.5,
}
"""Parameters whose fields do not lie one after the other: a float3 begins at a multiple of 16 bytes, and so does the next."""


def canary(n: int, wide: Any, narrow: Any, seed: int, small: int, last: float) -> Array:
    """What kernels/canary.metal answers: a hash of each thread's number, then the parameters' bits."""
    hashes = (np.arange(n, dtype=np.uint64) + n) * 2654435761 % (1 << 32)
    bits = np.array([*wide, *narrow], np.float32).view(np.uint32)
    tail = [small, np.float32(last).view(np.uint32)]
    return np.concatenate([hashes.astype(np.uint32) ^ np.uint32(seed), bits, np.array(tail, np.uint32)])


def gaussian_weights(sigma: float) -> Float[Array, " T"]:
    """The weights of a Gaussian cut off at 4 sigma, in float64; their sum is 1."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def gaussian_blur(x: Float[Array, "*B H W"], sigma: float) -> Float[Array, "*B H W"]:
    """Blur along rows, then along columns; outside the picture it is zero.

    Differs: MPSImageGaussianBlur, which the iOS app uses, does not say where it cuts off.
    """
    weights = gaussian_weights(sigma).astype(x.dtype)
    return _blur(_blur(x, weights).swapaxes(-1, -2), weights).swapaxes(-1, -2)


def _blur(x: Float[Array, "*B H W"], weights: Float[Array, " T"]) -> Float[Array, "*B H W"]:
    radius, width = len(weights) // 2, x.shape[-1]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(radius, radius)])
    y = np.zeros_like(x)
    for shift, weight in enumerate(weights):
        y += padded[..., shift : shift + width] * weight
    return y


def preprocess_bilinear(
    image: UInt8[Array, "H W 3"], size: Size, side: int, half_pixel: bool = True, shift: int = 0
) -> Float[Array, "1 3 S S"]:
    """The picture at `size` by one bilinear sample for each pixel, normalised, in planes of side x side.

    Args:
        half_pixel: sample at pixel centres. The iOS app samples at corners, which moves the picture by half a pixel.
        shift: elements by which every row lies further on in its plane. The app's is the padding below the picture.
    """
    planes = image.transpose(2, 0, 1).astype(np.float64)
    pixels = bilinear(planes, size) if half_pixel else _at_corners(planes, size)
    pixels = (pixels - PIXEL_MEAN[:, None, None]) / PIXEL_STD[:, None, None]
    dst = np.zeros((3, side * side))
    rows = shift + side * np.arange(size[0])[:, None] + np.arange(size[1])
    inside = rows < side * side
    dst[:, rows[inside]] = pixels[:, inside]
    return dst.reshape(1, 3, side, side)


def _at_corners(planes: Float[Array, "C H W"], size: Size) -> Float[Array, "C h w"]:
    """Bilinear samples at x W / w - 1/2, clamped to the border: the pixels' corners."""
    for axis, target in ((1, size[0]), (2, size[1])):
        source = np.maximum(np.arange(target) * (planes.shape[axis] / target) - 0.5, 0.0)
        near = np.minimum(source.astype(np.int64), planes.shape[axis] - 1)
        far = np.minimum(near + 1, planes.shape[axis] - 1)
        weight = (source - near)[:, None] if axis == 1 else source - near
        planes = np.take(planes, near, axis) * (1 - weight) + np.take(planes, far, axis) * weight
    return planes
