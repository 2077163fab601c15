"""Contenders that need packages of their own compute what refsam computes. Only where torch is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ops.cases import SMALL, OpCase

from benchmarks import idle
from benchmarks.contenders.torch_upstream import TorchOps
from benchmarks.rows import Document
from refsam.cli import main

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_peer_s_operation_is_the_same_operation(case: OpCase) -> None:
    import torch

    arguments = case.seeded(np.float64)
    tensors = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in arguments]
    found = getattr(TorchOps, case.op)(*tensors).numpy()
    np.testing.assert_allclose(found, case.naive(*arguments), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("unchecked")
def test_every_peer_that_is_installed_gives_the_same_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "PATIENCE", 0.05)
    graphs = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name) and importlib.util.find_spec("onnx")]
    names = ["fast", "torch", *graphs]
    options = ("--weights", "demo", "--rounds", "1", "--only", "encoder,decoder/1", "--out", str(tmp_path))
    assert main(["bench", "--contenders", ",".join(names), *options]) == 0
    document = Document.load(tmp_path / "rows.json")
    for task in ("encoder", "decoder/1"):
        rows = [row for row in document.rows if row.row == task]
        assert [row.contender for row in rows] == names
        assert max(row.difference for row in rows) < 1e-4
