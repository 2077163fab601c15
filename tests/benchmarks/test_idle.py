"""Whose CPU time is whose."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.idle import own_seconds

pytestmark = pytest.mark.core


def stat(folder: Path, number: int, name: str, parent: int, user: int, system: int) -> None:
    (folder / str(number)).mkdir()
    fields = [parent, *[0] * 9, user, system, 7, 7]
    (folder / str(number) / "stat").write_text(f"{number} ({name}) S {' '.join(map(str, fields))}\n")


def test_children_count_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat(tmp_path, 11, "python", os.getpid(), 300, 40)
    stat(tmp_path, 12, "a ) b", os.getpid(), 5, 5)
    stat(tmp_path, 13, "python", 1, 1000, 1000)
    (tmp_path / "14").mkdir()  # has ended
    monkeypatch.setattr(time, "process_time", lambda: 8.0)
    assert own_seconds(tmp_path) == 8 + 350 / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux alone tells so cheaply")
def test_a_child_that_computes_is_seen() -> None:
    before = own_seconds()
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        end = time.monotonic() + 60
        while own_seconds() - before < 0.2 and time.monotonic() < end:
            time.sleep(0.05)
        assert own_seconds() - before >= 0.2
    finally:
        child.kill()
        child.wait()
