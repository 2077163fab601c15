"""What contenders are given."""

from pathlib import Path

import pytest
import standin

from benchmarks import inputs
from refsam import checkpoint


def test_random_weights_are_made_anew_where_their_maker_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(standin, "standin_weights", lambda *_: {})
    monkeypatch.setattr(checkpoint, "save", lambda path, *_: made.append(path) or path.touch())
    assert inputs.standin(tmp_path, 0) == inputs.standin(tmp_path, 0)
    monkeypatch.setattr(standin, "__file__", __file__)
    assert inputs.standin(tmp_path, 0) == made[-1]
    assert len(set(made)) == len(made) == 2
