"""What a comparison found, as text of 80 columns in the grammar of numpy.testing."""

import math
import textwrap
from collections.abc import Sequence

from refsam.mask_difference import MaskDifference
from refsam.printing import one_line
from refsam.verify.comparison import CompareReport, StageResult
from refsam.verify.diagnosis import Explanation

WIDTH = 80
UNUSED = "{0} holds although {1} before it does not: that {1} is not what the port computes with"


def headline(holds: bool, masks_alone: bool) -> str:
    """A verdict in a word, or in a few where only masks hold."""
    return "differs" if not holds else "masks hold, no stage was judged" if masks_alone else "holds"


def in_words(report: CompareReport, port: str = "the port") -> str:
    """One line where all holds; else where the port first differs, by how much, and how much was allowed."""
    return "\n".join(_agreement(report, port) if report else _first_difference(report, port))


def _agreement(report: CompareReport, port: str) -> list[str]:
    if report.masks_alone:
        count = f"its {len(report.masks)} masks hold" if len(report.masks) > 1 else "its mask holds"
        return filled(f"{port}: no stage was judged; {count} at {report.precision}")
    worst = max(report.stages, key=lambda result: result.required_k, default=None)
    where = f" (at {worst.stage})" if worst else ""
    text = f"{port}: {len(report.stages)} stages hold at {report.precision}; required k {report.required_k:.2g}{where}"
    return filled(f"{text}, allowed {report.k:g}")


def _first_difference(report: CompareReport, port: str) -> list[str]:
    names = [result.stage for result in report.stages]
    of = " of its own logits" if report.own_logits else ""
    masks = [line for mask in report.masks if not mask.holds for line in mask_in_words(mask, of)]
    masks += [] if report.unused is None else filled(UNUSED.format(*report.unused), "  ")
    head = filled(f"{port} first differs at {report.first}")
    if report.first not in names:
        before = f"all {len(names)} stages before it hold" if names else "no stage was judged"
        return [*head, f"  {before}", *masks]
    place = names.index(report.first)
    holding = sum(result.holds for result in report.stages[:place])
    before = f"{holding} before it hold" if holding == place else f"{holding} of the {place} before it hold"
    lines = stage_in_words(report.stages[place], report.precision)
    return [*head, f"  stage {place + 1} of {len(names)}" + (f"; {before}" if place else ""), *lines, *masks]


def stage_in_words(result: StageResult, precision: str) -> list[str]:
    """One stage: shapes, what is allowed, how far it is off and where most."""
    d = result.difference
    taken = f", taken as {d.layout}" if d.layout else ""
    lines = [f"  shape {d.candidate_shape} {d.dtype}{taken}"]
    if not d.comparable and not (d.nan or d.inf):
        return [*lines, f"  the reference has shape {d.shape}"]
    if not d.comparable:
        return [*lines, f"  {d.nan} NaN and {d.inf} infinite values where the reference is finite"]
    lines += [
        f"  budget {result.budget:.2g} ({precision} against float64 on this input)",
        f"  relative L2 {d.relative_l2:.3g}, allowed {result.k * result.budget:.2g} (k {result.k:g});"
        f" required k {result.required_k:.3g}",
        f"  NMSE {d.nmse:.2g}   PSNR {d.psnr:.1f} dB   cosine {d.cosine:.6f}   ulp {d.ulp:.3g}",
        *mismatch_in_words(result),
    ]
    return [*lines, f"  axes look exchanged: the port's are {result.swapped}"] if result.swapped else lines


def mismatch_in_words(result: StageResult) -> list[str]:
    """How many elements are off by more than what is allowed, and the greatest difference with its index."""
    d = result.difference
    return [
        f"  mismatched elements {d.mismatched} / {d.size} ({100 * d.mismatched / max(d.size, 1):.3g}%)",
        f"  greatest difference {d.max_abs:.4g} at {d.index}:",
        f"    reference {d.reference_value:.6g}, port {d.candidate_value:.6g}",
    ]


def mask_in_words(mask: MaskDifference, of: str = "") -> list[str]:
    """One mask: how much of it is shared, how many pixels flipped and how far from the edge they are."""
    if mask.misfit:
        return filled(f"masks of the port: {mask.misfit}", "  ")
    if not mask.flipped:
        return [f"  mask {mask.number}{of}: identical"]
    flipped = f"{mask.flipped} pixels flipped ({mask.explained} by rounding)"
    far = "far from any edge" if math.isinf(mask.boundary) else f"up to {mask.boundary:g} px from the edge"
    return filled(f"mask {mask.number}{of}: IoU {mask.iou:.4f}, {flipped}, {far}", "  ")


def explanation_in_words(explanation: Explanation) -> list[str]:
    """What explains the difference at a stage, and what the port should do instead."""
    lines = filled(str(explanation), "  ")
    for name, remedy in zip(explanation.names, explanation.remedies, strict=True):
        lines += filled(f"{name}: {remedy}", "    ")
    lines += filled(others_in_words(explanation), "    ")
    return lines


def others_in_words(explanation: Explanation) -> str:
    """What further hypotheses would explain alone; nothing where there are none."""
    others = (f"{name} {100 * share:.0f} %" for name, share in explanation.others)
    return f"alone they would explain: {', '.join(others)}" if explanation.others else ""


def missing_in_words(missing: Sequence[str]) -> str:
    """Names of a port that are no stages: misspelt, they are judged nowhere, and the port may hold by the others."""
    return f"{len(missing)} names of the port are no stages that were compared: {', '.join(map(repr, missing[:5]))}"


def filled(text: str, indent: str = "") -> list[str]:
    """`text` in lines of 80 columns, the further ones indented by two more; names of stages stay whole, control characters
    are shown and not obeyed: names and a trace's metadata come from outside."""
    return textwrap.wrap(
        one_line(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
