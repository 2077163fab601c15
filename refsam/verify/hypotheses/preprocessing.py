"""What ports do to the picture before the model sees it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refsam.coreml.app_preprocessing import resample
from refsam.ops.resize import pillow_bilinear
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.types import Array, Float, Size
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Picture, Pipeline, Pixels, normalize_and_pad, normalized

GREY = 114.0
"""The letterbox colour of the YOLO family."""


def changed(name: str, remedy: str, **fields: Any) -> Hypothesis:
    """A preprocessing hypothesis that sets fields of the pipeline."""
    return Hypothesis(name, ("preprocessing",), remedy, lambda pipeline: replace(pipeline, **fields))


# --- resizing ---------------------------------------------------------------------------------------------------------------


def to_uint8(x: Array) -> Array:
    """Rounded to whole grey levels."""
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def planes(image: Picture) -> Float[Array, "3 H W"]:
    """Channels first, float32."""
    return image.transpose(2, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Triangle:
    """The triangle filter with what ports leave out of it, each by itself.

    Attributes:
        antialias: the filter widens where the picture shrinks.
        half_pixel: the middle of a target pixel is sampled; else its corner, as a texture is at (x, y) / size.
        rounded: to whole grey levels.
    """

    antialias: bool = True
    half_pixel: bool = True
    rounded: bool = True

    def __call__(self, image: Picture, size: Size) -> Pixels:
        """Resize."""
        if self.antialias and self.half_pixel and self.rounded:
            return pillow_bilinear(image, size)
        resized = resample(image.astype(np.float32), size, self.half_pixel, self.antialias)
        return to_uint8(resized) if self.rounded else resized


def triangle(name: str, remedy: str, parts: tuple[Hypothesis, ...] = (), **without: bool) -> Hypothesis:
    """A hypothesis about the triangle filter, on top of what others say about it."""

    def apply(pipeline: Pipeline) -> Pipeline:
        now = pipeline.resize if isinstance(pipeline.resize, Triangle) else Triangle()
        return replace(pipeline, resize=replace(now, **without))

    return Hypothesis(name, ("preprocessing",), remedy, apply, parts)


def corner_bilinear(image: Picture, size: Size) -> Pixels:
    """One sample between four pixels at position i * scale, as cv2.warpAffine: the picture moves by half a target pixel, less
    half a pixel of its own."""
    return to_uint8(separable(image, size, lambda x: np.maximum(1 - np.abs(x), 0), offset=0.0))


def aligned_bilinear(image: Picture, size: Size) -> Pixels:
    """First and last pixels' centres on each other: align_corners=True."""
    weights = [_aligned_weights(n_in, n_out) for n_in, n_out in zip(image.shape[:2], size, strict=True)]
    return to_uint8((weights[0] @ planes(image) @ weights[1].T).transpose(1, 2, 0))


def _aligned_weights(n_in: int, n_out: int) -> Float[Array, "o i"]:
    source = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(n_in))).astype(np.float32)


def nearest(image: Picture, size: Size) -> Pixels:
    """The pixel under each target's corner: cv2.INTER_NEAREST, torch's mode="nearest"."""
    rows, columns = (np.arange(n_out) * n_in // n_out for n_in, n_out in zip(image.shape[:2], size, strict=True))
    return image[rows][:, columns]


def nearest_centre(image: Picture, size: Size) -> Pixels:
    """The pixel under each target's centre: Pillow's NEAREST, torch's "nearest-exact"."""
    sources = [((np.arange(o) + 0.5) * (i / o)).astype(int) for i, o in zip(image.shape[:2], size, strict=True)]
    return image[sources[0]][:, sources[1]]


def cubic(a: float) -> Callable[[Array], Array]:
    """Keys' kernel: a = -0.5 is Catmull-Rom and Pillow's, a = -0.75 is OpenCV's and torch's."""

    def kernel(x: Array) -> Array:
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0))

    return kernel


def lanczos(x: Array) -> Array:
    """Three lobes, as Pillow's LANCZOS."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def box(x: Array) -> Array:
    """The mean of the pixels covered: cv2.INTER_AREA, Pillow's BOX."""
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def kernel_weights(
    n_in: int, n_out: int, kernel: Callable[[Array], Array], antialias: bool, offset: float = 0.5
) -> Float[Array, "o i"]:  # fmt: skip
    """What each source pixel counts in each target pixel; the kernel widens where the picture shrinks if it is antialiased."""
    scale = n_in / n_out
    stretch = max(scale, 1.0) if antialias else 1.0
    centre = np.clip((np.arange(n_out)[:, None] + offset) * scale - offset, 0, n_in if antialias else n_in - 1)
    taps = kernel((np.arange(n_in) - centre) / stretch)
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)


def separable(
    image: Picture, size: Size, kernel: Callable[[Array], Array], antialias: bool = False, offset: float = 0.5
) -> Float[Array, "h w 3"]:
    """A resize by one kernel along each axis."""
    ends = zip(image.shape[:2], size, strict=True)
    down, across = (kernel_weights(n_in, n_out, kernel, antialias, offset) for n_in, n_out in ends)
    return (down @ planes(image) @ across.T).transpose(1, 2, 0)


def by_kernel(kernel: Callable[[Array], Array], antialias: bool) -> Callable[[Picture, Size], Pixels]:
    """A resize to whole grey levels."""
    return lambda image, size: to_uint8(separable(image, size, kernel, antialias))


# --- size -------------------------------------------------------------------------------------------------------------------


def rounded_down(original: Size, image_size: int) -> Size:
    """int(side * scale), without the half."""
    scale = image_size / max(original)
    return max(int(original[0] * scale), 1), max(int(original[1] * scale), 1)


def squashed(original: Size, image_size: int) -> Size:  # noqa: ARG001 - whatever the picture's size
    """S x S whatever the picture's shape."""
    return image_size, image_size


CANVAS = 684 / 1024
"""Of S: the rows of the frame of some exporters."""


def onto_canvas(original: Size, image_size: int) -> Size:
    """As large as fits into a frame of 684 x 1024."""
    scale = min(image_size / original[1], round(CANVAS * image_size) / original[0])
    return max(int(original[0] * scale + 0.5), 1), max(int(original[1] * scale + 0.5), 1)


def black_canvas(pixels: Pixels, image_size: int) -> Array:
    """The canvas is black before normalising; what is below it is 0 after."""
    canvas = np.zeros((round(CANVAS * image_size), image_size, 3), pixels.dtype)
    height, width = pixels.shape[:2]
    canvas[:height, :width] = pixels[: len(canvas)]
    return normalize_and_pad(canvas, image_size)


# --- normalising and padding ------------------------------------------------------------------------------------------------


def centred(pixels: Pixels, image_size: int) -> Array:
    """Half of the padding on each side."""
    image = normalize_and_pad(pixels, image_size)
    return np.roll(image, [(image_size - side) // 2 for side in pixels.shape[:2]], axis=(2, 3))


def at_the_end(pixels: Pixels, image_size: int) -> Array:
    """Padding above and to the left."""
    image = normalize_and_pad(pixels, image_size)
    return np.roll(image, [image_size - side for side in pixels.shape[:2]], axis=(2, 3))


def padding_in_the_index(pixels: Pixels, image_size: int) -> Array:
    """index = y * (w + pad_x) + x + pad_y: the bottom padding is added to a linear index, so landscape pictures move right and
    wrap around."""
    image = normalize_and_pad(pixels, image_size)
    height, width = pixels.shape[:2]
    y, x = np.divmod(np.arange(height * width), width)
    flat = np.zeros((3, image_size * image_size), np.float32)
    flat[:, y * image_size + x + image_size - height] = image[0, :, :height, :width].reshape(3, -1)
    return flat.reshape(1, 3, image_size, image_size)


def rows_of_their_own(pixels: Pixels, image_size: int) -> Array:
    """Rows written with the picture's stride and read with the frame's: narrow pictures come out scrambled."""
    image = normalize_and_pad(pixels, image_size)
    height, width = pixels.shape[:2]
    flat = np.zeros((3, image_size * image_size), np.float32)
    flat[:, : height * width] = image[0, :, :height, :width].reshape(3, -1)
    return flat.reshape(1, 3, image_size, image_size)


# --- colour and orientation -------------------------------------------------------------------------------------------------


def linear_light(image: Picture) -> Picture:
    """sRGB decoded, as an _srgb texture does it, and taken for grey levels."""
    x = np.arange(256) / 255
    levels = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return to_uint8(levels * 255)[image]


def grey(image: Picture) -> Picture:
    """Luma in all three channels."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    return np.repeat(to_uint8(luma)[..., None], 3, axis=2)


def turned(quarters: int) -> Callable[[Picture], Picture]:
    """The picture turned by 90 degrees so many times."""
    return lambda image: np.ascontiguousarray(np.rot90(image, quarters))


_PILLOW = "resize uint8 pixels with an antialiased triangle filter, Pillow's BILINEAR (refsam/ops/resize.py has the recipe)"
_SIZE = "round sizes half up: int(side * scale + 0.5); at exact halves round() of Python and NumPy gives even numbers"
_NORM = "subtract mean (123.675, 116.28, 103.53) and divide by std (58.395, 57.12, 57.375), on pixels from 0 to 255"
_PAD = "pad with zeros to the right and below, after normalising"
_EXIF = "turn the picture as its EXIF orientation says, before everything else (and measure points on the turned one)"

NO_ANTIALIAS = triangle("no antialias", _PILLOW, antialias=False)
"""One sample between four pixels at each target's centre: cv2.INTER_LINEAR, torch without antialias, a texture sampler."""
NO_HALF_PIXEL = triangle("texture sampled without the half pixel", "sample at (x + 0.5, y + 0.5) / size", half_pixel=False)

HYPOTHESES = (
    NO_ANTIALIAS,
    NO_HALF_PIXEL,
    triangle(
        "no antialias, texture sampled without the half pixel",
        _PILLOW,
        (NO_ANTIALIAS, NO_HALF_PIXEL),
        antialias=False,
        half_pixel=False,
    ),
    changed("no antialias, no half pixel", _PILLOW, resize=corner_bilinear),
    changed("align_corners resize", _PILLOW, resize=aligned_bilinear),
    changed("nearest resize", _PILLOW, resize=nearest),
    changed("nearest resize at centres", _PILLOW, resize=nearest_centre),
    changed("bicubic resize", _PILLOW, resize=by_kernel(cubic(-0.5), antialias=True)),
    changed("bicubic resize, no antialias", _PILLOW, resize=by_kernel(cubic(-0.75), antialias=False)),
    changed("Lanczos resize", _PILLOW, resize=by_kernel(lanczos, antialias=True)),
    changed("area resize", _PILLOW, resize=by_kernel(box, antialias=True)),
    triangle("resized without rounding", _PILLOW, rounded=False),
    changed("size rounded down", _SIZE, size=rounded_down),
    changed("canvas of 684 x 1024", "scale the longest side to S, whatever the picture's shape", size=onto_canvas,
            place=black_canvas, resize=corner_bilinear),
    changed("squashed to a square", "scale the longest side to S and keep the aspect; pad the rest", size=squashed),
    changed("BGR", "give RGB; OpenCV reads BGR", picture=lambda image: image[..., ::-1]),
    changed("sRGB as linear light", "read pixels as they are stored: no _srgb texture format", picture=linear_light),
    changed("grey picture", "give all three channels", picture=grey),
    changed("x and y exchanged", "the picture is rows x columns x channels", picture=lambda image: image.transpose(1, 0, 2)),
    changed("mirrored", "give the picture as it is", picture=lambda image: image[:, ::-1]),
    changed("upside down", "rows run from top to bottom", picture=lambda image: image[::-1]),
    changed("turned by 90 degrees", _EXIF, picture=turned(1)),
    changed("turned by 180 degrees", _EXIF, picture=turned(2)),
    changed("turned by 270 degrees", _EXIF, picture=turned(3)),
    changed("0-1 range, not normalised", _NORM, place=normalized(0, 255)),
    changed("0-255 range, not normalised", _NORM, place=normalized(0, 1)),
    changed("normalised to -1..1", _NORM, place=normalized(127.5, 127.5)),
    changed("mean only", _NORM, place=normalized(PIXEL_MEAN, 1)),
    changed("mean and std of 0-1 on 0-255", _NORM, place=normalized(PIXEL_MEAN / 255, PIXEL_STD / 255)),
    changed("mean and std of 0-255 on 0-1", _NORM, place=normalized(PIXEL_MEAN * 255, PIXEL_STD * 255)),
    changed("mean and std in BGR order", _NORM, place=normalized(PIXEL_MEAN[::-1], PIXEL_STD[::-1])),
    changed("padded before normalising", _PAD, place=normalized(PIXEL_MEAN, PIXEL_STD, 0, pad_first=True)),
    changed("grey padding", _PAD, place=normalized(PIXEL_MEAN, PIXEL_STD, GREY, pad_first=True)),
    changed("padding on both sides", _PAD, place=centred),
    changed("padding above and left", _PAD, place=at_the_end),
    changed("padding in the index", "index = y * S + x; padding is never added to it", place=padding_in_the_index),
    changed("row stride of the unpadded picture", "write rows S apart", place=rows_of_their_own),
)  # fmt: skip


def preprocess(pipeline: Pipeline, image: Picture, image_size: int) -> dict[str, Array]:
    """The preprocessing stages of a pipeline."""
    return {
        "transforms.resized": pipeline.resized(image, image_size),
        "input_image": pipeline.input_image(image, image_size),
    }
