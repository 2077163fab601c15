"""The model at the precision that each package declares: what the budgets of a check are measured with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refsam.coreml.app_parts import Labels, ModelParts
from refsam.coreml.export import Part
from refsam.model.prompt_encoder import PADDING, position_encoding
from refsam.types import Array, Float

FLOAT32 = 2.0**-24
"""One rounding. Pre- and postprocessing are float32 whatever the packages are."""

FLOAT16 = 2.0**-11
"""One rounding of a float16 package."""


@dataclass(frozen=True)
class Rounded:
    """Parts at each package's precision, as `Parts`.

    Attributes:
        parts: for each package the model that rounds as it does.
        units: one rounding of that precision.
    """

    parts: Mapping[Part, ModelParts]
    units: Mapping[Part, float]

    @property
    def image_size(self) -> int:
        """As `Parts.image_size`."""
        return self.parts["image_encoder"].image_size

    def encode(self, input_image: Float[Array, "1 3 S S"]) -> Float[Array, "1 D E E"]:
        """As `Parts.encode`."""
        return self.parts["image_encoder"].encode(input_image)

    def embed(
        self, points: Float[Array, "1 N 2"], labels: Labels
    ) -> tuple[Float[Array, "1 N D"], Float[Array, "1 D E E"]]:  # fmt: skip
        """As `Parts.embed`. In a float16 package coordinates are rounded too, to half a pixel beyond 512, and the angles made of
        them: that costs more than all else, and no operation of the model shows it.
        """
        sparse, dense = self.parts["prompt_encoder"].embed(points, labels)
        if self.units["prompt_encoder"] < FLOAT16:
            return sparse, dense
        return sparse + (labels != PADDING)[..., None] * position_error(self.parts["prompt_encoder"], points), dense

    def decode(
        self, image_embeddings: Float[Array, "1 D E E"], sparse: Float[Array, "1 N D"], dense: Float[Array, "1 D E E"]
    ) -> tuple[Float[Array, "1 M L L"], Float[Array, "1 M"]]:
        """As `Parts.decode`."""
        return self.parts["mask_decoder"].decode(image_embeddings, sparse, dense)


def position_error(parts: ModelParts, points: Float[Array, "1 N 2"]) -> Float[Array, "1 N D"]:
    """What the position's encoding loses where each of its steps is stored in float16."""
    s, side = parts.model.scope / "prompt_encoder" / "pe_layer", parts.image_size
    exact = position_encoding(s, (points + 0.5) / side)
    places = half(half(half(points) + 0.5) / side)
    projected = half(half(half(2 * places) - 1) @ half(s["positional_encoding_gaussian_matrix"]))
    angles = half(projected * half(np.array(2 * np.pi, np.float32)))
    return np.concatenate([half(np.sin(angles)), half(np.cos(angles))], axis=-1) - exact


def half(x: Array) -> Array:
    """The nearest float16, in float32."""
    return x.astype(np.float16).astype(np.float32)
