"""`refsam segment` from end to end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refsam
from refsam.drawing import overlay
from refsam.images import read_image
from refsam.masks import rle_to_mask
from refsam.predictor import SamPredictor

CLICK = ("segment", "picture.png", "--point", "20,10")


def expected(standin, folder, **kwargs):
    """What the predictor itself answers."""
    predictor = SamPredictor(refsam.load(standin))
    predictor.set_image(read_image(folder / "picture.png"))
    return predictor.predict(**kwargs)


@pytest.mark.core
def test_a_click_draws_the_best_candidate_and_lists_all(run, folder, standin):
    code, out, err = run(*CLICK)
    assert (code, err) == (0, "")
    masks, scores, _ = expected(standin, folder, point_coords=[[20, 10]], point_labels=[1])
    drawn = overlay(read_image(folder / "picture.png"), masks[[scores.argmax()]], points=[[20, 10]])
    np.testing.assert_array_equal(read_image(folder / "picture.refsam.png"), drawn)
    assert out.count("best") == 1
    for mask, score in zip(masks, scores, strict=True):
        line = next(line for line in out.splitlines() if f"{score:.3f}" in line)
        assert str(mask.sum()) in line
        assert ("best" in line) == (score == scores.max())
    assert "wrote picture.refsam.png" in out


@pytest.mark.core
def test_json_has_every_candidate_and_writes_nothing_unasked(run, folder, standin):
    code, out, _ = run(*CLICK, "--box", "5,6,40,30", "--json")
    document = json.loads(out)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["picture.png"]
    masks, scores, _ = expected(standin, folder, point_coords=[[20, 10]], point_labels=[1], box=[5, 6, 40, 30])
    (prompt,) = document["prompts"]
    assert prompt["best"] == scores.argmax()
    assert prompt["box"] == [5, 6, 40, 30]
    for candidate, mask, score in zip(prompt["candidates"], masks, scores, strict=True):
        assert candidate["predicted_iou"] == float(score)
        assert candidate["area"] == mask.sum()
        np.testing.assert_array_equal(rle_to_mask(candidate["segmentation"]), mask)
        x, y, width, height = (int(n) for n in candidate["bbox"])
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
        assert mask[y].any()
        assert mask[y + height - 1].any()
    assert document["weights_sha256"] == refsam.load(standin).weights_sha256
    assert document["files"] == {}
    assert document["backend"] == "fast"  # what computed, by name, though no option said so


@pytest.mark.core
def test_a_folder_gets_everything(run, folder, standin):
    code, out, _ = run(*CLICK, "--point", "3,4,0", "--out", "results", "--json")
    assert code == 0
    kwargs = {"point_coords": [[20, 10], [3, 4]], "point_labels": [1, 0]}
    masks, scores, logits = expected(standin, folder, **kwargs)
    best, results, picture = masks[scores.argmax()], folder / "results", read_image(folder / "picture.png")
    np.testing.assert_array_equal(np.asarray(Image.open(results / "mask.png")), best * np.uint8(255))
    np.testing.assert_array_equal(
        np.asarray(Image.open(results / "cutout.png")), np.dstack([picture, best * 255]) * best[..., None]
    )
    drawn = overlay(picture, best[None], points=kwargs["point_coords"], labels=[1, 0])
    np.testing.assert_array_equal(read_image(results / "overlay.png"), drawn)
    with np.load(results / "logits.npz") as arrays:
        np.testing.assert_array_equal(arrays["low_res_masks"], logits[None])
        np.testing.assert_array_equal(arrays["iou_predictions"], scores[None])
    (annotation,) = json.loads((results / "masks.json").read_text())["annotations"]
    np.testing.assert_array_equal(rle_to_mask(annotation["segmentation"]), best)
    assert sorted(json.loads(out)["files"]) == ["cutout", "logits", "mask", "overlay", "rle"]
    assert len(list(results.iterdir())) == 5


def test_several_boxes_are_several_prompts(run, folder, standin):
    code, out, _ = run(
        "segment", "picture.png", "--box", "5,6,40,30", "--box", "1,2,9,9", "--mask-out", "m.png", "--single", "--json"
    )
    assert code == 0
    document = json.loads(out)
    assert document["files"] == {"mask": ["m-1.png", "m-2.png"]}
    for number, box in ((1, [5, 6, 40, 30]), (2, [1, 2, 9, 9])):
        masks, _, _ = expected(standin, folder, box=box, multimask_output=False)
        assert len(document["prompts"][number - 1]["candidates"]) == 1
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"m-{number}.png")), masks[0] * np.uint8(255))


def test_logits_go_back_in_as_a_mask_prompt(run, folder, standin):
    run(*CLICK, "--logits", "first.npz")
    code, out, _ = run(*CLICK, "--mask", "first.npz", "--json")
    assert code == 0
    _, scores, logits = expected(standin, folder, point_coords=[[20, 10]], point_labels=[1])
    best = scores.argmax()
    kwargs = {"point_coords": [[20, 10]], "point_labels": [1], "mask_input": logits[best : best + 1]}
    _, again, _ = expected(standin, folder, **kwargs)
    assert [c["predicted_iou"] for c in json.loads(out)["prompts"][0]["candidates"]] == again.tolist()


def test_a_mask_picture_is_a_prompt(run, folder, standin):
    from refsam.masks import mask_to_logits

    mask = np.zeros((40, 50), np.bool_)
    mask[10:30, 5:25] = True
    Image.fromarray(mask * np.uint8(255)).save("mask.png")
    code, out, _ = run("segment", "picture.png", "--mask", "mask.png", "--json")
    assert code == 0
    _, scores, _ = expected(standin, folder, mask_input=mask_to_logits(mask, 64))
    assert [c["predicted_iou"] for c in json.loads(out)["prompts"][0]["candidates"]] == scores.tolist()


def test_prompts_from_a_file_are_named(run, folder):
    prompts = [{"name": "tree", "points": [[1, 2]]}, {"name": "house", "box": [1, 2, 30, 30]}]
    Path("prompts.json").write_text(json.dumps({"prompts": prompts}))
    code, out, _ = run("segment", "picture.png", "--prompts", "prompts.json", "--overlay", "o.jpg", "--rle", "r.json")
    assert code == 0
    assert "tree" in out
    assert "house" in out
    assert len(json.loads(Path("r.json").read_text())["annotations"]) == 2
    with Image.open("o.jpg") as drawn:
        assert drawn.format == "JPEG"


def test_exif_orientation_reaches_the_result(run, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("picture.png").save("turned.png", exif=exif)
    assert run("segment", "turned.png", "--point", "39,49", "--mask-out", "m.png")[0] == 0
    assert read_image("m.png").shape == (50, 40, 3)


def test_an_embedding_gives_the_same_answer_without_encoding(run, folder, monkeypatch):
    _, fresh, _ = run(*CLICK, "--json")
    assert run("embed", "picture.png", "--out", "e.safetensors")[0] == 0
    monkeypatch.setattr("refsam.model.sam.MobileSam.encode_image", None)  # calling it would fail
    code, reused, _ = run(*CLICK, "--embedding", "e.safetensors", "--json")
    assert code == 0
    assert json.loads(reused) == json.loads(fresh)


def test_nobody_waits_for_what_cannot_be_written(refused, folder, monkeypatch):
    monkeypatch.setattr("refsam.cli.segment.read_image", None)  # calling it would fail
    Path("results/mask.png").mkdir(parents=True)
    assert "cannot write results/mask.png: it is a folder" in refused(*CLICK, "--out", "results")


def test_a_symbolic_link_is_replaced_and_an_old_result_too(run, folder):
    Path("precious.png").write_bytes(b"precious")
    Path("picture.refsam.png").symlink_to("precious.png")
    assert run(*CLICK)[0] == 0
    assert Path("precious.png").read_bytes() == b"precious"
    assert run(*CLICK)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["picture.png", "picture.refsam.png", "precious.png"]


@pytest.mark.core
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["segment"], "IMAGE"),
        (["segment", "picture.png"], "there is no prompt"),
        (["segment", "none.png", "--point", "1,1"], "no such file"),
        (["segment", "picture.png", "--point", "1"], "X,Y"),
        (["segment", "picture.png", "--point", "1,x"], "not 2 numbers"),
        (["segment", "picture.png", "--point", "1,nan"], "not 2 numbers"),
        (["segment", "picture.png", "--point", "1,1,2"], "label"),
        (["segment", "picture.png", "--point", "51,1"], "outside the picture, which is 50 wide and 40 high"),
        (["segment", "picture.png", "--point", "-1,1"], "outside the picture"),
        (["segment", "picture.png", "--box", "1,2,3"], "not 4 numbers"),
        (["segment", "picture.png", "--box", "9,9,1,1"], "inside out"),
        (["segment", "picture.png", "--box", "60,1,70,9"], "outside the picture"),
        (["segment", "picture.png", "--box", "1,1,9,9", "--box", "2,2,9,9", "--point", "3,3"], "--prompts file"),
        (["segment", "picture.png", "--prompts", "none.json"], "none.json"),
        (["segment", "picture.png", "--point", "1,1", "--prompts", "p.json"], "either"),
        (["segment", "picture.png", "--mask", "none.npz"], "none.npz"),
        (["segment", "picture.png", "--point", "1,1", "--overlay", "picture.png"], "not overwritten"),
        (["segment", "picture.png", "--mask", "picture.png", "--mask-out", "./picture.png"], "not overwritten"),
        (["segment", "picture.png", "--point", "1,1", "--overlay", "a.png", "--cutout", "./a.png"], "same name"),
        (["segment", "picture.png", "--point", "1,1", "--mask-out", "m.jpg"], "end in .png"),
        (["segment", "picture.png", "--point", "1,1", "--overlay", "nowhere/o.png"], "there is no folder nowhere"),
        (["segment", "picture.png", "--point", "1,1", "--overlay", "/proc/o.png"], "cannot write /proc/o.png"),
        (["segment", "picture.png", "--point", "1,1", "--out", "/proc/new/results"], "cannot write /proc"),
        (["segment", "picture.png", "--point", "1,1", "--out", "picture.png"], "picture.png is a file"),
        (["segment", "picture.png", "--point", "1,1", "--out", "picture.png/a/b"], "a/b: picture.png is a file"),
        (["segment", "picture.png", "--point", "1,1", "--weights", "none.pt"], "none.pt"),
        (["segment", "picture.png", "--point", "1,1", "--backend", "abacus"], "abacus"),
        (["segment", "picture.png", "--point", "1,1", "--threads", "0"], "threads"),
        (["segment", "picture.png", "--point", "1,1", "--embedding", "none.safetensors"], "none.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(refused, tokens, message):
    assert message in refused(*tokens)


def test_an_input_behind_a_link_is_not_overwritten(refused, folder):
    Path("other.png").symlink_to("picture.png")
    assert "not overwritten" in refused("segment", "other.png", "--point", "1,1", "--overlay", "picture.png")


def test_an_overlay_too_large_for_its_format_is_refused(run, folder):
    Image.new("L", (16400, 2)).save("wide.png")
    code, _, err = run("segment", "wide.png", "--point", "1,1", "--overlay", "o.webp")
    assert code == 2
    assert err.count("\n") == 1
    assert not Path("o.webp").exists()


def test_as_a_program(folder, standin):
    source = "import sys; from refsam.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", source, "segment", "picture.png", "--point", "20,10", "--weights", str(standin)]
    root = str(Path(refsam.__file__).parents[1])
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": root, "COLUMNS": "100"}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote picture.refsam.png" in done.stdout
