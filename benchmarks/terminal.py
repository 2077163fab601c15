"""Tables in the terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks import goals, tables
from benchmarks.rows import Document

LEAST_WIDTH = 170
"""Columns: a narrower terminal wraps lines, a table that is cut says nothing."""


def show(document: Document, verdict: goals.Verdict | None, console: Console | None = None) -> None:
    """Every row, the roofline where it was measured, and last the table of goals and the gate's verdict."""
    console = console or Console(highlight=False, width=max(Console().width, LEAST_WIDTH))
    for line in tables.remarks(document):
        console.print(line, markup=False)
    for title, head, lines in tables.all_tables(document):
        console.print(_table(title, head, lines))
    if verdict:
        for line in verdict.worse:
            console.print(f"worse: {line}", markup=False)
        for line in verdict.held:
            console.print(f"held: {line}", markup=False)
        for line in verdict.skipped:
            console.print(f"not judged: {line}", markup=False)
        counts = f"{len(verdict.worse)} worse, {len(verdict.held)} held, {len(verdict.skipped)} not judged"
        console.print(f"gate: {counts}", markup=False)


def _table(title: str, head: Iterable[str], lines: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(head):
        table.add_column(name, justify="right" if index > 1 else "left")
    for line in lines:
        table.add_row(*line)
    return table
