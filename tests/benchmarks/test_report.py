"""The report and the terminal's tables."""

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

from rich.console import Console

from benchmarks import goals, report, terminal
from benchmarks.rows import Document, Row

STAGE = Row("stages/image_encoder.neck", "fast", "run-1", (0.02, 0.03), macs=10**9, bytes=10**7)
MACHINE = (
    Row("machine/sgemm", "machine", "run-1", (0.01,), macs=10**9),
    Row("machine/bandwidth", "machine", "run-1", (0.01,), bytes=10**8),
)


def elements(page: str) -> list[ElementTree.Element]:
    assert page.startswith("<!DOCTYPE html>")
    return list(ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n")).iter())


def test_the_report_is_well_formed_and_needs_nothing_from_elsewhere(made_up) -> None:
    page = report.page(made_up())
    found = elements(page)
    assert not [x.tag for x in found if x.tag.rpartition("}")[2] in ("script", "link", "img", "iframe", "object", "image")]
    assert not [x.attrib for x in found if {"href", "src"} & {name.rpartition("}")[2] for name in x.attrib}]
    assert "url(" not in page
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}


def test_what_rows_say_is_text_in_the_report(made_up) -> None:
    hostile = Row("<script>alert(1)</script>", 'a"><b>', "run-1", (1.0,), notes={"<i>": 1})
    document = made_up()
    found = elements(report.page(replace(document, rows=(*document.rows, hostile, replace(hostile, contender="other")))))
    assert not [x for x in found if x.tag.rpartition("}")[2] in ("script", "b", "i")]
    assert any(x.text == "<script>alert(1)</script>" for x in found)


def test_a_chart_has_a_bar_for_each_contender_as_long_as_its_median(made_up) -> None:
    rows = [row for row in made_up().rows if row.row == "encoder"]
    bars = [x for x in ElementTree.fromstring(report.chart(rows)).iter() if x.tag.endswith("rect")]
    lengths = [float(bar.attrib["width"]) for bar in bars]
    assert len(lengths) == 3
    assert abs(lengths[1] / lengths[0] - 4) < 0.01
    assert max(lengths) <= report.WIDTH


def test_the_terminal_shows_every_goal_and_row(made_up) -> None:
    text = shown(made_up(), goals.gate(made_up(1.5), made_up()))
    assert all(goal.what in text for goal in goals.GOALS)
    assert "decoder/1" in text
    assert "worse: encoder: fast / reference is 0.38" in text
    assert "gate: 4 worse, 0 held" in text


def test_the_markdown_has_the_same_tables_and_no_broken_cells(made_up) -> None:
    document = made_up()
    piped = Row("encoder", "a|b", "run-1", (1.0,))
    lines = report.markdown(replace(document, rows=(*document.rows, piped))).splitlines()
    assert sum(line.startswith("| encoder |") for line in lines) == 4
    for head in ("| what |", "| row |"):
        at = next(index for index, line in enumerate(lines) if line.startswith(head))
        table = lines[at : lines.index("", at)]
        assert len({line.count("|") for line in table}) == 1


def test_the_roofline_tells_the_part_that_a_stage_reaches(made_up) -> None:
    document = made_up()
    text = shown(replace(document, rows=(*document.rows, *MACHINE, STAGE)))
    line = next(line for line in text.splitlines() if "neck" in line)
    assert re.findall(r"[\d.]+", line) == ["25.0", "1.00", "10", "80", "10.0", "40"]  # ms, GMAC, MB, GFLOP/s, least ms, %


def test_without_the_machine_s_own_rows_there_is_no_roof(made_up) -> None:
    text = shown(Document(made_up().runs, (STAGE,)))
    assert "neck" in text
    assert "%" not in next(line for line in text.splitlines() if "neck" in line)


def shown(document: Document, verdict: goals.Verdict | None = None) -> str:
    out = io.StringIO()
    terminal.show(document, verdict, Console(file=out, width=200))
    return out.getvalue()
