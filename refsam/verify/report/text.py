"""The report as plain text: 80 columns, everything said in words and marks."""

from collections.abc import Iterator

import numpy as np

from refsam.verify.comparison import CompareReport, StageResult
from refsam.verify.outcome import Outcome
from refsam.verify.report.entry import entry_of
from refsam.verify.report.stage_map import strip
from refsam.verify.words import explanation_in_words, filled, headline, in_words, mask_in_words, missing_in_words

_MOST = 10  # stages that are listed


def plain_text(outcome: Outcome) -> str:
    """All paragraphs, those that have nothing to say left out."""
    verdict = outcome.verdict
    paragraphs = (
        _head(outcome),
        in_words(verdict.report, f"port {outcome.port!r}").splitlines(),
        _titled("stages  (. holds  o just so  x X # differs  > a difference enters):", _strip(outcome)),
        _titled("required k  rel. L2  stage that does not hold:", _failing(verdict.report)),
        _titled("why:", [line for found in verdict.explanations for line in explanation_in_words(found)]),
        _titled("masks end to end:", [line for mask in outcome.masks for line in mask_in_words(mask)]),
        _titled("notes:", [line for note in _notes(outcome) for line in filled(note, "  ")]),
    )
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def _head(outcome: Outcome) -> list[str]:
    height, width = outcome.case.size
    name = f"{outcome.case.name!r} " if outcome.case.name else ""
    asked = ", ".join(_prompt(key, value) for key, value in outcome.case.prompts.items() if value is not None)
    word = headline(bool(outcome), outcome.verdict.report.masks_alone).upper()
    return filled(f"port {outcome.port!r} on {name}({width} x {height}), {asked or 'no prompt'}: {word}")


def _prompt(name: str, value: object) -> str:
    return name if name == "mask_input" else f"{name} {_numbers(value)}"


def _numbers(value: object) -> str:
    """As short as it can be read again."""
    array = np.asarray(value)
    if array.ndim == 0:
        return str(value) if array.dtype.kind == "b" else f"{array:.10g}"
    return f"[{', '.join(_numbers(item) for item in array)}]"


def _titled(title: str, lines: list[str]) -> list[str]:
    return [title, *lines] if lines else []


def _strip(outcome: Outcome) -> list[str]:
    return [f"  {name:<11} {marks}" for name, marks in strip(entry_of(outcome))]


def _failing(report: CompareReport) -> list[str]:
    failing, entering = report.failing, {result.stage for result in report.entering}
    lines = [f"{_figures(result)}  {'>' if result.stage in entering else ' '}{result.stage}" for result in failing[:_MOST]]
    rest = len(failing) - len(lines)
    return [*lines, f"  and {rest} more"] if rest > 0 else lines


def _figures(result: StageResult) -> str:
    """Required k and relative L2, or why there are none."""
    if result.difference.comparable:
        return f"{result.required_k:>10.3g} {result.difference.relative_l2:>8.2g}"
    return f"{'not finite' if result.difference.nan or result.difference.inf else 'other shape':>19}"


def _notes(outcome: Outcome) -> Iterator[str]:
    yield from outcome.notes
    if outcome.verdict.report.missing:
        yield missing_in_words(outcome.verdict.report.missing)
