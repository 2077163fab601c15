"""`refsam trace` from end to end."""

import json

import numpy as np
import pytest

import refsam
from refsam.images import read_image
from refsam.tracing import Trace

CLICK = ("trace", "picture.png", "--point", "20,10")


def test_stages_are_listed_and_saved(run, folder, standin):
    code, out, err = run(*CLICK, "--stages", "image_encoder.layers.*,masks", "--out", "t.safetensors")
    assert (code, err) == (0, "")
    expected = refsam.trace(
        refsam.load(standin), read_image("picture.png"), stages="image_encoder.layers.*,masks", point_coords=[[20, 10]],
        point_labels=[1], multimask_output=True,
    )  # fmt: skip
    saved = Trace.load("t.safetensors")
    assert list(saved) == list(expected)
    for stage, value in expected.items():
        np.testing.assert_array_equal(saved[stage], value)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(expected)
    assert lines[-1] == f"{len(expected)} stages, wrote t.safetensors"
    masks = next(line for line in lines if line.startswith("masks"))
    assert "3 x 40 x 50" in masks
    assert "bool" in masks


@pytest.mark.core
def test_json_has_shapes_and_two_numbers(run, folder):
    code, out, _ = run(*CLICK, "--single", "--stages", "input_image,low_res_masks", "--json")
    assert code == 0
    first, last = json.loads(out)["stages"]
    assert (first["stage"], first["shape"], first["dtype"]) == ("input_image", [1, 3, 64, 64], "float32")
    assert (last["stage"], last["shape"]) == ("low_res_masks", [1, 1, 16, 16])
    assert 0 < last["rms"] < last["max_abs"]
    assert sorted(path.name for path in folder.iterdir()) == ["picture.png"]


def test_the_list_is_the_same_whether_stages_are_saved_or_not(run, folder):
    _, listed, _ = run(*CLICK, "--json")
    _, saved, _ = run(*CLICK, "--json", "--out", "t.safetensors")
    assert json.loads(listed)["stages"] == json.loads(saved)["stages"]
    assert len(json.loads(listed)["stages"]) == len(Trace.load("t.safetensors"))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["--point", "1,1", "--stages", "nothing*", "--out", "t.safetensors"], "no stage"),
        (["--point", "1,1", "--stages", "nothing*"], "no stage"),
        (["--point", "1,1", "--stages", ","], "glob patterns"),
        (["--box", "1,1,2,2", "--box", "1,1,3,3"], "one prompt"),
        (["--point", "1,1", "--out", "picture.png"], "not overwritten"),
        (["--point", "1,1", "--out", "t.npz"], "cannot write t.npz: its name has to end in .safetensors"),
        (["--point", "1,99"], "outside"),
        ([], "no prompt"),
    ],
)
def test_bad_input_is_refused(refused, tokens, message):
    assert message in refused("trace", "picture.png", *tokens)


@pytest.mark.core
def test_the_weights_of_a_trace_have_to_be_named(run, folder, monkeypatch):
    monkeypatch.delenv("REFSAM_WEIGHTS")
    code, out, err = run(*CLICK)
    assert (code, out) == (2, "")
    assert "have to be named: --weights" in err
