"""Stages as pictures: which of them are maps, how large an error is at each place, and the colours that say so."""

import base64
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from refsam.ops.window import window_reverse
from refsam.transforms import PIXEL_MEAN, PIXEL_STD
from refsam.types import Array, Float, UInt8

if TYPE_CHECKING:
    from PIL import Image

SIDE = 160
"""Longest side of a heatmap in pixels."""

RAMP = ("00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838")
"""From nothing (dark blue) to most (yellow): cividis, which everybody sees alike, in ten steps."""


def as_map(stage: str, x: Array) -> Float[Array, "C H W"] | None:
    """One picture's channels at each place, where the stage is a map, tokens of a map, windows of one, or pixels; else None."""
    if x.ndim == 4 and len(x) == 1 and min(x.shape[2:]) > 1:
        return x[0]
    if x.ndim == 3 and x.shape[2] == 3 and stage == "transforms.resized":
        return x.transpose(2, 0, 1)
    if x.ndim == 3 and (stage.startswith("image_encoder") or stage.endswith((".keys", ".cross_attn_image_to_token"))):
        return _from_tokens(x)
    return None


def _from_tokens(x: Float[Array, "B T C"]) -> Float[Array, "C H W"] | None:
    """Square windows in a square grid, or one square of tokens, in reading order."""
    grid, window = (round(n**0.5) for n in x.shape[:2])
    if (grid**2, window**2) != x.shape[:2] or window < 2:
        return None
    return window_reverse(x, window, grid * window, grid * window)[0].transpose(2, 0, 1)


def magnitude(channels: Float[Array, "C H W"]) -> Float[Array, "H W"]:
    """The root mean square over the channels at each place."""
    return np.sqrt(np.mean(np.square(channels, dtype=np.float64), axis=0))


def smaller(x: Float[Array, "H W"], side: int = SIDE) -> Float[Array, "h w"]:
    """At most `side` pixels on a side; each shows the greatest value of its block, so that no single error is lost."""
    step = -(-max(x.shape) // side)
    height, width = (-(-n // step) * step for n in x.shape)
    padded = np.pad(x, ((0, height - x.shape[0]), (0, width - x.shape[1])), mode="edge")
    return padded.reshape(height // step, step, width // step, step).max(axis=(1, 3))


def heat(x: Float[Array, "H W"], most: float, least: float = 0.0) -> str:
    """A PNG of RAMP's colours, from `least` to `most`, as a data URI."""
    from PIL import Image

    levels = np.clip((x - least) / (most - least), 0, 1) if most > least else np.zeros_like(x)
    picture = Image.fromarray(np.rint(levels * 255).astype(np.uint8))
    picture.putpalette(_palette().tobytes())
    return _uri(picture, "PNG", optimize=True)


def _palette() -> UInt8[Array, "256 3"]:
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in RAMP], np.float64)
    places = np.linspace(0, len(RAMP) - 1, 256)
    ramp = np.stack([np.interp(places, range(len(RAMP)), anchors[:, channel]) for channel in range(3)], axis=-1)
    return np.rint(ramp).astype(np.uint8)


def pixels(stage: str, channels: Float[Array, "3 H W"]) -> UInt8[Array, "H W 3"]:
    """The picture that an encoder's input shows: the inverse of normalising; what is no grey level is cut off."""
    values = np.asarray(channels, np.float64)
    if stage == "input_image":
        values = values * PIXEL_STD[:, None, None] + PIXEL_MEAN[:, None, None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def photo(picture: UInt8[Array, "H W 3"]) -> str:
    """A JPEG as a data URI: photographs are too large as PNG."""
    from PIL import Image

    return _uri(Image.fromarray(picture), "JPEG", quality=85)


def shrunk(picture: UInt8[Array, "H W 3"], side: int) -> UInt8[Array, "h w 3"]:
    """At most `side` pixels on a side, for looking at."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    return np.asarray(image)


def _uri(picture: "Image.Image", kind: str, **options: object) -> str:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
