"""Packages whose tests may not be left out in silence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from required import NEEDS, VARIABLE, complaint, installed_by

ROOT = Path(__file__).parents[1]


@pytest.mark.core
@pytest.mark.parametrize(
    ("required", "words"),
    [
        ("", None),
        ("coremltools", None),
        ("onnxruntime", "onnxruntime (onnxruntime)"),
        (" coremltools, peer,", "not installed: peer (torch and mobile_sam); install it"),
        ("torch", "names torch; there are peer, coremltools, onnxruntime"),
    ],
)
def test_what_is_required_and_missing_is_named(required: str, words: str | None) -> None:
    said = complaint(required, ["peer", "onnxruntime"])
    assert (words in said) if words else said == ""


@pytest.mark.core
@pytest.mark.parametrize(
    ("system", "machine", "python", "expected"),
    [
        ("linux", "x86_64", "3.12", ["coremltools", "onnxruntime"]),
        ("linux", "aarch64", "3.12", ["onnxruntime"]),
        ("darwin", "arm64", "3.10", ["coremltools", "onnxruntime"]),
        ("darwin", "x86_64", "3.12", ["coremltools"]),
        ("linux", "x86_64", "3.14", []),
    ],
)
def test_the_test_extra_installs_what_has_wheels(system: str, machine: str, python: str, expected: list[str]) -> None:
    environment = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    assert installed_by("test", environment) == expected


def test_a_run_that_requires_what_is_not_there_is_refused() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", str(Path(__file__))]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: "nonsense"}, capture_output=True, text=True)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{VARIABLE} names nonsense; there are {', '.join(NEEDS)}" in ran.stderr


@pytest.mark.core
def test_ci_requires_what_the_test_extra_installs() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    required = next(line for line in script if line.startswith(f"{VARIABLE}="))
    assert required == f"{VARIABLE}=$(.venv/bin/python tests/required.py)"
    assert script.index("make lint") < script.index(required) < script.index(f"export {VARIABLE}") < script.index("make test")
