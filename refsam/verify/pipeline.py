"""The whole path from picture to mask with every decision that ports get wrong as a field of its own."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from refsam import transforms
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.ops.resize import pillow_bilinear
from refsam.types import Array, Float, Size, UInt8

Picture: TypeAlias = UInt8[Array, "H W 3"]
Pixels: TypeAlias = Array
"""(h, w, 3), uint8 as upstream has it, or float for a port that does not round."""


F = TypeVar("F", bound=Callable[..., Any])


def definition(function: F) -> F:
    """A replaceable model function as it stands in the model, never what replaces it."""
    unwrapped: F = inspect.unwrap(function)
    return unwrapped


def as_it_is(x: Any) -> Any:
    """No change."""
    return x


def mask_as_it_is(mask: Array, original_size: Size, image_size: int) -> Array:  # noqa: ARG001 - whatever the picture
    """A mask prompt is in the input frame's scale already."""
    return mask


def upper_left(frame: Float[Array, "S S 3"], pixels: Float[Array, "h w 3"]) -> None:
    """The picture in the frame's first rows and columns."""
    frame[: pixels.shape[0], : pixels.shape[1]] = pixels


Level: TypeAlias = float | tuple[float, float, float]
"""Of all channels, or one for each."""


@dataclass(frozen=True)
class Place:
    """Normalising and padding; the defaults are `transforms.normalize_and_pad` with the same bits, also of pixels that are float.

    Attributes:
        mean, std: pixels become (pixel - mean) / std.
        fill: the padding, of all channels or of each.
        fill_first: it is padded before normalising, with a grey level.
        black_rows: so many rows of the frame, as a share of S, are a canvas that is black before normalising; 0 for none.
        position: writes the picture into the frame.
    """

    mean: Level = tuple(transforms.PIXEL_MEAN.tolist())
    std: Level = tuple(transforms.PIXEL_STD.tolist())
    fill: Level = 0.0
    fill_first: bool = False
    black_rows: float = 0.0
    position: Callable[[Float[Array, "S S 3"], Float[Array, "h w 3"]], None] = upper_left

    def __call__(self, pixels: Pixels, image_size: int) -> Float[Array, "1 3 S S"]:
        """The encoder's input."""
        frame = np.empty((image_size, image_size, 3), np.float32)
        frame[...] = self.normalised(self.fill) if self.fill_first else self.fill
        if self.black_rows:
            rows = round(self.black_rows * image_size)
            frame[:rows] = self.normalised(0)
            pixels = pixels[:rows]
        self.position(frame, self.normalised(pixels))
        return frame.transpose(2, 0, 1)[None]

    def normalised(self, pixels: Any) -> Float[Array, "*S 3"]:
        """Grey levels as the model takes them."""
        levels, mean, std = (np.asarray(x, np.float32) for x in (pixels, self.mean, self.std))
        result: Array = (levels - mean) / std
        return result


normalize_and_pad = Place()
"""The reference's."""


@dataclass(frozen=True)
class Pipeline:
    """How a port gets from a picture to masks; the defaults are the reference's own way.

    Attributes:
        picture: what becomes of the RGB pixels before anything else.
        size: (original size, S) -> size after resizing.
        resize: (picture, size) -> pixels.
        place: (pixels, S) -> input_image (1, 3, S, S): normalising and padding.
        coords: (points (N, 2) in image pixels, original size, S) -> the same in the input frame; box corners go through it too.
        mask: (mask prompt (1, L, L), original size, S) -> what the prompt encoder is given for it.
        weights: changes the checkpoint.
        ops: operations by name ("gelu") that replace the definition's.
        functions: model functions by `Ops.replacement`'s names that replace the definition's.
        upsample: (low_res_masks, input size, original size, S) -> logits at the picture's size.
        binarize: logits -> bool.
    """

    picture: Callable[[Picture], Picture] = as_it_is
    size: Callable[[Size, int], Size] = transforms.resized_size
    resize: Callable[[Picture, Size], Pixels] = pillow_bilinear
    place: Callable[[Pixels, int], Float[Array, "1 3 S S"]] = normalize_and_pad
    coords: Callable[[Array, Size, int], Array] = transforms.apply_coords
    mask: Callable[[Array, Size, int], Array] = mask_as_it_is
    weights: Callable[[Mapping[str, Array]], Mapping[str, Array]] = as_it_is
    ops: Mapping[str, Callable[..., Array]] = field(default_factory=dict)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    upsample: Callable[[Array, Size, Size, int], Array] = transforms.postprocess_logits
    binarize: Callable[[Array], Array] = lambda logits: logits > 0

    def with_ops(self, **ops: Callable[..., Array]) -> "Pipeline":
        """These operations on top of those replaced so far."""
        return replace(self, ops={**self.ops, **ops})

    def with_function(self, name: str, function: Callable[..., Any]) -> "Pipeline":
        """This model function on top of those replaced so far."""
        return replace(self, functions={**self.functions, name: function})

    def resized(self, image: Picture, image_size: int) -> Pixels:
        """The picture in the input frame's scale."""
        picture = self.picture(image)
        return self.resize(picture, self.size((picture.shape[0], picture.shape[1]), image_size))

    def input_image(self, image: Picture, image_size: int) -> Float[Array, "1 3 S S"]:
        """What the image encoder gets."""
        return self.place(self.resized(image, image_size), image_size).astype(np.float32)

    def model(self, base: MobileSam) -> MobileSam:
        """`base` (float32) with this pipeline's weights, operations and functions."""
        return base.with_scope(replace(base.scope, weights=self.weights(base.scope.weights), ops=PipelineOps(self)))


class PipelineOps(Ops):
    """The definition with a pipeline's replacements."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.functions = pipeline.functions
        for name, op in pipeline.ops.items():
            setattr(self, name, op)

    def replacement(self, name: str) -> Callable[..., Any] | None:
        """The pipeline's function of this name."""
        return self.functions.get(name)
