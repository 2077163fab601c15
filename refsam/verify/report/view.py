"""What the page says of one record, as words: the template only puts it in its place."""

import math
from collections.abc import Mapping
from typing import Any

from refsam.verify.report.record import Record
from refsam.verify.report.stage_map import level_of, own_k
from refsam.verify.words import UNUSED


class View:
    """A record as the page shows it.

    Args:
        number: of the record on its page, for links.
        made: the record.
    """

    def __init__(self, number: int, made: Record) -> None:
        self.number, self.entry, self.pictures = number, made.entry, made.pictures
        self.holds, self.headline = bool(made), made.headline
        self.name = made.entry["picture"]["name"] or f"picture {number + 1}"
        self.rows = [Row(row, made.entry["k"]) for row in made.entry["stages"]]

    @property
    def worst(self) -> float:
        """The required k; infinite where no k is enough."""
        required = self.entry["required_k"]
        return math.inf if required is None else float(required)

    @property
    def required(self) -> str:
        """The required k in words."""
        return number(self.entry["required_k"])

    @property
    def allowed(self) -> str:
        """k."""
        return f"{self.entry['k']:g}"

    @property
    def size(self) -> str:
        """Of the picture."""
        return f"{self.entry['picture']['width']} x {self.entry['picture']['height']}"

    @property
    def prompt(self) -> str:
        """What was asked."""
        asked: Mapping[str, Any] = self.entry["prompts"]
        return ", ".join(f"{name} {value}" for name, value in asked.items()) or "none"

    @property
    def first(self) -> "Row | None":
        """The stage where the port first differs, if it is one of the table."""
        return next((row for row in self.rows if row.stage == self.entry["first"]), None)

    @property
    def why(self) -> str:
        """The explanations' names, for the summary."""
        names = [" + ".join(found["names"]) or "nothing known" for found in self.entry["explanations"]]
        return "; ".join(names)

    @property
    def ious(self) -> str:
        """Of the final masks; a dash where none can be made."""
        return ", ".join(number(None) if mask["misfit"] else f"{mask['iou']:.3f}" for mask in self.entry["end_to_end"])

    @property
    def unused(self) -> str:
        """That a stage holds behind one that does not, in words."""
        return UNUSED.format(*self.entry["unused"]) if self.entry["unused"] else ""

    @property
    def missing(self) -> str:
        """The first names of the port that are no stages."""
        names = self.entry["missing"]
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class Row:
    """A stage's line in the table."""

    def __init__(self, row: Mapping[str, Any], k: float) -> None:
        self.stage: str = row["stage"]
        self.holds: bool = row["holds"]
        self.enters: bool = row["enters_here"]
        self.level = level_of(row["required_k"], k)
        self.required, self.error, self.budget = (number(row[key]) for key in ("required_k", "relative_l2", "budget"))
        self.shape = " x ".join(map(str, row["candidate_shape"]))
        self.dtype: str = row["dtype"]
        self.layout = f"as {row['layout']}" if row["layout"] else ""
        self.swapped = f"axes look exchanged: {row['swapped']}" if row["swapped"] else ""
        self.nmse, self.psnr, self.cosine = number(row["nmse"]), number(row["psnr"]), number(row["cosine"], 6)
        self.mismatched = _mismatched(row)
        self.local = number(own_k(row)) if row["local"] else ""
        self.greatest = _greatest(row)
        self.bar = _bar(row["required_k"], k)


def _mismatched(row: Mapping[str, Any]) -> str:
    if row["relative_l2"] is None:
        return "–"
    elements = math.prod(row["shape"])
    return f"{row['mismatched']} / {elements} ({100 * row['mismatched'] / max(elements, 1):.3g}%)"


def _greatest(row: Mapping[str, Any]) -> str:
    if row["nan"] or row["inf"]:
        return f"{row['nan']} NaN, {row['inf']} infinite"
    if row["max_abs"] is None:
        return f"the reference has shape {' x '.join(map(str, row['shape']))}"
    place = ", ".join(map(str, row["index"]))
    return f"{number(row['max_abs'])} at ({place}): {number(row['reference_value'])} → {number(row['candidate_value'])}"


def _bar(required_k: float | None, k: float) -> int:
    """Per cent of the bar, logarithmic: a hundredth of what is allowed is at the left end, all of it at a third, and 10,000 times
    that at the right end."""
    ratio = math.inf if required_k is None else required_k / k
    return 100 if math.isinf(ratio) else round(100 * min(max((math.log10(max(ratio, 1e-9)) + 2) / 6, 0), 1))


def number(value: float | None, digits: int = 3) -> str:
    """As a person reads it; what no number says is a dash."""
    return "–" if value is None else f"{value:.{digits}g}"
