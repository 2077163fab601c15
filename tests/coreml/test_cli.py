"""refsam coreml info, run and ops, from a shell's point of view."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from coreml import fuzz_structure
from coreml.faults import IN_EXECUTORS, IN_PACKAGES, faulty_dump, faulty_package, target
from coreml.packages import CONFIG, case
from standin import standin_weights

from refsam import checkpoint, coreml
from refsam.cli import main
from refsam.errors import UnsupportedOp

DECODER = "MaskDecoder.iOS15.fp16.mlpackage"


@pytest.fixture
def folder(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with inputs.npz of the decoder and the weights."""
    monkeypatch.chdir(tmp_path)
    np.savez("inputs.npz", **case("MaskDecoder", 1))
    checkpoint.save("weights.safetensors", standin_weights(CONFIG), CONFIG)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *tokens: object) -> tuple[int, str, str]:
    code = main(["coreml", *map(str, tokens)])
    return code, *capsys.readouterr()


def test_info(folder: Path, packages: Path, capsys) -> None:
    code, out, _ = call(capsys, "info", packages / DECODER)
    assert code == 0
    assert "opset CoreML5" in out
    assert "sparse: fp32 (1, 1..100, 32)" in out
    assert "refsam can run it" in out
    document = json.loads(call(capsys, "info", packages / DECODER, "--json")[1])
    assert document["operations"]["softmax"] == 7


def test_run_saves_what_it_computed(folder: Path, packages: Path, capsys) -> None:
    code, out, _ = call(capsys, "run", packages / DECODER, "--inputs", "inputs.npz", "--out", "all.npz", "--all")
    assert (code, out.count("\n")) == (0, 2)
    with np.load("all.npz") as saved:
        assert len(saved.files) > 150
        expected = coreml.load(packages / DECODER).run(case("MaskDecoder", 1))
        np.testing.assert_array_equal(saved["masks"], expected["masks"])
    code, _, err = call(capsys, "run", packages / DECODER, "--inputs", "inputs.npz", "--all")
    assert (code, err) == (2, "refsam: --all saves every intermediate result; say where with --out\n")
    code, _, err = call(capsys, "run", packages / DECODER, "--inputs", "inputs.npz", "--out", "/dev/fd/1")
    assert (code, "the answer is printed there" in err) == (2, True)


def test_ops_of_an_executor(folder: Path, packages: Path, capsys) -> None:
    call(capsys, "run", packages / DECODER, "--inputs", "inputs.npz", "--out", "clean.npz", "--all")
    arguments = ("ops", packages / DECODER, "--inputs", "inputs.npz")
    code, out, _ = call(capsys, *arguments, "--against", "clean.npz")
    assert code == 0
    assert "ok: rounding (as typed) explains all" in out
    program, fault = coreml.load(packages / DECODER), next(f for f in IN_EXECUTORS if f.part == "MaskDecoder")
    np.savez("faulty.npz", **faulty_dump(program, fault, case("MaskDecoder", 1), None))
    code, out, _ = call(capsys, *arguments, "--against", "faulty.npz")
    assert code == 1
    assert f"FAULT at {fault.op} {target(program, fault).name}: rounding to as typed does not explain" in out
    code, out, _ = call(capsys, *arguments, "--against", "faulty.npz", "--json")
    assert (code, json.loads(out)["faults"][0]) == (1, target(program, fault).name)


def test_ops_of_a_package(folder: Path, packages: Path, capsys) -> None:
    arguments = ("--inputs", "inputs.npz", "--weights", "weights.safetensors")
    code, out, _ = call(capsys, "ops", packages / DECODER, *arguments)
    assert code == 0
    assert "known converter fault at batch_norm" in out
    fault = next(f for f in IN_PACKAGES if f.part == "MaskDecoder")
    _, places = faulty_package(packages / DECODER, folder, fault)
    code, out, _ = call(capsys, "ops", "faulty.mlpackage", *arguments)
    assert code == 1
    assert f"FAULT at {fault.op} {places[0]}" in out
    code, out, _ = call(capsys, "ops", "faulty.mlpackage", *arguments, "--json")
    assert (code, json.loads(out)["faults"][0]["name"]) == (1, places[0])


def test_ops_says_that_compressed_weights_are_off_by_more_than_the_budget(folder: Path, packages: Path, capsys) -> None:
    arguments = ("--inputs", "inputs.npz", "--weights", "weights.safetensors")
    code, out, _ = call(capsys, "ops", packages / "MaskDecoder.int8.mlpackage", *arguments)
    assert code == 1
    assert "FAULT at linear" in out
    assert "weights are compressed, which is off by more than the budget" in out
    assert "compressed" not in call(capsys, "ops", packages / DECODER, *arguments)[1]


def test_ops_needs_one_thing_to_judge_against(folder: Path, packages: Path, capsys) -> None:
    code, _, err = call(capsys, "ops", packages / DECODER, "--inputs", "inputs.npz")
    assert code == 2
    assert "give --against (an executor's results) or --weights" in err
    arguments = ("--weights", "weights.safetensors", "--precision", "fp16")
    code, _, err = call(capsys, "ops", packages / DECODER, "--inputs", "inputs.npz", *arguments)
    assert code == 2
    assert "--precision fp16 is what an executor computes in; with --weights the package runs in float64" in err


def test_a_package_with_an_image_as_input_is_described(folder: Path, packages: Path, capsys) -> None:
    source = packages / "ImageEncoder.iOS15.fp16.mlpackage"
    tree = fuzz_structure.tree_of(source)
    description = next(value for number, value in tree if number == 2)
    feature = next(value for number, value in description if number == 1)
    kind = next(entry for entry in feature if entry[0] == 3)
    kind[1] = [[4, [[1, 1024], [2, 768], [3, 20]]]]
    path = Path(shutil.copytree(source, folder / "image.mlpackage"))
    fuzz_structure.model_of(path).write_bytes(fuzz_structure.written(tree))
    code, out, _ = call(capsys, "info", path)
    assert code == 0
    assert "image: image of RGB (768, 1024)" in out
    assert "refsam cannot run it" in out
    assert "'image' has the type image of RGB; refsam runs programs on arrays: convert with ct.TensorType" in out
    with pytest.raises(UnsupportedOp, match="has the type image of RGB"):
        coreml.load(path).run(case("ImageEncoder", 1))
