"""`refsam embed`, and which embeddings are refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from standin import TINY, standin_weights

import refsam
from refsam import checkpoint
from refsam.embedding import Embedding
from refsam.errors import InputError
from refsam.images import MAX_PIXELS, read_image
from refsam.predictor import SamPredictor


@pytest.mark.core
def test_it_holds_the_features_and_what_they_were_made_of(run, folder, standin):
    code, out, err = run("embed", "picture.png", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["embedding"] == "picture.embedding.safetensors"
    assert document["input_size"] == [51, 64]
    predictor = SamPredictor(refsam.load(standin))
    predictor.set_image(read_image("picture.png"))
    embedding = Embedding.load("picture.embedding.safetensors")
    np.testing.assert_array_equal(embedding.features, predictor.get_image_embedding())
    assert embedding.original_size == (40, 50)
    assert embedding.weights_sha256 == document["weights_sha256"] == predictor.model.weights_sha256
    trace = refsam.trace(predictor.model, read_image("picture.png"), box=[1, 2, 3, 4])
    assert embedding.image_sha256 == document["image_sha256"] == trace.metadata["image_sha256"]


def test_it_says_what_it_wrote(run, folder):
    code, out, _ = run("embed", "picture.png", "--out", "e.safetensors")
    assert code == 0
    assert out == "wrote e.safetensors: image_embeddings (1, 32, 4, 4) float32\n"


def test_what_is_said_never_mixes_with_the_file(refused, folder):
    """On stdout it would follow the bytes of the file; what else an open descriptor leads to is written to."""
    assert "cannot write /dev/fd/1: the answer is printed there" in refused("embed", "picture.png", "--out", "/dev/fd/1")
    Path("link.html").symlink_to("/dev/fd/1")
    for command in (
        ("embed", "picture.png", "--json", "--out", "/proc/self/fd/1"),
        ("trace", "picture.png", "--point", "1,1", "--out", "/dev/fd/1"),
        ("verify", "fast", "picture.png", "--html", "link.html"),
        ("kernels", "test", "--out", "/dev/fd/1"),
        ("kernels", "bench", "--out", "/dev/fd/1"),
    ):
        assert "the answer is printed there" in refused(*command)
    assert Path("link.html").is_symlink()


def test_a_pipe_gets_the_file_and_nothing_else(run, folder):
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        code, out, _ = run("embed", "picture.png", "--out", f"/dev/fd/{writer}")
        os.close(writer)
        Path("e.safetensors").write_bytes(file.read())
    assert (code, out) == (0, f"wrote /dev/fd/{writer}: image_embeddings (1, 32, 4, 4) float32\n")
    assert Embedding.load("e.safetensors").original_size == (40, 50)


@pytest.mark.core
def test_other_weights_pictures_and_dtypes_are_refused(run, refused, folder):
    run("embed", "picture.png", "--out", "e.safetensors")
    checkpoint.save("other.safetensors", standin_weights(TINY, seed=1), TINY)
    Image.fromarray(255 - read_image("picture.png")).save("negative.png")
    Image.open("picture.png").resize((25, 80)).save("other-size.png")
    use = ("--point", "1,1", "--embedding", "e.safetensors")
    assert "other weights" in refused("segment", "picture.png", *use, "--weights", "other.safetensors")
    assert "another picture" in refused("segment", "negative.png", *use)
    assert "another picture" in refused("segment", "other-size.png", *use)
    assert "float32 and the model of float64" in refused("segment", "picture.png", *use, "--dtype", "float64")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refsam": "trace"}, "not an embedding"),
        ({"original_size": "[0, 5]"}, "damaged"),
        ({"original_size": "[1000000, 1000000]"}, "damaged"),
        ({"original_size": "[40, 50.0]"}, "damaged"),
        ({"original_size": "[" * 100_000}, "damaged"),
        ({"original_size": "{}"}, "damaged"),
    ],
)
def test_damaged_metadata_is_refused(run, folder, changes, message):
    run("embed", "picture.png", "--out", "e.safetensors")
    embedding = Embedding.load("e.safetensors")
    metadata = {"refsam": "embedding", "original_size": "[40, 50]", "weights_sha256": "", "image_sha256": ""}
    save_file({"image_embeddings": embedding.features}, "e.safetensors", {**metadata, **changes})
    with pytest.raises(InputError, match=message):
        Embedding.load("e.safetensors")


@pytest.mark.parametrize("value", [np.zeros(3, np.float32), np.full((1, 32, 4, 4), np.nan), np.zeros((1, 32, 4, 4), np.int32)])
def test_damaged_features_are_refused(tmp_path, value):
    path = tmp_path / "e.safetensors"
    save_file({"image_embeddings": value}, path, {"refsam": "embedding", "original_size": "[40, 50]"})
    with pytest.raises(InputError, match="damaged"):
        Embedding.load(path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    height, width = 20_000, MAX_PIXELS // 20_000
    features = np.zeros((1, 256, 4, 4), np.float32)
    Embedding(features, (height, width), "", "").save(tmp_path / "largest")
    assert Embedding.load(tmp_path / "largest").original_size == (height, width)
    with pytest.raises(InputError, match=f"{width + 1} x {height}.*scale it down"):
        Embedding(features, (height, width + 1), "", "").save(tmp_path / "larger")
    assert not (tmp_path / "larger").exists()


def test_features_of_another_shape_are_refused(run, refused, folder, standin):
    run("embed", "picture.png", "--out", "e.safetensors")
    good = Embedding.load("e.safetensors")
    wrong = Embedding(np.zeros((1, 32, 8, 8), np.float32), good.original_size, good.weights_sha256, good.image_sha256)
    wrong.save("wrong.safetensors")
    assert "shape" in refused("segment", "picture.png", "--point", "1,1", "--embedding", "wrong.safetensors")


def test_files_that_are_no_embedding_are_refused(tmp_path, standin):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**9)
    for path in (tmp_path / "text", tmp_path / "empty", tmp_path / "huge", tmp_path / "none", tmp_path, standin):
        with pytest.raises(InputError) as error:
            Embedding.load(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(("dtype", "bits"), [("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F4", 4), ("BF16", 16)])
def test_features_of_a_type_that_numpy_does_not_have_are_refused(tmp_path, dtype, bits):
    entry = {"dtype": dtype, "shape": [1, 2, 1, 1], "data_offsets": [0, bits // 4]}
    header = json.dumps({"__metadata__": {"refsam": "embedding"}, "image_embeddings": entry}).encode()
    (tmp_path / "e").write_bytes(len(header).to_bytes(8, "little") + header + bytes(bits // 4))
    with pytest.raises(InputError, match=str(tmp_path / "e")):
        Embedding.load(tmp_path / "e")


def test_a_pipe_is_not_waited_for_and_a_name_may_be_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="device or a pipe"):
        Embedding.load(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read as an embedding"):
        Embedding.load("a\0b")


@pytest.mark.core
@pytest.mark.parametrize("name", ["e.npy", "e"])
def test_a_name_of_another_kind_of_file_is_refused(refused, folder, name):
    assert f"cannot write {name}: its name has to end in .safetensors" in refused("embed", "picture.png", "--out", name)
    assert not Path(name).exists()


def test_the_file_is_plain_safetensors(run, folder):
    run("embed", "picture.png", "--out", "e.safetensors")
    assert list(load_file("e.safetensors")) == ["image_embeddings"]


def test_the_picture_and_the_weights_are_not_overwritten(refused, folder, standin, monkeypatch):
    assert "not overwritten" in refused("embed", "picture.png", "--out", str(Path("picture.png").resolve()))
    weights = Path("w.safetensors")
    weights.write_bytes(standin.read_bytes())
    assert "not overwritten" in refused("embed", "picture.png", "--weights", "w.safetensors", "--out", "w.safetensors")
    monkeypatch.setenv("REFSAM_WEIGHTS", "w.safetensors")
    assert "not overwritten" in refused("embed", "picture.png", "--out", "./w.safetensors")
    assert "not overwritten" in refused("trace", "picture.png", "--point", "1,1", "--out", "w.safetensors")
    assert weights.read_bytes() == standin.read_bytes()
