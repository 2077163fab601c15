"""Dumps of all kinds are read; damaged and hostile ones are refused in one line, and nothing in them runs."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standin import TINY
from verify.mistaken import cases, reference, run, tiny

import refsam
from refsam import MobileSam
from refsam.errors import InputError
from refsam.files import atomic_write
from refsam.formats import safetensors_file
from refsam.verify import Case, open_port, verify
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import to_bf16
from refsam.verify.report import render_text

CASE = Case(cases(TINY)["points"].image, cases(TINY)["points"].prompts, "wide")
STAGES = ("input_image", "image_encoder", "low_res_masks", "iou_predictions", "masks")


@pytest.fixture(scope="module")
def stages() -> dict[str, np.ndarray]:
    shown = run(Pipeline(), CASE, tiny())
    return {name: shown[name] for name in STAGES}


def write_npy(folder: Path, stages: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for name, value in stages.items():
        np.save(folder / f"{name}.npy", value)
    return folder


def write_npz(folder: Path, stages: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "stages.npz", **stages)
    return folder / "stages.npz"


def write_safetensors(folder: Path, stages: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    with atomic_write(folder / "stages.safetensors") as file:
        safetensors_file.write(file, stages, {})
    return folder / "stages.safetensors"


def write_raw(folder: Path, stages: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    entries = []
    for number, (name, value) in enumerate(stages.items()):
        (folder / f"{number}.bin").write_bytes(value.tobytes())
        entries.append({"name": name, "file": f"{number}.bin", "dtype": str(value.dtype), "shape": list(value.shape)})
    (folder / "manifest.json").write_text(json.dumps({"tensors": entries}))
    return folder


@pytest.mark.parametrize("write", [write_npy, write_npz, write_safetensors, write_raw])
def test_every_kind_of_file_says_the_same(write: Callable[..., Path], stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write(tmp_path / "dumps", stages)
    (found,) = verify(open_port(str(path), model=tiny()), tiny(), [CASE], cached=False)
    assert found
    assert set(found.candidate) == set(STAGES)
    assert found.port == str(path)
    assert found.notes == ()


def test_a_prompt_without_points_has_no_tokens(tmp_path: Path) -> None:
    """A raw file of nothing, of a shape with a length of 0."""
    case = Case(CASE.image, {"mask_input": np.ones((1, TINY.mask_size, TINY.mask_size))})
    sparse = "prompt_encoder.sparse_prompt_embeddings"
    stages = refsam.trace(MobileSam(tiny().scope.weights, TINY), case.image, stages=f"{sparse},low_res_masks", **case.prompts)
    assert stages[sparse].size == 0
    (found,) = verify(open_port(write_raw(tmp_path / "dumps", dict(stages)), model=tiny()), tiny(), [case], cached=False)
    assert found
    assert set(found.candidate) == {sparse, "low_res_masks"}


def test_a_trace_is_a_dump_that_knows_its_picture(tmp_path: Path) -> None:
    model = MobileSam(tiny().scope.weights, TINY)
    refsam.trace(model, CASE.image, stages="image_encoder,low_res_masks", **CASE.prompts).save(tmp_path / "t.safetensors")
    port = open_port(tmp_path / "t.safetensors", model=tiny())
    assert next(verify(port, tiny(), [CASE], cached=False))
    other = Case(CASE.image[::-1], CASE.prompts, "other")
    with pytest.raises(InputError, match="another picture than other"):
        open_port(tmp_path / "t.safetensors", model=tiny()).run(other, ())
    (tmp_path / "all" / "other").mkdir(parents=True)
    (tmp_path / "t.safetensors").rename(tmp_path / "all" / "other" / "t.safetensors")
    with pytest.raises(InputError, match="another picture than other"):
        open_port(tmp_path / "all", model=tiny()).run(other, ())


def test_a_trace_knows_its_prompt_and_weights(tmp_path: Path) -> None:
    """Stages before the prompt are the same for all of them."""
    made = MobileSam(tiny().scope.weights, TINY, metadata={"weights_sha256": "1" * 64})
    mask = np.zeros((1, TINY.mask_size, TINY.mask_size), np.float32)
    asked = {**CASE.prompts, "mask_input": mask}
    whole, embedding = tmp_path / "whole.safetensors", tmp_path / "embedding.safetensors"
    refsam.trace(made, CASE.image, stages="image_encoder,low_res_masks", **asked).save(whole)
    refsam.trace(made, CASE.image, stages="image_encoder", **asked).save(embedding)
    port = open_port(whole, model=MobileSam(tiny().scope.weights, TINY, metadata={"weights_sha256": "2" * 64}))
    port.run(Case(CASE.image, {**asked, "box": None, "multimask_output": True}), ())
    assert port.notes == ("weights: the trace was made with another file (sha256 111111111111...); these are 222222222222...",)
    for other in ({"multimask_output": False}, {"point_coords": [[1, 2]]}, {"box": [1, 2, 3, 4]}, {"mask_input": mask + 1}):
        case = Case(CASE.image, {**asked, **other})
        with pytest.raises(InputError, match="another prompt, and has low_res_masks"):
            open_port(whole, model=made).run(case, ())
        assert list(open_port(embedding, model=made).run(case, ())) == ["image_encoder"]


@pytest.mark.parametrize("names", [("decoder", "embedding"), ("embedding", "decoder")])
def test_each_trace_in_a_folder_speaks_for_itself(names: tuple[str, str], tmp_path: Path) -> None:
    """Whatever their order: the embedding may be of any prompt, and neither of another picture."""
    model = MobileSam(tiny().scope.weights, TINY)
    logits, embedding = (tmp_path / f"{name}.safetensors" for name in names)
    refsam.trace(model, CASE.image, stages="low_res_masks", **CASE.prompts).save(logits)
    refsam.trace(model, CASE.image, stages="image_encoder").save(embedding)
    assert set(open_port(tmp_path, model=tiny()).run(CASE, ())) == {"image_encoder", "low_res_masks"}
    refsam.trace(model, CASE.image, stages="low_res_masks").save(logits)
    with pytest.raises(InputError, match=f"{names[0]}.safetensors says that it is of another prompt, and has low_res_masks"):
        open_port(tmp_path, model=tiny()).run(CASE, ())
    refsam.trace(model, CASE.image[::-1], stages="low_res_masks", **CASE.prompts).save(logits)
    with pytest.raises(InputError, match=f"{names[0]}.safetensors says that it is of another picture"):
        open_port(tmp_path, model=tiny()).run(CASE, ())


def test_dumps_of_several_pictures_are_in_folders_of_their_names(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    second = Case(CASE.image[:, ::-1], CASE.prompts, "second")
    write_npy(tmp_path / "dumps" / "wide", stages)
    write_npy(tmp_path / "dumps" / "second", {"image_encoder": np.zeros(3, np.float32)})
    port = open_port(tmp_path / "dumps", model=tiny())
    assert [bool(found) for found in verify(port, tiny(), [CASE, second], cached=False, explain=False)] == [True, False]


def test_one_dump_does_not_answer_for_two_pictures(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    port = open_port(write_npy(tmp_path / "dumps", stages), model=tiny())
    port.run(CASE, ())
    with pytest.raises(InputError, match="dumps of one picture; those of second belong into"):
        port.run(Case(CASE.image[:, ::-1], CASE.prompts, "second"), ())
    write_npy(tmp_path / "several" / "wide", {"image_encoder": np.zeros(3)})
    with pytest.raises(InputError, match=r"has no dumps: .* and no folder .*several/second of this picture's"):
        open_port(tmp_path / "several", model=tiny()).run(Case(CASE.image, CASE.prompts, "second"), ())


def test_halves_are_taken_for_fp16_and_said_to_be(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    halves = {name: value.astype(np.float16) if value.dtype.kind == "f" else value for name, value in stages.items()}
    folder = write_npy(tmp_path / "dumps", halves)
    (found,) = verify(open_port(folder, model=tiny()), tiny(), [CASE], cached=False)
    assert found.verdict.report.precision == "fp16"
    assert found.notes == ("precision: fp16, as all floats are float16",)
    assert found
    declared = open_port(folder, model=tiny(), precision="float32")
    assert next(verify(declared, tiny(), [CASE], cached=False, explain=False)).verdict.report.precision == "float32"


@pytest.mark.parametrize("kind", ["<f2", ">f2"])
def test_one_half_among_float32_declares_fp16(kind: str, stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Inputs and answers are often float32 where the model computes in halves."""
    mixed = {"input_image": stages["input_image"], "image_encoder": stages["image_encoder"].astype(kind)}
    (found,) = verify(open_port(write_npy(tmp_path / "dumps", mixed), model=tiny()), tiny(), [CASE], cached=False)
    assert found
    assert found.verdict.report.precision == "fp16"
    assert found.notes[0] == "precision: fp16, as image_encoder is float16"
    manifest = {"precision": "float32", "tensors": []}
    (tmp_path / "dumps" / "manifest.json").write_text(json.dumps(manifest))
    (found,) = verify(open_port(tmp_path / "dumps", model=tiny()), tiny(), [CASE], cached=False, explain=False)
    assert not found


def test_bfloat16_is_read_and_said_to_be(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    rounded = to_bf16(stages["image_encoder"])
    data = (rounded.view(np.uint32) >> 16).astype("<u2").tobytes()
    entry = {"dtype": "BF16", "shape": rounded.shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"image_encoder": entry}).encode()
    (tmp_path / "stages.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x.bin").write_bytes(data)
    described = {"name": "image_encoder", "file": "x.bin", "dtype": "bfloat16", "shape": rounded.shape}
    (tmp_path / "raw" / "manifest.json").write_text(json.dumps({"tensors": [described]}))
    for path in (tmp_path / "stages.safetensors", tmp_path / "raw"):
        port = open_port(path, model=tiny())
        assert np.array_equal(port.run(CASE, ())["image_encoder"], rounded)
        assert (port.precision, port.notes) == ("bf16", ("precision: bf16, as all floats are bfloat16",))


@pytest.mark.parametrize("order", ["C", "F"])
def test_two_bytes_without_a_type_are_bfloat16(order: str, stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    """.npy has no name for it; mlx.core.save and numpy.save of ml_dtypes' arrays, such as JAX's, write it so."""
    rounded = to_bf16(stages["image_encoder"])
    halves = (rounded.view(np.uint32) >> 16).astype("<u2")
    np.save(tmp_path / "image_encoder.npy", np.asarray(halves, order=order).view("V2"))
    port = open_port(tmp_path, model=tiny())
    assert np.array_equal(port.run(CASE, ())["image_encoder"], rounded)
    assert (port.precision, port.notes) == ("bf16", ("precision: bf16, as all floats are bfloat16",))


def test_what_macos_leaves_beside_files_is_no_dump(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = write_npy(tmp_path / "dumps", {"image_encoder": stages["image_encoder"]})
    (folder / "._image_encoder.npy").write_bytes(b"\0\5\x16\7Mac OS X")
    assert list(open_port(folder, model=tiny()).run(CASE, ())) == ["image_encoder"]


def test_a_manifest_names_files_and_says_the_precision(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.save(tmp_path / "emb.npy", stages["image_encoder"])
    entries = [{"name": "image_encoder", "file": "emb.npy"}]
    (tmp_path / "manifest.json").write_text(json.dumps({"precision": "bfloat16", "tensors": entries}))
    port = open_port(tmp_path, model=tiny())
    assert list(port.run(CASE, ())) == ["image_encoder"]
    assert port.precision == "bf16"


def test_upstreams_names_of_tensors_are_understood(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    port = open_port(write_npz(tmp_path / "dumps", {"image_embeddings": stages["image_encoder"]}), model=tiny())
    (found,) = verify(port, tiny(), [CASE], cached=False)
    assert found
    assert "image_embeddings was taken for image_encoder" in found.notes


def test_points_of_other_frames_are_not_taken_for_the_stage(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The predictor's are in the picture's pixels, the ONNX decoder's have the padding point."""
    shown = {"point_coords": np.zeros((1, 3, 2), np.float32), "low_res_masks": stages["low_res_masks"]}
    (found,) = verify(open_port(write_npz(tmp_path / "dumps", shown), model=tiny()), tiny(), [CASE], cached=False)
    assert found
    assert found.verdict.report.missing == ("point_coords",)


def test_metadata_of_a_trace_are_shown_and_not_obeyed(stages: dict[str, np.ndarray], tmp_path: Path) -> None:
    with atomic_write(tmp_path / "t.safetensors") as file:
        safetensors_file.write(file, {"image_encoder": stages["image_encoder"]}, {"weights_sha256": "\x1b[2J\x1b[31mXYZ"})
    model = MobileSam(tiny().scope.weights, TINY, dtype="float64", metadata={"weights_sha256": "2" * 64})
    (found,) = verify(open_port(tmp_path / "t.safetensors", model=model), model, [CASE], cached=False)
    assert "\x1b" not in render_text(found)
    assert r"(sha256 \x1b[2J\x1b[31m" in " ".join(render_text(found).split())


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def an_object_array() -> bytes:
    return header((1,)).replace(b"'<f4'", b"'|O'") + pickle.dumps([Bomb()])


HOSTILE = {
    "pickled.npy": an_object_array(),
    "bare-pickle.npy": pickle.dumps(Bomb()),
    "truncated.npy": header((2, 3)) + b"\0" * 20,
    "immense.npy": header((1 << 50,)) + b"\0" * 20,
    "empty.npy": b"",
    "code.npy": header((1,)).replace(b"(1,)", b"f(1)"),
    "noise.npz": b"PK\x03\x04" + b"\7" * 40,
    "noise.safetensors": b"\xff" * 40,
    "cut.safetensors": (80).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(HOSTILE[name])
    with pytest.raises(InputError, match=name):
        open_port(tmp_path / name, model=tiny()).run(CASE, ())
    assert not Path("exploded").exists()


@pytest.mark.core
@pytest.mark.parametrize("name", ["input_image.bin", "manifest.json", "photo.png"])
def test_a_file_of_another_kind_is_told_what_raw_numbers_need(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0" * 64)
    with pytest.raises(InputError, match=rf"{name} is none of \.npy, \.npz, \.safetensors; .* give that folder"):
        open_port(tmp_path / name, model=tiny(), kind="dumps").run(CASE, ())


def test_a_pickle_inside_an_npz_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("image_encoder.npy", an_object_array())
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        open_port(tmp_path / "x.npz", model=tiny()).run(CASE, ())
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "is not JSON"),
        ('{"tensors": {"a": 1}}', 'no list "tensors"'),
        (
            '{"tensors": [{"name": "a", "file": "../s.bin", "dtype": "float32", "shape": [1]}]}',
            "not in the manifest's folder",
        ),
        ('{"tensors": [{"name": "a", "file": "a\\u0000b", "dtype": "uint8", "shape": [1]}]}', "not in the manifest's folder"),
        ('{"tensors": [{"name": "a", "file": "a\\ud800b", "dtype": "uint8", "shape": [1]}]}', "not in the manifest's folder"),
        ('{"tensors": [{"name": "a", "file": "/etc/passwd", "dtype": "uint8", "shape": [1]}]}', "not in the manifest's folder"),
        ('{"tensors": [{"name": "a", "file": "a.bin", "dtype": "object", "shape": [1]}]}', "of dtype 'object'"),
        ('{"tensors": [{"name": "a", "file": "a.bin", "dtype": "float32", "shape": [-1]}]}', "a list of lengths"),
        ('{"tensors": [{"name": "a", "file": "a.bin", "dtype": "float32", "shape": [3]}]}', "has 8 bytes; float32 .3,. has 12"),
        ('{"tensors": [{"name": "a", "file": "b.bin", "dtype": "float32", "shape": [2]}]}', "cannot be read"),
        ('{"tensors": [{"name": "a", "file": ".", "dtype": "float32", "shape": [2]}]}', "cannot be read: this is a folder"),
        ('{"tensors": [{"file": "a.bin", "dtype": "float32", "shape": [2]}]}', "an entry has no name"),
        ('{"precision": "fp12", "tensors": []}', "precision is 'fp12'"),
        ('{"tensors": []}', "has no dumps"),
    ],
)
def test_damaged_manifests_are_refused(manifest: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "a.bin").write_bytes(bytes(8))
    with pytest.raises(InputError, match=message):
        open_port(tmp_path, model=tiny()).run(CASE, ())


def test_a_manifest_with_null_for_a_precision_declares_none(tmp_path: Path) -> None:
    """As a serializer writes what its program has not set."""
    folder = write_raw(tmp_path / "dumps", {"image_encoder": np.zeros(3, np.float16)})
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({"precision": None, **document}))
    port = open_port(folder, model=tiny())
    port.run(CASE, ())
    assert (port.declared, port.precision) == ("", "fp16")


@pytest.mark.parametrize("value", [np.zeros((2, 3), np.float32), np.full((1, 32, 4, 4), np.nan, np.float32)])
def test_wrong_shapes_and_nan_are_differences_and_not_errors(value: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "image_encoder.npy", value)
    (found,) = verify(open_port(tmp_path, model=tiny()), tiny(), [CASE], cached=False)
    assert not found
    assert found.verdict.report.first == "image_encoder"
    assert reference("points").truth["image_encoder"].shape == (1, 32, 4, 4)


def test_two_dumps_of_one_stage_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "masks.npy", np.zeros(3))
    np.savez(tmp_path / "more.npz", masks=np.zeros(3))
    with pytest.raises(InputError, match="another dump of masks"):
        open_port(tmp_path, model=tiny()).run(CASE, ())
