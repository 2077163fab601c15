"""The JSON document: versioned, stable from run to run, one line for each number, so that two of them can be diffed."""

from collections.abc import Iterable
from typing import Any

from refsam.verify.outcome import Outcome
from refsam.verify.report.record import Record, records

SCHEMA = "refsam.verify/1"
"""Fields may be added under this name; where one changes its meaning or goes, the number is raised."""


def to_json(outcomes: Iterable[Outcome | Record]) -> dict[str, Any]:
    """All outcomes, by port and picture, as plain values.

    Numbers have four significant digits, prompts ten; what is infinite or no number is None (a required k of None: no k is
    enough). There are no times in it; a port that is an absolute path is called by the path's last part.
    """
    entries = [dict(made.entry) for made in records(outcomes)]
    entries.sort(key=lambda entry: (entry["port"], entry["picture"]["name"], entry["picture"]["sha256"]))
    return {"holds": all(entry["holds"] for entry in entries), "outcomes": entries, "schema": SCHEMA}
