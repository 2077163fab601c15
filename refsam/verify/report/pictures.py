"""The pictures of an outcome: the photograph with its prompt, the maps of the stages that differ, the masks."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from refsam.drawing import overlay
from refsam.figures import rms
from refsam.mask_difference import grow
from refsam.types import Array, Bool, UInt8
from refsam.verify.comparison import StageResult
from refsam.verify.difference import aligned
from refsam.verify.outcome import Outcome
from refsam.verify.report.maps import SIDE, as_map, heat, magnitude, photo, pixels, shrunk, smaller
from refsam.verify.single import narrowed

PHOTO_SIDE = 560
"""Longest side of a photograph in pixels."""

MOST_MAPS = 8
ALWAYS = ("image_encoder", "low_res_masks")
"""Stages that are shown of a port that holds: its rounding errors."""

REFERENCE, PORT, FLIPPED = (0, 114, 178), (255, 176, 0), (220, 38, 127)
"""Blue and yellow outlines, magenta where the masks differ: apart in every kind of colour blindness."""

_BRIGHTEST = 0.999  # the share of places up to which the colours of a difference reach
_DASH = 6  # pixels


class Heatmap(NamedTuple):
    """A stage's map: the reference's and the port's own on one scale, and their difference.

    Attributes:
        stage: its name.
        reference, port, difference: data URIs.
        times_allowed: what the brightest colour of the difference means, in parts of what is allowed.
        kind: "map" or "picture".
    """

    stage: str
    reference: str
    port: str
    difference: str
    times_allowed: float
    kind: str


class MaskPicture(NamedTuple):
    """One of the final masks, by its place among them: photograph, both outlines and flipped pixels, as a data URI."""

    number: int
    picture: str


class Pictures(NamedTuple):
    """All of an outcome's pictures."""

    photo: str
    heatmaps: tuple[Heatmap, ...]
    masks: tuple[MaskPicture, ...]


def pictures_of(outcome: Outcome) -> Pictures:
    """Draw them: at most MOST_MAPS stages, of the masks those that differ, else the first."""
    small = shrunk(outcome.case.image, PHOTO_SIDE)
    drawn = _with_prompt(small, outcome)
    return Pictures(photo(drawn), tuple(_heatmaps(outcome)), tuple(_masks(outcome, drawn)))


def _with_prompt(small: UInt8[Array, "h w 3"], outcome: Outcome) -> UInt8[Array, "h w 3"]:
    prompts: dict[str, Any] = {name: x for name, x in outcome.case.prompts.items() if x is not None}
    height, width = outcome.case.size
    scale = np.array([small.shape[1] / width, small.shape[0] / height])  # narrow pictures are rounded to whole pixels
    points, box = prompts.get("point_coords"), prompts.get("box")
    return overlay(
        small,
        points=None if points is None else np.asarray(points, np.float64) * scale,
        labels=prompts.get("point_labels"),
        boxes=None if box is None else np.asarray(box, np.float64) * np.tile(scale, 2),
    )


# --- heatmaps ---------------------------------------------------------------------------------------------------------------


def _heatmaps(outcome: Outcome) -> Iterator[Heatmap]:
    """Where differences enter first, then the other stages that do not hold; of a port that holds, ALWAYS."""
    report = outcome.verdict.report
    truth, _ = narrowed(outcome.reference.truth, outcome.candidate)
    known = aligned(truth, outcome.candidate)
    entering = {result.stage: result for result in report.entering}
    failing = [result for result in report.failing if result.stage not in entering]
    chosen = [*entering.values(), *failing] or [result for result in report.stages if result.stage in ALWAYS]
    drawn = 0
    for result in chosen:
        if drawn == MOST_MAPS:
            return
        if result.stage in known and (found := _heatmap(result, truth[result.stage], known[result.stage])):
            drawn += 1
            yield found


def _heatmap(result: StageResult, truth: Array, value: Array) -> Heatmap | None:
    ours, theirs = as_map(result.stage, truth), as_map(result.stage, value)
    if ours is None or theirs is None:
        return None
    scale = rms(truth)
    allowed = result.k * result.budget * scale or 1.0
    error = smaller(magnitude(theirs - np.asarray(ours, np.float64)))
    brightest = float(np.quantile(error, _BRIGHTEST))
    difference = heat(error, brightest)
    if result.stage in ("transforms.resized", "input_image"):
        reference, port = (photo(shrunk(pixels(result.stage, x), SIDE)) for x in (ours, theirs))
        return Heatmap(result.stage, reference, port, difference, brightest / allowed, "picture")
    maps = [smaller(magnitude(x)) for x in (ours, theirs)]
    least, most = (float(level) for level in np.quantile(maps[0], (1 - _BRIGHTEST, _BRIGHTEST)))
    reference, port = (heat(x, most, least) for x in maps)
    return Heatmap(result.stage, reference, port, difference, brightest / allowed, "map")


# --- masks ------------------------------------------------------------------------------------------------------------------


def _masks(outcome: Outcome, drawn: UInt8[Array, "h w 3"]) -> Iterator[MaskPicture]:
    different = [index for index, mask in enumerate(outcome.masks) if mask.flipped] or [0]
    references = outcome.reference_masks
    for index in different:
        if index < len(outcome.masks) and not outcome.masks[index].misfit:
            reference = references[outcome.masks[index].number]
            yield MaskPicture(index, photo(mask_picture(drawn, reference, outcome.final_masks[index])))


def mask_picture(
    drawn: UInt8[Array, "h w 3"], reference: Bool[Array, "H W"], port: Bool[Array, "H W"]
) -> UInt8[Array, "h w 3"]:  # fmt: skip
    """The photograph in grey with the reference's outline, the port's as dashes on top, and all pixels that differ."""
    size = (drawn.shape[0], drawn.shape[1])
    canvas = np.repeat(drawn.mean(axis=2, dtype=np.float32, keepdims=True), 3, axis=2)  # grey, so that colours are the masks'
    flips = _shrunk_flips(reference ^ port, size)
    canvas[flips] = 0.35 * canvas[flips] + 0.65 * np.array(FLIPPED, np.float32)
    y, x = np.indices(size)
    dashes = (x + y) // _DASH % 2 == 0
    canvas[_outline(_sampled(reference, size))] = REFERENCE
    canvas[_outline(_sampled(port, size)) & dashes] = PORT
    return np.rint(canvas).astype(np.uint8)


def _outline(mask: Bool[Array, "h w"]) -> Bool[Array, "h w"]:
    """Two pixels wide, one on either side of the edge."""
    return (grow(mask) & ~mask) | (grow(~mask) & mask)


def _sampled(mask: Bool[Array, "H W"], size: tuple[int, int]) -> Bool[Array, "h w"]:
    """The mask at the middle of each pixel of the smaller picture."""
    rows, columns = ((2 * np.arange(n) + 1) * full // (2 * n) for n, full in zip(size, mask.shape, strict=True))
    return mask[rows[:, None], columns]


def _shrunk_flips(flips: Bool[Array, "H W"], size: tuple[int, int]) -> Bool[Array, "h w"]:
    """Every flipped pixel marks the pixel that it falls into, so that a single one is seen."""
    found = np.zeros(size, bool)
    y, x = np.nonzero(flips)
    found[y * size[0] // flips.shape[0], x * size[1] // flips.shape[1]] = True
    return found
