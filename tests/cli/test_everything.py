"""`refsam everything` from end to end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refsam
from refsam.cli import mask_folder
from refsam.cli.everything import Outputs, Search, hint
from refsam.drawing import overlay
from refsam.images import read_image
from refsam.masks import rle_to_mask

KEEP: dict[str, float] = {
    "points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.3, "stability_score_offset": 0.1,
    "box_nms_thresh": 1.0,
}  # fmt: skip


def words(**changes: float) -> list[str]:
    """The command line of KEEP, with some options changed."""
    options = {**KEEP, **changes}.items()
    return ["everything", "picture.png", *(word for name, v in options for word in (f"--{name.replace('_', '-')}", str(v)))]


LOOK = words()


@pytest.fixture
def records(standin, folder):
    """What the generator itself finds."""
    generator = refsam.SamAutomaticMaskGenerator(refsam.load(standin), **KEEP, output_mode="coco_rle")
    found = generator.generate(read_image("picture.png"))
    assert len(found) > 3
    return found


def test_the_picture_with_all_masks_is_drawn_the_largest_first(run, folder, records):
    code, out, err = run(*LOOK)
    assert (code, err) == (0, "")
    masks = sorted((rle_to_mask(record["segmentation"]) for record in records), key=lambda mask: -mask.sum())
    picture = read_image("picture.png")
    np.testing.assert_array_equal(read_image("picture.refsam.png"), overlay(picture, masks))
    assert f"{len(records)} masks" in out
    assert "wrote picture.refsam.png" in out
    assert all(f"{record['predicted_iou']:.3f}" in out and str(record["area"]) in out for record in records[:20])


def test_json_is_sa_1bs_document_and_what_made_it(run, folder, records):
    code, out, _ = run(*LOOK, "--json")
    document = json.loads(out)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["picture.png"]
    assert document["image"] == {"image_id": 1, "file_name": "picture.png", "height": 40, "width": 50}
    assert document["annotations"] == [{"id": number + 1, **record} for number, record in enumerate(records)]
    assert document["parameters"]["points_per_side"] == 4
    assert document["parameters"]["crop_overlap_ratio"] == 512 / 1500
    assert (document["backend"], document["files"]) == (refsam.loading.DEFAULT_BACKEND, {})


def test_a_folder_gets_everything(run, folder, records):
    code, out, _ = run(*LOOK, "--out", "new/results", "--json")
    assert code == 0
    results = folder / "new" / "results"
    assert json.loads(out)["files"] == {
        "overlay": "new/results/overlay.png", "rle": "new/results/masks.json", "masks": "new/results/masks"
    }  # fmt: skip
    assert json.loads((results / "masks.json").read_text())["annotations"][2] == {"id": 3, **records[2]}
    assert {path.name for path in results.iterdir()} == {"overlay.png", "masks.json", "masks"}
    names = {f"{number}.png" for number in range(len(records))}
    assert {path.name for path in (results / "masks").iterdir()} == {*names, "metadata.csv"}
    for number, record in enumerate(records):
        pixels = np.asarray(Image.open(results / "masks" / f"{number}.png"))
        np.testing.assert_array_equal(pixels, rle_to_mask(record["segmentation"]) * np.uint8(255))


def test_metadata_csv_has_the_columns_of_upstreams_script(run, folder, records):
    run(*LOOK, "--masks", "masks")
    header, *rows = (folder / "masks" / "metadata.csv").read_text().splitlines()
    assert header == (
        "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,stability_score,"
        "crop_box_x0,crop_box_y0,crop_box_w,crop_box_h"
    )
    for number, (row, record) in enumerate(zip(rows, records, strict=True)):
        scores = [record["predicted_iou"], record["stability_score"]]
        values = [number, record["area"], *record["bbox"], *record["point_coords"][0], *scores, *record["crop_box"]]
        assert [float(value) for value in row.split(",")] == values


def test_a_folder_of_an_earlier_run_is_replaced_as_a_whole(run, folder):
    run(*LOOK, "--masks", "masks")
    before = len(list(Path("masks").iterdir()))
    assert run(*words(box_nms_thresh=0.95), "--masks", "masks")[0] == 0
    rows = Path("masks/metadata.csv").read_text().splitlines()
    assert len(list(Path("masks").iterdir())) == len(rows) < before
    assert sorted(path.name for path in folder.iterdir()) == ["masks", "picture.png"]


def test_a_folder_with_other_things_is_left_alone(refused, folder):
    Path("masks").mkdir()
    Path("masks/diary.txt").write_text("dear")
    assert "diary.txt" in refused(*LOOK, "--masks", "masks")


@pytest.mark.parametrize("table", [None, "frame,time\n0,0.0\n1,0.04\n", b"\xff\xfe"])
def test_numbered_pictures_of_somebody_elses_are_left_alone(refused, folder, table):
    Path("masks").mkdir()
    for number in range(2):
        Path(f"masks/{number}.png").write_bytes(b"a frame")
    if table is not None:
        Path("masks/metadata.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    assert "0.png" in refused(*LOOK, "--masks", "masks")
    assert Path("masks/1.png").read_bytes() == b"a frame"


def test_a_picture_added_to_an_earlier_run_keeps_it_from_being_replaced(run, refused, folder):
    run(*LOOK, "--masks", "masks")
    Path("masks/999.png").write_bytes(b"a frame")
    assert "999.png" in refused(*LOOK, "--masks", "masks")


def test_a_folder_that_holds_the_picture_is_not_replaced(run, refused, folder):
    run(*LOOK, "--masks", "masks")
    words = ["everything", "masks/0.png", *LOOK[2:], "--masks", "masks"]
    assert "masks has the input masks/0.png in it" in refused(*words)
    assert Path("masks/0.png").exists()


@pytest.mark.parametrize("when", [0, 2])
def test_an_interrupted_run_leaves_whole_files_only(run, folder, monkeypatch, when):
    run(*LOOK, "--masks", "masks")
    kept = {path.name: path.read_bytes() for path in Path("masks").iterdir()}
    write, written = mask_folder.write_picture, []

    def interrupted(path, pixels):
        if len(written) == when:
            raise KeyboardInterrupt
        written.append(path)
        write(path, pixels)

    monkeypatch.setattr(mask_folder, "write_picture", interrupted)
    code, _, err = run(*LOOK, "--rle", "r.json", "--overlay", "o.png", "--masks", "masks")
    assert (code, err) == (130, "refsam: interrupted\n")
    assert {path.name: path.read_bytes() for path in Path("masks").iterdir()} == kept
    assert sorted(path.name for path in folder.iterdir()) == ["masks", "o.png", "picture.png", "r.json"]
    assert json.loads(Path("r.json").read_text())["annotations"]


def test_an_interrupted_search_leaves_nothing(run, folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("refsam.predictor.SamPredictor.stability_scores", interrupted)
    assert run(*LOOK, "--out", "results")[0] == 130
    assert sorted(path.name for path in folder.iterdir()) == ["picture.png"]


def test_a_score_that_is_no_number_is_null_in_the_file(folder, records):
    """The stability of a mask whose logits are all below both thresholds, kept where that filter is off."""
    Outputs(rle=Path("r.json")).write(
        Path("p.png"), read_image("picture.png"), [{**records[0], "stability_score": math.nan}], lambda *_: None
    )
    document = json.loads(Path("r.json").read_text(), parse_constant=pytest.fail)
    assert document["annotations"][0]["stability_score"] is None


def test_where_no_mask_is_left_the_hints_lead_to_one(run, folder):
    """Each run says what to change for the next."""
    changes, hints = {"pred_iou_thresh": 99.0, "stability_score_thresh": 98.0}, []
    for _ in range(3):
        code, out, err = run(*words(**changes), "--overlay", "o.png")
        assert code == 0
        if not err:
            break
        assert "0 masks" in out
        assert err.startswith("refsam: no mask: ")
        hints.append(err)
        option, value = err.split("try ")[1].replace(",", "").split()[:2]
        changes[option.removeprefix("--").replace("-", "_")] = float(value)
    assert ["predicted IoU" in hint for hint in hints] == [True, False]
    assert "stability" in hints[1]
    assert " masks" in out
    assert "0 masks" not in out.splitlines()[-2]


def test_a_filter_that_is_off_is_not_to_blame():
    """A threshold of 0 keeps a predicted IoU below 0, too."""
    highest = {"predicted_iou": -0.01, "stability_score": 0.5}
    assert "the best stability score is 0.500" in hint(highest, Search(pred_iou_thresh=0))
    assert "crop" in hint({**highest, "stability_score": -1.0}, Search(pred_iou_thresh=0, stability_score_thresh=0))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["none.png"], "no such file"),
        (["picture.png", "--points-per-side", "0"], "points_per_side is 0"),
        (["picture.png", "--points-per-side", "many"], "many"),
        (["picture.png", "--points-per-batch", "0"], "points_per_batch is 0"),
        (["picture.png", "--crop-n-layers", "-1"], "crop_n_layers is -1"),
        (["picture.png", "--crop-n-layers", "7"], "too small for crop layer"),
        (["picture.png", "--points-per-side", "2", "--crop-n-layers", "1", "--crop-n-points-downscale-factor", "3"], "no point"),
        (["picture.png", "--stability-score-offset", "nan"], "stability_score_offset is nan"),
        (["picture.png", "--overlay", "picture.png"], "not overwritten"),
        (["picture.png", "--overlay", "o.gif"], "end in .png"),
        (["picture.png", "--rle", "r.csv"], "end in .json"),
        (["picture.png", "--masks", "picture.png"], "not overwritten"),
        (["picture.png", "--masks", "nowhere/masks"], "there is no folder nowhere"),
        (["picture.png", "--out", "picture.png"], "picture.png is a file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(refused, tokens, message):
    assert message in refused("everything", "--pred-iou-thresh", "99", *tokens)
