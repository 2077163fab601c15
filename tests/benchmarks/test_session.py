"""A whole run, end to end, with a tiny model; and what a run makes of what its processes say."""

import json
from pathlib import Path

import pytest

from benchmarks import idle, session, tasks
from benchmarks.pool import WorkerFailed
from benchmarks.rows import Document, Row
from benchmarks.session import Plan, Samples
from refsam import InputError
from refsam.cli import main
from refsam.config import MOBILE_SAM


def reply(seconds: float, **more: object) -> dict[str, object]:
    return {"seconds": seconds, "parts": {}, **more}


def test_disturbed_samples_are_left_out_where_others_are_enough() -> None:
    samples = Samples(replies=[(reply(1.0), True), (reply(9.0), False), (reply(1.1), True), (reply(1.2), True)])
    row = samples.row("encoder", "fast", "r")
    assert (row.seconds, row.rejected, row.disturbed) == ((1.0, 1.1, 1.2), 1, False)


def test_disturbed_samples_are_counted_and_marked_where_there_are_few_others() -> None:
    samples = Samples(replies=[(reply(1.0, parts={"a": 0.5}, peak=3.0), False), (reply(2.0, parts={"a": 0.7}, peak=4.0), True)])
    row = samples.row("encoder", "fast", "r")
    assert (row.seconds, row.rejected, row.disturbed) == ((1.0, 2.0), 1, True)
    assert (row.parts, row.peaks) == ({"a": (0.5, 0.7)}, (3.0, 4.0))


def test_a_contender_is_slow_by_the_time_that_passes() -> None:
    samples = Samples(replies=[(reply(160.0, passed=10.0), True)] * 3)  # everything mode: part of the points, multiplied
    plan = Plan([], [], 5, 31.0, {}, MOBILE_SAM, {}, lambda _: None, lambda _: None)
    assert samples.seconds == 30
    assert not session._is_over([samples], plan)


@pytest.mark.parametrize(
    ("times", "idle_turns", "taken"),
    [
        ({"a": 1.0, "b": 1.5}, {"a", "b"}, 5),  # as many as asked for
        ({"a": 1.0, "b": 1.0}, {"a"}, 10),  # b's samples were all disturbed: twice as many tries
        ({"a": 0.1, "b": 5.0}, {"a", "b"}, 3),  # b is too slow for more, so a has no more either
        ({"a": 0.1, "b": 5.0}, {"b"}, 6),  # but a's samples do not count, which is tried for twice as often
        ({"a": 0.1, "b": 2.0, "broken": 1.0}, {"a", "b"}, 5),
    ],
)
def test_a_row_ends_for_all_contenders_after_the_same_round(times, idle_turns, taken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "wait", lambda _: True)
    monkeypatch.setattr(idle.Watch, "was_idle", lambda _, cpu: cpu == 0.0)
    order: list[str] = []

    def sample(name: str) -> tuple[dict[str, object], float]:
        if name == "broken":
            raise WorkerFailed(name)
        order.append(name)
        return reply(times[name]), 0.0 if name in idle_turns else 1.0

    samples = {name: Samples() for name in times}
    plan = Plan([], [], 5, 10.0, {}, MOBILE_SAM, {}, lambda _: None, lambda _: None)
    session._take_turns(plan, "encoder", samples, sample)
    assert {name: len(found.replies) for name, found in samples.items()} == {"a": taken, "b": taken}
    assert order[:4] == ["a", "b", "b", "a"]


@pytest.mark.usefixtures("unchecked")
def test_rows_get_their_work_and_stages_rows_of_their_own() -> None:
    stages = Row("stages", "fast", "r", (3.0, 3.0), parts={"image_encoder.neck": (1.0, 2.0)}, notes={})
    others = [Row(name, "fast", "r", (1.0,)) for name in ("decoder/1", "decoder/16", "ops/linear/layers.1-qkv")]
    rows = {row.row: row for row in session._with_work([stages, *others], MOBILE_SAM)}
    assert rows["ops/linear/layers.1-qkv"].macs == 361 * 49 * 128 * 384
    assert rows["stages/image_encoder.neck"].seconds == (1.0, 2.0)
    assert rows["stages/image_encoder.neck"].macs > 10**9
    assert rows["decoder/16"].macs == 16 * rows["decoder/1"].macs


def test_patterns_choose_rows_in_the_order_in_which_they_run() -> None:
    names = tasks.all_tasks()
    assert tasks.chosen(["decoder/*", "encoder"], names)[:2] == ["encoder", "decoder/1"]
    assert any(name.startswith("ops/linear/") for name in names)
    assert set(tasks.chosen(tasks.GOALS, names)) <= set(names)
    with pytest.raises(InputError, match=r"--only 'encodre' matches no row; there are, here: machine, encoder"):
        tasks.chosen(["encodre"], names)


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `refsam bench` in an empty folder as if the machine were idle: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(idle, "PATIENCE", 0.05)
    monkeypatch.setattr(idle.Watch, "was_idle", lambda *_: True)  # else a busy machine has rows that no gate judges

    def call(*tokens: str) -> tuple[int, str, str]:
        code = main(["bench", *tokens])
        return code, *capsys.readouterr()

    return call


RUN = ("--contenders", "fast,reference", "--rounds", "2", "--threads", "1")
EXAMPLE = "ops/relu/decoder-mlp"


@pytest.mark.usefixtures("unchecked")
def test_a_run_from_end_to_end(console, standin: Path, tmp_path: Path) -> None:
    asked = ("--weights", str(standin), "--only", f"encoder,stages,decoder/1,cold_start,{EXAMPLE}")
    code, out, err = console(*RUN, *asked, "--out", "made", "--json")
    assert code == 0, err
    document = Document.load(tmp_path / "made" / "rows.json")
    assert {row["row"] for row in json.loads(out)["rows"]} == set(document.tasks())
    assert {"encoder", "stages", "stages/image_encoder.neck", "decoder/1", "cold_start", EXAMPLE} <= set(document.tasks())
    for name in ("encoder", "decoder/1", EXAMPLE):
        found = [row for row in document.rows if row.row == name]
        assert [row.contender for row in found] == ["fast", "reference"]
        assert all(len(row.seconds) >= 2 and row.difference < 1e-4 for row in found)
    (run,) = document.runs.values()
    assert (run["threads"], run["weights"]) == (1, str(standin))
    assert set(run["versions"]) == {"fast", "reference"}
    assert set(run["versions"]["fast"]) == {"refsam", "numpy", "blas"}
    assert document.find("cold_start", "fast").peak > 20
    assert (tmp_path / "made" / "report.html").read_text().startswith("<!DOCTYPE html>")

    code, out, err = console("--from", "made/rows.json", "--gate", "made/rows.json")
    assert (code, err) == (0, "")
    assert "gate: 0 worse" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_the_gate_s_exit_code_says_that_something_got_worse(console, made_up, tmp_path: Path) -> None:
    made_up().save(tmp_path / "baseline.json")
    made_up(1.5).save(tmp_path / "now.json")
    code, out, _ = console("--from", "now.json", "--gate", "baseline.json")
    assert code == 1
    assert "worse: decoder/1: fast / onnxruntime" in out
    code, out, _ = console("--from", "now.json", "--gate", "baseline.json", "--json")
    assert code == 1
    assert len(json.loads(out)["gate"]["worse"]) == 4


@pytest.mark.parametrize(
    ("tokens", "code", "told"),
    [
        (("--only", "nothing"), 2, "--only 'nothing' matches no row"),
        (("--contenders", "tensorflow", "--weights", "demo"), 2, "there is no contender 'tensorflow'; there are: fast"),
        (("--rounds", "0"), 2, "rounds is 0; it has to be positive"),
        (("--weights", "gone.safetensors"), 2, "gone.safetensors"),
        (("--from", "gone.json"), 2, "gone.json cannot be read as benchmark rows"),
        (("--weights", "demo", "--contenders", "machine", "--only", "encoder"), 3, "nothing was timed"),
    ],
)
def test_what_cannot_be_done_is_one_line(console, tokens, code, told, tmp_path: Path) -> None:
    found, out, err = console(*tokens)
    assert (found, out) == (code, "")
    assert told in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_committed_baseline_has_the_rows_that_make_bench_gate_times(console, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    gated = next(line for line in (root / "Makefile").read_text().splitlines() if line.startswith("GATED := ")).split()[-1]
    baseline = Document.load(root / "benchmarks" / "baseline.json")
    for task in tasks.chosen(gated.split(","), tasks.all_tasks()):
        assert baseline.find(task, "fast"), task
        assert baseline.find(task, "reference"), task
