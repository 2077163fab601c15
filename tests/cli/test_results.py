"""Which candidate is the best, and how it is described."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from refsam.cli.prompts import Prompt
from refsam.cli.results import Result, candidate_summary, candidate_table, check_places, write_picture
from refsam.errors import InputError
from refsam.masks import rle_to_mask


def three_candidates(scores):
    masks = np.zeros((3, 6, 9), np.bool_)
    masks[0, :2, :2] = True
    masks[1, 3, 4] = True
    return masks, np.array(scores, np.float32), np.zeros((3, 16, 16), np.float32)


@pytest.mark.core
@pytest.mark.parametrize(("scores", "best"), [([0.1, 0.9, 0.3], 1), ([-3, -2, -1], 2), ([0.5, 0.5, 0.1], 0)])
def test_the_best_candidate_is_the_one_scored_highest(scores, best):
    masks, iou_predictions, logits = three_candidates(scores)
    result = Result.of(Prompt(name="cat"), masks, iou_predictions, logits)
    assert result.best == best
    np.testing.assert_array_equal(result.mask(), masks[best])


def test_many_answers_on_a_large_picture_take_little_memory():
    """The masks of 200 prompts on 24 megapixels, kept at full size, would take 4.8 GB."""
    masks = np.zeros((1, 4000, 6000), np.bool_)
    masks[0, 1000:3000, 2000:5000] = True
    tracemalloc.start()
    answers = [Result.of(Prompt(), masks, np.ones(1, np.float32), np.zeros((1, 16, 16), np.float32)) for _ in range(4)]
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # 3000 columns have two counts each, of a few characters: not a thousandth of a mask's 24 MB.
    assert kept < len(answers) * 24_000
    np.testing.assert_array_equal(answers[-1].mask(), masks[0])


def test_a_picture_that_cannot_be_written_is_named_once(tmp_path):
    with pytest.raises(InputError, match=r"^cannot write \S+/nowhere/o\.png: No such file"):
        write_picture(tmp_path / "nowhere" / "o.png", np.zeros((2, 2, 3), np.uint8))


def test_a_prompt_s_name_stays_text(capsys):
    masks, iou_predictions, logits = three_candidates([0.1, 0.9, 0.3])
    candidate_table([Result.of(Prompt(name="\x1b[2Jcat"), masks, iou_predictions, logits)])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[2Jcat" in shown


def test_a_candidate_has_cocos_box_and_code(capsys):
    masks, iou_predictions, logits = three_candidates([0.1, 0.9, 0.3])
    result = Result.of(Prompt(), masks, iou_predictions, logits)
    described = candidate_summary(result)["candidates"]
    assert [candidate["area"] for candidate in described] == [4, 1, 0]
    assert [candidate["bbox"] for candidate in described] == [[0, 0, 2, 2], [4, 3, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(rle_to_mask(described[1]["segmentation"]), masks[1])
    candidate_table([result])
    lines = capsys.readouterr().out.splitlines()
    assert ["best" in line for line in lines if "0." in line] == [False, True, False]
    assert "empty" in lines[-2]


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="this system has no /dev/null")
def test_what_takes_everything_may_be_named_twice() -> None:
    check_places([Path("/dev/null"), Path("/dev/null")], [])


def test_a_link_that_leads_to_itself_is_replaced_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    check_places([tmp_path / "loop"], [tmp_path / "input"])
