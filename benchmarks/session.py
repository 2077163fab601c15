"""One run: contenders take turns at each task, and a sample counts only if the machine did nothing else meanwhile."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import about, idle, pool, tasks
from benchmarks.contenders import Contender
from benchmarks.pool import Process, WorkerFailed
from benchmarks.rows import Document, Row
from benchmarks.work import decoder_macs, encoder_work, operation_macs
from refsam.config import Config

LEAST_SAMPLES = 3

COMPARED = ("encoder", "decoder", "ops")
"""Groups whose results have to agree."""

LARGEST_DIFFERENCE = 1e-2
"""Relative L2, between contenders' results: float32 leaves 1e-5 here, another computation 1."""


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do.

    Attributes:
        rounds: samples of each contender at each task.
        seconds: of one contender's samples, after which `LEAST_SAMPLES` of each (or `rounds`, if that is less) are enough.
        settings: what contenders are given: weights, threads, files and so on.
        say: is told what happens.
        keep: is given all rows so far after each task, so that a run that is stopped has not been in vain.
    """

    contenders: Sequence[Contender]
    tasks: Sequence[str]
    rounds: int
    seconds: float
    settings: dict[str, Any]
    config: Config
    about: dict[str, Any]
    say: Callable[[str], None]
    keep: Callable[[Document], None]


@dataclass
class Samples:
    """What a contender has shown at a task so far: its replies, and whether the machine was idle meanwhile."""

    notes: dict[str, Any] = field(default_factory=dict)
    replies: list[tuple[dict[str, Any], bool]] = field(default_factory=list)

    def are_enough(self, rounds: int) -> bool:
        """Whether so many were taken on an idle machine, or were tried for twice as often."""
        return sum(was_idle for _, was_idle in self.replies) >= rounds or len(self.replies) >= 2 * rounds

    @property
    def seconds(self) -> float:
        """That all samples have taken, which is less than they are told to be where a part was timed and multiplied."""
        return sum(reply.get("passed", reply["seconds"]) for reply, _ in self.replies)

    def row(self, task: str, contender: str, run: str) -> Row:
        """As a row: disturbed samples are left out if enough others are there."""
        kept = [reply for reply, was_idle in self.replies if was_idle]
        disturbed = len(kept) < min(LEAST_SAMPLES, len(self.replies))
        used = [reply for reply, _ in self.replies] if disturbed else kept
        parts = {name: tuple(reply["parts"][name] for reply in used) for name in used[0]["parts"]}
        peaks = tuple(reply["peak"] for reply in used if "peak" in reply)
        notes = {**self.notes, **used[-1].get("notes", {})}
        seconds = tuple(reply["seconds"] for reply in used)
        return Row(task, contender, run, seconds, len(self.replies) - len(kept), disturbed, peaks, parts, notes=notes)


def run(plan: Plan) -> Document:
    """All tasks of the plan. A contender that fails at a task is told of and left out there."""
    key = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{os.getpid()}"
    versions: dict[str, dict[str, str]] = {}
    document = Document({key: {**about.machine(), **plan.about, "versions": versions}})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = {x.name: stack.enter_context(Process(x, plan.settings)) for x in plan.contenders}
        able = _hello(processes, versions, plan.say)
        for task in plan.tasks:
            group = tasks.NEEDS.get(task, task.split("/")[0])
            takers = [name for name in able if group in able[name]]
            plan.say(f"{task}: {', '.join(takers) or 'nobody can do it'}")
            if task in tasks.WHOLE:
                rows = _whole(plan, task, [x for x in plan.contenders if x.name in takers], key)
            else:
                rows = _warm(plan, task, {name: processes[name] for name in takers}, key, folder)
            document = replace(document, rows=(*document.rows, *_with_work(rows, plan.config)))
            plan.keep(document)
    return document


def _hello(
    processes: dict[str, Process], versions: dict[str, dict[str, str]], say: Callable[[str], None]
) -> dict[str, list[str]]:
    """The groups of tasks that each contender has; one that does not start is told of and left out."""
    able = {}
    for name, process in processes.items():
        try:
            reply = process.ask(do="hello")
        except WorkerFailed as error:
            say(f"left out: {error}")
            continue
        able[name], versions[name] = reply["groups"], reply["versions"]
    return able


def _warm(plan: Plan, task: str, takers: dict[str, Process], key: str, folder: Path) -> list[Row]:
    """A task that processes run again and again."""
    samples: dict[str, Samples] = {}
    for name, process in takers.items():
        result = folder / f"{name}.npy"
        result.unlink(missing_ok=True)
        try:
            samples[name] = Samples(process.ask(do="prepare", row=task, save=str(result))["notes"])
        except WorkerFailed as error:
            plan.say(f"left out of {task}: {error}")

    def sample(name: str) -> tuple[dict[str, Any], float]:
        reply = takers[name].ask(do="run")
        return reply, reply["cpu"]

    _take_turns(plan, task, samples, sample)
    rows = [found.row(task, name, key) for name, found in samples.items()]
    return _compared(rows, folder, plan.say) if task.split("/")[0] in COMPARED else rows


def _whole(plan: Plan, task: str, takers: Sequence[Contender], key: str) -> list[Row]:
    """A task whose every sample is a process of its own."""
    by_name, samples = {x.name: x for x in takers}, {x.name: Samples() for x in takers}

    def sample(name: str) -> tuple[dict[str, Any], float]:
        seconds, cpu, reply = pool.whole_process(by_name[name], plan.settings, task)
        return {"seconds": seconds, **reply}, cpu

    _take_turns(plan, task, samples, sample)
    return [found.row(task, name, key) for name, found in samples.items()]


def _take_turns(
    plan: Plan, task: str, samples: dict[str, Samples], sample: Callable[[str], tuple[dict[str, Any], float]]
) -> None:
    """Round robin, each round beginning with another contender; before each turn the machine comes to rest.

    It ends for all after the same round, so that a ratio's two sides saw the same moments of the machine. A contender that fails
    is told of and taken out of `samples`.
    """
    turn, patience = 0, idle.PATIENCE
    while not _is_over(list(samples.values()), plan):
        names = list(samples)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            patience = idle.PATIENCE if idle.wait(patience) else patience / 2  # a machine that is always busy is not waited for
            watch = idle.Watch()
            try:
                reply, cpu = sample(name)
            except WorkerFailed as error:
                plan.say(f"left out of {task}: {error}")
                del samples[name]
            else:
                samples[name].replies.append((reply, watch.was_idle(cpu)))
        turn += 1


def _is_over(samples: Sequence[Samples], plan: Plan) -> bool:
    """Whether all contenders have enough samples; the least number is enough once the slowest has taken long for them."""
    is_slow = any(found.seconds >= plan.seconds for found in samples)
    rounds = min(LEAST_SAMPLES, plan.rounds) if is_slow else plan.rounds
    return all(found.are_enough(rounds) for found in samples)


def _compared(rows: list[Row], folder: Path, say: Callable[[str], None]) -> list[Row]:
    """With each result's distance from the first contender's; a row that computes something else is left out."""
    results = {row.contender: np.load(folder / f"{row.contender}.npy").astype(np.float64) for row in rows}
    first = next(iter(results.values()), np.zeros(0))
    rows = [replace(row, difference=_distance(results[row.contender], first)) for row in rows]
    for row in rows:
        if row.difference is None or row.difference > LARGEST_DIFFERENCE:
            say(f"left out of {row.row}: {row.contender} computes something else (difference {row.difference})")
    return [row for row in rows if row.difference is not None and row.difference <= LARGEST_DIFFERENCE]


def _distance(other: np.ndarray, first: np.ndarray) -> float | None:
    """Relative L2; None where the shapes differ."""
    if other.shape != first.shape:
        return None
    return float(np.linalg.norm(other - first) / max(np.linalg.norm(first), np.finfo(float).tiny))


def _with_work(rows: Sequence[Row], config: Config) -> list[Row]:
    """With the work of each, and the parts of `stages` as rows of their own."""
    stages = encoder_work(config)
    result = []
    for row in rows:
        group, _, argument = row.row.partition("/")
        if group == "encoder":
            row = replace(row, macs=sum(work.macs for work in stages.values()))
        elif group == "decoder":
            row = replace(row, macs=int(argument) * decoder_macs(config))
        elif group == "ops":
            row = replace(row, macs=operation_macs(argument))
        elif group == "machine":
            row = replace(row, macs=row.notes.get("macs", 0), bytes=row.notes.get("bytes", 0))
        result.append(row)
        if group == "stages":
            result += [
                replace(row, row=f"stages/{name}", seconds=seconds, parts={}, macs=stages[name].macs, bytes=stages[name].bytes)
                for name, seconds in row.parts.items()
            ]
    return result
