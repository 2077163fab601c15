"""The process of one contender: it answers questions that come as JSON lines on stdin.

    {"do": "hello"}                        -> {"groups": [...], "versions": {...}}
    {"do": "prepare", "row": R, "save": P} -> {"notes": {...}}      runs once to warm up; the result goes to P as .npy
    {"do": "run"}                          -> {"seconds": s, "cpu": s, "passed": s, "parts": {...}, "notes": {...}}
    {"do": "stop"}                         -> ends

A question that fails is answered by {"error": "..."}.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

from benchmarks.contenders.common import Run, Timed
from benchmarks.idle import own_seconds

LEAST_SECONDS = 0.02
"""Of one sample: what is faster is repeated within it, since a clock and an idle check have their grain."""

GROUPS = ("encoder", "decoder", "stages", "set_image", "predict", "ops", "everything", "machine", "photo")


class Worker:
    """Holds the contender and the row that is prepared."""

    def __init__(self, contender: Any) -> None:
        self.contender = contender
        self.run: Run = lambda: None
        self.repeats = 1

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The reply to one question."""
        if question["do"] == "hello":
            groups = [group for group in GROUPS if hasattr(self.contender, group)]
            return {"groups": groups, "versions": self.contender.versions()}
        return self._prepare(question["row"], question.get("save")) if question["do"] == "prepare" else self._measure()

    def _prepare(self, row: str, save: str | None) -> dict[str, Any]:
        group, _, argument = row.partition("/")
        self.contender.notes.clear()
        self.run = getattr(self.contender, group)(*[argument] if argument else [])
        start = time.perf_counter()
        result = self.run()
        seconds = time.perf_counter() - start
        if seconds < LEAST_SECONDS:  # the first time is no measure of the others
            seconds = _timed(self.run, 1)[0]
        self.repeats = max(1, min(1000, int(LEAST_SECONDS / seconds) + 1)) if seconds < LEAST_SECONDS else 1
        if save and isinstance(result, np.ndarray):
            np.save(save, result)
        return {"notes": self.contender.notes}

    def _measure(self) -> dict[str, Any]:
        cpu = own_seconds()
        seconds, result = _timed(self.run, self.repeats)
        cpu = own_seconds() - cpu
        timed = result if isinstance(result, Timed) else Timed(seconds)
        told = {"seconds": timed.seconds, "cpu": cpu, "parts": timed.parts, "notes": self.contender.notes}
        return {**told, "passed": seconds * self.repeats}


def _timed(run: Run, repeats: int) -> tuple[float, Any]:
    """Seconds of one run, and the last one's result."""
    start = time.perf_counter()
    for _ in range(repeats):
        result = run()
    return (time.perf_counter() - start) / repeats, result


def serve(worker: Worker, questions: TextIO, answers: TextIO) -> None:
    """Answer until told to stop, or until nobody asks any more."""
    for line in questions:
        question = json.loads(line)
        if question["do"] == "stop":
            return
        try:
            reply = worker.answer(question)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """The real stdout for the protocol alone; whatever a library prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


def main(builder: str, settings: str) -> None:
    """Build the contender "module:class" with the settings (JSON) and serve."""
    from benchmarks.contenders import Contender

    with own_stdout() as answers:
        serve(Worker(Contender("", builder).build(json.loads(settings))), sys.stdin, answers)
