"""The names of what can be timed, and how patterns choose among them."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from refsam.errors import InputError

WHOLE = ("cold_start", "photo")
"""Rows that are a whole process for each sample."""

NEEDS = {"cold_start": "encoder"}
"""A whole process that any contender with this row can run; the others need a row of their own name."""

GOALS = (
    "machine/*", "encoder", "stages", "decoder/1", "decoder/256", "set_image/12MP", "predict/12MP", "cold_start", "photo",
    "everything",
)  # fmt: skip
"""What the table of goals needs, and the encoder's roofline."""


def all_tasks() -> list[str]:
    """Every task, in the order in which they run. Those of single operations need the checkout's tests."""
    return [
        "machine/sgemm", "machine/bandwidth", "encoder", "stages",
        *(f"decoder/{count}" for count in (1, 4, 16, 64, 256, 1024)),
        *(f"{what}/{size}" for what in ("set_image", "predict") for size in ("1MP", "12MP")),
        "cold_start", "photo", "everything", *_ops(),
    ]  # fmt: skip


def _ops() -> list[str]:
    try:
        from ops.cases import LARGE  # tests/ops/cases.py
    except ModuleNotFoundError:
        return []
    return [f"ops/{case.name}" for case in LARGE]


def chosen(patterns: Sequence[str], tasks: Iterable[str]) -> list[str]:
    """The tasks that a pattern matches. Raises InputError for a pattern that matches none."""
    names = list(tasks)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            groups = ", ".join(dict.fromkeys(name.split("/")[0] for name in names))
            raise InputError(f"--only {pattern!r} matches no row; there are, here: {groups} (such as 'decoder/*')")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
