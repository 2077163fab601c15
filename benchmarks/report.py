"""The reports: an HTML file with nothing from elsewhere, its charts drawn as SVG, well-formed XML; and one in Markdown."""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import chain
from pathlib import Path

from benchmarks import tables
from benchmarks.rows import Document, Row
from refsam.files import atomic_write

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 0 0 2rem; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left; font-size: 13px }
td:nth-child(n+3), th:nth-child(n+3) { text-align: right }
svg { display: block; margin: 0 0 1.2rem; max-width: 100% } svg text { font: 12px system-ui, sans-serif; fill: #222 }
.missed { color: #a00; font-weight: 600 } .met { color: #060 } figure { margin: 0 }
"""

LEFT, WIDTH, RIGHT, HEIGHT = 130, 560, 190, 22
"""Of a chart: the room for names, for bars, for numbers; and a bar's own."""

OURS_COLOUR, OTHER_COLOUR = "#2a6fdb", "#b5bfcc"


def save(text: str, path: Path) -> None:
    """Write a report, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def page(document: Document) -> str:
    """The whole file."""
    *others, goals = tables.all_tables(document)
    body = "\n".join([*_table(*goals), *_charts(document), *chain(*(_table(*x) for x in others)), *_remarks(document)])
    head = f'<head><meta charset="utf-8"/><title>refsam benchmarks</title><style>{STYLE}</style></head>'
    opening = f'<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">{head}'
    return f"{opening}\n<body><h1>refsam benchmarks</h1>\n{body}\n</body></html>\n"


def _table(title: str, head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"<h2>{escape(title)}</h2><table>{_cells('th', head)}"
    yield from (_cells("td", line) for line in lines)
    yield "</table>"


def markdown(document: Document) -> str:
    """The same tables and remarks as Markdown, goals first, to be kept in the docs."""
    *others, goals = tables.all_tables(document)
    lines = [
        "# Benchmarks as measured",
        "",
        "Written by `refsam bench --out`; what the columns mean: [benchmarks](../benchmarks.md).",
    ]
    for title, head, rows in (goals, *others):
        lines += ["", f"## {title}", "", _markdown_row(head), _markdown_row(("---",) * len(head)), *map(_markdown_row, rows)]
    return "\n".join([*lines, "", "## What it was measured on", "", *(f"- {x.strip()}" for x in tables.remarks(document)), ""])


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(x.replace('|', '/') for x in cells)} |"


def _cells(tag: str, texts: Iterable[str]) -> str:
    marks = {"NOT": ' class="missed"', "aim": ' class="met"', "met": ' class="met"'}
    cells = (f"<{tag}{marks.get(x.split(' ')[0], '') if tag == 'td' else ''}>{escape(x)}</{tag}>" for x in texts)
    return f"<tr>{''.join(cells)}</tr>"


def _remarks(document: Document) -> Iterator[str]:
    yield "<h2>What it was measured on</h2>"
    yield from (f"<p>{escape(line)}</p>" for line in tables.remarks(document))


def _charts(document: Document) -> Iterator[str]:
    """A chart for each task that several contenders ran."""
    yield "<h2>Times</h2><p>Bar: median. Line: from the fastest to the slowest sample.</p>"
    for task in document.tasks():
        rows = [row for row in document.rows if row.row == task]
        if len(rows) > 1 and not task.startswith("stages/"):
            yield f"<figure><figcaption>{escape(task)}</figcaption>{chart(rows)}</figure>"


def chart(rows: list[Row]) -> str:
    """Bars of one task's contenders, the first of which is ours."""
    longest = max(max(row.seconds) for row in rows)
    bars = "".join(_bar(index, row, WIDTH / longest) for index, row in enumerate(rows))
    width, height = LEFT + WIDTH + RIGHT, HEIGHT * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">{bars}</svg>'
    )


def _bar(index: int, row: Row, scale: float) -> str:
    top, middle = index * HEIGHT + 3, index * HEIGHT + HEIGHT / 2
    low, high = LEFT + scale * min(row.seconds), LEFT + scale * max(row.seconds)
    colour = OTHER_COLOUR if index else OURS_COLOUR
    return (
        f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(row.contender)}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{scale * row.median:.1f}" height="{HEIGHT - 6}" fill="{colour}"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#222" stroke-width="1.5"/>'
        f'<text x="{high + 8:.1f}" y="{middle + 4}">{1000 * row.median:.4g} ms</text>'
    )
