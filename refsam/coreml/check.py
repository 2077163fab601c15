"""The whole path held against the reference, stage by stage: picture, preprocessing, three packages, postprocessing, masks.

Each stage is judged twice. *local*: on the candidate's own inputs, so a fault is named where it enters. *total*: from the picture
on, which is what a user sees. The truth is float64; a budget is what the model itself loses when it rounds at the packages'
declared precision, on the same inputs. The figures are those of `refsam.verify`; what this adds are masks by another's
postprocessing, all four of them, and a precision for each package.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refsam.coreml.app import Point, SegmentAnything
from refsam.coreml.app_parts import Labels, ModelParts, Parts
from refsam.coreml.check_rounding import FLOAT32, Rounded
from refsam.coreml.check_ways import After, Before
from refsam.coreml.export import Part
from refsam.errors import InputError
from refsam.figures import relative_l2, rms
from refsam.mask_difference import mask_difference
from refsam.transforms import postprocess_logits, preprocess, resized_size
from refsam.types import Array, Float, Size, UInt8


@dataclass(frozen=True)
class Stage:
    """One stage of the candidate.

    Attributes:
        name: of its output.
        local, local_budget: relative L2 on the candidate's own inputs, and what rounding costs there.
        total, total_budget: the same from the picture on.
        k: how many budgets are allowed.
    """

    name: str
    local: float
    local_budget: float
    total: float
    total_budget: float
    k: float

    @property
    def enters_here(self) -> bool:
        """Whether this stage itself differs by more than rounding."""
        return not self.local <= self.k * self.local_budget  # NaN where only one of the two has numbers

    @property
    def holds(self) -> bool:
        """Whether rounding explains both differences."""
        return not self.enters_here and self.total <= self.k * self.total_budget


@dataclass(frozen=True)
class MaskResult:
    """One mask at the picture's size.

    Attributes:
        index: 0 to 3.
        iou: with the reference's mask.
        flipped: pixels that differ.
        unexplained: of these, the ones whose reference logit is farther from 0 than rounding may move it.
        local_iou: with what the reference's postprocessing makes of the candidate's own logits.
        local_unexplained: pixels that postprocessing itself flips although their logits are not at 0.
    """

    index: int
    iou: float
    flipped: int
    unexplained: int
    local_iou: float
    local_unexplained: int

    @property
    def holds(self) -> bool:
        """Whether rounding explains every flipped pixel."""
        return self.unexplained == 0 and self.local_unexplained == 0


@dataclass(frozen=True)
class Report:
    """All stages and masks. True when all hold."""

    stages: tuple[Stage, ...]
    masks: tuple[MaskResult, ...]

    def __bool__(self) -> bool:
        return all(stage.holds for stage in self.stages) and all(mask.holds for mask in self.masks)

    @property
    def first(self) -> str | None:
        """Where a difference enters first; None where all holds."""
        entering = [stage.name for stage in self.stages if stage.enters_here]
        entering += ["masks"] if any(mask.local_unexplained for mask in self.masks) else []
        following = [stage.name for stage in self.stages if not stage.holds] + (["masks"] if not self else [])
        return next(iter(entering + following), None)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        stages = [asdict(stage) | {"enters_here": stage.enters_here, "holds": stage.holds} for stage in self.stages]
        masks = [asdict(mask) | {"holds": mask.holds} for mask in self.masks]
        return {"holds": bool(self), "first": self.first, "stages": stages, "masks": masks}


@dataclass(frozen=True)
class Candidate:
    """What is checked: preprocessing, the three parts, postprocessing."""

    before: Before
    parts: Parts
    after: After


STAGES: dict[str, Part | None] = {
    "input_image": None,
    "image_embeddings": "image_encoder",
    "sparse_prompt_embeddings": "prompt_encoder",
    "dense_prompt_embeddings": "prompt_encoder",
    "low_res_masks": "mask_decoder",
    "iou_predictions": "mask_decoder",
}
"""Stage -> the part whose output it is."""

Values = dict[str, Array]
Prompt = tuple[Float[Array, "1 N 2"], Labels]


@np.errstate(all="ignore")  # float16 may overflow, and a candidate may hold anything: infinities are judged, not warned of
def check(
    image: UInt8[Array, "H W 3"], points: Sequence[Point], candidate: Candidate, exact: ModelParts, rounded: Rounded, k: float
) -> Report:
    """Hold `candidate` against the reference on one picture and prompt.

    Args:
        exact: the model in float64.
        rounded: what its budgets are measured with.
        k: how many budgets a stage may be off.
    """
    size: Size = (image.shape[0], image.shape[1])
    prompt = _prompt(exact, points, size)
    given = preprocess(image, exact.image_size)
    truth, rough = _run(given, exact, prompt), _run(given, rounded, prompt)
    got = _run(candidate.before(image, exact.image_size), candidate.parts, prompt)
    misfit = next((name for name in STAGES if got[name].shape != truth[name].shape), None)
    if misfit:
        raise InputError(f"{misfit} is {got[misfit].shape}; with these weights it is {truth[misfit].shape}")
    local_truth, local_rough = _on_inputs_of(got, exact, prompt, truth), _on_inputs_of(got, rounded, prompt, truth, rough)
    total, local = _errors(got, truth), _errors(got, local_truth) | _following(got, local_truth)
    budgets, local_budgets = _budgets(truth, rough, rounded), _budgets(local_truth, local_rough, rounded)
    stages = tuple(Stage(name, local[name], local_budgets[name], total[name], budgets[name], k) for name in STAGES)
    masks = _masks(got, truth, candidate.after, size, exact.image_size, k * budgets["low_res_masks"])
    return Report(stages, tuple(masks))


def _prompt(parts: Parts, points: Sequence[Point], size: Size) -> Prompt:
    """The points in the input frame, with the padding point."""
    app = SegmentAnything(parts)
    app.original_size = size
    return app.map_points(points)


def _run(input_image: Float[Array, "1 3 S S"], parts: Parts, prompt: Prompt) -> Values:
    """Every stage, each part on the results of the one before."""
    embeddings, (sparse, dense) = parts.encode(input_image), parts.embed(*prompt)
    return dict(zip(STAGES, (input_image, embeddings, sparse, dense, *parts.decode(embeddings, sparse, dense)), strict=True))


def _on_inputs_of(got: Values, parts: Parts, prompt: Prompt, truth: Values, known: Values | None = None) -> Values:
    """Every stage by `parts` on the candidate's inputs of it. Encoding is slow: what is `known` for the same input serves."""
    same = np.array_equal(got["input_image"], truth["input_image"])
    embeddings = (known or truth)["image_embeddings"] if same else parts.encode(got["input_image"])
    decoded = parts.decode(got["image_embeddings"], got["sparse_prompt_embeddings"], got["dense_prompt_embeddings"])
    return dict(zip(STAGES, (truth["input_image"], embeddings, *parts.embed(*prompt), *decoded), strict=True))


def _errors(got: Values, truth: Values) -> dict[str, float]:
    return {name: relative_l2(truth[name], got[name]) for name in STAGES}


def _following(got: Values, local_truth: Values) -> dict[str, float]:
    """No error where both are beyond all numbers: float64 has none on finite inputs, so the candidate's stage before has it."""
    return {name: 0.0 for name in STAGES if not (np.isfinite(got[name]).all() or np.isfinite(local_truth[name]).all())}


def _budgets(truth: Values, rough: Values, rounded: Rounded) -> dict[str, float]:
    """What rounding costs at each stage, at least one rounding. Four scores are too few to measure it on: the masks' serves.

    What overflows at this precision has no budget of its own (no port that stores it so can be right there), but the greatest
    of the stages before.
    """
    found: dict[str, float] = {}
    for name, part in STAGES.items():
        unit = FLOAT32 if part is None else rounded.units[part]
        cost = relative_l2(truth[name], rough[name])
        found[name] = max(cost if np.isfinite(cost) else max(found.values(), default=0.0), unit)
    return found | {"iou_predictions": max(found["iou_predictions"], found["low_res_masks"])}


def _masks(got: Values, truth: Values, after: After, size: Size, side: int, allowed: float) -> Iterator[MaskResult]:
    """Each mask at the picture's size; one at a time, since a large picture's logits fill the memory.

    `allowed` is the relative L2 that rounding may make of the logits.
    """
    margin = allowed * rms(truth["low_res_masks"])
    for index, (logits, exact) in enumerate(zip(got["low_res_masks"][0], truth["low_res_masks"][0], strict=True)):
        mask = after(np.ascontiguousarray(logits, np.float32), size, side)
        expected, own = _full(exact, size, side), _full(logits, size, side)
        total = mask_difference(expected > 0, mask, expected, margin)
        # bilinear weights add up to one: four float32 products and sums of numbers up to the greatest logit
        greatest = float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0))
        known = np.where(np.isfinite(own), mask, own > 0)  # what is made of infinities is nobody's fault here
        local = mask_difference(own > 0, known, own, 16 * FLOAT32 * greatest)
        unexplained = (total.flipped - total.explained, local.flipped - local.explained)
        yield MaskResult(index, total.iou, total.flipped, unexplained[0], local.iou, unexplained[1])


def _full(logits: Float[Array, "L L"], size: Size, side: int) -> Float[Array, "H W"]:
    return postprocess_logits(logits.astype(np.float64)[None, None], resized_size(size, side), size, side)[0, 0]
