"""`refsam verify` and `refsam diagnose` from end to end."""

import importlib
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import picture
from PIL import Image

import refsam
from refsam import transforms
from refsam.cli.model import ModelOptions
from refsam.cli.prompts import Prompt
from refsam.cli.verify import Asked, _identity
from refsam.cli.verify_port import PortOptions, Task
from refsam.cli.verify_results import Results
from refsam.images import read_image
from refsam.verify.report import Record
from refsam.verify.report.pictures import Pictures

CLICK = ("--image", "picture.png", "--point", "20,10")


@pytest.fixture
def dumps(folder, standin):
    """A trace of the reference, as a port's dumps."""
    model = refsam.load(standin)
    trace = refsam.trace(
        model, read_image("picture.png"), stages="input_image,image_encoder,low_res_masks,masks", point_coords=[[20, 10]],
        point_labels=[1], multimask_output=True,
    )  # fmt: skip
    Path("dumps").mkdir()
    for name, value in trace.items():
        np.save(f"dumps/{name}.npy", value)
    return Path("dumps")


def test_a_port_that_holds(run, dumps):
    code, out, err = run("verify", "dumps", *CLICK)
    assert (code, err) == (0, "")
    assert "hold" in out
    code, out, _ = run("verify", "dumps", *CLICK, "--json", "--html", "page.html")
    assert code == 0
    document = json.loads(out)
    assert document["holds"] is True
    assert document["outcomes"][0]["port"] == "dumps"
    assert Path("page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("k", ["0", "-1", "nan", "inf"])
def test_a_k_that_measures_nothing_is_refused(refused, dumps, k):
    assert "above 0" in refused("verify", "dumps", *CLICK, f"-k={k}")


def test_a_page_without_jinja2_is_refused_before_the_run(run, dumps, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, out, err = run("verify", "dumps", *CLICK, "--html", "page.html")
    assert (code, out) == (3, "")
    assert "pip install 'refsam[report]'" in err


def test_a_port_that_differs_is_exit_code_1(run, dumps):
    np.save("dumps/image_encoder.npy", np.load("dumps/image_encoder.npy") * 1.01)
    code, out, err = run("verify", "dumps", *CLICK, "--no-explain", "-k", "2")
    assert (code, err) == (1, "")
    assert "first differs at image_encoder" in " ".join(out.split())


def test_weights_have_to_be_named(run, dumps, monkeypatch):
    monkeypatch.delenv("REFSAM_WEIGHTS")
    code, _, err = run("verify", "dumps", *CLICK)
    assert code == 2
    assert "ports are judged by these weights, so they have to be named" in err


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("fast",), "there is no picture; give --image FILE or --images FOLDER"),
        (("fast", "--images", "picture.png"), "it has to be a folder"),
        (("fast", *CLICK, "--point", "900,10"), "picture.png: the point 900,10 is outside the picture"),
        (("nix", *CLICK), "nix is no port: there is no file nix"),
        (("fast", *CLICK, "--stages", "magic*"), "no stage has a name like 'magic*'"),
        (("fast", *CLICK, "--layout", "samexporter"), "a port of kind backend has no option 'layout'"),
        (("fast", *CLICK, "--jobs", "0"), "--jobs is 0"),
        (("fast", *CLICK, "--resume"), "--resume goes on with the results of a folder, and none is named; give --out"),
        (("fast", *CLICK, "--html", "page.txt"), "has to end in .html"),
        (("fast", *CLICK, "--box", "1,2,3,4", "--box", "1,2,3,5"), "several --box"),
        (("fast", *CLICK, "--image", "picture.png"), "two pictures are named picture"),
        (("no_such_module:f", *CLICK), "there is no module 'no_such_module'"),
    ],
)
def test_mistakes_are_one_line(refused, tokens, message):
    assert message in refused("verify", *tokens)


def test_a_function_in_the_current_folder(run, folder, monkeypatch):
    Path("my_port.py").write_text(
        "import refsam\n\ndef predict(image, **prompts):\n"
        "    predictor = refsam.SamPredictor(refsam.load())\n    predictor.set_image(image)\n"
        "    return predictor.predict(**prompts)\n"
    )
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    code, out, _ = run("verify", "my_port:predict", "--image", "picture.png", "--json")
    assert code == 0
    assert json.loads(out)["outcomes"][0]["prompts"]["point_coords"] == [[25.0, 20.0]]


def test_what_a_port_prints_is_not_among_the_answer(run, folder):
    Path("noisy_port.py").write_text(
        "import refsam\n\nprint('loading')\n\ndef port(input_image, **prompts):\n    print('running')\n"
        "    return {'image_encoder': refsam.load().encode_image(input_image)}\n"
    )
    code, out, err = run("verify", "noisy_port:port", "--image", "picture.png", "--json")
    assert (code, err) == (0, "loading\nrunning\n")
    assert json.loads(out)["holds"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\n\nsys.exit(0)\n", "refsam: the port's code ended Python, sys.exit(0); what a script does"),
        (
            "def port(image, **_):\n    raise SystemExit('no GPU')\n",
            "refsam: picture.png: the port's code ended Python, sys.exit('no GPU')",
        ),
    ],
)
def test_a_port_that_ends_python_is_an_error(run, folder, text, message, monkeypatch):
    """It ended refsam without a word, with the code of a pipe that was closed."""
    Path("ending_port.py").write_text(text)
    monkeypatch.delitem(sys.modules, "ending_port", raising=False)
    importlib.invalidate_caches()
    code, out, err = run("verify", "ending_port:port", "--image", "picture.png")
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def photographs(count: int) -> None:
    Path("photos").mkdir()
    for number in range(count):
        Image.fromarray(np.roll(picture(), 7 * number, axis=1)).save(f"photos/{number}.png")


def test_many_pictures_are_resumed(run, folder):
    photographs(2)
    many = ("verify", "fast", "--images", "photos", "--out", "results")
    code, out, err = run(*many)
    assert (code, err) == (0, "")
    assert "2 of 2 pictures hold" in out
    assert sorted(path.name for path in Path("results").rglob("*.*")) == ["0.json", "1.json", "report.html", "report.json"]
    first = Path("results/report.json").read_bytes()
    assert "results of an earlier run" in run(*many)[2]
    for damaged in ("{", "[]"):
        Path("results/pictures/1.json").write_text(damaged)
        Path("results/report.json").unlink()
        code, out, err = run(*many, "--resume")
        assert (code, err) == (0, "refsam: 1 of 2 pictures were done before\n")
    assert [line.split(":")[0] for line in out.splitlines()[:1]] == ["1"]
    assert Path("results/report.json").read_bytes() == first
    assert "2 of 2 pictures hold" in run(*many, "--resume", "--single")[1]  # asked otherwise: done anew


def test_what_was_asked_otherwise_is_not_resumed(folder):
    """Another prompt, mask or picture gives another result, whatever the files are called."""
    Path("mask.png").write_bytes(b"1")
    click = Prompt(points=((20.0, 10.0),), labels=(1,), mask=Path("mask.png"))
    task = Task("picture", Path("picture.png"), click, True)
    results = Results(Path("results"), {"k": 4.0}, resume=True)
    results.prepare()
    results.keep(task, Record({"holds": True}, "text", Pictures("", (), ())))
    assert results.done(replace(task, prompt=replace(click, name="picture")))
    others = (None, replace(click, points=((21.0, 10.0),)), replace(click, box=(1, 2, 3, 4)), replace(click, mask=None))
    changed = [replace(task, multimask=False), *(replace(task, prompt=prompt) for prompt in others)]
    assert not any(results.done(other) for other in changed)
    assert replace(results, asked={"k": 5.0}).done(task) is None
    Path("mask.png").write_bytes(b"2")
    assert results.done(task) is None


def test_other_weights_of_the_same_name_are_not_resumed(folder, monkeypatch):
    asked = Asked(("fast",), PortOptions(), ModelOptions(weights="w.safetensors"), None, {})
    found = []
    for content in (b"1", b"1", b"2"):
        Path("w.safetensors").write_bytes(content)
        found.append(_identity(asked))
    assert found[0] == found[1] != found[2]


def test_processes_give_the_same_results(run, folder):
    photographs(2)
    alone, parallel = (run("verify", "fast", "--images", "photos", "--json", "--jobs", n) for n in ("1", "2"))
    assert alone == parallel


def test_an_error_in_a_process_is_one_line(run, folder):
    photographs(2)
    Path("photos/1.png").write_bytes(b"no picture")
    code, _, err = run("verify", "fast", "--images", "photos", "--jobs", "2")
    assert code == 2
    assert err.startswith("refsam: photos/1.png: ")
    assert err.count("\n") == 1


def test_a_process_that_ends_without_an_answer_is_one_line(run, folder):
    """As one does that the system ends for lack of memory, or whose port crashes."""
    photographs(2)
    Path("my_port.py").write_text("import os\n\ndef port(image, **prompts):\n    os._exit(1)\n")
    code, _, err = run("verify", "my_port:port", "--images", "photos", "--jobs", "2")
    assert code == 2
    assert err.startswith("refsam: a process of --jobs ended without an answer: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_one_dump_is_not_put_to_two_pictures(refused, dumps, jobs):
    """In processes of their own each picture would be given the same dumps."""
    photographs(2)
    message = "dumps holds the dumps of one picture; those of 1 belong into dumps/1"
    assert message in refused("verify", "dumps", "--images", "photos", "--jobs", jobs)


def test_what_macos_leaves_beside_pictures_is_none(run, folder):
    photographs(1)
    Path("photos/._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    code, _, err = run("verify", "fast", "--images", "photos")
    assert (code, err) == (0, "")


def test_prompts_go_to_pictures_by_name(run, folder):
    photographs(2)
    prompts = [{"name": "0", "points": [[3, 4]]}, {"name": "1.png", "box": [1, 2, 30, 20]}]
    Path("p.json").write_text(json.dumps(prompts))
    code, out, _ = run("verify", "fast", "--images", "photos", "--prompts", "p.json", "--single", "--json")
    assert code == 0
    first, second = json.loads(out)["outcomes"]
    assert first["prompts"]["point_coords"] == [[3.0, 4.0]]
    assert second["prompts"]["box"] == [1.0, 2.0, 30.0, 20.0]
    refused_file = ("verify", "fast", "--image", "picture.png", "--image", "photos/0.png", "--prompts", "p.json")
    assert "p.json has no entry named picture, and others are named after pictures" in run(*refused_file)[2]


def test_prompts_that_are_of_no_picture_are_said(run, folder):
    """One that happens to have a picture's name makes the others those of pictures that are not there."""
    photographs(1)
    Path("p.json").write_text(json.dumps([{"name": "0", "points": [[3, 4]]}, {"name": "cup", "box": [1, 2, 30, 20]}]))
    code, out, err = run("verify", "fast", "--images", "photos", "--prompts", "p.json", "--json")
    assert code == 0
    assert [entry["picture"]["name"] for entry in json.loads(out)["outcomes"]] == ["0"]
    assert err == "refsam: 1 of 2 entries of p.json are named after no picture here and not asked: cup\n"


def verified(run, *tokens: str) -> dict[str, dict]:
    """The entries of a run whose cases all hold, by the cases' names."""
    code, out, _ = run("verify", "fast", *tokens, "--json")
    assert code == 0
    return {entry["picture"]["name"]: entry["prompts"] for entry in json.loads(out)["outcomes"]}


def test_a_picture_has_as_many_prompts_as_there_are_for_it(run, folder):
    photographs(2)
    first, second = {"points": [[3, 4]]}, {"box": [1, 2, 30, 20]}
    own = [{"name": "0", **first}, {"name": "1.png", **second}, {"name": "0.png", **second}]
    Path("p.json").write_text(json.dumps(own))
    found = verified(run, "--images", "photos", "--prompts", "p.json", "--single", "--out", "results")
    assert list(found) == ["0-1", "0-2", "1"]
    assert found["0-1"]["point_coords"] == [[3.0, 4.0]]
    assert found["0-2"]["box"] == found["1"]["box"] == [1.0, 2.0, 30.0, 20.0]
    assert sorted(path.name for path in Path("results/pictures").iterdir()) == ["0-1.json", "0-2.json", "1.json"]
    everyones = [{"name": "cup", **first}, second]
    Path("p.json").write_text(json.dumps(everyones))
    several = ("--images", "photos", "--prompts", "p.json", "--single")
    assert list(verified(run, *several)) == ["0-2", "0-cup", "1-2", "1-cup"], "sorted"
    assert verified(run, *several, "--jobs", "2") == verified(run, *several)
    assert list(verified(run, "--image", "photos/0.png", "--box", "1,2,30,20", "--box", "3,4,20,20")) == ["0-1", "0-2"]
    _, out, _ = run("verify", "fast", *several)
    assert [line.split(":")[0] for line in out.splitlines()] == ["0-cup", "0-2", "1-cup", "1-2", "4 of 4 prompts hold"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_error_of_one_of_several_prompts_names_it(refused, folder, jobs):
    photographs(2)
    Path("p.json").write_text(json.dumps([{"points": [[3, 4]]}, {"name": "far", "points": [[900, 4]]}]))
    said = refused("verify", "fast", "--images", "photos", "--prompts", "p.json", "--jobs", jobs, "--json")
    assert re.search(r"photos/([01])\.png, prompt \1-far: the point 900,4 is outside the picture", said)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/b", "c"), "the prompt's name 'a/b' is part of a result's file name, and cannot be in one"),
        (("2", ""), "two results would be named picture-2, after picture and prompt"),
        (("cup", "cup"), "two results would be named picture-cup"),
    ],
)
def test_prompts_names_have_to_tell_results_apart(refused, folder, names, message):
    Path("p.json").write_text(json.dumps([{"name": name, "points": [[3, 4]]} for name in names]))
    assert message in refused("verify", "fast", "--image", "picture.png", "--prompts", "p.json")


def test_diagnose_explains_dumps(run, dumps):
    bgr = transforms.preprocess(picture()[..., ::-1], 64)
    np.save("dumps/input_image.npy", bgr)
    code, out, _ = run("diagnose", "dumps", *CLICK)
    assert code == 1
    assert "BGR" in out


def test_diagnose_of_one_tensor_needs_no_weights(run, folder, monkeypatch):
    monkeypatch.delenv("REFSAM_WEIGHTS")
    Image.fromarray(np.kron(picture(), np.ones((4, 4, 1), np.uint8))).save("large.png")
    large = read_image("large.png")
    np.save("mine.npy", transforms.preprocess(large[..., ::-1], 64)[0])  # (3, S, S)
    code, out, _ = run("diagnose", "mine.npy", "--image", "large.png")
    assert code == 1
    assert "input_image (taken as (3, 64, 64) as (1, 3, 64, 64)) differs: mean" in out
    assert "matches 'BGR'; what is left: mean 0, 99th percentile 0, greatest 0 grey levels" in out
    np.save("mine.npy", transforms.preprocess(large, 64))
    code, out, _ = run("diagnose", "mine.npy", "--image", "large.png", "--json")
    assert code == 0
    assert json.loads(out)["explanation"] is None
    np.save("mine.npy", transforms.preprocess(large, 64).astype(np.float16))
    code, out, _ = run("diagnose", "mine.npy", "--image", "large.png")
    assert code == 0
    assert "precision: fp16, as all floats are float16" in out
    assert run("diagnose", "mine.npy", "--image", "large.png", "--precision", "float32")[0] == 1
    assert run("diagnose", "mine.npy", "--image", "large.png", "--precision", "float32", "-k", "1e5")[0] == 0


def test_diagnose_of_one_tensor_asks_no_weights_of_the_environment(run, folder):
    bgr = transforms.preprocess(picture()[..., ::-1], 64)
    np.save("input.npy", bgr)  # the first step of docs/verify.md: no stage's name
    code, out, _ = run("diagnose", "input.npy", "--image", "picture.png")
    assert code == 1
    assert "matches 'BGR'" in out
    Path("mine").mkdir()
    np.save("mine/input_image.npy", bgr)
    assert "matches 'BGR'" in run("diagnose", "mine", "--image", "picture.png")[1]
    weights = os.environ["REFSAM_WEIGHTS"]
    assert "input_image: BGR explains" in run("diagnose", "mine", "--image", "picture.png", "--weights", weights)[1]
    assert run("diagnose", "mine", "--image", "picture.png", "--html", "page.html")[0] == 1
    assert Path("page.html").exists()


def test_diagnose_of_another_stage_uses_the_weights_of_the_environment(run, dumps):
    assert "DIFFERS" not in run("diagnose", "dumps/image_encoder.npy", *CLICK)[1]
    np.save("dumps/image_encoder.npy", 2 * np.load("dumps/image_encoder.npy"))
    code, out, _ = run("diagnose", "dumps/image_encoder.npy", *CLICK)
    assert code == 1
    assert "image_encoder" in out


def test_diagnose_knows_stages_by_upstreams_names(run, dumps):
    Path("upstream").mkdir()
    np.save("upstream/input_image.npy", np.load("dumps/input_image.npy"))
    np.save("upstream/image_embeddings.npy", np.zeros_like(np.load("dumps/image_encoder.npy")))
    code, out, _ = run("diagnose", "upstream", *CLICK)
    assert code == 1
    assert "first differs at image_encoder" in out


def test_diagnose_of_a_trace_without_weights_looks_at_the_picture_alone(run, folder, monkeypatch):
    assert run("trace", *CLICK[1:], "--stages", "input_image,low_res_masks", "--out", "trace.safetensors")[0] == 0
    monkeypatch.delenv("REFSAM_WEIGHTS")
    code, out, _ = run("diagnose", "trace.safetensors", "--image", "picture.png")
    assert code == 0
    assert "input_image is the reference's" in out
    Image.fromarray(picture()[::-1]).save("other.png")
    assert "another picture" in run("diagnose", "trace.safetensors", "--image", "other.png")[2]


def test_diagnose_without_weights_says_what_it_needs(run, dumps, monkeypatch):
    monkeypatch.delenv("REFSAM_WEIGHTS")
    Path("dumps/input_image.npy").unlink()
    code, _, err = run("diagnose", "dumps", "--image", "picture.png")
    assert code == 2
    assert "name the weights with --weights" in err
    np.save("odd.npy", np.zeros((5, 7)))
    assert "a resized picture (h, w, 3) is needed" in run("diagnose", "odd.npy", "--image", "picture.png")[2]
