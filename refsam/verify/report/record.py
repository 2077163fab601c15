"""An outcome as plain values, its text and small pictures: what is left of it when its arrays are let go."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refsam.verify.outcome import Outcome
from refsam.verify.report.entry import entry_of
from refsam.verify.report.pictures import Pictures, pictures_of
from refsam.verify.report.text import plain_text


@dataclass(frozen=True)
class Record:
    """An outcome that can be pickled and sent to another process.

    Attributes:
        entry: what `to_json` shows of it.
        text: what `render_text` gives.
        pictures: what `to_html` draws.
    """

    entry: Mapping[str, Any]
    text: str
    pictures: Pictures

    def __bool__(self) -> bool:
        return bool(self.entry["holds"])


def record(outcome: Outcome) -> Record:
    """Reduce an outcome to what the reports show: some 100 kB in place of its arrays."""
    return Record(entry_of(outcome), plain_text(outcome), pictures_of(outcome))


def records(outcomes: Iterable[Outcome | Record]) -> Iterator[Record]:
    """Each outcome as a record; one at a time, so that the arrays of many need not be there at once."""
    return (outcome if isinstance(outcome, Record) else record(outcome) for outcome in outcomes)
