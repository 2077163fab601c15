"""Made-up rows, whose ratios are known. The harness lies beside the package: put it on the path."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.rows import Document, Row

TIMES = {"fast": 1.0, "reference": 4.0, "onnxruntime": 2.0}


@pytest.fixture
def made_up() -> Callable[..., Document]:
    """Makes a document of one run: `encoder` and `decoder/1` with five samples each, spread by 1 %, and a photo's peaks."""

    def make(slower: float = 1.0, run: str = "run-1") -> Document:
        rows = [_row(task, name, run, seconds * (slower if name == "fast" else 1))
                for task in ("encoder", "decoder/1") for name, seconds in TIMES.items()]  # fmt: skip
        photo = Row("photo", "fast", run, (0.5, 0.6, 0.7), peaks=(200.0, 240.0, 260.0))
        return Document({run: {"cpu": "made up <&>", "threads": 2}}, (*rows, photo))

    return make


def _row(task: str, contender: str, run: str, seconds: float) -> Row:
    return Row(task, contender, run, tuple(seconds * (1 + 0.01 * step) for step in range(-2, 3)))
