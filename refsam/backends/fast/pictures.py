"""A picture into the input frame: Pillow's antialiased resize, bit for bit, and the normalised, padded input.

As in the definition, sums of bytes times 22-bit weights are exact in float64, so that their order is free and BLAS may do them.
Here a band is only a few targets wide, since most weights of a wide one are zeros; channels stay interleaved, each with zeros for
the weights of the others, because pulling them apart costs more than multiplying by zero; and the half that rounds is one more
product, so that what is left to do is to cut off the fraction.
"""

from functools import lru_cache

import numpy as np

from refsam import transforms
from refsam.backends.fast.registry import replaces
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.ops.resize import Band, triangle_weights
from refsam.transforms import PIXEL_MEAN, PIXEL_STD, resized_size
from refsam.types import Array, Float, UInt8

ROWS = 768
"""Of the picture that are in work at once in the horizontal pass: many, so that a thread seldom needs Python's lock."""

WIDTH = 6144
"""Bytes of a row that are in work at once in the vertical pass."""

SOURCES = 32
"""About as many pixels are the sources of a band of targets: its weights, window x targets, are then small enough for BLAS to
multiply without repacking."""

LARGEST_SCALE = 1024
"""Above, one target has so many sources that the definition's own tiles are the better ones. Below, weights that were rounded
to 22 bits cannot sum to so much more than 1 that a pixel of 255 would need to be clipped: that takes 16,000 of them."""


@replaces(transforms.resize)
def resize(workers: Workers, image: UInt8[Array, "H W 3"], image_size: int) -> UInt8[Array, "h w 3"]:
    """`transforms.resize`, bit for bit."""
    rows, columns = image.shape[:2]
    height, width = resized_size((rows, columns), image_size)
    if (height, width) == (rows, columns) or max(rows / height, columns / width) > LARGEST_SCALE:
        return transforms.resize(image, image_size)
    flat = np.ascontiguousarray(image).reshape(rows, columns * 3)
    if width != columns:
        source, flat = flat, np.empty((rows, width * 3), np.uint8)
        across = interleaved_bands(columns, width)
        workers.map(_narrow, [(source[top : top + ROWS], across, flat[top : top + ROWS]) for top in range(0, rows, ROWS)])
    if height != rows:
        source, flat = flat, np.empty((height, width * 3), np.uint8)
        workers.map(_lower, [(source, band, flat) for band in bands(rows, height)])
    return flat.reshape(height, width, 3)


@lru_cache(maxsize=8)
def bands(n_in: int, n_out: int) -> tuple[Band, ...]:
    """The weights of one axis, cut into bands of few sources."""
    targets = max(round(SOURCES * n_out / n_in), 1)
    return tuple(triangle_weights(n_in, n_out, start, min(start + targets, n_out)) for start in range(0, n_out, targets))


@lru_cache(maxsize=8)
def interleaved_bands(n_in: int, n_out: int) -> tuple[tuple[Band, Float[Array, "sources targets"]], ...]:
    """The bands of an axis of RGB pixels, each with its weights for interleaved channels."""
    return tuple((band, _interleaved(band)) for band in bands(n_in, n_out))


def _interleaved(band: Band) -> Float[Array, "sources targets"]:
    """Weights from a row of RGB pixels and a 1 to one of RGB pixels, and the half that rounds as the weight of the 1."""
    weights = np.kron(band.weights.T, np.eye(3))
    return np.concatenate([weights, np.full((1, weights.shape[1]), 0.5)])


def _narrow(
    scratch: Scratch,
    image: UInt8[Array, "R c"],
    across: tuple[tuple[Band, Float[Array, "sources targets"]], ...],
    out: UInt8[Array, "R w"],
) -> None:
    """The horizontal pass of some rows."""
    for band, weights in across:
        with scratch.frame():
            pixels = _float64(scratch, len(image), len(weights))
            pixels[:, :-1] = image[:, 3 * band.lo : 3 * band.hi]
            pixels[:, -1] = 1
            sums = np.matmul(pixels, weights, out=_float64(scratch, len(image), weights.shape[1]))
            np.copyto(out[:, 3 * band.start : 3 * band.stop], sums, casting="unsafe")  # as a C cast: the fraction is cut off


def _lower(scratch: Scratch, image: UInt8[Array, "H c"], band: Band, out: UInt8[Array, "h c"]) -> None:
    """The vertical pass to some rows; a row is one long vector, whatever its channels."""
    for left in range(0, image.shape[1], WIDTH):
        part = image[band.lo : band.hi, left : left + WIDTH]
        with scratch.frame():
            pixels = _float64(scratch, *part.shape)
            pixels[...] = part
            sums = np.matmul(band.weights, pixels, out=_float64(scratch, len(band.weights), part.shape[1]))
            sums += 0.5
            np.copyto(out[band.start : band.stop, left : left + WIDTH], sums, casting="unsafe")


def _float64(scratch: Scratch, rows: int, columns: int) -> Float[Array, "rows columns"]:
    return scratch.take(2 * rows * columns).view(np.float64).reshape(rows, columns)


@replaces(transforms.normalize_and_pad)
def normalize_and_pad(workers: Workers, resized: UInt8[Array, "h w 3"], image_size: int) -> Float[Array, "1 3 S S"]:
    """`transforms.normalize_and_pad`, bit for bit: a byte has one of 256 values, which are looked up."""
    height, width = resized.shape[:2]
    input_image = np.empty((1, 3, image_size, image_size), np.float32)
    values = (np.arange(256, dtype=np.float32) - PIXEL_MEAN[:, None]) / PIXEL_STD[:, None]
    step = max(image_size // 8, 1)
    tasks = [(resized[top : top + step], values, input_image[0, :, top : top + step]) for top in range(0, height, step)]
    workers.map(_normalize, tasks)
    input_image[..., height:, :] = 0
    input_image[..., :height, width:] = 0
    return input_image


def _normalize(_: Scratch, pixels: UInt8[Array, "r w 3"], values: Float[Array, "3 256"], out: Float[Array, "3 _ S"]) -> None:
    for channel in range(3):
        out[channel, : len(pixels), : pixels.shape[1]] = values[channel][pixels[..., channel]]
