"""What came of verifying a port on one case: the verdict, and what its differences do to the masks in the end."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from refsam.mask_difference import MaskDifference
from refsam.transforms import postprocess_masks, resized_size
from refsam.types import Array, Bool
from refsam.verify.reference import Case, Reference
from refsam.verify.verdict import Verdict
from refsam.verify.words import in_words


@dataclass(frozen=True)
class Outcome:
    """A port on one case. True when the port holds.

    Attributes:
        port: its name.
        case: picture and prompt.
        reference: the truth and its budgets.
        candidate: what the port showed, and the input_image that it was given where it has no preprocessing.
        verdict: of the port's own stages.
        notes: what the reference did in the port's place and how its results were read.
        final_masks: those that come of it: one for each candidate of the prompt, or what the port shows in their place.
        masks: the final masks against the reference's, end to end. (`verdict.report.masks` is the postprocessing alone.)
    """

    port: str
    case: Case
    reference: Reference
    candidate: Mapping[str, Array]
    verdict: Verdict
    notes: tuple[str, ...]
    final_masks: Bool[Array, "M H W"]
    masks: tuple[MaskDifference, ...]

    @property
    def reference_masks(self) -> Bool[Array, "M H W"]:
        """The reference's, computed anew at each use."""
        side, size = self.reference.model.config.image_size, self.case.size
        return postprocess_masks(self.reference.truth["low_res_masks"], resized_size(size, side), size, side)[0]

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def __str__(self) -> str:
        ends = ", ".join(mask.misfit or f"IoU {mask.iou:.4f}" for mask in self.masks)
        found = [in_words(self.verdict.report, self.port), *(f"  {explanation}" for explanation in self.verdict.explanations)]
        return "\n".join([*found, f"  masks end to end: {ends}", *(f"  {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        height, width = self.case.size
        return {
            "port": self.port,
            "picture": {"name": self.case.name, "height": height, "width": width, "sha256": self.case.sha256},
            "notes": list(self.notes),
            "end_to_end": [asdict(mask) for mask in self.masks],
            **self.verdict.to_dict(),
        }
