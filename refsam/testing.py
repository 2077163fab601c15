"""Assertions for the tests of a port, with numpy.testing's grammar: what was compared, how much of it mismatched, where most.

from refsam.testing import assert_port_holds, assert_stage_close
"""

from collections.abc import Mapping
from typing import Any

from refsam.errors import InputError
from refsam.verify.comparison import CompareReport, K, compare
from refsam.verify.outcome import Outcome
from refsam.verify.ports.port import arrays
from refsam.verify.reference import Budget, Reference
from refsam.verify.report import render_text
from refsam.verify.verdict import Verdict
from refsam.verify.words import in_words, mask_in_words, stage_in_words


def assert_port_holds(found: Outcome | Verdict | CompareReport, stage: str | None = None) -> None:
    """Fail where a port does not hold, and say where, by how much, and why.

    Args:
        found: an outcome of `verify`, what `judge` or `compare` gave, or the fixture `refsam_port`.
        stage: the only one that counts; None: all of them, and the masks.

    Raises AssertionError; InputError where the port does not show the stage, or `found` is anything else.
    """
    __tracebackhide__ = True
    report = _report(found)
    if stage is not None:
        _check_stage(report, stage)
    elif not report:
        raise AssertionError(_in_words(found))


def _in_words(found: Outcome | Verdict | CompareReport) -> str:
    if isinstance(found, CompareReport):
        return in_words(found)
    return render_text(found) if isinstance(found, Outcome) else str(found)


def _report(found: Outcome | Verdict | CompareReport) -> CompareReport:
    if isinstance(found, Outcome):
        return found.verdict.report
    if isinstance(found, Verdict):
        return found.report
    if not isinstance(found, CompareReport):  # what `verify` returns, or a list, would pass, since it is true
        instead = "give one outcome: for outcome in verify(...): assert_port_holds(outcome)"
        raise InputError(f"found is a {type(found).__name__}, which says nothing of a port; {instead}")
    return found


def _check_stage(report: CompareReport, stage: str) -> None:
    __tracebackhide__ = True
    shown = [*(result.stage for result in report.stages), *(["masks"] if report.masks else [])]
    if stage == "masks" and report.masks:
        _check_masks(report)
        return
    if stage not in shown:
        raise InputError(f"the port does not show the stage {stage!r}; it shows {', '.join(shown[:5]) or 'none'}")
    result = report[stage]
    if not result.holds:
        lines = [f"not equal to the reference at {stage}", *stage_in_words(result, report.precision)]
        raise AssertionError("\n".join(lines))


def _check_masks(report: CompareReport) -> None:
    __tracebackhide__ = True
    wrong = [mask for mask in report.masks if not mask.holds]
    if wrong:
        lines = ["not equal to the reference at masks", *(line for mask in wrong for line in mask_in_words(mask))]
        raise AssertionError("\n".join(lines))


def assert_stage_close(
    actual: Any,
    desired: Any,
    stage: str,
    *,
    precision: str = "float32",
    k: float = K,
) -> None:
    """Fail where an array is further from a stage of the reference than rounding explains.

    Args:
        actual: the port's, an array or a tensor of any framework, in the reference's axes or another order of them.
        desired: a `Reference` (whose budget is measured), a `Trace` or other mapping of stages (whose budget is what its metadata
            hold), or the array or tensor itself.
        stage: its name.
        precision: what the port computes in: "float32", "fp16", "bf16", "int8" (weights), "int8-fp16".
        k: how many rounding budgets are allowed.

    Raises AssertionError; InputError where the reference has no such stage, or what is given is none of numbers.
    """
    __tracebackhide__ = True
    budget: Budget | None = None
    if isinstance(desired, Reference):
        budget, desired = desired.budget(precision), desired.truth
    truth = desired if isinstance(desired, Mapping) else arrays({stage: desired})
    if stage not in truth:
        raise InputError(f"the reference has no stage {stage!r}; it has {', '.join(list(truth)[:5])}")
    _check_stage(compare(truth, arrays({stage: actual}), precision=precision, k=k, budget=budget), stage)
