"""The iOS app's own path (refsam/coreml/app.py) as a port: pre- and postprocessing around packages, or refsam's model."""

from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from refsam.coreml.app import Point, SegmentAnything
from refsam.coreml.app_parts import ModelParts, Parts
from refsam.coreml.app_postprocessing import mask_of, mask_values
from refsam.coreml.app_switches import BINARY, REFERENCE, SOURCE, Switches
from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.types import Array
from refsam.verify.ports.coreml import open_coreml
from refsam.verify.ports.port import arrays, check_points_only, chosen_masks
from refsam.verify.reference import Case

Way: TypeAlias = Literal["binary", "source", "reference"]
WAYS: dict[str, Switches] = {"binary": BINARY, "source": SOURCE, "reference": REFERENCE}
"""As the app ships, as its sources read, and with every deviation off."""


class AppPort:
    """The app's path from picture and points to masks.

    Args:
        parts: what computes the model.
        precision: what they compute in.
        switches: the app's deviations.
        name: for people.
        notes: about the parts.
    """

    def __init__(self, parts: Parts, precision: str, switches: Switches, name: str, notes: tuple[str, ...] = ()) -> None:
        self.parts, self.precision, self.switches, self.name, self.notes = parts, precision, switches, name, notes

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:  # noqa: ARG002 - the app shows what it shows
        """Preprocess, encode, decode, and turn logits into masks as the app does. Raises InputError where there are no points."""
        app = SegmentAnything(self.parts, self.switches)
        app.preprocess(case.image)
        embedding = app.image_embeddings
        assert embedding is not None
        coords, labels = app.map_points(_points(case))
        sparse, dense = self.parts.embed(coords, labels)
        logits, scores = self.parts.decode(embedding, sparse, dense)
        chosen = chosen_masks(case)
        masks = [self._mask(mask, app) for mask in logits[0, chosen]]
        return arrays(
            {
                "input_image": app.input_buffer,
                "image_encoder": embedding,
                "transforms.point_coords": coords[:, : len(case.prompts["point_coords"])],
                "prompt_encoder.sparse_prompt_embeddings": sparse,
                "prompt_encoder.dense_prompt_embeddings": dense,
                "low_res_masks": logits[:, chosen],
                "iou_predictions": scores[:, chosen],
                "masks": np.stack(masks),
            }
        )

    def _mask(self, logits: Array, app: SegmentAnything) -> Array:
        values = mask_values(logits, app.original_size, self.parts.image_size, self.switches)
        return mask_of(values, self.switches)


def _points(case: Case) -> list[Point]:
    check_points_only(case, "the app")
    coords, labels = case.prompts["point_coords"], case.prompts["point_labels"]
    return [Point(float(x), float(y), int(label)) for (x, y), label in zip(coords, labels, strict=True)]


def open_app(words: tuple[str, ...], *, model: MobileSam, precision: str | None, way: Way = "binary", **packages: Any) -> AppPort:
    """ "app", around refsam's own model in float32, or the folder of the packages (and the options of kind coreml)."""
    if way not in WAYS:
        raise InputError(f"way is {way!r}; there are: {', '.join(WAYS)}")
    name = f"the app, {way}"
    if words == ("app",):
        parts = ModelParts(MobileSam(model.scope.weights, model.config, model.scope.ops, "float32", model.metadata))
        return AppPort(parts, precision or "float32", WAYS[way], f"{name}, on refsam's model")
    port = open_coreml(words, model=model, precision=precision, **packages)
    return AppPort(port.parts, port.precision, WAYS[way], f"{name}, on {port.name}")
