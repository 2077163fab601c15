"""The article's SegmentAnything in NumPy: what an iOS app of MobileSAM does with a picture and points, deviations by switch.

    app = SegmentAnything(PackageParts.load(folder, image_pe), BINARY)
    app.preprocess(image)
    masks = app.predict_masks([Point(590, 390)])

Read in this order: app_switches, app_preprocessing, app_postprocessing, app_parts, app, app_report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsam.coreml.app_parts import Labels, Parts
from refsam.coreml.app_postprocessing import mask_of, mask_values
from refsam.coreml.app_preprocessing import preprocess
from refsam.coreml.app_switches import REFERENCE, Switches
from refsam.coreml.export import MAX_POINTS
from refsam.errors import InputError, NotReady
from refsam.images import as_image
from refsam.model.prompt_encoder import FOREGROUND, PADDING
from refsam.transforms import resized_size
from refsam.types import Array, Bool, Float, Size, UInt8


class Point(NamedTuple):
    """A point in image pixels; label 1 is on the object, 0 is not."""

    x: float
    y: float
    label: int = FOREGROUND


@dataclass(frozen=True)
class Mask:
    """One of the masks that the app is handed.

    Attributes:
        values: what its texture holds (`mask_of` says which pixels are inside).
        score: the predicted IoU.
    """

    values: Float[Array, "H W"]
    score: float


class SegmentAnything:
    """The app's object: a picture is encoded once, then asked with points.

    Args:
        parts: what computes the model.
        switches: where it goes another way than the reference.

    Attributes:
        input_buffer: the encoder's input, kept from picture to picture as the app keeps it.
        image_embeddings: of the current picture.
    """

    def __init__(self, parts: Parts, switches: Switches = REFERENCE) -> None:
        self.parts, self.switches = parts, switches
        self.input_buffer: Float[Array, "1 3 S S"] | None = None
        self.image_embeddings: Float[Array, "1 D E E"] | None = None
        self.original_size: Size = (0, 0)

    def preprocess(self, image: UInt8[Array, "H W 3"]) -> None:
        """Set the picture. Raises InputError where it is none."""
        image = as_image(image)
        self.input_buffer = preprocess(image, self.parts.image_size, self.switches, self.input_buffer)
        self.set_embedding(self.parts.encode(self.input_buffer), (image.shape[0], image.shape[1]))

    def set_embedding(self, image_embeddings: Float[Array, "1 D E E"], original_size: Size) -> None:
        """Set the picture by what `preprocess` made of it."""
        self.image_embeddings, self.original_size = image_embeddings, original_size

    def predict_masks(self, points: Sequence[Point]) -> list[Mask]:
        """All four masks, as the app shows them, with their scores. Raises NotReady before `preprocess`; InputError."""
        logits, scores = self.predict_logits(points)
        values = (mask_values(mask, self.original_size, self.parts.image_size, self.switches) for mask in logits)
        return [Mask(value, float(score)) for value, score in zip(values, scores, strict=True)]

    def predict(self, points: Sequence[Point]) -> Bool[Array, "H W"]:
        """The one mask that the switches choose, as booleans. Raises as `predict_masks` does."""
        return self.finish(*self.predict_logits(points))

    def finish(self, logits: Float[Array, "M L L"], scores: Float[Array, " M"]) -> Bool[Array, "H W"]:
        """The chosen mask of `predict_logits` at the picture's size."""
        chosen = logits[self.chosen(scores)]
        return mask_of(mask_values(chosen, self.original_size, self.parts.image_size, self.switches), self.switches)

    def predict_logits(self, points: Sequence[Point]) -> tuple[Float[Array, "M L L"], Float[Array, " M"]]:
        """Logits and scores of masks 0 to 3."""
        if self.image_embeddings is None:
            raise NotReady("a picture must be set with preprocess(...) before masks can be predicted")
        logits, scores = self.parts.decode(self.image_embeddings, *self.parts.embed(*self.map_points(points)))
        return logits[0], scores[0]

    def chosen(self, scores: Float[Array, " M"]) -> int:
        """Which mask counts: the best of the last three, or the first of all."""
        return 0 if self.switches.mask_index == "first" else 1 + int(np.argmax(scores[1:]))

    def map_points(self, points: Sequence[Point]) -> tuple[Float[Array, "1 N 2"], Labels]:
        """Points from image pixels to the input frame, in float32, with a padding point where the switches have one.

        Raises InputError for none, more than the packages take, a coordinate that is not finite, or another label.
        """
        extra = 1 if self.switches.padding_point else 0
        if not 1 <= len(points) <= MAX_POINTS - extra:
            raise InputError(f"there are {len(points)} points; 1 to {MAX_POINTS - extra} are needed")
        numbers = np.array(points, np.float64)
        if not np.isfinite(numbers).all() or not np.isin(numbers[:, 2], (0, 1, PADDING)).all():
            raise InputError(f"points are {numbers.tolist()}; finite x and y and a label of 1, 0 or -1 are needed")
        height, width = resized_size(self.original_size, self.parts.image_size)
        scale = np.array([width / self.original_size[1], height / self.original_size[0]], np.float32)
        mapped = np.zeros((1, len(points) + extra, 2), np.float32)
        mapped[0, : len(points)] = numbers[:, :2].astype(np.float32) * scale
        labels = np.full((1, len(points) + extra), PADDING, np.float32)
        labels[0, : len(points)] = numbers[:, 2]
        return mapped, labels
