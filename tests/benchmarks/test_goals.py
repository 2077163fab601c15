"""Ratios, the table of goals and the gate, on rows that are made up."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import goals
from benchmarks.ratios import all_ratios, ratio
from benchmarks.rows import Document, Row
from refsam import InputError


def row(name: str, *seconds: float, run: str = "r") -> Row:
    return Row("encoder", name, run, seconds)


def test_a_ratio_is_of_medians_and_its_range_holds_it() -> None:
    found = ratio(row("fast", 1.0, 1.1, 0.9), row("torch", 4.0, 3.0, 5.0))
    assert found.value == 0.25
    assert 0.9 / 5 <= found.low < 0.25 < found.high <= 1.1 / 3


def test_equal_samples_leave_no_range() -> None:
    found = ratio(row("fast", 1.0, 1.0), row("torch", 2.0, 2.0))
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_the_range_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(100):
        mine, other = rng.lognormal(0, 0.1, 9), 2 * rng.lognormal(0, 0.1, 9)
        found = ratio(row("fast", *mine), row("torch", *other))
        hits += found.low <= 0.5 <= found.high
    assert hits >= 0.9 * 100  # 95 % are meant; a bootstrap of nine samples is somewhat too sure


def test_rows_of_two_runs_are_never_compared(made_up) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        ratio(row("fast", 1.0), row("torch", 1.0, run="other"))
    mixed = Document({}, (row("fast", 1.0), row("torch", 1.0, run="other")))
    assert all_ratios(mixed, "fast") == []


def test_the_table_tells_each_goal(made_up) -> None:
    found = {x.goal.what: x for x in goals.results(made_up())}
    assert len(found) == len(goals.GOALS)
    assert found["encoder / ONNX Runtime"].value == 0.5
    assert found["encoder / ONNX Runtime"].verdict == "aim met"
    assert found["encoder / OpenVINO"].verdict == "not measured"
    assert (found["peak RSS, photo to mask at 1024x768, MB"].value, found["peak RSS, photo to mask at 1024x768, MB"].high) == (
        240,
        260,
    )


@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "aim met"), (2.0, "met"), (2.3, "NOT met")])
def test_bound_and_aim_are_told_apart(slower, verdict, made_up) -> None:
    assert goals.results(made_up(slower))[0].verdict == verdict  # encoder / ONNX Runtime: 0.5 times `slower`, 0.9 and 1.1


def disturbed(document: Document, contender: str, task: str = "") -> Document:
    """With this contender's rows (of one task) marked as taken on a busy machine."""
    hit = [x.contender == contender and task in x.row for x in document.rows]
    return replace(document, rows=tuple(replace(x, disturbed=is_hit) for x, is_hit in zip(document.rows, hit, strict=True)))


@pytest.mark.parametrize("contender", ["fast", "onnxruntime"])
def test_a_goal_is_neither_met_nor_missed_by_a_disturbed_row(contender, made_up) -> None:
    found = goals.results(disturbed(made_up(), contender))[0]
    assert (found.value, found.verdict, found.caution) == (0.5, "not judged", "the machine was not idle")
    assert goals.results(disturbed(made_up(), "reference"))[0].verdict == "aim met"


def test_the_gate_holds_on_the_same_rows_and_on_another_speed_of_the_machine(made_up) -> None:
    document = made_up()
    twice = replace(document, rows=tuple(replace(x, seconds=tuple(2 * s for s in x.seconds)) for x in document.rows))
    for now in (document, twice):
        verdict = goals.gate(now, document)
        assert verdict.worse == ()
        assert len(verdict.held) == 4
        assert verdict.skipped == ()


@pytest.mark.parametrize(("slower", "worse"), [(0.5, 0), (1.08, 0), (1.16, 4), (1.3, 4)])
def test_the_gate_fails_where_a_ratio_rose_beyond_spread_and_drift(slower, worse, made_up) -> None:
    verdict = goals.gate(made_up(slower), made_up())
    assert len(verdict.worse) == worse
    assert all("it was" in line for line in verdict.worse)


def test_a_wide_spread_is_no_failure(made_up) -> None:
    wide = replace(made_up(), rows=tuple(replace(x, seconds=(x.median * 0.7, x.median, x.median * 2)) for x in made_up(1.3).rows))
    assert goals.gate(wide, made_up()).worse == ()


def test_the_gate_names_what_it_could_not_compare(made_up) -> None:
    only = replace(made_up(), rows=tuple(x for x in made_up().rows if x.contender != "onnxruntime"))
    verdict = goals.gate(only, made_up())
    assert sorted(verdict.skipped) == [f"{task}: fast / onnxruntime: only one side has it" for task in ("decoder/1", "encoder")]
    with pytest.raises(InputError, match="no ratio in common"):
        goals.gate(Document(), made_up())


def test_the_gate_does_not_judge_disturbed_rows(made_up) -> None:
    for now, then, whose in (
        (disturbed(made_up(1.5), "fast", "encoder"), made_up(), "now"),
        (made_up(1.5), disturbed(made_up(), "fast", "encoder"), "in the baseline"),
    ):
        verdict = goals.gate(now, then)
        told = [f"encoder: fast / {peer}: the machine was not idle {whose}" for peer in ("onnxruntime", "reference")]
        assert sorted(verdict.skipped) == told
        assert [line.split(":")[0] for line in verdict.worse] == ["decoder/1", "decoder/1"]
    assert goals.gate(disturbed(made_up(), "fast", "encoder"), made_up()).passes
    assert not goals.gate(disturbed(made_up(), "fast"), made_up()).passes  # nothing was judged


def test_the_gate_notices_a_rise_from_where_the_docs_say() -> None:
    """docs/benchmarks.md has, for each row of the committed baseline, the least rise that is noticed."""
    root = Path(__file__).parents[2]
    baseline = Document.load(root / "benchmarks" / "baseline.json")
    told = dict(re.findall(r"^\| `(\S+)` \| (\d\.\d\d) \|", (root / "docs" / "benchmarks.md").read_text(), re.MULTILINE))
    assert set(told) == set(baseline.tasks())
    for part, worse in ((0.97, 0), (1.03, len(told))):
        rows = (replace(x, seconds=tuple(s * part * float(told[x.row]) for s in x.seconds)) if x.contender == "fast" else x
                for x in baseline.rows)  # fmt: skip
        assert len(goals.gate(replace(baseline, rows=tuple(rows)), baseline).worse) == worse
