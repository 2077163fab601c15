"""Rows: statistics, JSON there and back, merging, and files that are not what they should be."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rows import Document, Row
from refsam import InputError

SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=9).map(tuple)


def test_statistics_of_a_row() -> None:
    row = Row("encoder", "fast", "r", (1.0, 9.0, 2.0, 3.0, 2.5), macs=5 * 10**9, peaks=(100.0, 300.0))
    assert (row.median, row.mad, row.peak, row.gflops) == (2.5, 0.5, 200.0, 4.0)
    assert Row("encoder", "fast", "r", (1.0,)).peak is None
    assert Row("encoder", "fast", "r", (1.0,)).gflops is None


@given(SECONDS)
def test_one_outlier_does_not_move_the_median_beyond_the_others(seconds) -> None:
    row = Row("encoder", "fast", "r", (*seconds, *seconds, 1e9))
    assert row.median <= max(seconds)


@given(SECONDS, st.integers(0, 99), st.booleans())
def test_json_gives_the_rows_back(seconds, rejected, disturbed) -> None:
    row = Row("stages", "fast", "r", seconds, rejected, disturbed, parts={"a": seconds}, notes={"batch": 4}, difference=0.0)
    document = Document({"r": {"cpu": "x"}}, (row,))
    text = json.loads(json.dumps(document.to_json()))
    assert text["rows"][0]["median"] == row.median
    assert Document.from_json(text, "it") == document


def test_a_file_gives_the_rows_back(made_up, tmp_path) -> None:
    made_up().save(tmp_path / "rows.json")
    assert Document.load(tmp_path / "rows.json") == made_up()


def test_a_newer_run_takes_the_place_of_whole_tasks(made_up) -> None:
    older, newer = made_up(run="old"), made_up(run="new")
    newer = replace(newer, rows=tuple(row for row in newer.rows if row.row == "encoder" and row.contender != "reference"))
    merged = older.merged(newer)
    assert {row.run for row in merged.rows if row.row == "encoder"} == {"new"}
    assert merged.find("encoder", "reference") is None  # of another run: it could not be compared
    assert {row.run for row in merged.rows if row.row == "decoder/1"} == {"old"}
    assert set(merged.runs) == {"old", "new"}
    assert set(merged.merged(made_up(run="last")).runs) == {"last"}


def damaged(made_up, tmp_path, change) -> str:
    document = made_up().to_json()
    change(document)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        Document.load(path)
    assert "rows.json" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(format="other"), "refsam-bench-1"),
        (lambda d: d.update(rows={}), "rows a list"),
        (lambda d: d["rows"].append(3), "row 7 lacks"),
        (lambda d: d["rows"][1].pop("seconds"), "row 1 lacks"),
        (lambda d: d["rows"][0].update(seconds=[]), "row 0 has no seconds"),
        (lambda d: d["rows"][0].update(seconds=[1, -1]), "row 0 has something other than positive numbers in seconds"),
        (lambda d: d["rows"][0].update(seconds=[float("nan")]), "positive numbers"),
        (lambda d: d["rows"][0].update(seconds=[True]), "positive numbers"),
        (lambda d: d["rows"][0].update(row=["encoder"]), "text in row"),
        (lambda d: d["rows"][0].update(notes=[]), "an object in notes"),
        (lambda d: d["rows"][0].update(parts={"load": [0]}), "positive numbers in load"),
        (lambda d: d["rows"][0].update(run="gone"), "a run 'gone'"),
        (lambda d: d["rows"][0].update(seconds=[10**400]), "positive numbers in seconds: [1000"),
        (lambda d: d["rows"][0].update(parts={"load": []}), "positive numbers in load: []"),
        (lambda d: d["rows"][0].update(macs="x"), "a whole number from 0 on in macs: 'x'"),
        (lambda d: d["rows"][0].update(rejected=-1), "a whole number from 0 on in rejected: -1"),
        (lambda d: d["rows"][0].update(disturbed="no"), "true or false in disturbed: 'no'"),
        (lambda d: d["rows"][0].update(difference="x"), "a number or null in difference: 'x'"),
        (lambda d: d["rows"][0].update(notes={"batch": "four"}), "a number in batch: 'four'"),
        (lambda d: d["runs"].update(r=3), "an object in r: 3"),
        (lambda d: d["runs"].update(r={"versions": []}), "an object in versions: []"),
        (lambda d: d["runs"].update(r={"versions": {"fast": 3}}), "an object in fast: 3"),
        (lambda d: d["runs"].update(r={"unset_in_workers": [3]}), "a list of texts in unset_in_workers: [3]"),
        (lambda d: (d["runs"].update(b={}), d["rows"][0].update(run="b")), "has rows of two runs, 'b' and "),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(change, told, made_up, tmp_path) -> None:
    assert told in damaged(made_up, tmp_path, change)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_another_file_is_refused(raw, place) -> None:
    with pytest.raises(InputError, match="rows"):
        Document.load(place(raw, "rows.json"))
