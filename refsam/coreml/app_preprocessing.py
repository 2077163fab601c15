"""The app's preprocessing kernel in NumPy: from a picture to the image encoder's input, with its deviations by switch.

What a GPU does beyond this is not modelled: texture filters with weights of 8 bits, fast-math.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from refsam import srgb
from refsam.coreml.app_switches import Switches
from refsam.transforms import PIXEL_MEAN, PIXEL_STD, resize, resized_size
from refsam.types import Array, Float, Size, UInt8

_BAND = 32  # target pixels whose weights stand in one matrix


def preprocess(
    image: UInt8[Array, "H W 3"], image_size: int, switches: Switches, before: Float[Array, "1 3 S S"] | None = None
) -> Float[Array, "1 3 S S"]:
    """The input of the image encoder.

    Args:
        before: what the buffer holds from the picture before; None for a new one, which Metal fills with zeros.
    """
    stale = switches.stale_buffer and before is not None
    buffer = np.array(before, np.float32) if stale else np.zeros((1, 3, image_size, image_size), np.float32)
    planes = ((levels(image, image_size, switches) - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1)
    place(buffer, planes, switches)
    return buffer


def place(buffer: Float[Array, "1 3 S S"], planes: Float[Array, "3 h w"], switches: Switches) -> None:
    """Write the planes into the buffer, at the index that the kernel computes for (x, y).

    The last index is (h - 1) * S + w - 1 + S - h, which is inside the plane: what is shifted too far begins the next row.
    """
    side = buffer.shape[-1]
    _, height, width = planes.shape
    padding_y = side - height
    shift = padding_y if switches.padding_index == "shipped" else 0
    index = np.arange(height)[:, None] * side + np.arange(width) + shift
    buffer.reshape(3, side * side)[:, index.ravel()] = planes.reshape(3, -1)


def levels(image: UInt8[Array, "H W 3"], image_size: int, switches: Switches) -> Float[Array, "h w 3"]:
    """The resized picture in levels from 0 to 255. With the reference's switches it is the reference's, bit for bit."""
    exact = switches.antialias and switches.half_pixel and switches.rounding and switches.colour == "srgb"
    if exact:
        return resize(image, image_size).astype(np.float32)
    size = resized_size((image.shape[0], image.shape[1]), image_size)
    pixels = linear_light()[image] if switches.colour == "linear" else image.astype(np.float32)
    resampled = resample(pixels, size, switches.half_pixel, switches.antialias)
    return np.rint(resampled) if switches.rounding else resampled


@cache
def linear_light() -> Float[Array, "256"]:
    """The level of light, of 255, for each sRGB level."""
    return (255 * srgb.decoded(np.arange(256) / 255)).astype(np.float32)


def resample(pixels: Float[Array, "H W C"], size: Size, half_pixel: bool, antialias: bool) -> Float[Array, "h w C"]:
    """Resize with a triangle around where each target pixel samples; two source pixels wide, or as wide as the picture shrinks.

    Past the edge a triangle is cut and its weights made to sum to one, which for two taps is the sampler's clamp_to_edge.
    """
    height, width = size
    narrowed = _along_rows(pixels, width, half_pixel, antialias)
    return _along_rows(narrowed.swapaxes(0, 1), height, half_pixel, antialias).swapaxes(0, 1)


def _along_rows(x: Float[Array, "H W C"], width: int, half_pixel: bool, antialias: bool) -> Float[Array, "H w C"]:
    out = np.empty((x.shape[0], width, x.shape[2]), np.float32)
    for start, stop, lo, weights in _bands(x.shape[1], width, half_pixel, antialias):
        window = x[:, lo : lo + weights.shape[1]]
        out[:, start:stop] = weights @ window
    return out


def _bands(n_in: int, n_out: int, half_pixel: bool, antialias: bool) -> Iterator[tuple[int, int, int, Float[Array, "t n"]]]:
    """(first target, end, first source, weights of the targets on the sources) until all targets are done."""
    scale = n_in / n_out
    reach = max(scale, 1.0) if antialias else 1.0
    for start in range(0, n_out, _BAND):
        stop = min(start + _BAND, n_out)
        centre = (np.arange(start, stop) + (0.5 if half_pixel else 0.0)) * scale
        lo, hi = max(int(centre[0] - reach - 0.5), 0), min(int(centre[-1] + reach + 1.5), n_in)
        distance = np.abs(np.arange(lo, hi) + 0.5 - centre[:, None])
        triangle = np.maximum(1.0 - distance / reach, 0.0)
        yield start, stop, lo, (triangle / triangle.sum(axis=1, keepdims=True)).astype(np.float32)
