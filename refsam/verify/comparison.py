"""What a comparison found, as an object: true when every stage holds."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from refsam.errors import InputError
from refsam.figures import rms
from refsam.mask_difference import MaskDifference
from refsam.tracing import Trace
from refsam.types import Array, Size
from refsam.verify.difference import Difference, difference, transposed
from refsam.verify.local import LocalError
from refsam.verify.masks import binary, masks_of_logits
from refsam.verify.precision import precision_of
from refsam.verify.single import narrowed

K = 4.0
"""How many times its measured rounding budget a stage may be off. Programs that round at the same places differ in the order of
their sums: clean ports need up to 3.1 (docs/evidence/oracle-clean.md; 3.5 once, with weights of before), and torch's float32
error is 0.6 to 1.8 times ours (docs/evidence/parity.md).
"""

UNMEASURED = 64
"""Units of the precision that a stage may cost where nobody measured its budget; the worst of the demo model needs a quarter."""


@dataclass(frozen=True)
class StageResult:
    """One stage of the candidate against the reference.

    Attributes:
        stage: its name.
        difference: over all its elements.
        budget: the relative L2 that rounding to the declared precision costs there, accumulated.
        k: how many budgets are allowed.
        swapped: axes whose exchange would explain the difference, or "".
        local: the error on the candidate's own inputs, where it was measured.
    """

    stage: str
    difference: Difference
    budget: float
    k: float
    swapped: str = ""
    local: LocalError | None = None

    @property
    def required_k(self) -> float:
        """The k at which this stage would hold; infinite where it cannot."""
        return self.difference.relative_l2 / self.budget if self.difference.comparable else math.inf

    @property
    def holds(self) -> bool:
        """Whether rounding may explain the difference."""
        return self.required_k <= self.k

    @property
    def local_fault(self) -> bool:
        """Whether the difference enters here: the stage does not hold, and is off by more than rounding makes of the candidate's
        own inputs."""
        return not self.holds and (self.off_its_inputs or not self.difference.comparable)

    @property
    def off_its_inputs(self) -> bool:
        """Whether it is off what the candidate's own inputs give by more than rounding makes of them, and by more than the noise
        that has piled up so far, below which nothing can be told."""
        return self.local is not None and self.local.error > max(self.k * self.local.budget, self.budget)


@dataclass(frozen=True)
class CompareReport:
    """All stages that reference and candidate share, in the order in which they run. True when all hold.

    Attributes:
        stages: the results.
        masks: those of the masks at the picture's size, where the candidate has any.
        missing: names that only the candidate has: it may have misspelt them.
        precision, k: as declared.
        metadata: what is known about the candidate and the run.
    """

    stages: tuple[StageResult, ...]
    precision: str
    k: float
    masks: tuple[MaskDifference, ...] = ()
    missing: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.first is None

    @property
    def required_k(self) -> float:
        """The k at which every stage would hold."""
        return max((result.required_k for result in self.stages), default=0.0)

    @property
    def own_logits(self) -> bool:
        """Whether the masks are held against what the candidate's own logits give: where it shows those of all its masks."""
        logits = [result.difference for result in self.stages if result.stage == "low_res_masks"]
        return any(found.comparable and found.shape[1] >= len(self.masks) for found in logits)

    @property
    def entering(self) -> tuple[StageResult, ...]:
        """The stages where differences enter. What is infinite or NaN spreads: only its first stage counts."""
        broken = [result.stage for result in self.stages if result.difference.nan or result.difference.inf]
        return tuple(result for result in self.stages if result.local_fault and result.stage not in broken[1:])

    @property
    def masks_enter(self) -> bool:
        """Whether a difference enters at the masks: they are not what the candidate's own logits give, or nothing before them
        differs."""
        return not all(mask.holds for mask in self.masks) and (self.own_logits or self.first == "masks")

    @property
    def unused(self) -> tuple[str, str] | None:
        """The first stage that holds although it is not what the candidate's own inputs give, and the last one before it that
        does not hold: the candidate does not compute with that one.

        Not what they give: off by more than rounding may cost, on those inputs and up to there. Masks and scores come of the same
        tokens, so neither follows from the other.
        """
        for place, result in enumerate(self.stages):
            before = [earlier for earlier in self.stages[:place] if earlier.stage != "low_res_masks"]
            failing = [earlier.stage for earlier in before if not earlier.holds]
            local = result.local
            if failing and result.holds and local and local.error > result.k * max(local.budget, result.budget):
                return result.stage, failing[-1]
        return None

    @property
    def masks_alone(self) -> bool:
        """Whether no stage was judged and only masks were: that says nothing of the model on other pictures."""
        return bool(self.masks) and not self.stages

    @property
    def failing(self) -> tuple[StageResult, ...]:
        """The stages that do not hold."""
        return tuple(result for result in self.stages if not result.holds)

    @property
    def first(self) -> str | None:
        """The stage where the candidate first differs, None where all hold.

        With local errors: the first stage where a difference enters. Without: the first that does not hold.
        """
        if not self.failing and all(mask.holds for mask in self.masks):
            return None
        known = any(result.local is not None for result in self.stages)
        entering = self.entering if known else ()
        return next((result.stage for result in (*entering, *self.failing)), "masks")

    def __getitem__(self, stage: str) -> StageResult:
        return next(result for result in self.stages if result.stage == stage)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; stable from run to run."""
        entering = {result.stage for result in self.entering}
        return {
            "holds": bool(self),
            "masks_alone": self.masks_alone,
            "first": self.first,
            "precision": self.precision,
            "k": self.k,
            "required_k": self.required_k,
            "stages": [_row(result, result.stage in entering) for result in self.stages],
            "masks": [
                asdict(mask) | {"holds": mask.holds, "enters_here": self.masks_enter and not mask.holds} for mask in self.masks
            ],
            "missing": list(self.missing),
            "unused": None if self.unused is None else list(self.unused),
            "metadata": dict(self.metadata),
        }


def _row(result: StageResult, enters: bool) -> dict[str, Any]:
    figures = asdict(result.difference) | {"nmse": result.difference.nmse}
    local = None if result.local is None else {"error": result.local.error, "budget": result.local.budget}
    verdict = {"required_k": result.required_k, "holds": result.holds, "enters_here": enters}
    return {"stage": result.stage, "budget": result.budget, **verdict, **figures, "swapped": result.swapped, "local": local}


def checked_k(k: float) -> float:
    """k. Raises InputError where nothing could be measured by it."""
    if not (math.isfinite(k) and k > 0):
        raise InputError(f"k is {k:g}; how many budgets are allowed is a number above 0")
    return k


def compare(
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    *,
    precision: str = "float32",
    k: float = K,
    budget: Mapping[str, float] | None = None,
    size: Size | None = None,
) -> CompareReport:
    """Hold a candidate's stages against a reference's of the same names, and its masks by pixels (`masks.masks_of_logits`). Of a
    candidate with one mask, its logits and score are held against the nearest of the reference's (`single.narrowed`).

    Args:
        reference: stage name -> array, best a float64 `Trace`.
        candidate: the same of a port; other orders of axes are recognised (see `difference.align`).
        precision: the candidate's: "float32", "fp16", "bf16", "int8" (weights) or "int8-fp16".
        k: how many rounding budgets are allowed at each stage.
        budget: stage name -> relative L2 that rounding costs; by default what the reference's metadata holds of it at this
            precision, and UNMEASURED units of the precision for stages that nobody measured.
        size: (height, width) of the picture; None: that of the reference's masks. Masks whose picture is unknown are not compared
            but counted as `missing`.

    Raises InputError for an unknown precision, a k that is not above 0, or where no stage has a name that both know.
    """
    unit, k = precision_of(precision).unit, checked_k(k)
    measured = _stored_budget(reference, precision) if budget is None else budget
    whole = reference
    reference, number = narrowed(whole, candidate)
    floors = {name: max(measured.get(name, UNMEASURED * unit), unit) for name in whole}
    costs = {name: cost * _smaller(whole[name], reference[name]) for name, cost in floors.items()}
    shared = [name for name in reference if name in candidate and name != "masks"]
    results = tuple(_result(name, reference[name], candidate[name], costs[name], k) for name in shared)
    size = _size(reference) if size is None else size
    one = size is not None and "masks" in candidate and len(binary(candidate["masks"], size)) == 1
    logits = reference if one else whole  # a single one's, as handed on for the next prompt, may come with all masks
    masks = () if size is None else masks_of_logits(logits, candidate, size, costs if one else floors, precision, k)
    if number is not None and one:
        masks = tuple(replace(mask, number=number) for mask in masks)
    if not shared and not masks:
        names = ", ".join(list(candidate)[:5]) or "none"
        raise InputError(f"no stage has a name that reference and candidate share; the candidate has {names}")
    missing = tuple(name for name in candidate if name not in reference and not (name == "masks" and masks))
    return CompareReport(results, precision_of(precision).name, k, masks, missing)


def _smaller(whole: Array, part: Array) -> float:
    """By how much more a relative error counts in a part of an array that is smaller than the rest of it."""
    return max(rms(whole) / rms(part), 1.0) if part is not whole and part.any() else 1.0


def _size(reference: Mapping[str, Array]) -> Size | None:
    """Of the picture, where the reference has masks."""
    if "masks" not in reference:
        return None
    *_, height, width = reference["masks"].shape
    return height, width


def _result(name: str, reference: Array, candidate: Array, budget: float, k: float) -> StageResult:
    found = difference(reference, candidate, k * budget)
    holds = found.comparable and found.relative_l2 <= k * budget
    return StageResult(name, found, budget, k, "" if holds else transposed(reference, candidate))


def _stored_budget(reference: Mapping[str, Array], precision: str) -> Mapping[str, float]:
    """What `Reference` wrote into a trace's metadata, where it was measured at this precision."""
    metadata = reference.metadata if isinstance(reference, Trace) else {}
    if metadata.get("budget_precision") != precision_of(precision).name:
        return {}
    stored: dict[str, float] = json.loads(metadata.get("budget", "{}"))
    return stored
