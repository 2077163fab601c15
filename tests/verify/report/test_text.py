"""The report in the terminal."""

import pickle
import re

import numpy as np
import pytest
from verify.report.outcomes import Mistaken, app, clean, outcome, scaled_neck

from refsam.verify.report import record, render_text
from refsam.verify.report.text import _numbers

pytestmark = pytest.mark.core


def test_a_port_that_holds_in_a_few_lines() -> None:
    text = render_text(clean())
    assert text.startswith("port 'clean' on 'photo' (150 x 98), point_coords ")
    assert "HOLDS" in text
    assert "required k 1 " in text
    assert "why:" not in text
    assert "mask 0: identical" in text


def test_a_difference_has_place_size_figures_and_remedy() -> None:
    text = render_text(app())
    for words in (
        "port 'app' first differs at transforms.resized\n  stage 1 of 54\n",
        "  shape (42, 64, 3) uint8\n",
        "(float32 against float64 on this input)",
        "mismatched elements ",
        "greatest difference ",
        "no antialias, no half pixel explains 100 % of the",
        "padding in the index: index = y * S + x; padding is never added to it",
    ):
        assert words in text, words


def test_numbers_of_a_prompt_can_be_read_again() -> None:
    assert _numbers([[590.05, 390.0], [100.0625, 1e6]]) == "[[590.05, 390], [100.0625, 1000000]]"
    assert _numbers(np.array([1, 0])) == "[1, 0]"
    assert _numbers(True) == "True"


def test_what_nothing_explains_is_said() -> None:
    assert "image_encoder.neck.1: nothing known explains the difference" in render_text(scaled_neck())


@pytest.mark.parametrize("made", [clean, app, scaled_neck])
def test_it_fits_into_80_columns(made) -> None:
    assert max(map(len, render_text(made()).splitlines())) <= 80


def test_colour_only_repeats_what_is_said() -> None:
    plain, coloured = render_text(app()), render_text(app(), colour=True)
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()] == plain.splitlines()


def test_a_record_says_the_same_after_a_trip_to_another_process() -> None:
    made = pickle.loads(pickle.dumps(record(app())))
    assert not made
    assert render_text(made) == render_text(app())


def test_names_with_control_characters_are_shown_and_not_obeyed() -> None:
    text = render_text(
        outcome(Mistaken("evil\x1b[2Jname", spoil=lambda shown: {**shown, "x\x1b]0;y": np.ones(1)}), explain=False)
    )
    assert "\x1b" not in text
    assert r"evil\x1b[2Jname" in text
    assert r"1 names of the port are no stages that were compared: 'x\x1b]0;y'" in " ".join(text.split())
