"""`refsam coreml export` from end to end."""

import json
import sys

import pytest

from refsam.cli import main
from refsam.coreml import export_layers, load

pytestmark = pytest.mark.coremltools

WEIGHTS = ("--weights", "demo")


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def call(*tokens: str) -> tuple[int, str, str]:
        code = main([str(token) for token in tokens])
        return code, *capfd.readouterr()

    return call


def test_a_package_of_the_demo_model(run, tmp_path):
    code, out, err = run("coreml", "export", "out", *WEIGHTS, "--part", "prompt_encoder", "--json")
    assert (code, err) == (0, "")
    files = ["out/PromptEncoder.mlpackage"]
    assert json.loads(out)["files"] == files
    metadata = load(tmp_path / files[0]).model.metadata
    assert metadata["refsam.weights_sha256"] == json.loads(out)["weights_sha256"]
    assert metadata["refsam.part"] == "prompt_encoder"


def test_the_list_of_what_was_written(run):
    code, out, err = run("coreml", "export", ".", *WEIGHTS, "--part", "prompt_encoder", "--target", "iOS17", "--names", "app")
    assert (code, out, err) == (0, "wrote PromptEncoder.mlpackage\n", "")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["out", "--target", "iOS9"], "iOS9"),
        (["out", "--precision", "int4"], "int4"),
        (["out", "--part", "head"], "head"),
        (["out", "--weights", "nowhere.pt"], "no weights file nowhere.pt"),
        (["there"], "something else"),
        ([], "FOLDER"),
    ],
)
def test_bad_input_is_refused(run, tmp_path, tokens, message):
    (tmp_path / "there" / "ImageEncoder.mlpackage").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("coreml", "export", *tokens, *([] if "--weights" in tokens else WEIGHTS))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_without_coremltools_the_code_is_3(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    export_layers.coremltools.cache_clear()
    try:
        code, out, err = run("coreml", "export", "out", *WEIGHTS)
    finally:
        export_layers.coremltools.cache_clear()
    assert (code, out) == (3, "")
    assert "pip install 'refsam[coreml]'" in err
