"""The protocol between a run and the processes of its contenders, and the idle check."""

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import idle, pool
from benchmarks.contenders import UNSET, Contender, common, known
from benchmarks.contenders.common import BATCH_SIZES, Timed, batched
from benchmarks.pool import Process, WorkerFailed, whole_process
from benchmarks.worker import LEAST_SECONDS, Worker, serve


class Counting:
    """A contender that counts its runs."""

    def __init__(self) -> None:
        self.notes: dict[str, object] = {}
        self.runs = 0

    def versions(self) -> dict[str, str]:
        return {"counting": "1"}

    def encoder(self):
        def run():
            self.runs += 1
            return np.full(3, self.runs)

        return run

    def decoder(self, count):
        self.notes["batch"] = int(count)
        return lambda: Timed(7.0, {"part": 3.0})


def talk(contender, *questions: dict) -> list[dict]:
    out = io.StringIO()
    serve(Worker(contender), io.StringIO("".join(json.dumps(q) + "\n" for q in questions)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_conversation(tmp_path: Path) -> None:
    contender, saved = Counting(), str(tmp_path / "result.npy")
    prepare = {"do": "prepare", "row": "encoder", "save": saved}
    hello, ready, sample = talk(contender, {"do": "hello"}, prepare, {"do": "run"}, {"do": "stop"}, {"do": "run"})
    assert hello == {"groups": ["encoder", "decoder"], "versions": {"counting": "1"}}
    assert ready == {"notes": {}}
    assert np.load(saved).tolist() == [1, 1, 1]
    assert 0 < sample["seconds"] < LEAST_SECONDS
    assert contender.runs > 10  # what is fast is repeated within one sample


def test_a_row_s_argument_notes_and_own_times_come_through() -> None:
    ready, sample = talk(Counting(), {"do": "prepare", "row": "decoder/64"}, {"do": "run"})
    assert ready == {"notes": {"batch": 64}}
    assert (sample["seconds"], sample["parts"]) == (7.0, {"part": 3.0})
    assert 0 < sample["passed"] < 7


def test_a_question_that_fails_is_answered_and_the_next_one_too() -> None:
    failed, hello = talk(Counting(), {"do": "prepare", "row": "everything"}, {"do": "hello"})
    assert failed["error"].startswith("AttributeError")
    assert "groups" in hello


@pytest.mark.parametrize(
    ("count", "slow_call", "batches"),
    [(40, None, [16, 16, 8]), (48, 2, [16, 16, 16]), (48, 5, [16, 16, 16])],
)
def test_prompts_go_in_the_batch_that_is_fastest_once_warm(count, slow_call, batches, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of each shape takes long, and so does one of 16 prompts in one of the two turns: neither is a verdict."""
    sizes, now = list[int](), [0.0]
    monkeypatch.setattr(common, "perf_counter", lambda: now[0])

    def decode(coords, labels):
        size = len(coords)
        is_slow = size not in sizes or (size == 16 and sizes.count(16) == slow_call)
        now[0] += (1 if size == 16 else size) + 500 * is_slow
        sizes.append(size)
        return np.arange(size)

    notes: dict[str, object] = {}
    run = batched(decode, count, 64, notes)
    assert notes == {"batch": 16}
    assert set(sizes) == {size for size in BATCH_SIZES if size <= count} | set(batches)
    sizes.clear()
    assert run().shape == (1,)
    assert sizes == batches


def test_the_environment_of_a_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNSET:
        monkeypatch.setenv(name, "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = pool.environment(Contender("x", "", environment={"MALLOC_TOP_PAD_": "1"}))
    assert not {*UNSET, "OMP_NUM_THREADS"} & set(found)
    assert found["MALLOC_TOP_PAD_"] == "1"
    assert set(UNSET) <= set(pool.unset_here())


def test_a_process_that_dies_says_why() -> None:
    broken = Contender("broken", "benchmarks.contenders.machine:Machine")
    with Process(broken, {}) as process, pytest.raises(WorkerFailed, match="broken died: KeyError: 'threads'"):
        process.ask(do="hello")
    with pytest.raises(WorkerFailed, match="broken failed at photo: KeyError"):
        whole_process(broken, {}, "photo")


def test_every_contender_s_module_can_be_imported_without_its_packages() -> None:
    for contender in known().values():
        module, _, name = contender.builder.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name)


def stat(path: Path, busy: int) -> Path:
    path.write_text(f"cpu  {busy} 0 0 999 5 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    return path


def test_busy_time_is_read_from_the_kernel(tmp_path: Path) -> None:
    assert idle.busy_seconds(tmp_path / "none") is None
    hertz = 1 / idle.busy_seconds(stat(tmp_path / "stat", 1))
    assert idle.busy_seconds(stat(tmp_path / "stat", 250)) == 250 / hertz


@pytest.mark.parametrize(("others", "is_idle"), [(0.0, True), (0.015, True), (0.5, False)])
def test_a_sample_counts_when_others_did_next_to_nothing(others, is_idle, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([10.0, 10.0 + 0.3 + others])
    monkeypatch.setattr(idle, "busy_seconds", lambda: next(readings))
    watch = idle.Watch()
    watch.own = time.process_time()  # so that what the test itself computes does not count
    assert watch.was_idle(cpu=0.3) is is_idle


def test_where_the_system_does_not_tell_every_sample_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "busy_seconds", lambda: None)
    assert idle.Watch().was_idle(cpu=0.0)
    assert idle.wait()


def test_waiting_for_a_busy_machine_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "busy_seconds", time.perf_counter)  # always one CPU at work
    assert not idle.wait(patience=0.1)
