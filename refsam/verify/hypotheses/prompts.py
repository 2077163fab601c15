"""What ports do to points and boxes on their way to tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refsam import transforms
from refsam.model import prompt_encoder
from refsam.model.prompt_encoder import BACKGROUND, FOREGROUND
from refsam.scope import Scope
from refsam.types import Array, Size
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Pipeline, definition

embed_points = definition(prompt_encoder.embed_points)
embed_boxes = definition(prompt_encoder.embed_boxes)


def scaled(name: str, remedy: str, coords: Callable[[Array, Size, int], Array]) -> Hypothesis:
    """A hypothesis about coordinates in the input frame."""
    return Hypothesis(name, ("prompts",), remedy, lambda pipeline: replace(pipeline, coords=coords))


def tokens(name: str, remedy: str, **functions: Callable[..., Any]) -> Hypothesis:
    """A hypothesis about functions of the prompt encoder."""

    def apply(pipeline: Pipeline) -> Pipeline:
        for function, replacement in functions.items():
            pipeline = pipeline.with_function(f"prompt_encoder.{function}", replacement)
        return pipeline

    return Hypothesis(name, ("prompts",), remedy, apply)


def one_factor(coords: Array, original_size: Size, image_size: int) -> Array:
    """S / longest side for both axes, although sizes are rounded."""
    return coords * (image_size / max(original_size))


def exchanged(coords: Array, original_size: Size, image_size: int) -> Array:
    """(y, x) in place of (x, y)."""
    return transforms.apply_coords(coords, original_size, image_size)[..., ::-1]


def factors_exchanged(coords: Array, original_size: Size, image_size: int) -> Array:
    """x scaled by the height's factor and y by the width's, each to the whole frame."""
    height, width = original_size
    return coords * np.array([image_size / height, image_size / width])


def stretched(coords: Array, original_size: Size, image_size: int) -> Array:
    """Each axis scaled to the whole frame, as if the picture had been squashed."""
    height, width = original_size
    return coords * np.array([image_size / width, image_size / height])


def fractions(coords: Array, original_size: Size, image_size: int) -> Array:  # noqa: ARG001 - whatever the frame
    """Coordinates from 0 to 1."""
    height, width = original_size
    return coords / np.array([width, height])


def from_the_bottom(coords: Array, original_size: Size, image_size: int) -> Array:
    """y measured upwards from the picture's lower edge."""
    upright = np.stack([coords[..., 0], original_size[0] - coords[..., 1]], axis=-1)
    return transforms.apply_coords(upright, original_size, image_size)


def on_centred(coords: Array, original_size: Size, image_size: int) -> Array:
    """In the frame of a picture that has half of the padding on each side."""
    height, width = transforms.resized_size(original_size, image_size)
    margin = np.array([image_size - width, image_size - height]) / 2
    return transforms.apply_coords(coords, original_size, image_size) + margin


def on_screen(pixels: int) -> Callable[[Array, Size, int], Array]:
    """In points of a screen that has so many pixels to each."""
    return lambda coords, original_size, image_size: transforms.apply_coords(coords / pixels, original_size, image_size)


def moved(shift: float) -> dict[str, Callable[..., Any]]:
    """Points and corners moved by so many pixels of the input frame."""

    def points(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:
        return embed_points(s, coords + shift, labels, pad, image_size)

    def boxes(s: Scope, boxes: Array, image_size: int) -> Array:
        return embed_boxes(s, boxes + shift, image_size)

    return {"embed_points": points, "embed_boxes": boxes}


def always_padded(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:  # noqa: ARG001
    """With a padding point, box or not."""
    return embed_points(s, coords, labels, True, image_size)


def never_padded(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:  # noqa: ARG001
    """Without a padding point, box or not."""
    return embed_points(s, coords, labels, False, image_size)


def padding_with_position(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:
    """The padding point keeps the encoding of (0, 0)."""
    found = embed_points(s, coords, labels, pad, image_size)
    if pad:
        corner = np.full((len(coords), 1, 2), 0.5, found.dtype) / image_size
        found[:, -1:] += prompt_encoder.position_encoding(s / "pe_layer", corner)
    return found


def labels_exchanged(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:
    """Foreground for background."""
    return embed_points(s, coords, np.where(labels >= 0, 1 - labels, labels), pad, image_size)


def all_foreground(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:
    """Labels ignored."""
    return embed_points(s, coords, np.where(labels == BACKGROUND, FOREGROUND, labels), pad, image_size)


def without_label(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:
    """Positions without the embedding of what they are."""
    found = embed_points(s, coords, labels, pad, image_size)
    plain = prompt_encoder.position_encoding(s / "pe_layer", (coords + 0.5).astype(found.dtype) / image_size)
    found[:, : coords.shape[1]] = np.where((labels >= 0)[..., None], plain, found[:, : coords.shape[1]])
    return found


def corners_exchanged(s: Scope, boxes: Array, image_size: int) -> Array:
    """The last corner given first, so that each has the other's embedding."""
    return embed_boxes(s, boxes[:, [2, 3, 0, 1]], image_size)


def kinds_exchanged(s: Scope, boxes: Array, image_size: int) -> Array:
    """Each corner in its place with the other's embedding."""
    return embed_boxes(s, boxes[:, [2, 3, 0, 1]], image_size)[:, ::-1]


def corners_as_points(s: Scope, boxes: Array, image_size: int) -> Array:
    """Corners labelled as foreground points."""
    corners = boxes.reshape(-1, 2, 2)
    return embed_points(s, corners, np.full(corners.shape[:2], FOREGROUND), False, image_size)


def width_and_height(s: Scope, boxes: Array, image_size: int) -> Array:
    """x, y, width, height given for two corners."""
    return embed_boxes(s, np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), image_size)


def waves(name: str, frequencies: float = 2 * np.pi, exchanged: bool = False, interleaved: bool = False) -> Hypothesis:
    """A hypothesis about the Fourier features of points, corners and the image's cells: ports have one function for all."""

    def encode(s: Scope, coords: Array) -> Array:
        matrix = s["positional_encoding_gaussian_matrix"]
        angles = frequencies * ((2 * coords.astype(matrix.dtype) - 1) @ matrix)
        parts = [np.cos(angles), np.sin(angles)] if exchanged else [np.sin(angles), np.cos(angles)]
        if interleaved:
            return np.stack(parts, axis=-1).reshape(*angles.shape[:-1], -1)
        return np.concatenate(parts, axis=-1)

    def apply(pipeline: Pipeline) -> Pipeline:
        return pipeline.with_function("prompt_encoder.position_encoding", encode)

    return Hypothesis(name, ("prompts", "decoder"), _WAVES, apply)


_SCALE = "multiply x by new width / width and y by new height / height of the resized picture, before padding"
_SCREEN = "points are pixels of the picture: multiply a view's coordinates by contentScaleFactor"
_HALF = "add 0.5 to coordinates, once, before dividing by S"
_PAD = "without a box add one point of label -1, whose token is not_a_point_embed alone; with a box add none"
_BOX = "corners are (x0, y0), (x1, y1) with point_embeddings 2 and 3, in this order, after the points"
_LABEL = "add point_embeddings.1 to foreground points and point_embeddings.0 to background points"
_WAVES = "concatenate sin and cos of 2 pi (2c - 1) @ gaussian, all sines first"

HYPOTHESES = (
    scaled("points not scaled", _SCALE, lambda coords, _original, _size: coords),
    scaled("x and y of points exchanged", "points are (x, y)", exchanged),
    scaled("points as fractions", _SCALE, fractions),
    scaled("points stretched to the frame", _SCALE, stretched),
    scaled("height and width of the scale exchanged", _SCALE, factors_exchanged),
    scaled("one factor for both axes", _SCALE, one_factor),
    scaled("y of points from the bottom", "y is measured downwards from the upper edge", from_the_bottom),
    scaled("points on a centred picture", "the picture is at the upper left of the frame, and points move with it", on_centred),
    scaled("points of a 2x screen", _SCREEN, on_screen(2)),
    scaled("points of a 3x screen", _SCREEN, on_screen(3)),
    tokens("half a pixel missing", _HALF, **moved(-0.5)),
    tokens("half a pixel twice", _HALF, **moved(0.5)),
    tokens("padding point missing", _PAD, embed_points=never_padded),
    tokens("padding point with a box", _PAD, embed_points=always_padded),
    tokens("padding point has a position", _PAD, embed_points=padding_with_position),
    tokens("labels exchanged", _LABEL, embed_points=labels_exchanged),
    tokens("labels ignored", _LABEL, embed_points=all_foreground),
    tokens("label embedding missing", _LABEL, embed_points=without_label),
    waves("sines and cosines exchanged", exchanged=True),
    waves("sines and cosines interleaved", interleaved=True),
    waves("2 pi missing", frequencies=1.0),
    tokens("box corners exchanged", _BOX, embed_boxes=corners_exchanged),
    tokens("embeddings of box corners exchanged", _BOX, embed_boxes=kinds_exchanged),
    tokens("box corners as points", _BOX, embed_boxes=corners_as_points),
    tokens("box as x, y, width, height", _BOX, embed_boxes=width_and_height),
)
