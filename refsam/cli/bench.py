"""`refsam bench`: how fast this is here, held against peers on the same weights."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from refsam import resources
from refsam.cli.common import DIFFERENCE, OK, JsonFlag, print_json, printable

Only = Annotated[str | None, Parameter(help="Rows to time: patterns such as `encoder,decoder/*`, or `*` (default: the goals').")]
Contenders = Annotated[str | None, Parameter(help="Who takes part, as names with commas (default: fast, machine and the peers).")]
Weights = Annotated[str | None, Parameter(help="A file, mobile_sam or demo (default: random ones of MobileSAM's size).")]
Rounds = Annotated[int, Parameter(help="Samples of each contender in each row.")]
Seconds = Annotated[float, Parameter(help="Of the slowest contender's samples, after which three of each are enough.")]
Threads = Annotated[int, Parameter(help="Of each contender.")]
Points = Annotated[int, Parameter(help="Side of the grid of the row everything; below 32 its time is extrapolated.")]
Out = Annotated[
    Path | None, Parameter(help="Folder for rows.json, report.html and tables.md; rows that are there already are kept.")
]
Rows = Annotated[Path | None, Parameter(name="--from", help="Time nothing: show these rows (a rows.json).")]
Gate = Annotated[
    Path | None, Parameter(help="Compare ratios with a rows.json's; exit 1 where one got worse, or none could be judged.")
]


def bench(
    *,
    only: Only = None,
    contenders: Contenders = None,
    weights: Weights = None,
    rounds: Rounds = 9,
    seconds: Seconds = 20.0,
    threads: Threads = 2,
    points: Points = 8,
    out: Out = None,
    rows: Rows = None,
    gate: Gate = None,
    as_json: JsonFlag = False,
) -> int:
    """Time refsam and the peers that are installed, taking turns in one run; print ratios and what they should be.

    Rows of single operations, peers and random weights need a checkout, whose tests they share; from an installed wheel refsam
    itself is timed, with --weights demo where none are named.
    """
    harness = _harness("benchmarks.command")
    asked = harness.Asked(only, contenders, weights, rounds, seconds, threads, points)
    document = harness.measured(asked, out) if rows is None else harness.shown(rows)
    verdict = harness.judged(document, gate) if gate else None
    if out and rows is not None:
        harness.write(document, out)
    if as_json:
        print_json({**document.to_json(), "gate": None if verdict is None else verdict.to_json()})
    else:
        harness.show(document, verdict)
        for path in harness.files(out) if out else []:
            print(f"wrote {printable(path)}")
    return DIFFERENCE if verdict and not verdict.passes else OK


def random_weights() -> Path:
    """Random weights of MobileSAM's size, made once; in an installed wheel, which cannot make them, the demo model."""
    path: Path = _harness("benchmarks.command").weights_file(None)
    return path


def _harness(module: str) -> Any:
    """A module of `benchmarks/`, which lies beside the package, or within it in a wheel."""
    root = resources.path("benchmarks").parent
    for folder in (root / "tests", root):
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return import_module(module)
