"""The JSON document: stable, rounded, without places and times."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from verify.report.outcomes import Mistaken, app, clean, few, outcome, scaled_neck

from refsam.verify.report import record, to_json
from refsam.verify.report.document import SCHEMA
from refsam.verify.report.entry import plain, port_name


def values(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        assert list(document) == sorted(document)
        for value in document.values():
            yield from values(value)
    elif isinstance(document, list):
        for value in document:
            yield from values(value)
    else:
        yield document


def test_it_says_what_was_asked_and_what_came_of_it() -> None:
    document = to_json([app()])
    (entry,) = document["outcomes"]
    assert (document["schema"], document["holds"]) == (SCHEMA, False)
    assert (entry["port"], entry["picture"]["name"], entry["first"], entry["k"]) == ("app", "photo", "transforms.resized", 4.0)
    assert entry["explanations"][1]["names"] == ["padding in the index", "no antialias, no half pixel"]
    assert entry["prompts"]["point_labels"] == [1, 0]
    assert [mask["holds"] for mask in entry["masks"]] == [True] * 3


def test_it_is_plain_rounded_json_with_sorted_keys() -> None:
    document = to_json([app(), clean()])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    for value in values(document):
        assert value is None or isinstance(value, bool | int | float | str)
        assert not isinstance(value, float) or value == float(f"{value:.4g}")


def test_the_same_run_gives_the_same_document_in_any_order() -> None:
    again = outcome(Mistaken("clean"))
    first = json.dumps(to_json([clean(), scaled_neck()]))
    assert json.dumps(to_json([scaled_neck(), record(again)])) == first


def test_where_a_port_lies_is_not_said() -> None:
    here, there = (outcome(Mistaken(f"/{folder}/dumps", ("BGR",)), explain=False) for folder in ("home/me", "tmp/you"))
    assert json.dumps(to_json([here])) == json.dumps(to_json([there]))
    assert to_json([here])["outcomes"][0]["port"] == "dumps"
    assert port_name("mine/dumps") == "mine/dumps", "as it was given"


def test_what_is_infinite_or_no_number_is_null() -> None:
    assert plain({"b": float("inf"), "a": (float("nan"), 0.123456)}) == {"a": [None, 0.1235], "b": None}


def test_a_prompt_is_as_it_was_asked() -> None:
    asked = {"point_coords": [[11235.25, 1234.5]], "point_labels": [1], "box": None}
    found = clean()
    (entry,) = to_json([replace(found, case=replace(found.case, prompts=asked))])["outcomes"]
    assert entry["prompts"] == {"point_coords": [[11235.25, 1234.5]], "point_labels": [1]}


def test_bytes_of_names_that_are_no_text_are_shown() -> None:
    name = "caf\udce9 \x1b[31m"  # a file's name in Latin-1, and a colour
    (entry,) = to_json([replace(clean(), port=name, notes=(name,))])["outcomes"]
    assert (entry["port"], entry["notes"]) == ("caf\\udce9 \\x1b[31m", ["caf\\udce9 \\x1b[31m"])


def test_stages_that_the_port_does_not_show_are_listed() -> None:
    (entry,) = to_json([few("image_encoder", "low_res_masks")])["outcomes"]
    assert [row["stage"] for row in entry["stages"]] == ["image_encoder", "low_res_masks"]
    assert "mask_decoder.transformer.keys" in entry["not_shown"]
    assert "transforms.boxes" not in entry["not_shown"], "no box was asked for"
