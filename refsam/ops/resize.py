"""The two resizes of the model: Pillow's antialiased one for pictures, and the plain bilinear one for mask logits.

Pillow's is kept bit for bit, because the model was trained on pictures that went through it, and because a port needs the
recipe: triangle weights in 22-bit fixed point, the horizontal pass first, its result rounded to uint8, then the vertical one.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from refsam.blas import one_blas_thread
from refsam.types import Array, Float, Int, Size, UInt8

PRECISION_BITS = 22
"""Fixed-point bits of a weight.  Upstream: Pillow's Resample.c PRECISION_BITS for 8-bit channels."""

_BAND_ELEMENTS = 1 << 15  # float64 weights in one band: 256 KiB
_PART_ELEMENTS = 1 << 16  # float64 pixels in work at once: 512 KiB, inside a second-level cache


class Band(NamedTuple):
    """The weights from source pixels `lo:hi` to target pixels `start:stop` along one axis."""

    start: int
    stop: int
    lo: int
    hi: int
    weights: Float[Array, "stop-start hi-lo"]


def pillow_bilinear(image: UInt8[Array, "H W C"], size: Size) -> UInt8[Array, "h w C"]:
    """Pillow's `Image.resize(..., BILINEAR)` of 8-bit pixels: antialiased where it shrinks.

    Args:
        image: pixels in any order of channels, each channel on its own.
        size: (height, width) of the result.
    Returns:
        A new array.
    Numerics: bit-exact with Pillow 10.4 to 12.2 for every size. Sums are exact, so threads and tiles do not show.
    Upstream: Pillow's Resample.c, reached through torchvision's resize in utils/transforms.py ResizeLongestSide.apply_image.
    Differs: Pillow 13 does the vertical pass first where that is less work (tall pictures that shrink): up to one grey level.
    """
    height, width = size
    with one_blas_thread():  # the products are small: BLAS's threads would mostly wait for each other
        narrowed = _resize_columns(image, width) if width != image.shape[1] else image
        return _resize_rows(narrowed, height) if height != image.shape[0] else narrowed.copy()


def triangle_weights(n_in: int, n_out: int, start: int, stop: int) -> Band:
    """The fixed-point weights of target pixels `start:stop`, as multiples of 2**-22, zero outside each pixel's support.

    Numerics: float64 in Pillow's own order of operations (sum from the left, one division each), then rounded half up.
    """
    scale = n_in / n_out
    support = max(scale, 1.0)  # the triangle widens where the picture shrinks
    centre = (np.arange(start, stop)[:, None] + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), n_in)
    lo, hi = int(first[0, 0]), int(last[-1, 0])
    source = np.arange(lo, hi)
    triangle = np.maximum(1.0 - np.abs((source - centre + 0.5) * (1.0 / support)), 0.0)
    triangle[(source < first) | (source >= last)] = 0.0
    total = np.cumsum(triangle, axis=1)[:, -1:]
    one = float(1 << PRECISION_BITS)
    return Band(start, stop, lo, hi, np.trunc(triangle / total * one + 0.5) / one)


def _bands(n_in: int, n_out: int) -> Iterator[Band]:
    """Cut one axis into bands. A band of t targets has about (t + 2) * scale sources: small where the picture shrinks much."""
    scale = max(n_in / n_out, 1.0)
    targets = min(max(math.isqrt(int(_BAND_ELEMENTS / scale)), 1), 32)
    for start in range(0, n_out, targets):
        yield triangle_weights(n_in, n_out, start, min(start + targets, n_out))


def _to_uint8(sums: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Add a half and clip, in place; storing the result as uint8 truncates it, which is Pillow's right shift."""
    sums += 0.5
    return np.minimum(sums, 255.0, out=sums)


def _resize_columns(image: UInt8[Array, "H W C"], width: int) -> UInt8[Array, "H w C"]:
    """The horizontal pass. Weights are multiples of 2**-22 and sums are below 2**9: float64 adds them exactly in any order."""
    rows, columns, channels = image.shape
    out = np.empty((rows, width, channels), np.uint8)
    for band in _bands(columns, width):
        window = band.hi - band.lo
        step = max(_PART_ELEMENTS // (channels * window), 1)
        for top in range(0, rows, step):
            part = image[top : top + step, band.lo : band.hi].transpose(0, 2, 1)
            planes = part.astype(np.float64, order="C").reshape(-1, window)
            sums = _to_uint8(planes @ band.weights.T).reshape(-1, channels, band.stop - band.start)
            out[top : top + step, band.start : band.stop] = sums.transpose(0, 2, 1)
    return out


def _resize_rows(image: UInt8[Array, "H W C"], height: int) -> UInt8[Array, "h W C"]:
    """The vertical pass; a row of pixels is one long vector, whatever its channels."""
    rows, columns, channels = image.shape
    flat = image.reshape(rows, columns * channels)
    out = np.empty((height, columns * channels), np.uint8)
    for band in _bands(rows, height):
        step = max(_PART_ELEMENTS // (band.hi - band.lo), 1)
        for left in range(0, flat.shape[1], step):
            part = flat[band.lo : band.hi, left : left + step].astype(np.float64)
            out[band.start : band.stop, left : left + step] = _to_uint8(band.weights @ part)
    return out.reshape(height, columns, channels)


def bilinear(x: Float[Array, "*B H W"], size: Size) -> Float[Array, "*B h w"]:
    """Bilinear resize with align_corners=False, not antialiased, in the dtype of `x`.

    Numerics: target i samples source (i + 0.5) * in / out - 0.5, clamped to the ends; weights are computed in float64.
    Upstream: torch's F.interpolate in modeling/sam.py Sam.postprocess_masks.
    """
    return bilinear_tile(x, size, (0, size[0]), (0, size[1]))


def bilinear_tile(
    x: Float[Array, "*B H W"], size: Size, rows: tuple[int, int], columns: tuple[int, int]
) -> Float[Array, "*B h w"]:
    """The part `rows[0]:rows[1], columns[0]:columns[1]` of `bilinear(x, size)`, with the same bits.

    Each value is a few products and sums of its own, so how a large result is cut into tiles does not show in it.
    """
    down = linear_taps(x.shape[-2], size[0], *rows)
    across = linear_taps(x.shape[-1], size[1], *columns)
    lo = int(down.near[0])
    needed = x[..., lo : int(down.far[-1]) + 1, :]
    return _mix(_mix(needed, across, axis=-1), LinearTaps(down.near - lo, down.far - lo, down.weight), axis=-2)


class LinearTaps(NamedTuple):
    """Two sources for each target: `near` weighs 1 - weight, `far` weighs weight."""

    near: Int[Array, "n"]
    far: Int[Array, "n"]
    weight: Float[Array, "n"]


def linear_taps(n_in: int, n_out: int, start: int, stop: int) -> LinearTaps:
    """The taps of target pixels `start:stop` along one axis, in float64."""
    source = np.maximum((np.arange(start, stop) + 0.5) * (n_in / n_out) - 0.5, 0.0)
    near = np.minimum(source.astype(np.int64), n_in - 1)
    far = np.minimum(near + 1, n_in - 1)
    return LinearTaps(near, far, np.minimum(source - near, 1.0))


def _mix(x: Float[Array, "*B H W"], taps: LinearTaps, axis: int) -> Float[Array, "*B h w"]:
    """One pass: near * (1 - weight) + far * weight along `axis` (-1 or -2)."""
    weight = taps.weight if axis == -1 else taps.weight[:, None]
    near = np.take(x, taps.near, axis)
    near *= (1.0 - weight).astype(x.dtype)
    far = np.take(x, taps.far, axis)
    far *= weight.astype(x.dtype)
    near += far
    return near
