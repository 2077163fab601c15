"""Tensors that a device dumped, as files in a folder."""

from pathlib import Path

import numpy as np
import pytest

from refsam.coreml import tensors


def test_what_macos_leaves_beside_files_is_no_tensor(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    (tmp_path / "._x.npy").write_bytes(b"\0\5\x16\7Mac OS X")
    assert list(tensors.read(tmp_path, {})) == ["x"]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float64"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_was_written_is_read_again(tmp_path: Path, suffix: str, dtype: str) -> None:
    """A run has shapes and comparisons among its results, and float64 in fp64."""
    given = {"x": np.array([[0, 1, 1]], dtype), "y": (np.ones(2) / 3).astype("float64")}
    tensors.write(tmp_path / f"all{suffix}", given)
    found = tensors.read(tmp_path / f"all{suffix}", {})
    assert set(found) == set(given)
    for name, x in given.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
