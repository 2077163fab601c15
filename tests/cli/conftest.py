"""A picture in a folder of its own that is the current one, and the console run there on the stand-in weights."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refsam.cli import main


@pytest.fixture
def folder(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with picture.png (50 x 40); $REFSAM_WEIGHTS names the stand-in weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFSAM_WEIGHTS", str(standin))
    Image.fromarray(picture()).save("picture.png")
    return tmp_path


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Run a command line in the folder: (exit code, stdout, stderr)."""

    def call(*tokens: str) -> tuple[int, str, str]:
        code = main([str(token) for token in tokens])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(run, folder: Path):
    """Run a command line that has to fail as bad input: exit code 2, one line on stderr, nothing written; returns the line."""

    def call(*tokens: str) -> str:
        before = sorted(folder.rglob("*"))
        code, out, err = run(*tokens)
        assert (code, out) == (2, "")
        assert err.startswith("refsam: ")
        assert err.count("\n") == 1
        assert sorted(folder.rglob("*")) == before
        return err

    return call
