"""The three parts of the model as an app calls them, whoever computes: refsam itself, refsam's interpreter, or Core ML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from refsam.blas import one_blas_thread
from refsam.coreml.export import PACKAGES, Part
from refsam.coreml.mil import load
from refsam.coreml.roles import roles_of
from refsam.coreml.types import Feature
from refsam.errors import InputError
from refsam.model.mask_decoder import predict_masks
from refsam.model.prompt_encoder import embed_points, no_mask
from refsam.model.sam import MobileSam
from refsam.types import Array, Float

Labels = Float[Array, "1 N"]
"""1 foreground, 0 background, -1 padding; float32, as the packages take them."""


class Parts(Protocol):
    """What the app's SegmentAnything calls. Prompts are in the padded input frame; all four masks are handed out."""

    @property
    def image_size(self) -> int:
        """S, the side of the input."""

    def encode(self, input_image: Float[Array, "1 3 S S"]) -> Float[Array, "1 D E E"]:
        """The image embedding."""

    def embed(
        self, points: Float[Array, "1 N 2"], labels: Labels
    ) -> tuple[Float[Array, "1 N D"], Float[Array, "1 D E E"]]:  # fmt: skip
        """Sparse and dense prompt embeddings; no padding point is added."""

    def decode(
        self, image_embeddings: Float[Array, "1 D E E"], sparse: Float[Array, "1 N D"], dense: Float[Array, "1 D E E"]
    ) -> tuple[Float[Array, "1 M L L"], Float[Array, "1 M"]]:
        """Logits and predicted IoUs of masks 0 to 3."""


class ModelParts:
    """refsam's own model in the place of the packages."""

    def __init__(self, model: MobileSam) -> None:
        self.model = model
        self.image_size = model.config.image_size

    def encode(self, input_image: Float[Array, "1 3 S S"]) -> Float[Array, "1 D E E"]:
        """`MobileSam.encode_image`."""
        return self.model.encode_image(input_image)

    def embed(
        self, points: Float[Array, "1 N 2"], labels: Labels
    ) -> tuple[Float[Array, "1 N D"], Float[Array, "1 D E E"]]:  # fmt: skip
        """`embed_points` without a padding point, and the embedding of no mask."""
        s, config = self.model.scope / "prompt_encoder", self.model.config
        with one_blas_thread():
            sparse = embed_points(s, points.astype(self.model.dtype), labels.astype(np.int64), False, config.image_size)
        return sparse, no_mask(s, 1, config.embedding_size)

    def decode(
        self, image_embeddings: Float[Array, "1 D E E"], sparse: Float[Array, "1 N D"], dense: Float[Array, "1 D E E"]
    ) -> tuple[Float[Array, "1 M L L"], Float[Array, "1 M"]]:
        """`predict_masks`: the mask decoder before it chooses."""
        model, s = self.model, self.model.scope / "mask_decoder"
        embeddings, tokens, maps = (np.ascontiguousarray(x, model.dtype) for x in (image_embeddings, sparse, dense))
        with one_blas_thread():
            return predict_masks(s, embeddings, model.image_pe, tokens, maps, model.config)


class Runnable(Protocol):
    """A Core ML program, wherever it runs."""

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """In the order of the conversion."""

    @property
    def outputs(self) -> tuple[Feature, ...]:
        """In the order of the conversion."""

    def run(self, inputs: Mapping[str, Array], precision: str | None = None) -> dict[str, Array]:
        """Name -> output."""


SIGNATURES: dict[Part, tuple[int, tuple[int, ...]]] = {
    "image_encoder": (1, (4,)),
    "prompt_encoder": (2, (3, 4)),
    "mask_decoder": (4, (4, 2)),
}
"""How many inputs each part has, and how many axes each of its outputs."""


class PackageParts:
    """Three Core ML programs. The article, the app and other ports have other names: `roles_of` tells inputs apart, and outputs
    go by their order.

    Args:
        programs: part -> program.
        image_pe: the positional encoding that the app loads from a file of its own.
        precision: None, as the programs are typed; or another of the interpreter's.

    Raises InputError where a program has not the inputs and outputs of its part.
    """

    def __init__(
        self, programs: Mapping[Part, Runnable], image_pe: Float[Array, "1 D E E"], precision: str | None = None
    ) -> None:
        self.programs, self.precision = programs, precision
        self.image_pe = np.ascontiguousarray(image_pe, np.float32)
        for part, (inputs, ranks) in SIGNATURES.items():
            _check_interface(part, programs[part], (inputs, len(ranks)))
        shape = programs["image_encoder"].inputs[0].shape
        if len(shape) != 4 or shape[:2] != (1, 3) or shape[2] != shape[3] or shape[2] < 16:
            raise InputError(f"the image encoder takes {shape}; (1, 3, S, S) is needed")
        self.image_size = shape[2]

    @classmethod
    def load(cls, folder: Path, image_pe: Float[Array, "1 D E E"], precision: str | None = None) -> "PackageParts":
        """The packages that `refsam coreml export` or the article's script wrote into `folder`. Raises PackageError."""
        return cls({part: load(folder / name) for part, name in PACKAGES.items()}, image_pe, precision)

    def encode(self, input_image: Float[Array, "1 3 S S"]) -> Float[Array, "1 D E E"]:
        """ImageEncoder.mlpackage."""
        return self._run("image_encoder", input_image)[0]

    def embed(
        self, points: Float[Array, "1 N 2"], labels: Labels
    ) -> tuple[Float[Array, "1 N D"], Float[Array, "1 D E E"]]:  # fmt: skip
        """PromptEncoder.mlpackage."""
        sparse, dense = self._run("prompt_encoder", points, labels)
        return sparse, dense

    def decode(
        self, image_embeddings: Float[Array, "1 D E E"], sparse: Float[Array, "1 N D"], dense: Float[Array, "1 D E E"]
    ) -> tuple[Float[Array, "1 M L L"], Float[Array, "1 M"]]:
        """MaskDecoder.mlpackage."""
        masks, iou_predictions = self._run("mask_decoder", image_embeddings, self.image_pe, sparse, dense)
        if masks.shape[:2] != iou_predictions.shape or masks.shape[1] < 2 or masks.shape[2] != masks.shape[3]:
            raise InputError(f"the mask decoder gives masks {masks.shape} and scores {iou_predictions.shape}; they do not fit")
        return masks, iou_predictions

    def _run(self, part: Part, *given: Array) -> list[Array]:
        program = self.programs[part]
        found = program.run(by_name(part, program.inputs, given), self.precision)
        outputs = [np.asarray(found[feature.name], np.float32) for feature in program.outputs]
        for feature, output, rank in zip(program.outputs, outputs, SIGNATURES[part][1], strict=True):
            if output.ndim != rank or 0 in output.shape:
                raise InputError(f"{feature.name} of the {part.replace('_', ' ')} is {output.shape}; {rank} axes are needed")
        return outputs


def by_name(part: Part, features: Sequence[Feature], given: Sequence[Array]) -> dict[str, Array]:
    """What a part is given, in the order of `ROLES`, under the names that a program has for it; in float32."""
    return {name: np.ascontiguousarray(x, np.float32) for name, x in zip(roles_of(part, features).values(), given, strict=True)}


def _check_interface(part: str, program: Runnable, counts: tuple[int, int]) -> None:
    have = (len(program.inputs), len(program.outputs))
    if have != counts:
        names = [feature.name for feature in (*program.inputs, *program.outputs)]
        raise InputError(
            f"the {part.replace('_', ' ')} has {have[0]} inputs and {have[1]} outputs ({', '.join(names)}); {counts[0]} and"
            f" {counts[1]} are needed"
        )
