"""The tables that terminal and report both show, as text."""

from collections.abc import Iterator
from statistics import median

from benchmarks import goals
from benchmarks.contenders import OURS
from benchmarks.ratios import ratio
from benchmarks.rows import Document, Row
from benchmarks.work import Work

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, column names, lines."""


def all_tables(document: Document) -> list[Table]:
    """Rows, roofline, goals; those that have lines."""
    made = [row_table(document), roofline(document), goal_table(document)]
    return [table for table in made if table[2]]


def goal_table(document: Document) -> Table:
    """What was promised and what is."""
    head = ("what", "verdict", "measured", "range", "bound", "aim")
    lines = []
    for found in goals.results(document):
        form = "{:.0f}" if found.goal.against is None else "{:.2f}"
        value = "-" if found.value is None else form.format(found.value)
        bounds = "" if found.low is None else f"{form.format(found.low)} to {form.format(found.high)}"
        told = f"{found.verdict} ({found.caution})" if found.caution else found.verdict
        lines.append((found.goal.what, told, value, bounds, f"<= {found.goal.bound:g}", f"<= {found.goal.aim:g}"))
    return f"Goals of the backend {OURS}", head, lines


def row_table(document: Document) -> Table:
    """Every row but the stages: time, spread, and the ratio of ours to it."""
    head = ("row", "contender", "median ms", "MAD", "min", "max", "n", f"{OURS} / it", "GFLOP/s", "peak MB", "notes")
    lines = [_row_line(document, row) for row in document.rows if not row.row.startswith("stages/")]
    return "Rows", head, lines


def _row_line(document: Document, row: Row) -> tuple[str, ...]:
    numbers = [f"{1000 * x:.4g}" for x in (row.median, row.mad, min(row.seconds), max(row.seconds))]
    mine = document.find(row.row, OURS)
    found = ratio(mine, row) if mine and mine is not row else None
    quotient = f"{found.value:.2f} ({found.low:.2f}-{found.high:.2f})" if found else ""
    rate = _rate(document, row)
    notes = [f"{name} {value:g}" for name, value in row.notes.items() if name not in ("macs", "bytes")]
    notes += [f"{name} {1000 * median(seconds):.0f} ms" for name, seconds in row.parts.items() if "." not in name]
    notes += [f"{row.bytes / row.median / 1e9:.0f} GB/s"] if row.row == "machine/bandwidth" else []
    notes += ["DISTURBED"] if row.disturbed else []
    count = f"{len(row.seconds)}" + (f" (-{row.rejected})" if row.rejected else "")
    peak = "" if row.peak is None else f"{row.peak:.0f}"
    return row.row, row.contender, *numbers, count, quotient, rate, peak, ", ".join(notes)


def _rate(document: Document, row: Row) -> str:
    """GFLOP/s, and how much that is of what the machine's matrix product reached in the same run."""
    peak = document.find("machine/sgemm", "machine")
    if row.gflops is None or not peak or not peak.gflops or peak.run != row.run:
        return "" if row.gflops is None else f"{row.gflops:.0f}"
    return f"{row.gflops:.0f} ({100 * row.gflops / peak.gflops:.0f} %)"


def roofline(document: Document) -> Table:
    """Stage by stage: what it took, and what the machine's own peaks would allow."""
    head = ("stage", "contender", "ms", "GMAC", "MB at least", "GFLOP/s", "least ms", "of the roof")
    return "Roofline of the encoder's stages (machine/sgemm and machine/bandwidth of the same run)", head, list(_stages(document))


def _stages(document: Document) -> Iterator[tuple[str, ...]]:
    for contender in document.contenders():
        rows = [x for x in document.rows if x.row.startswith("stages/") and x.contender == contender]
        least = [_least_seconds(document, row) for row in rows]
        for row, roof in zip(rows, least, strict=True):
            yield _stage(row.row.removeprefix("stages/image_encoder."), contender, row.median, row.macs, row.bytes, roof)
        if rows:
            macs, moved, seconds = sum(x.macs for x in rows), sum(x.bytes for x in rows), sum(x.median for x in rows)
            yield _stage("in all", contender, seconds, macs, moved, sum(x for x in least if x))


def _least_seconds(document: Document, row: Row) -> float | None:
    """By the machine's own peaks, where they are of the same run."""
    macs, bandwidth = document.find("machine/sgemm", "machine"), document.find("machine/bandwidth", "machine")
    if not macs or not bandwidth or not macs.run == bandwidth.run == row.run:
        return None
    return Work(row.macs, row.bytes).least_seconds(macs.macs / macs.median, bandwidth.bytes / bandwidth.median)


def _stage(name: str, contender: str, seconds: float, macs: int, moved: int, least: float | None) -> tuple[str, ...]:
    amounts = f"{1000 * seconds:.1f}", f"{macs / 1e9:.2f}", f"{moved / 1e6:.0f}", f"{2e-9 * macs / seconds:.0f}"
    roof = (f"{1000 * least:.1f}", f"{100 * least / seconds:.0f} %") if least else ("", "")
    return name, contender, *amounts, *roof


def remarks(document: Document) -> list[str]:
    """What a reader has to know to judge the numbers."""
    lines = []
    for key, run in document.runs.items():
        told = {name: run.get(name, "not told") for name in ("cpu", "cpus", "platform", "python", "threads", "weights")}
        lines.append(f"run {key}: " + ", ".join(f"{name} {value}" for name, value in told.items()))
        for contender, versions in run.get("versions", {}).items():
            lines.append(f"  {contender}: " + ", ".join(f"{package} {version}" for package, version in versions.items()))
        lines.append(
            f"  idle check: {run.get('idle_check')}; unset in workers: {', '.join(run.get('unset_in_workers', [])) or '-'}"
        )
    if any(row.disturbed for row in document.rows):
        lines.append("DISTURBED rows: too few samples were taken on an idle machine, so all are counted. Do not quote them.")
    if any("scaled_by" in row.notes for row in document.rows):
        lines.append(
            "Rows with scaled_by time part of the points; the time of the points, not of set_image, is multiplied by it."
        )
    return lines
