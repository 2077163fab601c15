"""`refsam coreml check` from end to end, with the tiny model's packages."""

import json
from pathlib import Path

import numpy as np
import pytest
from coreml.exported import packages, tiny, weights
from PIL import Image

from refsam import checkpoint
from refsam.cli import main
from refsam.coreml.constants import write_image_pe

pytestmark = pytest.mark.coremltools

NUMPY = ("--preprocessing", "reference", "--postprocessing", "reference")
CLICK = ("picture.png", "--point", "60,40")


@pytest.fixture
def run(tmp_path, monkeypatch, capfd, root):
    own, made_of = packages(root, "fp16")["image_encoder"].parent, weights(root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Image.fromarray(np.random.RandomState(3).randint(0, 256, (96, 128, 3)).astype(np.uint8)).save("picture.png")

    def call(*tokens: str, named: Path | None = made_of, folder: Path = own) -> tuple[int, str, str]:
        code = main(["coreml", "check", *tokens, "--packages", str(folder), *(["--weights", str(named)] if named else [])])
        return code, *capfd.readouterr()

    return call


def test_exported_packages_pass(run):
    code, out, err = run(*CLICK, *NUMPY, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["holds"], document["first"], document["dtype"]) == (True, None, "float64")
    assert [stage["name"] for stage in document["stages"]][-1] == "iou_predictions"
    assert set(document["precisions"].values()) == {"fp16"}
    assert document["notes"] == []
    assert all(mask["unexplained"] == 0 for mask in document["masks"])


def test_the_app_s_preprocessing_does_not(run):
    code, out, err = run(*CLICK, "--preprocessing", "binary", "--postprocessing", "reference")
    assert (code, err) == (1, "")
    assert "a difference enters at input_image" in out
    assert "follows" in out


def test_the_app_s_own_constant_is_used(run, tmp_path):
    model = tiny()
    write_image_pe(tmp_path / "good.bin", model)
    raw = np.fromfile("good.bin", "<f4").reshape(model.image_pe.shape)
    raw.swapaxes(2, 3).astype("<f4").tofile("turned.bin")
    assert run(*CLICK, *NUMPY, "--image-pe", "good.bin")[0] == 0
    code, out, _ = run(*CLICK, *NUMPY, "--image-pe", "turned.bin", "--json")
    assert (code, json.loads(out)["first"]) == (1, "low_res_masks")


def test_float16_packages_are_not_float32(run):
    code, out, _ = run(*CLICK, *NUMPY, "--precision", "fp32", "--json")
    assert (code, json.loads(out)["first"]) == (1, "image_embeddings")


def test_core_ml_itself_needs_a_mac(run, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    code, out, err = run(*CLICK, *NUMPY, "--native")
    assert (code, out) == (3, "")
    assert "on a Mac only" in err


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["picture.png"], "there is no prompt"),
        (["nowhere.png", "--point", "4,4"], "no such file"),
        ([*CLICK, "--image-pe", "picture.png"], "in float32 has"),
        ([*CLICK, "--preprocessing", "magic"], "magic"),
    ],
)
def test_bad_input_is_refused(run, tokens, message):
    code, out, err = run(*tokens, *([] if "--preprocessing" in tokens else NUMPY))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_the_weights_have_to_be_named_and_be_the_packages_own(run, tmp_path, monkeypatch):
    monkeypatch.delenv("REFSAM_WEIGHTS", raising=False)
    assert "have to be named" in run(*CLICK, *NUMPY, named=None)[2]
    model = tiny()
    other = model.scope.weights | {"mask_decoder.iou_token.weight": model.scope.weights["mask_decoder.iou_token.weight"] + 1}
    checkpoint.save(tmp_path / "other.safetensors", other, model.config)
    code, _, err = run(*CLICK, *NUMPY, named=tmp_path / "other.safetensors")
    assert code == 2
    assert "was exported from other weights" in err


def test_a_damaged_package_is_named(run, tmp_path):
    (tmp_path / "ImageEncoder.mlpackage").mkdir()
    code, out, err = run(*CLICK, *NUMPY, folder=tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ImageEncoder.mlpackage" in err
