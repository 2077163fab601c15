"""Pictures for people: masks as a translucent colour with a crisp outline, prompts as markers.

Everything is drawn into one copy of the picture, tile by tile, so that a picture of 100 megapixels needs little more than
that copy. Sizes follow the picture: an outline is 2 pixels wide up to 1200 pixels of longest side, then in proportion.
"""

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np

from refsam.arguments import numbers, real_number
from refsam.errors import InputError
from refsam.images import as_image
from refsam.masks import as_mask, box_of
from refsam.types import Array, Bool, Float, UInt8

PALETTE = (
    (0, 158, 255), (255, 159, 0), (0, 190, 140), (230, 120, 180), (245, 225, 50), (225, 85, 0), (110, 90, 230),
)  # fmt: skip
"""Colours of masks: Okabe and Ito's set, which colour-blind people can tell apart, brighter so as to carry on photographs."""

FOREGROUND, BACKGROUND = (0, 170, 110), (220, 50, 30)
"""Bluish green and vermilion: apart in every kind of colour blindness, and the signs in them (plus, minus) differ too."""

WHITE, BLACK = (255, 255, 255), (0, 0, 0)

_TILE = (256, 1024)  # rows and columns that are drawn at once

Region = tuple[slice, slice]


def overlay(
    image: UInt8[Array, "H W 3"],
    masks: Iterable[Bool[Array, "_ _"]] | None = None,
    *,
    points: Any = None,
    labels: Any = None,
    boxes: Any = None,
    opacity: float = 0.45,
) -> UInt8[Array, "H W 3"]:
    """The picture with masks, boxes and points drawn onto it.

    Args:
        image: RGB; it is left as it is.
        masks: (M, H, W), or any iterable of (H, W), of booleans or whole numbers that are not 0 inside; each in its own colour of
            PALETTE, later ones on top.
        points: (N, 2) x, y in image pixels; those outside the picture are drawn as far as they reach into it.
        labels: (N,) 1 for foreground (green, plus), 0 for background (red, minus); None: all foreground.
        boxes: (N, 4) x0, y0, x1, y1 in image pixels.
        opacity: of a mask's colour, from 0 to 1.
    Raises:
        InputError: no such picture, masks of another size or of other numbers, points, labels and boxes that do not fit together,
            or an opacity beyond its bounds.
    """
    opacity = real_number("opacity", opacity, 0, 1)
    points = _rows("points", points, 2)
    labels = np.ones(len(points)) if labels is None else np.asarray(labels).reshape(-1)
    if len(labels) != len(points):
        raise InputError(f"{len(points)} points have {len(labels)} labels; give one each")
    boxes = _rows("boxes", boxes, 4)
    if not (np.isfinite(points).all() and np.isfinite(boxes).all()):
        raise InputError("points and boxes have to be finite numbers")
    canvas = as_image(image).copy()
    unit = max(max(image.shape[:2]) / 1200, 1.0)
    for index, mask in enumerate(() if masks is None else masks):
        mask = as_mask(mask, image.shape[:2], f"mask {index}")
        _draw_mask(canvas, mask, PALETTE[index % len(PALETTE)], opacity, 2 * unit)
    for box in boxes:
        _draw_box(canvas, box, unit)
    for (x, y), label in zip(points, labels, strict=True):
        _draw_point(canvas, x, y, bool(label > 0), 10 * unit)
    return canvas


def _rows(name: str, values: Any, count: int) -> Float[Array, "N count"]:
    array = numbers(name, [] if values is None else values, f"(N, {count})")
    if array.size % count:
        raise InputError(f"{name} has shape {array.shape}; it has to be (N, {count})")
    return array.reshape(-1, count)


def _draw_mask(
    canvas: UInt8[Array, "H W 3"], mask: Bool[Array, "H W"], colour: tuple[int, int, int], opacity: float, line: float
) -> None:
    """Tint the mask's own pixels, and draw a line of the full colour along its edge with a thin dark rim.

    How far a pixel is from the edge is read off the blurred mask: blurring a straight edge gives the normal distribution of
    the distance, so its inverse gives the distance back, in fractions of a pixel. That is what makes the line smooth.
    """
    sigma = max(line / 2, 1.0)
    distances = _distances(sigma)
    for region, blurred, inside in _blurred_tiles(mask, sigma):
        tile = canvas[region].astype(np.float32)
        _blend(tile, colour, np.multiply(inside, opacity, dtype=np.float32))
        if blurred.min() < 255:  # else the edge is far away
            distance = distances[blurred]
            edge = _inside(line / 2 - distance)
            _blend(tile, BLACK, 0.4 * (_inside(line / 2 + 1 - distance) - edge))
            _blend(tile, colour, edge)
        canvas[region] = tile + 0.5


def _distances(sigma: float) -> Float[Array, "256"]:
    """Distance from the edge, in pixels, for each grey level of a mask blurred by `sigma`. Both ends are far away."""
    shares = np.clip(np.arange(256) / 255, 1e-4, 1 - 1e-4)
    normal = NormalDist()
    return np.array([sigma * abs(normal.inv_cdf(share)) for share in shares], np.float32)


def _blurred_tiles(mask: Bool[Array, "H W"], sigma: float) -> Iterator[tuple[Region, UInt8[Array, "h w"], Bool[Array, "h w"]]]:
    """(where, the blurred mask there, the mask there) for tiles that cover the mask and what its blur reaches."""
    from PIL import Image, ImageFilter

    box, reach = box_of(mask), math.ceil(4 * sigma) + 2
    if box is None:
        return
    left, top, right, bottom = (int(side) for side in box)
    for y in range(max(top - reach, 0), min(bottom + reach + 1, mask.shape[0]), _TILE[0]):
        for x in range(max(left - reach, 0), min(right + reach + 1, mask.shape[1]), _TILE[1]):
            y0, x0 = max(y - reach, 0), max(x - reach, 0)
            around = mask[y0 : y + _TILE[0] + reach, x0 : x + _TILE[1] + reach]
            if not around.any():
                continue
            grey = Image.fromarray(np.multiply(around, 255, dtype=np.uint8))
            blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(sigma)))
            region = (slice(y, y + _TILE[0]), slice(x, x + _TILE[1]))
            inside = mask[region]
            yield region, blurred[y - y0 :, x - x0 :][: inside.shape[0], : inside.shape[1]], inside


def _blend(tile: Float[Array, "h w 3"], colour: tuple[int, int, int], opacity: Float[Array, "h w"] | np.float32) -> None:
    """Mix `colour` into `tile`, in place."""
    tile += (np.array(colour, np.float32) - tile) * np.asarray(opacity, np.float32)[..., None]


def _draw_box(canvas: UInt8[Array, "H W 3"], box: Float[Array, "4"], unit: float) -> None:
    """A white frame centred on the box's edge, with a dark rim on both sides."""
    line, rim = max(round(2 * unit), 1), max(round(unit), 1)
    outside = rim + line // 2
    for inset, width, colour, opacity in (
        (-outside, rim, BLACK, 0.4), (rim - outside, line, WHITE, 1.0), (rim + line - outside, rim, BLACK, 0.4)
    ):  # fmt: skip
        _frame(canvas, box, inset, width, colour, opacity)


def _frame(
    canvas: UInt8[Array, "H W 3"], box: Float[Array, "4"], inset: int, width: int, colour: tuple[int, int, int], opacity: float
) -> None:
    """A frame of `width` pixels that starts `inset` pixels inside the box (outside, where negative), clipped to the picture."""
    height, columns = canvas.shape[:2]
    limits = np.array([columns, height, columns, height])
    x0, y0, x1, y1 = (int(side) for side in np.rint(np.clip(box, -limits, 2 * limits)))
    left, top, right, bottom = x0 + inset, y0 + inset, x1 + 1 - inset, y1 + 1 - inset
    for y, y_end, x, x_end in (
        (top, top + width, left, right), (bottom - width, bottom, left, right),
        (top + width, bottom - width, left, left + width), (top + width, bottom - width, right - width, right),
    ):  # fmt: skip
        region = (slice(max(y, 0), max(y_end, 0)), slice(max(x, 0), max(x_end, 0)))
        tile = canvas[region].astype(np.float32)
        _blend(tile, colour, np.float32(opacity))
        canvas[region] = tile + 0.5


def _draw_point(canvas: UInt8[Array, "H W 3"], x: float, y: float, foreground: bool, radius: float) -> None:
    """A disc with a white ring, a dark rim and a sign, its centre in the middle of pixel (x, y)."""
    height, width = canvas.shape[:2]
    rows, columns = _span(y, 1.25 * radius, height), _span(x, 1.25 * radius, width)
    dy, dx = np.abs(np.arange(rows.start, rows.stop)[:, None] - y), np.abs(np.arange(columns.start, columns.stop) - x)
    distance = np.hypot(dy, dx)
    tile = canvas[rows, columns].astype(np.float32)
    _blend(tile, BLACK, 0.4 * _inside(1.18 * radius - distance))
    _blend(tile, WHITE, _inside(radius - distance))
    _blend(tile, FOREGROUND if foreground else BACKGROUND, _inside(0.78 * radius - distance))
    long, thick = 0.45 * radius, 0.12 * radius
    _blend(tile, WHITE, _inside(long - dx) * _inside(thick - dy))
    if foreground:
        _blend(tile, WHITE, _inside(thick - dx) * _inside(long - dy))
    canvas[rows, columns] = tile + 0.5


def _span(centre: float, reach: float, side: int) -> slice:
    """The pixels of one axis within `reach` of `centre`, as far as they are in the picture."""
    start, stop = np.clip([math.floor(centre - reach), math.ceil(centre + reach) + 1], 0, side)
    return slice(int(start), int(stop))


def _inside(depth: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """How much of a pixel is inside a shape whose edge is `depth` pixels away from its middle: what makes edges smooth."""
    return np.clip(depth + 0.5, 0.0, 1.0)
