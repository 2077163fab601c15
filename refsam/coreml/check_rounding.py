"""The model at the precision that each package declares: what the budgets of a check are measured with."""

from collections.abc import Mapping
from dataclasses import dataclass

from refsam.coreml.app_parts import Labels, ModelParts
from refsam.coreml.export import Part
from refsam.types import Array, Float

FLOAT32 = 2.0**-24
"""One rounding. Pre- and postprocessing are float32 whatever the packages are."""


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
        """As `Parts.embed`."""
        return self.parts["prompt_encoder"].embed(points, labels)

    def decode(
        self, image_embeddings: Float[Array, "1 D E E"], sparse: Float[Array, "1 N D"], dense: Float[Array, "1 D E E"]
    ) -> tuple[Float[Array, "1 M L L"], Float[Array, "1 M"]]:
        """As `Parts.decode`."""
        return self.parts["mask_decoder"].decode(image_embeddings, sparse, dense)
