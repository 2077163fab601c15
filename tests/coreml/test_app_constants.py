"""The files beside the packages, written and read back."""

import hashlib
import json

import numpy as np
import pytest
from coreml.exported import tiny
from safetensors import safe_open

from refsam.coreml.app import Point
from refsam.coreml.constants import golden_tensors, read_image_pe, write_goldens, write_image_pe
from refsam.errors import InputError
from refsam.transforms import preprocess

IMAGE = np.random.RandomState(3).randint(0, 256, (96, 128, 3)).astype(np.uint8)


def test_the_positional_encoding_is_raw_float32(tmp_path):
    write_image_pe(tmp_path / "pe.bin", tiny())
    assert (tmp_path / "pe.bin").read_bytes() == tiny().image_pe.astype("<f4").tobytes()
    np.testing.assert_array_equal(read_image_pe(tmp_path / "pe.bin", (1, 32, 4, 4)), tiny().image_pe)


@pytest.mark.parametrize(
    ("raw", "message"),
    [(b"\0" * 12, "has 12 bytes"), (b"", "has 0 bytes"), (b"\0\0\xc0\x7f" * 512, "NaN")],
)
def test_another_file_is_refused(tmp_path, raw, message):
    (tmp_path / "pe.bin").write_bytes(raw)
    with pytest.raises(InputError, match=message):
        read_image_pe(tmp_path / "pe.bin", (1, 32, 4, 4))
    with pytest.raises(InputError, match="cannot be read"):
        read_image_pe(tmp_path / "none.bin", (1, 32, 4, 4))


def test_goldens_can_be_loaded_three_ways(tmp_path):
    tensors = golden_tensors(tiny(), IMAGE, [Point(60, 40), Point(10, 20, 0)])
    files = write_goldens(tmp_path, tensors, {"weights_sha256": "abc"})
    assert sorted(tmp_path.iterdir()) == sorted(files)
    manifest = json.loads((tmp_path / "goldens.json").read_text())
    assert manifest["metadata"] == {"weights_sha256": "abc"}
    with safe_open(tmp_path / "goldens.safetensors", framework="numpy") as saved:
        for entry in manifest["tensors"]:
            raw = (tmp_path / entry["file"]).read_bytes()
            assert hashlib.sha256(raw).hexdigest() == entry["sha256"]
            value = np.frombuffer(raw, "<f4").reshape(entry["shape"])
            np.testing.assert_array_equal(value, tensors[entry["name"]])
            np.testing.assert_array_equal(value, saved.get_tensor(entry["name"]))
            assert entry["max_abs"] == pytest.approx(np.abs(value).max())
    assert {entry["name"] for entry in manifest["tensors"]} == set(tensors)


def test_goldens_are_the_reference_s(tmp_path):
    tensors = golden_tensors(tiny(), IMAGE, [Point(60, 40)])
    np.testing.assert_array_equal(tensors["image"], preprocess(IMAGE, 64))
    np.testing.assert_array_equal(tensors["imageEmbeddings"], tiny().encode_image(tensors["image"]))
    sparse, dense = tiny().encode_prompts((tensors["points"][:, :1], tensors["labels"][:, :1].astype(int)))
    np.testing.assert_array_equal(tensors["sparsePromptEmbeddings"], sparse)  # which pads the point itself
    masks, scores = tiny().decode_masks(tensors["imageEmbeddings"], tiny().image_pe, sparse, dense)
    np.testing.assert_array_equal(tensors["masks"][:, 1:], masks)
    np.testing.assert_array_equal(tensors["iouPredictions"][:, 1:], scores)
