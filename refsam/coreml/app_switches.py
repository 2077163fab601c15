"""Where the iOS app's path differs from the reference, one switch each.

Read in the app's sources and in the bitcode of its metallib; what needs a device to be sure of is marked so. Nothing of this was
run on Apple hardware.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Switches:
    """One way through preprocessing, prompts and postprocessing. The defaults are the reference's.

    Attributes:
        colour: what the picture's texture gives: its stored values ("srgb") or linear light, which an sRGB texture would.
        antialias: the filter widens where the picture shrinks; else two taps of the full-size picture each way.
        half_pixel: the middle of a target pixel is sampled; else its upper left corner, so the picture moves by half a pixel.
        rounding: resized pixels are whole levels.
        padding_index: a row begins at y * S; "shipped" adds the padding *below* the picture to each index *along* the row.
        stale_buffer: what the picture before left in the padding stays there.
        padding_point: points without a box get one more, of label -1.
        mask_index: the best-scored of masks 1 to 3; "first" takes mask 0, which the model means for unambiguous prompts.
        mask_steps: logits go up to S, then to the picture; "one" goes there at once, and padding bleeds in at the edge.
        mask_half_pixel: as `half_pixel`, on the way back.
        mask_size: the picture's part of the mask is exact, or rounded to whole mask pixels.
        filter: of the mask's texture. Linear filtering of float textures is optional on a device; it may be the nearest texel.
        values: 1 inside and 0 outside; "clamp" is 1 - clamp(logit, 0, 1), 0 inside and soft.
        blur: a Gaussian of 5 pixels on the mask.
        cut: a pixel is inside where more than half of it is, or where "any" of it is.
    """

    colour: Literal["srgb", "linear"] = "srgb"
    antialias: bool = True
    half_pixel: bool = True
    rounding: bool = True
    padding_index: Literal["fixed", "shipped"] = "fixed"
    stale_buffer: bool = False
    padding_point: bool = True
    mask_index: Literal["best", "first"] = "best"
    mask_steps: Literal["two", "one"] = "two"
    mask_half_pixel: bool = True
    mask_size: Literal["exact", "rounded"] = "exact"
    filter: Literal["linear", "nearest"] = "linear"
    values: Literal["step", "clamp"] = "step"
    blur: bool = False
    cut: Literal["half", "any"] = "half"


REFERENCE = Switches()

PREPROCESSING = ("colour", "antialias", "half_pixel", "rounding", "padding_index", "stale_buffer")
PROMPT = ("padding_point",)
POSTPROCESSING = ("mask_index", "mask_steps", "mask_half_pixel", "mask_size", "filter", "values", "blur", "cut")


@dataclass(frozen=True)
class Deviation:
    """What the app does in place of the reference at one switch, and what that is called in a report."""

    switch: str
    value: Any
    kind: Literal["defect", "deviation", "harmless", "suspected"]
    what: str

    def alone(self, base: Switches = REFERENCE) -> Switches:
        """`base` with this one deviation."""
        return replace(base, **{self.switch: self.value})


DEVIATIONS = (
    Deviation("padding_index", "shipped", "defect", "landscape: rows begin S - h pixels late, and wrap"),
    Deviation("half_pixel", False, "defect", "picture half a pixel to the right and down"),
    Deviation("antialias", False, "deviation", "no antialias where the picture shrinks"),
    Deviation("rounding", False, "harmless", "no rounding to whole levels"),
    Deviation("stale_buffer", True, "defect", "padding keeps the picture before"),
    Deviation("padding_point", False, "deviation", "no padding point without a box"),
    Deviation("mask_index", "first", "deviation", "mask 0 in place of the best of 1 to 3"),
    Deviation("mask_steps", "one", "deviation", "one interpolation in place of two"),
    Deviation("mask_half_pixel", False, "defect", "mask half a pixel to the right and down"),
    Deviation("mask_size", "rounded", "deviation", "picture's part of the mask rounded"),
    Deviation("blur", True, "deviation", "Gaussian of 5 pixels, cut at a half"),
    Deviation("cut", "any", "defect", "inside wherever the blurred mask is above 0"),
    Deviation("values", "clamp", "defect", "source only: 1 - clamp(logit, 0, 1)"),
    Deviation("colour", "linear", "suspected", "texture read as sRGB gives linear light"),
    Deviation("filter", "nearest", "suspected", "float textures may not be filtered"),
)
"""All of them, in the order of the path and then those that only a device can settle."""

_SURE = {d.switch: d.value for d in DEVIATIONS if d.kind != "suspected"}

SOURCE = Switches(**_SURE)
"""The app as its sources read."""

BINARY = replace(SOURCE, values="step")
"""The app as it ships: its metallib was compiled from an older source, which has 1 inside and a hard edge."""
