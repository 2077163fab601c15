"""The parent's side of the workers: one process for each contender, asked through pipes."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.contenders import COUNTS, UNSET, Contender

ROOT = Path(__file__).resolve().parents[1]

# Paths come as arguments, because the current folder may have packages of the same names.
PROGRAM = "import sys; sys.path[:1] = sys.argv[1].split({sep!r}); from benchmarks.{module} import main; main(*sys.argv[2:])"


class WorkerFailed(Exception):
    """A contender cannot do what it was asked; the text says why."""


def environment(contender: Contender) -> dict[str, str]:
    """Of the contender's process: this one's without the variables that would change what is measured."""
    return {**{name: value for name, value in os.environ.items() if name not in (*UNSET, *COUNTS)}, **contender.environment}


def unset_here() -> list[str]:
    """Which of those variables are set here, for the notes of a run."""
    return [name for name in (*UNSET, *COUNTS) if name in os.environ]


def command(module: str, *arguments: str) -> list[str]:
    """Runs `main` of a module of this package in a process that finds this checkout, its tests and its refsam."""
    import refsam

    paths = [str(ROOT), str(ROOT / "tests"), str(Path(refsam.__file__).parents[1])]
    return [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        PROGRAM.format(sep=os.pathsep, module=module),
        os.pathsep.join(paths),
        *arguments,
    ]


class Process:
    """A contender in a process of its own. Use it as a context."""

    def __init__(self, contender: Contender, settings: dict[str, Any]) -> None:
        self.name = contender.name
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.child = subprocess.Popen(
            command("worker", contender.builder, json.dumps({**settings, **contender.settings})),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment(contender),
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.child.kill()
        self.child.communicate()
        self.errors.close()

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer. Raises WorkerFailed where it is an error, or where the process is gone."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps(question) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.child.wait()  # what it has to say comes last
            raise WorkerFailed(f"{self.name} died: {_tail(self.errors)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self.name}: {answer['error']}")
        return answer


def whole_process(contender: Contender, settings: dict[str, Any], row: str) -> tuple[float, float, dict[str, Any]]:
    """Run one process from start to end: seconds as seen from here, CPU seconds, and what it says of itself."""
    with tempfile.TemporaryFile() as errors:
        before, start = os.times(), time.perf_counter()
        done = subprocess.run(
            command("whole", contender.builder, json.dumps({**settings, **contender.settings}), row),
            stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(contender), check=False,
        )  # fmt: skip
        seconds, after = time.perf_counter() - start, os.times()
        if done.returncode:
            raise WorkerFailed(f"{contender.name} failed at {row}: {_tail(errors)}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, json.loads(done.stdout.splitlines()[-1])


def _tail(errors: Any) -> str:
    """The last line that a process wrote to stderr."""
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
