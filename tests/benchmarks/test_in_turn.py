"""Backends in turn in one process."""

import sys
from pathlib import Path

import pytest
from standin import TINY, standin_weights

from benchmarks import in_turn
from refsam import checkpoint


def test_runs_alternate_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], []

    def run(name: str, seconds: list[float]):
        def taken() -> None:
            order.append(name)
            clock[0] += seconds.pop(0)

        return taken

    monkeypatch.setattr(in_turn, "perf_counter", lambda: clock[0])
    runs = [run("a", [90, 1, 2, 3]), run("b", [80, 5, 4, 9])]
    assert in_turn.in_turn(runs, 3) == [2, 5]
    assert order == ["a", "b"] * 4


def test_the_command_prints_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, standin_weights(TINY), TINY)
    monkeypatch.setattr(sys, "argv", ["in_turn", "fast", "reference", "--rounds", "1", "--weights", str(path)])
    in_turn.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["encoder", "64 prompts"]
    assert all("reference / fast = " in line for line in lines)
