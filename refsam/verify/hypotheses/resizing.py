"""Resizes that ports use in place of Pillow's antialiased triangle: a kernel along each axis, and how the result is rounded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refsam.ops.resize import pillow_bilinear
from refsam.types import Array, Float, Int, Size, UInt8
from refsam.verify.pipeline import Picture, Pixels

_BAND = 32  # target pixels whose weights stand in one matrix


def to_uint8(x: Array) -> Array:
    """Rounded to whole grey levels."""
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def planes(image: Picture) -> Float[Array, "3 H W"]:
    """Channels first, float32."""
    return image.transpose(2, 0, 1).astype(np.float32)


# --- kernels ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """What a source pixel counts in a target pixel.

    Attributes:
        weight: (distance of their centres in source pixels, by how much the kernel is stretched) -> weight, not normalised.
        reach: the greatest distance that counts, of a kernel that is not stretched.
        narrows: where the picture grows it gets narrower, as the area of a target pixel does; others keep their width.
    """

    weight: Callable[[Array, float], Array]
    reach: float
    narrows: bool = False


def _stretched(shape: Callable[[Array], Array], reach: float) -> Kernel:
    """A kernel that keeps its shape where it widens."""
    return Kernel(lambda distance, stretch: shape(distance / stretch), reach)


def cubic(a: float) -> Kernel:
    """Keys' kernel: a = -0.5 is Catmull-Rom and Pillow's, a = -0.75 is OpenCV's and torch's."""

    def shape(x: Array) -> Array:
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0))

    return _stretched(shape, 2)


def lanczos(lobes: int) -> Kernel:
    """A sinc in the window of a wider one: Pillow's has 3 lobes, OpenCV's 4."""
    return _stretched(lambda x: np.where(np.abs(x) < lobes, np.sinc(x) * np.sinc(x / lobes), 0), lobes)


def _overlap(distance: Array, stretch: float) -> Array:
    """How much of a source pixel is under a target pixel that is `stretch` wide."""
    return np.clip((1 + stretch) / 2 - np.abs(distance), 0, min(1, stretch))


_TOUCHES = 1e-6  # of a pixel: more than rounding of its place

TRIANGLE = _stretched(lambda x: np.maximum(1 - np.abs(x), 0), 1)
CATMULL_ROM, CUBIC = cubic(-0.5), cubic(-0.75)
LANCZOS3, LANCZOS4 = lanczos(3), lanczos(4)
BOX = _stretched(lambda x: ((x > -0.5) & (x <= 0.5)).astype(np.float64), 0.5)
"""All pixels whose centre is under the target count alike: Pillow's BOX."""
HAMMING = _stretched(lambda x: np.where(np.abs(x) < 1, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0), 1)
"""Pillow's HAMMING."""
AREA = Kernel(_overlap, 1, narrows=True)
"""Pixels count by how much of them is under the target: cv2.INTER_AREA."""
WHOLE_AREA = Kernel(lambda distance, stretch: (_overlap(distance, stretch) > _TOUCHES).astype(np.float64), 1, narrows=True)
"""All pixels that are under the target in part count alike: torch's mode="area", adaptive mean pooling."""


# --- where targets are sampled, in source pixels from the edge ----------------------------------------------------------------


def at_centres(n_in: int, n_out: int) -> Float[Array, "n"]:
    """The middle of each target pixel."""
    return (np.arange(n_out) + 0.5) * (n_in / n_out)


def as_a_texture(n_in: int, n_out: int) -> Float[Array, "n"]:
    """The corner of each target pixel, as a texture is at (x, y) / size."""
    return np.arange(n_out) * (n_in / n_out)


def at_corners(n_in: int, n_out: int) -> Float[Array, "n"]:
    """Pixel i * scale, as cv2.warpAffine: the picture moves by half a target pixel, less half a pixel of its own."""
    return np.arange(n_out) * (n_in / n_out) + 0.5


def aligned(n_in: int, n_out: int) -> Float[Array, "n"]:
    """First and last pixels' centres on each other: align_corners=True."""
    return np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1)) + 0.5


# --- resizing ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resize:
    """A resize by one kernel along each axis; the defaults are Pillow's BILINEAR, the reference's.

    Attributes:
        kernel: what counts how much.
        antialias: the kernel widens where the picture shrinks, and is cut at the picture's edge; else the edge goes on.
        sampled: (n_in, n_out) -> where the target pixels are.
        between: whole grey levels between the two passes too.
        levels: the result rounded to whole grey levels, cut down to them, or as it is.
        vertical_first: the columns are resized before the rows, which shows where it is rounded between them.
    """

    kernel: Kernel = TRIANGLE
    antialias: bool = True
    sampled: Callable[[int, int], Float[Array, "n"]] = at_centres
    between: bool = True
    levels: Literal["rounded", "truncated", "float"] = "rounded"
    vertical_first: bool = False

    def __call__(self, image: Picture, size: Size) -> Pixels:
        """Resize."""
        if self == Resize():
            return pillow_bilinear(image, size)
        if self == Resize(vertical_first=True):
            return pillow_bilinear(image.transpose(1, 0, 2), (size[1], size[0])).transpose(1, 0, 2)
        axes = ((-2, size[0]), (-1, size[1])) if self.vertical_first else ((-1, size[1]), (-2, size[0]))
        x = planes(image)
        for axis, n_out in axes:
            x = self.along(x, axis, n_out)
            x = np.clip(np.floor(x + 0.5), 0, 255) if self.between else x  # half up, as Pillow; others round to even
        return self._finished(x.transpose(1, 2, 0))

    def _finished(self, x: Float[Array, "h w 3"]) -> Pixels:
        if self.levels == "float":
            return x
        return to_uint8(x if self.levels == "rounded" else np.floor(x))

    def along(self, x: Float[Array, "*B H W"], axis: int, n_out: int) -> Float[Array, "*B h w"]:
        """One pass, along axis -1 or -2, band by band: a matrix of all weights would be nearly empty."""
        bands = []
        for lo, weights in self.bands(x.shape[axis], n_out):
            hi = lo + weights.shape[1]
            bands.append(x[..., lo:hi] @ weights.T if axis == -1 else weights @ x[..., lo:hi, :])
        return np.concatenate(bands, axis)

    def bands(self, n_in: int, n_out: int) -> Iterator[tuple[int, Float[Array, "t n"]]]:
        """(first source pixel, weights of the targets on those from there on), until all targets are done."""
        least = 0.0 if self.kernel.narrows else 1.0
        stretch = max(n_in / n_out, least) if self.antialias else 1.0
        reach = self.kernel.reach * max(stretch, 1.0)
        for centres in np.split(self.sampled(n_in, n_out), range(_BAND, n_out, _BAND)):
            source = np.arange(int(np.floor(centres[0] - reach)) - 1, int(np.ceil(centres[-1] + reach)) + 1)
            lo, hi = max(int(source[0]), 0), min(int(source[-1]) + 1, n_in)
            taps = self.kernel.weight(source + 0.5 - centres[:, None], stretch)
            inside = np.zeros((len(centres), hi - lo))
            if self.antialias:
                inside += taps[:, lo - source[0] : hi - source[0]]
            else:
                np.add.at(inside.T, np.clip(source, lo, hi - 1) - lo, taps.T)
            yield lo, (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


_UNIT = 2048
"""Weight 1 of a pixel in OpenCV's fixed point."""


def fixed_point(image: Picture, size: Size) -> UInt8[Array, "h w 3"]:
    """cv2.INTER_LINEAR of uint8 pixels, bit by bit: four taps with weights in 2048ths, whose products lose their last bits.

    Upstream: OpenCV's imgproc/src/resize.cpp, HResizeLinear and VResizeLinear.
    """
    (top, bottom, rows), (left, right, columns) = (_taps(n_in, n_out) for n_in, n_out in zip(image.shape[:2], size, strict=True))
    columns = np.where(left == right, [[_UNIT], [0]], columns)  # beside the picture; above and below it both taps stay
    x = image.astype(np.int32)
    x = (x[:, left] * columns[0, :, None] + x[:, right] * columns[1, :, None]) >> 4
    above, below = ((x[source] * weight[:, None, None]) >> 16 for source, weight in zip((top, bottom), rows, strict=True))
    return np.clip((above + below + 2) >> 2, 0, 255).astype(np.uint8)


def _taps(n_in: int, n_out: int) -> tuple[Int[Array, "n"], Int[Array, "n"], Int[Array, "2 n"]]:
    """Of each target the two source pixels, the edge in place of those beside the picture, and their weights in 2048ths."""
    centre = (at_centres(n_in, n_out) - 0.5).astype(np.float32)
    first = np.floor(centre).astype(int)
    share = centre - first.astype(np.float32)
    weights = np.rint(np.stack([1 - share, share]) * _UNIT).astype(np.int32)
    return np.clip(first, 0, n_in - 1), np.clip(first + 1, 0, n_in - 1), weights


def nearest(image: Picture, size: Size) -> Pixels:
    """The pixel under each target's corner: cv2.INTER_NEAREST, torch's mode="nearest"."""
    rows, columns = (np.arange(n_out) * n_in // n_out for n_in, n_out in zip(image.shape[:2], size, strict=True))
    return image[rows][:, columns]


def nearest_centre(image: Picture, size: Size) -> Pixels:
    """The pixel under each target's centre: Pillow's NEAREST, torch's "nearest-exact"."""
    sources = [((np.arange(o) + 0.5) * (i / o)).astype(int) for i, o in zip(image.shape[:2], size, strict=True)]
    return image[sources[0]][:, sources[1]]
