"""An outcome as plain values, its text and small pictures: what is left of it when its arrays are let go."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refsam.verify.outcome import Outcome
from refsam.verify.report.entry import entry_of
from refsam.verify.report.pictures import Pictures, pictures_of
from refsam.verify.report.text import plain_text
from refsam.verify.words import headline


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

    @property
    def headline(self) -> str:
        """The verdict in a word, or in a few where only masks hold."""
        return headline(bool(self), self.entry["masks_alone"])

    @property
    def masks_alone(self) -> bool:
        """Whether it holds by its masks alone, no stage having been judged."""
        return bool(self) and bool(self.entry["masks_alone"])


def record(outcome: Outcome) -> Record:
    """Reduce an outcome to what the reports show: some 100 kB in place of its arrays."""
    return Record(entry_of(outcome), plain_text(outcome), pictures_of(outcome))


def records(outcomes: Iterable[Outcome | Record]) -> Iterator[Record]:
    """Each outcome as a record; one at a time, so that the arrays of many need not be there at once."""
    return (outcome if isinstance(outcome, Record) else record(outcome) for outcome in outcomes)


def not_judged(made: Sequence[Record]) -> list[str]:
    """Of how many pictures only masks hold, in words; nothing where there are none."""
    alone = sum(record.masks_alone for record in made)
    return [f"no stage was judged of {alone}"] if alone else []
