"""Tensors that a device dumped, as files in a folder."""

from pathlib import Path

import numpy as np

from refsam.coreml import tensors


def test_what_macos_leaves_beside_files_is_no_tensor(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    (tmp_path / "._x.npy").write_bytes(b"\0\5\x16\7Mac OS X")
    assert list(tensors.read(tmp_path, {})) == ["x"]
