"""Makes docs/hypotheses.md from the registry of hypotheses.  Run: python docs/make_hypotheses.py (part of make docs)."""

from collections.abc import Iterator
from pathlib import Path

from refsam.files import atomic_write
from refsam.verify.hypotheses import own
from refsam.verify.hypotheses.described import what
from refsam.verify.hypothesis import Hypothesis

PAGE = Path(__file__).parent / "hypotheses.md"

AREAS = {
    "preprocessing": "From the picture to `input_image`.",
    "prompts": "From points and boxes to tokens.",
    "encoder": "The image encoder; most of these can happen in the decoder too.",
    "decoder": "Prompt encoder's maps, two-way transformer, mask decoder.",
    "postprocessing": "From `low_res_masks` to masks at the picture's size.",
}
"""In the order of the model's path."""


def lines() -> Iterator[str]:
    """The page."""
    found = own()
    yield "# Known mistakes"
    yield ""
    yield f"The {len(found)} mistakes that `refsam verify` and `refsam diagnose` know. For a stage where a port differs, the"
    yield "reference is computed on the port's own inputs once as it is and once with each of these; what turns it into the port"
    yield "is named, alone or with others, with the share of the difference that it explains ([how to read that](verify.md))."
    yield "One of your own: `refsam.verify.register(Hypothesis(name, areas, remedy, apply))`."
    yield ""
    yield "This page is made from the registry (`python docs/make_hypotheses.py`)."
    for area, words in AREAS.items():
        yield from ("", f"## {area.capitalize()}", "", words, "")
        yield from ("| mistake | what such a port does | instead |", "|---|---|---|")
        yield from (row(hypothesis) for hypothesis in found if hypothesis.areas[0] == area)


def row(hypothesis: Hypothesis) -> str:
    """A line of the table."""
    cells = (f"**{hypothesis.name}**", what(hypothesis), hypothesis.remedy)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    with atomic_write(PAGE) as file:
        file.write(("\n".join(lines()) + "\n").encode())
    print(PAGE)


if __name__ == "__main__":
    main()
