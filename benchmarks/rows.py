"""What a run leaves: rows of samples, with what they were taken on, as JSON that can be merged, judged and drawn."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from refsam.errors import InputError
from refsam.files import atomic_write

FORMAT = "refsam-bench-1"


@dataclass(frozen=True)
class Row:
    """The samples of one contender at one task.

    Attributes:
        row: the task, such as "encoder" or "decoder/256".
        contender: whose.
        run: the key of the run in `Document.runs`; only rows of one run may be compared.
        seconds: one for each sample kept.
        rejected: how many samples were thrown away because the machine was not idle.
        disturbed: whether too few were left, so that `seconds` has those too.
        peaks: the most memory of each process in MB (10^6 bytes), for rows that are whole processes.
        parts: what the row is made of -> its seconds in each sample.
        macs: multiply-adds of one sample, 0 where they are not counted.
        bytes: that have to move in one sample at least, 0 where they are not counted.
        difference: relative L2 distance of the result from the first contender's, None where it is not compared.
        notes: anything else, such as the batch size.
    """

    row: str
    contender: str
    run: str
    seconds: tuple[float, ...]
    rejected: int = 0
    disturbed: bool = False
    peaks: tuple[float, ...] = ()
    parts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    macs: int = 0
    bytes: int = 0
    difference: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Of the seconds."""
        return median(self.seconds)

    @property
    def mad(self) -> float:
        """The median distance of a sample from the median."""
        return median(abs(x - self.median) for x in self.seconds)

    @property
    def peak(self) -> float | None:
        """The median of the peaks in MB."""
        return median(self.peaks) if self.peaks else None

    @property
    def gflops(self) -> float | None:
        """Two operations for each multiply-add, in 10^9 a second."""
        return 2e-9 * self.macs / self.median if self.macs else None


@dataclass(frozen=True)
class Document:
    """Runs (what each was taken on: machine, versions, BLAS, threads, weights) and their rows."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()

    def find(self, row: str, contender: str) -> Row | None:
        """The row of this task and contender."""
        return next((x for x in self.rows if (x.row, x.contender) == (row, contender)), None)

    def tasks(self) -> list[str]:
        """Names of all tasks, in order."""
        return list(dict.fromkeys(x.row for x in self.rows))

    def contenders(self) -> list[str]:
        """Names of all contenders, in order."""
        return list(dict.fromkeys(x.contender for x in self.rows))

    def merged(self, newer: "Document") -> "Document":
        """With the tasks of a newer run in place of the same ones here: a task's rows always come from one run."""
        redone = set(newer.tasks())
        rows = (*(x for x in self.rows if x.row not in redone), *newer.rows)
        runs = {**self.runs, **newer.runs}
        return Document({key: runs[key] for key in dict.fromkeys(x.run for x in rows)}, rows)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        with atomic_write(path) as file:
            file.write((json.dumps(self.to_json(), indent=1) + "\n").encode())

    def to_json(self) -> dict[str, Any]:
        """For JSON: each row with its medians, so that others need not compute them."""
        derived = ("median", "mad", "peak", "gflops")
        rows = [{**asdict(x), **{name: getattr(x, name) for name in derived}} for x in self.rows]
        return {"format": FORMAT, "runs": self.runs, "rows": rows}

    @classmethod
    def load(cls, path: Path) -> "Document":
        """The inverse of `save`. Raises InputError naming what is wrong with the file."""
        try:
            document = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as benchmark rows: {error}") from None
        return cls.from_json(document, str(path))

    @classmethod
    def from_json(cls, document: Any, source: str) -> "Document":
        """The inverse of `to_json`. Raises InputError naming the source and what is wrong with it."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError(f"{source} has no benchmark rows of format {FORMAT}; refsam bench --out writes them")
        runs, rows = document.get("runs"), document.get("rows")
        if not isinstance(runs, dict) or not isinstance(rows, list):
            raise InputError(f"{source}: runs has to be an object and rows a list")
        return cls(runs, tuple(_row(source, index, entry, runs) for index, entry in enumerate(rows)))


NEEDED = ("row", "contender", "run", "seconds")
TEXTS = ("row", "contender", "run")
NUMBERS = ("seconds", "peaks")


def _row(source: str, index: int, entry: Any, runs: Iterable[str]) -> Row:
    """The row, its own fields checked, the derived ones left out."""

    def refuse(reason: str) -> InputError:
        return InputError(f"{source}: row {index} {reason}")

    if not isinstance(entry, dict) or any(name not in entry for name in NEEDED):
        raise refuse(f"lacks one of {', '.join(NEEDED)}")
    known = {"peaks": [], "parts": {}, "notes": {}, **{x.name: entry[x.name] for x in fields(Row) if x.name in entry}}
    if not all(isinstance(known[name], str) for name in TEXTS):
        raise refuse(f"has something other than text in {', '.join(TEXTS)}")
    for name in ("parts", "notes"):
        if not isinstance(known[name], dict):
            raise refuse(f"has something other than an object in {name}")
    for name, values in (*((name, known[name]) for name in NUMBERS), *known["parts"].items()):
        if not isinstance(values, list) or not all(_is_positive(x) for x in values):
            raise refuse(f"has something other than positive numbers in {name}")
    if not known["seconds"]:
        raise refuse("has no seconds")
    if known["run"] not in runs:
        raise refuse(f"is of a run {known['run']!r} that the file does not describe")
    parts = {name: tuple(values) for name, values in known["parts"].items()}
    return Row(**{**known, "parts": parts, **{name: tuple(known[name]) for name in NUMBERS}})


def _is_positive(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and x > 0
