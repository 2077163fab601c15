"""`refsam coreml app` and `constants` from end to end, with the tiny model."""

import json

import numpy as np
import pytest
from PIL import Image

from refsam.cli import main

CLICK = ("picture.png", "--point", "60,40")


@pytest.fixture
def run(tmp_path, monkeypatch, capfd, standin):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, size in (("picture", (96, 128)), ("before", (128, 96))):
        Image.fromarray(np.random.RandomState(3).randint(0, 256, (*size, 3)).astype(np.uint8)).save(f"{name}.png")

    def call(*tokens: str) -> tuple[int, str, str]:
        code = main([*(str(token) for token in tokens), "--weights", str(standin)])
        return code, *capfd.readouterr()

    return call


def test_the_costs_of_the_app(run):
    code, out, err = run("coreml", "app", *CLICK, "--before", "before.png", "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    assert rows["padding_index"]["displaced"] > rows["half_pixel"]["displaced"]
    assert 0 < rows["precision"]["embedding"] < 0.05
    assert {"source", "binary", "stale_buffer"} <= set(rows)


def test_the_table(run):
    code, out, err = run("coreml", "app", *CLICK)
    assert (code, err) == (0, "")
    assert "picture half a pixel to the right and down" in out
    assert len(out.splitlines()) > 20


def test_constants_and_goldens(run, tmp_path):
    code, out, err = run("coreml", "constants", "new/folder", "--photo", *CLICK)
    assert (code, err) == (0, "")
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert sorted(line.rpartition("/")[2] for line in out.splitlines()) == files
    assert {"image_embeddings.bin", "goldens.json", "goldens.safetensors", "masks.bin"} <= set(files)


def test_constants_without_a_picture(run, tmp_path):
    code, out, _ = run("coreml", "constants", "out", "--json")
    assert (code, json.loads(out)["files"]) == (0, ["out/image_embeddings.bin"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image_embeddings.bin"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["app", "picture.png"], "there is no prompt"),
        (["app", "picture.png", "--point", "400,4"], "outside the picture"),
        (["app", "picture.png", "--point", "4"], "is not X,Y"),
        (["app", "nowhere.png", "--point", "4,4"], "no such file"),
        (["app", *CLICK, "--before", "nowhere.png"], "no such file"),
        (["app", *CLICK, "--packages", "nowhere"], "ImageEncoder.mlpackage"),
        (["constants", "out", "--point", "4,4"], "--photo"),
        (["constants", "out", "--photo", "picture.png"], "there is no prompt"),
        (["constants", "picture.png"], "cannot make the folder"),
    ],
)
def test_bad_input_is_refused(run, tmp_path, tokens, message):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("coreml", *tokens)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before
