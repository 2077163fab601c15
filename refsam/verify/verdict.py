"""A verdict: whether a port's stages hold, where they first do not, and why."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.types import Array
from refsam.verify.comparison import CompareReport, K, compare
from refsam.verify.diagnosis import Explanation, diagnose
from refsam.verify.difference import aligned
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.local import Quick, local_errors
from refsam.verify.reference import Reference
from refsam.verify.single import narrowed
from refsam.verify.words import in_words


@dataclass(frozen=True)
class Verdict:
    """What `judge` found. True when the port holds.

    Attributes:
        report: stage by stage.
        explanations: of the differences, in the order of the stages where they enter.
    """

    report: CompareReport
    explanations: tuple[Explanation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.report)

    def __str__(self) -> str:
        return "\n".join([in_words(self.report), *(f"  {explanation}" for explanation in self.explanations)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = [explanation.to_dict() for explanation in self.explanations]
        return {**self.report.to_dict(), "explanations": found}


@np.errstate(all="ignore")  # a port may show anything: infinities are judged, not warned of
def judge(
    reference: Reference,
    candidate: Mapping[str, Array],
    *,
    precision: str = "float32",
    k: float = K,
    hypotheses: Iterable[Hypothesis] | None = None,
    explain: bool = True,
    threads: int = 2,
    quick: MobileSam | None = None,
    stages: Collection[str] | None = None,
) -> Verdict:
    """Hold a port's stages against the reference and, where they differ, look for where and why.

    Args:
        reference: of the same case that the port ran.
        candidate: stage name -> array; "masks" (M, H, W), (1, M, H, W) or (H, W) at the picture's size, bool, or of numbers
            that are above 0 inside. A single one is held against the nearest; none of another count or size holds.
        precision: what the port computes in: "float32", "fp16", "bf16", "int8" (weights), "int8-fp16".
        k: how many rounding budgets are allowed (`comparison.K`).
        hypotheses: those that are tried; by default all known ones.
        explain: whether to look for where and why, which costs several runs of the parts concerned.
        threads: parts computed at once in that search.
        quick: the model in float32 on the fast backend, which then decides where float64 is not needed to (`local.Quick`).
        stages: those that are judged; None: all that the candidate has. Others of the candidate still serve as input.

    Raises InputError for an unknown precision, or where the candidate has none of `stages`.
    """
    budget, size = reference.budget(precision), reference.case.size
    report = compare(reference.truth, candidate, precision=precision, k=k, budget=budget, size=size)
    known = aligned(narrowed(reference.truth, candidate)[0], candidate)
    if stages is not None:
        report = _only(report, stages)
    if report or not explain:
        return Verdict(report)
    errors = local_errors(reference, known, precision, threads, None if quick is None else Quick(quick, k))
    results = tuple(replace(result, local=errors.get(result.stage)) for result in report.stages)
    report = replace(report, stages=results)
    return Verdict(report, tuple(diagnose(reference, candidate, report, hypotheses, threads=threads)))


def _only(report: CompareReport, stages: Collection[str]) -> CompareReport:
    """The report of these stages. Raises InputError where it has none of them."""
    kept = tuple(result for result in report.stages if result.stage in stages)
    masks = report.masks if "masks" in stages else ()
    if not kept and not masks:
        shown = [*(result.stage for result in report.stages), *(["masks"] if report.masks else [])]
        raise InputError(f"the port shows none of the stages that are asked for; it shows {', '.join(shown[:5])}")
    return replace(report, stages=kept, masks=masks)
