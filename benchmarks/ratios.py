"""Ratios between contenders, with the range that their samples leave open."""

from dataclasses import dataclass

import numpy as np

from benchmarks.rows import Document, Row

RESAMPLES = 2000
CONFIDENCE = 95.0
"""Per cent."""


@dataclass(frozen=True)
class Ratio:
    """The time of `contender` divided by that of `against`: below 1 is faster. `disturbed` where one of the two rows is."""

    row: str
    contender: str
    against: str
    value: float
    low: float
    high: float
    disturbed: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What the ratio is of."""
        return self.row, self.contender, self.against


def ratio(row: Row, against: Row) -> Ratio:
    """Of the medians. The range is a bootstrap's: both sets of samples are drawn anew, with replacement, many times.

    Both rows have to be of one task and one run: what two runs measure differs by more than what is asked.
    """
    if (row.row, row.run) != (against.row, against.run):
        raise ValueError(f"{row.row} of run {row.run} and {against.row} of run {against.run} cannot be compared")
    quotients = _resampled(row.seconds) / _resampled(against.seconds, seed=1)
    low, high = np.percentile(quotients, ((100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2))
    value = row.median / against.median
    ends, disturbed = (min(float(low), value), max(float(high), value)), row.disturbed or against.disturbed
    return Ratio(row.row, row.contender, against.contender, value, *ends, disturbed)


def _resampled(seconds: tuple[float, ...], seed: int = 0) -> np.ndarray:
    """Medians of samples drawn anew."""
    rng = np.random.default_rng(seed)
    return np.median(rng.choice(np.array(seconds), (RESAMPLES, len(seconds))), axis=1)


def all_ratios(document: Document, ours: str) -> list[Ratio]:
    """Of `ours` to every other contender, task by task."""
    found = []
    for mine in (x for x in document.rows if x.contender == ours):
        others = (x for x in document.rows if x.row == mine.row and x.contender != ours and x.run == mine.run)
        found += [ratio(mine, other) for other in others]
    return found
