"""Groups and levels of stages."""

import pytest
from standin import TINY
from verify.report.outcomes import Mistaken, app, clean, outcome

from refsam.config import Config
from refsam.verify.groups import GROUPS, OTHER, group_of
from refsam.verify.report.entry import entry_of
from refsam.verify.report.stage_map import level_of, stage_map, strip
from refsam.verify.steps import default_stages

pytestmark = pytest.mark.core


@pytest.mark.parametrize("config", [TINY, Config()], ids=["tiny", "MobileSAM"])
def test_every_default_stage_has_a_group_and_every_group_a_stage(config: Config) -> None:
    found = [group_of(stage) for stage in default_stages(config)]
    assert OTHER not in found
    assert list(dict.fromkeys(found)) == [name for name, _ in GROUPS]


@pytest.mark.parametrize(
    ("stage", "group"),
    [("image_encoder.layers.10", "neck"), ("masks", "result"), ("masks_of_mine", OTHER), ("low_res_masks", "result")],
)
def test_a_group_is_of_whole_names(stage: str, group: str) -> None:
    assert group_of(stage) == group


@pytest.mark.parametrize(
    ("required", "level"),
    [(0.5, "ok-low"), (2, "ok"), (4, "ok-high"), (4.1, "bad-low"), (41, "bad"), (1e9, "bad-high"), (None, "bad-high")],
)
def test_levels(required: float | None, level: str) -> None:
    assert level_of(required, 4) == level


def test_the_map_has_every_stage_once() -> None:
    entry = entry_of(app())
    cells = [cell for _, cells in stage_map(entry) for cell in cells]
    assert sorted(cell.stage for cell in cells) == sorted(
        {*(row["stage"] for row in entry["stages"]), *entry["not_shown"], "masks"}
    )
    assert [cell.stage for cell in cells if cell.enters] == ["transforms.resized", "input_image"]


def test_the_strip_needs_no_colour() -> None:
    marks = dict(strip(entry_of(app())))
    assert marks["input"] == ">>"
    assert set(marks["neck"]) == {"#"}
    assert set("".join(dict(strip(entry_of(clean()))).values())) == {"."}


def test_masks_that_only_pass_on_what_differs_before_them_do_not_enter() -> None:
    def shown(*stages: str, mistake: str) -> dict[str, str]:
        port = Mistaken("few", (mistake,), spoil=lambda shown: {name: shown[name] for name in stages})
        return dict(strip(entry_of(outcome(port, explain=False))))

    assert shown("image_encoder", "masks", mistake="window padding masked") == {"neck": "#", "result": "X"}
    assert shown("image_encoder", "masks", mistake="mask inverted") == {"neck": ".", "result": ">"}
    assert shown("image_encoder", "low_res_masks", "masks", mistake="mask inverted")["result"] == ".>"


def test_masks_that_cannot_be_compared_do_not_look_right() -> None:
    port = Mistaken("none", spoil=lambda shown: {**shown, "masks": shown["masks"][:0]})
    entry = entry_of(outcome(port, explain=False))
    (cell,) = [cell for _, cells in stage_map(entry) for cell in cells if cell.stage == "masks"]
    assert (cell.level, cell.enters) == ("bad", True)
    assert cell.title == f"masks: {entry['masks'][0]['misfit']}; a difference enters here"
