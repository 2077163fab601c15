"""The stages of an outcome, group by group, and how near to its bound each is, in a few classes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from refsam.verify.groups import GROUPS, OTHER, group_of


class Cell(NamedTuple):
    """One stage in the map.

    Attributes:
        number: in the report; -1 where it has no row there.
        stage: its name.
        level: the class of its required k.
        own: the same on the port's own inputs, "" where that was not measured.
        enters: whether a difference enters here.
        title: all that in words.
    """

    number: int
    stage: str
    level: str
    own: str
    enters: bool
    title: str


LEVELS: tuple[tuple[str, float, str], ...] = (
    ("ok-low", 0.25, "up to a quarter of what is allowed"),
    ("ok", 0.5, "up to half"),
    ("ok-high", 1.0, "up to all"),
    ("bad-low", 10.0, "up to 10 times"),
    ("bad", 1000.0, "up to 1000 times"),
    ("bad-high", float("inf"), "more, or not comparable"),
)
"""(name, the greatest required k / allowed k, what it means)."""

HIDDEN = "hidden"


def level_of(required_k: float | None, k: float) -> str:
    """The class of a stage; a required k of None means that no k is enough."""
    ratio = float("inf") if required_k is None else required_k / k
    return next(name for name, most, _ in LEVELS if ratio <= most)


def own_k(row: Mapping[str, Any]) -> float | None:
    """The required k on the port's own inputs; None where no k is enough, or that was not measured."""
    local = row["local"]
    if not local or local["error"] is None or not local["budget"]:
        return None
    return float(local["error"] / local["budget"])


def stage_map(entry: Mapping[str, Any]) -> list[tuple[str, list[Cell]]]:
    """The groups that have stages, each with its cells: those that the port shows, as they ran, then the others."""
    cells = [_cell(number, row, entry["k"]) for number, row in enumerate(entry["stages"])]
    cells += [_mask_cell(entry["masks"])] if entry["masks"] else []
    hidden = [Cell(-1, name, HIDDEN, "", False, f"{name}: not shown by the port") for name in entry["not_shown"]]
    names = [name for name, _ in GROUPS] + [OTHER]
    grouped = ((name, [cell for cell in (*cells, *hidden) if group_of(cell.stage) == name]) for name in names)
    return [(name, members) for name, members in grouped if members]


def _cell(number: int, row: Mapping[str, Any], k: float) -> Cell:
    required = "no k is enough" if row["required_k"] is None else f"required k {row['required_k']:.3g} of {k:g}"
    enters = bool(row["enters_here"])
    measured, own = bool(row["local"]), own_k(row)
    on_own = f"; on the port's own inputs {'no k is enough' if own is None else f'{own:.3g}'}" if measured else ""
    title = f"{row['stage']}: {required}{on_own}" + ("; a difference enters here" if enters else "")
    return Cell(number, row["stage"], level_of(row["required_k"], k), level_of(own, k) if measured else "", enters, title)


def _mask_cell(masks: Sequence[Mapping[str, Any]]) -> Cell:
    unexplained = sum(mask["flipped"] - mask["explained"] for mask in masks)
    misfit = next((mask["misfit"] for mask in masks if mask["misfit"]), "")
    enters = any(mask["enters_here"] for mask in masks)
    title = f"masks: {misfit or f'{unexplained} flipped pixels that rounding does not explain'}"
    title += "; a difference enters here" if enters else ""
    return Cell(-1, "masks", "ok-low" if all(mask["holds"] for mask in masks) else "bad", "", enters, title)


MARKS = {"ok-low": ".", "ok": ".", "ok-high": "o", "bad-low": "x", "bad": "X", "bad-high": "#", HIDDEN: " "}


def strip(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(group, one character for each stage): . holds, o holds just so, x X # do not, > where a difference enters."""
    return [
        (name, "".join(">" if cell.enters else MARKS[cell.level] for cell in cells if cell.level != HIDDEN))
        for name, cells in stage_map(entry)
        if any(cell.level != HIDDEN for cell in cells)
    ]
