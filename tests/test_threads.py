"""How many threads: the argument, the environment, affinity, and the quotas of both versions of cgroups."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from refsam import InputError
from refsam.threads import THREADS_VARIABLE, quota, thread_count, usable_cpus

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, math.inf),
        ({"cpu.max": "a lot\n"}, math.inf),
        ({"cpu.max": "100000 0\n"}, math.inf),
    ],
)
def test_the_quota_is_read(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert quota(tmp_path) == expected


@pytest.mark.parametrize(("allowed", "expected"), [("max", 8), ("900000", 8), ("250000", 3), ("20000", 1)])
def test_no_more_than_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{allowed} 100000\n")
    assert usable_cpus(tmp_path) == expected


def test_threads_come_from_the_argument_then_the_environment_then_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refsam.threads.usable_cpus", lambda: 5)
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert thread_count() == 5
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert (thread_count(), thread_count(2)) == (3, 2)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_another_number_of_threads_is_refused(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, value)
    with pytest.raises(InputError, match=f"REFSAM_THREADS is {value}; it has to be a whole number from 1"):
        thread_count()
