"""A comparison's headline as text, in the grammar of numpy.testing."""

from refsam.verify.comparison import CompareReport, StageResult
from refsam.verify.masks import MaskDifference


def in_words(report: CompareReport, port: str = "the port") -> str:
    """One line where all holds; else where the port first differs, by how much, and how much was allowed."""
    if not report:
        return "\n".join(_first_difference(report, port))
    worst = max(report.stages, key=lambda result: result.required_k, default=None)
    where = f" ({worst.stage})" if worst else ""
    required = f"required k {report.required_k:.2g}{where}, allowed {report.k:g}"
    return f"{port}: {len(report.stages)} stages hold at {report.precision}; {required}"


def _first_difference(report: CompareReport, port: str) -> list[str]:
    names = [result.stage for result in report.stages]
    place = names.index(report.first) if report.first in names else len(names)
    before = f"stage {place + 1} of {len(names)}; {place} before it" if place < len(names) else f"all {len(names)} stages hold"
    lines = [f"{port} first differs at {report.first}   ({before})"]
    details = _stage(report, report.stages[place]) if place < len(names) else []
    return [*lines, *details, *(_mask(index, mask) for index, mask in enumerate(report.masks))]


def _stage(report: CompareReport, result: StageResult) -> list[str]:
    d = result.difference
    taken = f", taken as {d.layout}" if d.layout else ""
    allowed = f"budget {result.budget:.2g} ({report.precision} against float64 on this input), allowed {report.k:g} times that"
    lines = [f"  shape {d.candidate_shape} {d.dtype}{taken}      {allowed}"]
    if d.nan or d.inf:
        return [*lines, f"  {d.nan} NaN and {d.inf} infinite values where the reference is finite"]
    if not d.comparable:
        return [*lines, f"  the reference has shape {d.shape}"]
    lines += [
        f"  relative L2 {d.relative_l2:.3g}   required k {result.required_k:.3g}   NMSE {d.nmse:.2g}   PSNR {d.psnr:.1f} dB"
        f"   cosine {d.cosine:.6f}",
        f"  greatest difference {d.max_abs:.4g} at {d.index}: reference {d.reference_value:.6g}, port {d.candidate_value:.6g}",
    ]
    return [*lines, f"  axes look exchanged: the port's are {result.swapped}"] if result.swapped else lines


def _mask(index: int, mask: MaskDifference) -> str:
    explained = f"{mask.flipped} pixels flipped, {mask.explained} within rounding"
    return f"  mask {index}: IoU {mask.iou:.4f}, {explained}, up to {mask.boundary:g} px from the edge"
