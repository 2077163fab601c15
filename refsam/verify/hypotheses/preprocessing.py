"""What ports do to the picture before the model sees it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.types import Array, Float, Size
from refsam.verify.hypotheses import colour, resizing
from refsam.verify.hypotheses.resizing import Resize
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Level, Picture, Pipeline, Place

GREY = 114.0
"""The letterbox colour of the YOLO family."""
MID_GREY = 128.0
"""... and of its ports to Keras."""
WHITE = 255.0


def changed(name: str, remedy: str, **fields: Any) -> Hypothesis:
    """A preprocessing hypothesis that sets fields of the pipeline."""
    return Hypothesis(name, ("preprocessing",), remedy, lambda pipeline: replace(pipeline, **fields))


def resize(name: str, remedy: str, parts: tuple[Hypothesis, ...] = (), **without: Any) -> Hypothesis:
    """A hypothesis about the resize, on top of what others say about it."""

    def apply(pipeline: Pipeline) -> Pipeline:
        now = pipeline.resize if isinstance(pipeline.resize, Resize) else Resize()
        return replace(pipeline, resize=replace(now, **without))

    return Hypothesis(name, ("preprocessing",), remedy, apply, parts)


def place(name: str, remedy: str, **fields: Any) -> Hypothesis:
    """A hypothesis about normalising and padding, on top of what others say about them."""
    return Hypothesis(name, ("preprocessing",), remedy, lambda pipeline: placed(pipeline, **fields))


def padded(name: str, level: Level) -> Hypothesis:
    """A hypothesis about the colour of the padding."""
    return place(name, _PAD, fill=level, fill_first=True)


def letterbox(name: str, padding: Hypothesis) -> Hypothesis:
    """A picture in the middle of padding of some colour: either mistake alone may be no nearer to the port than none is."""
    return Hypothesis(name, ("preprocessing",), _PAD, lambda pipeline: CENTRED.apply(padding.apply(pipeline)), (padding, CENTRED))


def placed(pipeline: Pipeline, **fields: Any) -> Pipeline:
    """With these fields of its normalising and padding."""
    now = pipeline.place if isinstance(pipeline.place, Place) else Place()
    return replace(pipeline, place=replace(now, **fields))


@dataclass(frozen=True)
class Steps:
    """One change of the picture after the other. Equal where the changes are, so that what comes of them is computed once."""

    functions: tuple[Callable[[Picture], Picture], ...]

    def __call__(self, image: Picture) -> Picture:
        """All of them."""
        for function in self.functions:
            image = function(image)
        return image


def picture(name: str, remedy: str, function: Callable[[Picture], Picture]) -> Hypothesis:
    """A hypothesis about what becomes of the picture, after what others say about it."""

    def apply(pipeline: Pipeline) -> Pipeline:
        before = pipeline.picture.functions if isinstance(pipeline.picture, Steps) else (pipeline.picture,)
        return replace(pipeline, picture=Steps((*before, function)))

    return Hypothesis(name, ("preprocessing",), remedy, apply)


# --- size -------------------------------------------------------------------------------------------------------------------


def rounded_down(original: Size, image_size: int) -> Size:
    """By whole-number division: the longest side is S itself, which `int(side * (S / longest))` may miss by one."""
    height, width = (max(side * image_size // max(original), 1) for side in original)
    return height, width


def squashed(original: Size, image_size: int) -> Size:  # noqa: ARG001 - whatever the picture's size
    """S x S whatever the picture's shape."""
    return image_size, image_size


CANVAS = 684 / 1024
"""Of S: the rows of the frame of some exporters."""


def onto_canvas(original: Size, image_size: int) -> Size:
    """As large as fits into a frame of 684 x 1024."""
    scale = min(image_size / original[1], round(CANVAS * image_size) / original[0])
    return max(int(original[0] * scale + 0.5), 1), max(int(original[1] * scale + 0.5), 1)


def on_canvas(pipeline: Pipeline) -> Pipeline:
    """Warped into one frame, which is black before normalising; what is below it is 0 after."""
    warped = Resize(antialias=False, sampled=resizing.at_corners, between=False)
    return placed(replace(pipeline, size=onto_canvas, resize=warped), black_rows=CANVAS)


# --- normalising and padding ------------------------------------------------------------------------------------------------


def levels(values: Float[Array, "3"]) -> Level:
    """Of three channels, for a `Place`."""
    red, green, blue = values.tolist()
    return red, green, blue


def again(name: str, mean: Float[Array, "3"], std: Float[Array, "3"]) -> Hypothesis:
    """A hypothesis about a second normalising, by these, of what is normalised."""
    return place(name, _ONCE, mean=levels(PIXEL_MEAN + PIXEL_STD * mean), std=levels(PIXEL_STD * std))


ONE_STD = 0.226 * 255
"""The mean of the three deviations, in coremltools' documentation of ImageType, whose scale is one number."""

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073]) * 255
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711]) * 255
"""OpenAI's preprocessing of CLIP, which many an image processor has by default."""


def centred(frame: Float[Array, "S S 3"], pixels: Float[Array, "h w 3"]) -> None:
    """Half of the padding on each side."""
    (height, width), side = pixels.shape[:2], len(frame)
    top, left = (side - height) // 2, (side - width) // 2
    frame[top : top + height, left : left + width] = pixels


def lower_right(frame: Float[Array, "S S 3"], pixels: Float[Array, "h w 3"]) -> None:
    """Padding above and to the left."""
    height, width = pixels.shape[:2]
    frame[len(frame) - height :, len(frame) - width :] = pixels


def padding_in_the_index(frame: Float[Array, "S S 3"], pixels: Float[Array, "h w 3"]) -> None:
    """index = y * (w + pad_x) + x + pad_y: the bottom padding is added to a linear index, so landscape pictures move right and
    wrap around."""
    (height, width), side = pixels.shape[:2], len(frame)
    index = np.arange(height)[:, None] * side + np.arange(width) + side - height
    frame.reshape(-1, 3)[index.ravel()] = pixels.reshape(-1, 3)


def rows_of_their_own(frame: Float[Array, "S S 3"], pixels: Float[Array, "h w 3"]) -> None:
    """Rows written with the picture's stride and read with the frame's: narrow pictures come out scrambled."""
    height, width = pixels.shape[:2]
    frame.reshape(-1, 3)[: height * width] = pixels.reshape(-1, 3)


# --- orientation -----------------------------------------------------------------------------------------------------------


def turned(quarters: int) -> Callable[[Picture], Picture]:
    """The picture turned by 90 degrees so many times."""
    return lambda image: np.ascontiguousarray(np.rot90(image, quarters))


_PILLOW = "resize uint8 pixels with an antialiased triangle filter, Pillow's BILINEAR (refsam/ops/resize.py has the recipe)"
_ROUND = "round to whole grey levels after each of two passes, the horizontal one first (refsam/ops/resize.py has the recipe)"
_SIZE = "round sizes half up: int(side * scale + 0.5); at exact halves round() of Python and NumPy gives even numbers"
_NORM = "subtract mean (123.675, 116.28, 103.53) and divide by std (58.395, 57.12, 57.375), on pixels from 0 to 255"
_ONCE = "normalise once: in the processor, in ImageType's scale and bias, or in the model, not in two of them"
_PAD = "pad with zeros to the right and below, after normalising"
_STORED = "read and write pixels as they are stored: no _srgb texture format"
_YCC = "convert to RGB by the matrix that the pixel buffer names (its YCbCrMatrix attachment)"
_PROFILE = "take the numbers that the file has, as upstream's cv2 and Pillow do: draw into the picture's own colour space"
_EXIF = "turn the picture as its EXIF orientation says, before everything else (and measure points on the turned one)"

NO_ANTIALIAS = resize("no antialias", _PILLOW, antialias=False, between=False)
"""One sample between four pixels at each target's centre: torch without antialias, a texture sampler."""
NO_HALF_PIXEL = resize(
    "texture sampled without the half pixel",
    "sample at (x + 0.5, y + 0.5) / size",
    sampled=resizing.as_a_texture,
    between=False,
)

BLACK_PADDING = padded("padded before normalising", 0)
GREY_PADDING = padded("grey padding", GREY)
MID_GREY_PADDING = padded("mid-grey padding", MID_GREY)
WHITE_PADDING = padded("white padding", WHITE)
CENTRED = place("padding on both sides", _PAD, position=centred)

HYPOTHESES = (
    resize("rounded once", _ROUND, between=False),  # first: where a picture grows there is nothing to antialias
    NO_ANTIALIAS,
    NO_HALF_PIXEL,
    resize(
        "no antialias, texture sampled without the half pixel",
        _PILLOW,
        (NO_ANTIALIAS, NO_HALF_PIXEL),
        antialias=False,
        sampled=resizing.as_a_texture,
        between=False,
    ),
    resize("no antialias, no half pixel", _PILLOW, antialias=False, sampled=resizing.at_corners, between=False),
    resize("align_corners resize", _PILLOW, antialias=False, sampled=resizing.aligned, between=False),
    changed("no antialias, in fixed point", _PILLOW, resize=resizing.fixed_point),
    changed("nearest resize", _PILLOW, resize=resizing.nearest),
    changed("nearest resize at centres", _PILLOW, resize=resizing.nearest_centre),
    resize("bicubic resize", _PILLOW, kernel=resizing.CATMULL_ROM),
    resize("bicubic resize, no antialias", _PILLOW, kernel=resizing.CUBIC, antialias=False, between=False),
    resize("Lanczos resize", _PILLOW, kernel=resizing.LANCZOS3),
    resize("Lanczos resize, no antialias", _PILLOW, kernel=resizing.LANCZOS4, antialias=False, between=False),
    resize("box resize", _PILLOW, kernel=resizing.BOX),
    resize("Hamming resize", _PILLOW, kernel=resizing.HAMMING),
    resize("area resize", _PILLOW, kernel=resizing.AREA, between=False),
    resize("area resize of whole pixels", _PILLOW, kernel=resizing.WHOLE_AREA, between=False),
    resize("resized without rounding", _PILLOW, between=False, levels="float"),
    resize("truncated", _ROUND, between=False, levels="truncated"),
    resize("vertical pass first", _ROUND, vertical_first=True),
    changed("size rounded down", _SIZE, size=rounded_down),
    Hypothesis("canvas of 684 x 1024", ("preprocessing",), "scale the longest side to S, whatever the shape", on_canvas),
    changed("squashed to a square", "scale the longest side to S and keep the aspect; pad the rest", size=squashed),
    picture("BGR", "give RGB; OpenCV reads BGR", colour.backwards),
    picture("ARGB read as RGB", "leave alpha out where it stands: CoreGraphics has it first or last", colour.alpha_first),
    picture("grey picture", "give all three channels", colour.grey),
    picture("sRGB as linear light", _STORED, colour.linear_light),
    picture("sRGB encoded twice", _STORED, colour.encoded_twice),
    picture("video range taken for full range", "stretch 16 to 235 to 0 to 255, or ask for full range", colour.video_range),
    picture("full range taken for video range", "take full range as it is", colour.stretched),
    picture("BT.709 read as BT.601", _YCC, colour.misread_ycc(colour.BT709, colour.BT601)),
    picture("BT.601 read as BT.709", _YCC, colour.misread_ycc(colour.BT601, colour.BT709)),
    picture("Display P3 converted to sRGB", _PROFILE, colour.converted(colour.P3, colour.SRGB)),
    picture("sRGB converted to Display P3", _PROFILE, colour.converted(colour.SRGB, colour.P3)),
    picture("x and y exchanged", "the picture is rows x columns x channels", lambda image: image.transpose(1, 0, 2)),
    picture("mirrored", "give the picture as it is", lambda image: image[:, ::-1]),
    picture("upside down", "rows run from top to bottom", lambda image: image[::-1]),
    picture("turned by 90 degrees", _EXIF, turned(1)),
    picture("turned by 180 degrees", _EXIF, turned(2)),
    picture("turned by 270 degrees", _EXIF, turned(3)),
    place("0-1 range, not normalised", _NORM, mean=0, std=255),
    place("0-255 range, not normalised", _NORM, mean=0, std=1),
    place("normalised to -1..1", _NORM, mean=127.5, std=127.5),
    place("mean only", _NORM, std=1),
    place("mean and std of 0-1 on 0-255", _NORM, mean=levels(PIXEL_MEAN / 255), std=levels(PIXEL_STD / 255)),
    place("mean and std of 0-255 on 0-1", _NORM, mean=levels(PIXEL_MEAN * 255), std=levels(PIXEL_STD * 255)),
    again("normalised twice", PIXEL_MEAN / 255, PIXEL_STD / 255),
    again("normalised twice, as if from 0 to 255", PIXEL_MEAN, PIXEL_STD),
    place("divided by 256", _NORM, mean=levels(PIXEL_MEAN * 256 / 255), std=levels(PIXEL_STD * 256 / 255)),
    place("mean and std of CLIP", _NORM, mean=levels(CLIP_MEAN), std=levels(CLIP_STD)),
    place("mean and std in BGR order", _NORM, mean=levels(PIXEL_MEAN[::-1]), std=levels(PIXEL_STD[::-1])),
    place("one std for all channels", _NORM, std=ONE_STD),
    place("one std for all channels, but not for the mean", _NORM, mean=levels(PIXEL_MEAN / PIXEL_STD * ONE_STD), std=ONE_STD),
    BLACK_PADDING,
    GREY_PADDING,
    MID_GREY_PADDING,
    WHITE_PADDING,
    padded("padded with the mean in whole grey levels", levels(np.rint(PIXEL_MEAN))),
    CENTRED,
    letterbox("black letterbox", BLACK_PADDING),
    letterbox("grey letterbox", GREY_PADDING),
    letterbox("mid-grey letterbox", MID_GREY_PADDING),
    letterbox("white letterbox", WHITE_PADDING),
    place("padding above and left", _PAD, position=lower_right),
    place("padding in the index", "index = y * S + x; padding is never added to it", position=padding_in_the_index),
    place("row stride of the unpadded picture", "write rows S apart", position=rows_of_their_own),
)  # fmt: skip


def preprocess(pipeline: Pipeline, image: Picture, image_size: int) -> dict[str, Array]:
    """The preprocessing stages of a pipeline."""
    return {
        "transforms.resized": pipeline.resized(image, image_size),
        "input_image": pipeline.input_image(image, image_size),
    }
