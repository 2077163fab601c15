"""The app's postprocessing kernel in NumPy: from mask logits to a mask of the picture's size, with its deviations by switch."""

import math
from typing import NamedTuple

import numpy as np

from refsam.coreml.app_switches import Switches
from refsam.metal.definitions import gaussian_blur
from refsam.transforms import postprocess_logits, resized_size
from refsam.types import Array, Bool, Float, Int, Size

BLUR_SIGMA = 5.0
"""Pixels of the picture. How far MPSImageGaussianBlur reaches was not measured; here it is 4 sigma, and 0 outside the picture."""


def mask_values(
    logits: Float[Array, "L L"], original_size: Size, image_size: int, switches: Switches
) -> Float[Array, "H W"]:  # fmt: skip
    """What the app's texture holds: from 0 to 1, in whichever sense the switches say."""
    scaled = upsample(logits, original_size, image_size, switches)
    values = 1 - np.clip(scaled, 0, 1) if switches.values == "clamp" else (scaled > 0).astype(np.float32)
    return gaussian_blur(values, BLUR_SIGMA) if switches.blur else values


def mask_of(values: Float[Array, "H W"], switches: Switches) -> Bool[Array, "H W"]:
    """Which pixels are inside, by what the values mean: "clamp" is 0 inside.

    Differs from the app's source taken literally: its next kernel takes `> 0` for inside there too, and so shows what is outside.
    """
    inside = 1 - values if switches.values == "clamp" else values
    return inside > (0.5 if switches.cut == "half" else 0.0)


def upsample(logits: Float[Array, "L L"], original_size: Size, image_size: int, switches: Switches) -> Float[Array, "H W"]:
    """Logits at the picture's size. With the reference's switches it is the reference's, bit for bit."""
    input_size = resized_size(original_size, image_size)
    plain = switches.mask_half_pixel and switches.mask_size == "exact" and switches.filter == "linear"
    if plain and switches.mask_steps == "two":
        return postprocess_logits(logits[None, None], input_size, original_size, image_size)[0, 0]
    extent = mask_extent(original_size, image_size, len(logits), switches)
    if switches.mask_steps == "two":
        whole = sample(logits, (float(len(logits)),) * 2, (image_size, image_size), switches)
        scale = image_size / len(logits)
        height, width = (round(side * scale) for side in extent)
        logits, extent = whole[:height, :width], (float(height), float(width))
    return sample(logits, extent, original_size, switches)


def mask_extent(original_size: Size, image_size: int, mask_size: int, switches: Switches) -> tuple[float, float]:
    """The (height, width) of the picture's part of the mask, in mask pixels."""
    if switches.mask_size == "exact":
        height, width = resized_size(original_size, image_size)
        return height * mask_size / image_size, width * mask_size / image_size
    scale = np.float32(mask_size) / np.float32(max(original_size))
    height, width = (math.floor(float(np.float32(side) * scale) + 0.5) for side in original_size)
    return float(height), float(width)


def sample(x: Float[Array, "L M"], extent: tuple[float, float], size: Size, switches: Switches) -> Float[Array, "H W"]:
    """Sample the part `extent` of a texture for each pixel of `size`: at its middle, or at its corner."""
    rows = taps(x.shape[0], extent[0], size[0], switches)
    columns = taps(x.shape[1], extent[1], size[1], switches)
    across = x[:, columns.near] * (1 - columns.weight) + x[:, columns.far] * columns.weight
    return across[rows.near] * (1 - rows.weight)[:, None] + across[rows.far] * rows.weight[:, None]


class Taps(NamedTuple):
    """Two texels for each pixel: `near` weighs 1 - weight, `far` weighs weight."""

    near: Int[Array, " n"]
    far: Int[Array, " n"]
    weight: Float[Array, " n"]


def taps(n_in: int, extent: float, n_out: int, switches: Switches) -> Taps:
    """The texels along one axis. Texel i has its middle at i + 0.5, and beyond the ends lies the last texel again."""
    place = (np.arange(n_out) + (0.5 if switches.mask_half_pixel else 0.0)) * (extent / n_out)
    if switches.filter == "nearest":
        nearest = np.clip(np.floor(place), 0, n_in - 1).astype(np.int64)
        return Taps(nearest, nearest, np.zeros(n_out, np.float32))
    middle = np.clip(place - 0.5, 0, n_in - 1)
    near = middle.astype(np.int64)
    return Taps(near, np.minimum(near + 1, n_in - 1), (middle - near).astype(np.float32))
