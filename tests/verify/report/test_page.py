"""The HTML page: complete in itself, safe with hostile names, small, and the same every time."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from verify.report.outcomes import Mistaken, app, clean, few, outcome, scaled_neck

from refsam.verify.report import Record, record, render_text, to_html
from refsam.verify.report.page import MOST_DETAILS
from refsam.verify.report.pictures import Pictures

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and gathers what a test asks for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def all(self, name: str, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for tag, attributes in self.tags if tag == name and attribute in attributes]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(to_html([clean(), app(), scaled_neck()]))


def test_nothing_is_asked_of_anybody(page: Page) -> None:
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "form", "base"})
    assert all(source.startswith("data:image/") for source in page.all("img", "src"))
    assert all(target.startswith("#") for target in page.all("a", "href"))
    assert "default-src 'none'" in page.all("meta", "content")[0]
    html = to_html([clean()])
    assert "://" not in re.sub(r"data:image/[^\"]*", "", html)
    assert "url(" not in html


def test_every_link_leads_to_a_place_on_the_page(page: Page) -> None:
    targets = page.all("a", "href")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(targets) > 150, "each stage of three pictures"
    assert {target[1:] for target in targets} <= set(ids)


def test_it_says_what_differs_and_why(page: Page) -> None:
    assert "2 of 3 differ" in page.text
    assert "First differs at transforms.resized" in page.text
    assert "padding in the index + no antialias, no half pixel explains" in page.text
    assert "Nothing known explains the difference at image_encoder.neck.1" in page.text
    assert re.search(r"All \d+ stages that the port shows hold at float32: required k 1, allowed 4", page.text)


def test_marks_and_words_say_what_colours_say(page: Page) -> None:
    labels = [attributes.get("aria-label", "") or "" for tag, attributes in page.tags if tag == "a"]
    entering = [label for label in labels if "a difference enters here" in label]
    assert any(label.startswith("input_image: required k") for label in entering)
    assert all("required k" in label or "no k is enough" in label for label in labels if label)


def test_hostile_names_are_text() -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'
    found = outcome(Mistaken(evil, spoil=lambda shown: {**shown, evil: np.ones(2)}, notes=(evil,)), evil, explain=False)
    page = Page(to_html([found, found]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert "{{ 7 * 7 }}" in page.text


def test_a_name_that_is_no_text_does_not_end_the_page() -> None:
    html = to_html([replace(clean(), port="caf\udce9", notes=("caf\udce9",))])
    assert "caf\\udce9" in html.encode().decode()


def test_axes_that_look_exchanged_are_not_said_to_be_taken_so() -> None:
    def spoil(shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        first, second = "image_encoder.neck.1", "image_encoder.neck.3"
        return {**shown, first: shown[first].swapaxes(-1, -2), second: shown[second].transpose(0, 2, 3, 1)}

    text = Page(to_html([outcome(Mistaken("turned", spoil=spoil), explain=False)])).text
    assert "1 x 32 x 4 x 4 float32; axes look exchanged: NCWH" in text
    assert "1 x 4 x 4 x 32 float32 as NHWC" in text


def test_one_picture_is_small_and_always_the_same() -> None:
    html = to_html([app()])
    assert len(html) < 3_000_000
    assert to_html([app()]) == html


def test_stages_of_a_port_that_shows_little_are_drawn_as_not_shown() -> None:
    html = to_html([few("image_encoder")])
    assert "mask_decoder.transformer.keys: not shown by the port" in html


def test_of_many_pictures_the_worst_are_shown_in_full() -> None:
    good, bad = record(clean()), record(scaled_neck())
    light = Pictures("data:image/png;base64,", (), ())
    many = [replace(good, pictures=light)] * 30 + [replace(bad, pictures=light)]
    page = Page(to_html(many))
    assert len([tag for tag, _ in page.tags if tag == "article"]) == MOST_DETAILS
    assert "p30" in [attributes.get("id") for tag, attributes in page.tags if tag == "article"]
    assert f"The {MOST_DETAILS} worst are shown in full below." in page.text


def test_wrong_shapes_and_values_that_are_no_numbers_have_their_words() -> None:
    def spoil(shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        cut, broken = shown["image_encoder.neck.1"][:, :-1], shown["low_res_masks"].copy()
        broken[0, 0, 0, 0] = np.nan
        return {**shown, "image_encoder.neck.1": cut, "low_res_masks": broken}

    made = record(outcome(Mistaken("broken", spoil=spoil)))
    assert "        other shape  >image_encoder.neck.1\n" in render_text(made)
    assert "         not finite  >low_res_masks\n" in render_text(made)
    page = Page(to_html([made]))
    assert "the reference has shape 1 x 32 x 4 x 4" in page.text
    assert "1 NaN, 0 infinite" in page.text


def test_of_what_is_infinite_only_the_first_stage_is_marked() -> None:
    def spoil(shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        spread = ("image_encoder.neck.1", "image_encoder.neck.2", "image_encoder", "low_res_masks")
        return {**shown, **{stage: np.full_like(shown[stage], np.inf) for stage in spread}}

    made = record(outcome(Mistaken("overflow", spoil=spoil), explain=False))
    assert [row["stage"] for row in made.entry["stages"] if row["enters_here"]] == ["image_encoder.neck.1"]
    assert "  neck        .>#.#\n" in made.text
    assert "         not finite  >image_encoder.neck.1\n         not finite   image_encoder.neck.2\n" in made.text


def test_an_infinite_error_on_the_ports_own_inputs_has_its_dash() -> None:
    made = record(app())
    row = next(row for row in made.entry["stages"] if row["local"])
    broken = {**row, "local": {**row["local"], "error": None}}
    rows = [broken if other is row else other for other in made.entry["stages"]]
    page = Page(to_html([replace(made, entry={**made.entry, "stages": rows})]))
    assert f"{row['stage']}: required k {row['required_k']:.3g} of 4; on the port's own inputs no k is enough" in " ".join(
        page.all("a", "aria-label")
    )


def test_a_record_is_all_that_the_page_needs() -> None:
    made: Record = record(app())
    assert to_html([made]) == to_html([app()])
