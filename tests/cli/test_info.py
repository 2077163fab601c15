"""`refsam info`."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import refsam
from refsam.backends import BACKENDS
from refsam.errors import BackendUnavailable


@pytest.mark.core
def test_json_tells_versions_backends_and_weights(run, folder, standin, monkeypatch):
    def no_gpu():
        raise BackendUnavailable("no GPU")

    monkeypatch.setattr("refsam.metal.device._metal", no_gpu)
    code, out, err = run("info", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["refsam"] == refsam.__version__
    assert document["packages"]["numpy"] == np.__version__
    assert {"fast", "processes", "reference"} <= set(document["backends"])
    assert sorted([*document["backends"], *document["unavailable_backends"]]) == sorted(BACKENDS)
    assert document["unavailable_backends"]["metal"] == "no GPU"
    assert document["default_backend"] == "fast"
    assert document["threads"] >= 1
    found = document["weights"][str(standin)]
    assert found["sha256"] == refsam.load(standin).weights_sha256
    assert found["config"]["image_size"] == 64
    assert "weights fetch" in document["weights"]["mobile_sam"]["problem"]  # the tests' own cache is empty


def test_a_person_gets_lines(run, folder, standin):
    code, out, _ = run("info")
    assert code == 0
    assert f"weights {standin}" in out
    assert "64 px, sha256" in out


def test_a_stranger_s_tensor_names_stay_text(run, folder, monkeypatch):
    save_file({"\x1b]0;title\x07": np.zeros(1, np.float32)}, "bad.safetensors")
    monkeypatch.setenv("REFSAM_WEIGHTS", "bad.safetensors")
    code, out, _ = run("info")
    assert code == 0
    assert all(line.isprintable() for line in out.splitlines())
    assert "\\x1b]0;title" in out


def test_damaged_weights_are_told_not_raised(run, folder, monkeypatch):
    (folder / "bad.safetensors").write_bytes(b"nothing")
    monkeypatch.setenv("REFSAM_WEIGHTS", "bad.safetensors")
    code, out, _ = run("info", "--json")
    assert code == 0
    assert json.loads(out)["weights"]["bad.safetensors"]["problem"]
