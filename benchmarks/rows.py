"""What a run leaves: rows of samples, with what they were taken on, as JSON that can be merged, judged and drawn."""

import json
import reprlib
from collections.abc import Callable, Iterable
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
        _check_runs(source, runs)
        found = tuple(_row(source, index, entry, runs) for index, entry in enumerate(rows))
        _check_tasks(source, found)
        return cls(runs, found)


LARGEST = 1e30
"""Of any number: nothing that is measured is beyond it, and sums and quotients of such numbers are floats."""


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= LARGEST


def _are_positive(values: Any) -> bool:
    return isinstance(values, list) and all(_is_number(x) and x > 0 for x in values)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, str) for x in values)


Kind = tuple[Callable[[Any], bool], str]
"""Whether a value is of it, and what it is called."""

TEXT: Kind = (lambda x: isinstance(x, str), "text")
TEXTS: Kind = (_are_texts, "a list of texts")
OBJECT: Kind = (lambda x: isinstance(x, dict), "an object")
FLAG: Kind = (lambda x: isinstance(x, bool), "true or false")
NUMBER: Kind = (_is_number, "a number")
NUMBER_OR_NULL: Kind = (lambda x: x is None or _is_number(x), "a number or null")
COUNT: Kind = (lambda x: _is_number(x) and isinstance(x, int) and x >= 0, "a whole number from 0 on")
POSITIVE: Kind = (_are_positive, "positive numbers")
SOME_POSITIVE: Kind = (lambda x: _are_positive(x) and bool(x), "positive numbers")

NEEDED = ("row", "contender", "run", "seconds")

FIELDS: dict[str, Kind] = {
    **dict.fromkeys(("row", "contender", "run"), TEXT),
    **dict.fromkeys(("seconds", "peaks"), POSITIVE),
    **dict.fromkeys(("rejected", "macs", "bytes"), COUNT),
    **dict.fromkeys(("parts", "notes"), OBJECT),
    "disturbed": FLAG,
    "difference": NUMBER_OR_NULL,
}


def _row(source: str, index: int, entry: Any, runs: Iterable[str]) -> Row:
    """The row, its own fields checked, the derived ones left out."""
    place = f"{source}: row {index}"
    if not isinstance(entry, dict) or any(name not in entry for name in NEEDED):
        raise InputError(f"{place} lacks one of {', '.join(NEEDED)}")
    known = {"peaks": [], "parts": {}, "notes": {}, **{x.name: entry[x.name] for x in fields(Row) if x.name in entry}}
    for name, value in known.items():
        _check(place, name, value, FIELDS[name])
    for objects, kind in (("parts", SOME_POSITIVE), ("notes", NUMBER)):
        for name, value in known[objects].items():
            _check(place, name, value, kind)
    if not known["seconds"]:
        raise InputError(f"{place} has no seconds")
    if known["run"] not in runs:
        raise InputError(f"{place} is of a run {known['run']!r} that the file does not describe")
    parts = {name: tuple(values) for name, values in known["parts"].items()}
    return Row(**{**known, "parts": parts, **{name: tuple(known[name]) for name in ("seconds", "peaks")}})


def _check_runs(source: str, runs: dict[str, Any]) -> None:
    """Of what a run was taken on, what the tables go into."""
    for key, run in runs.items():
        _check(f"{source}: runs", key, run, OBJECT)
        place = f"{source}: run {key}"
        _check(place, "unset_in_workers", run.get("unset_in_workers", []), TEXTS)
        _check(place, "versions", run.get("versions", {}), OBJECT)
        for contender, versions in run.get("versions", {}).items():
            _check(place, contender, versions, OBJECT)


def _check_tasks(source: str, rows: Iterable[Row]) -> None:
    """A task's rows are of one run: those of two cannot be compared."""
    runs: dict[str, str] = {}
    for row in rows:
        if runs.setdefault(row.row, row.run) != row.run:
            raise InputError(f"{source}: {row.row} has rows of two runs, {runs[row.row]!r} and {row.run!r}")


def _check(place: str, name: str, value: Any, kind: Kind) -> None:
    fits, what = kind
    if not fits(value):
        raise InputError(f"{place} has something other than {what} in {name}: {reprlib.repr(value)}")
