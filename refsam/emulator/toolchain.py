"""The compiler: clang and its linker, from the `ziglang` wheel or from PATH."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from refsam.errors import BackendUnavailable

CLANG_VARIABLE = "REFSAM_CLANG"
OLDEST = 18
NEWEST = 22
MACHINES = {"x86_64": "-march=native", "aarch64": "-mcpu=native"}
REMEDY = f'pip install "refsam[emulator]", or put clang >= {OLDEST} and ld.lld on PATH, or name a clang in {CLANG_VARIABLE}'


class CompileError(Exception):
    """The compiler refused; its own words."""


@dataclass(frozen=True)
class Toolchain:
    """Commands to put arguments behind, and what identifies them in the cache."""

    clang: tuple[str, ...]
    linker: tuple[str, ...]
    version: str
    target: tuple[str, ...]

    def compile(self, *arguments: str | Path, output: bool = False) -> str:
        """Run clang; returns its warnings, or with `output` what it wrote to stdout."""
        return _run(*self.clang, *arguments, output=output)

    def link(self, *arguments: str | Path) -> None:
        """Run the linker."""
        _run(*self.linker, *arguments)


@cache
def toolchain() -> Toolchain:
    """The one in $REFSAM_CLANG, else ziglang's, else that on PATH.

    Raises BackendUnavailable on a platform that the emulator does not know, and where no compiler is found.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        raise BackendUnavailable(f"the emulator runs on Linux on x86-64 (aarch64: untested), not on {sys.platform} {machine}")
    clang, linker = _from_variable() or _from_ziglang() or _from_path()
    return Toolchain(clang, linker, _version(clang), (MACHINES[machine],))


def cpu() -> str:
    """What `-march=native` depends on: a cache folder may be shared by unlike machines."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return platform.processor()
    return "\n".join(sorted(set(re.findall(r"^(?:flags|Features|model name|CPU part)\s*:.*", text, re.MULTILINE))))


Commands = tuple[tuple[str, ...], tuple[str, ...]]


def _from_variable() -> Commands | None:
    """$REFSAM_CLANG, with the linker beside it or on PATH."""
    named = os.environ.get(CLANG_VARIABLE)
    if not named:
        return None
    clang = shutil.which(named)
    if clang is None:
        raise BackendUnavailable(f"{CLANG_VARIABLE} is {named}, which is not a program")
    version = _version((clang,))
    if 0 < _major(version) < OLDEST:
        raise BackendUnavailable(f"{CLANG_VARIABLE} is {named}, which is {version}; it has to be version {OLDEST} or newer")
    return (clang,), (_linker(clang),)


def _from_ziglang() -> Commands | None:
    """The wheel carries clang and lld as subcommands of one program."""
    try:
        import ziglang
    except ModuleNotFoundError:
        return None
    zig = str(Path(str(ziglang.__file__)).with_name("zig"))
    return (zig, "clang"), (zig, "ld.lld")


def _from_path() -> Commands:
    for name in ("clang", *(f"clang-{n}" for n in range(NEWEST, OLDEST - 1, -1))):
        clang = shutil.which(name)
        if clang and _major(_version((clang,))) >= OLDEST:
            return (clang,), (_linker(clang),)
    raise BackendUnavailable(f"the emulator needs a compiler: {REMEDY}")


def _linker(clang: str) -> str:
    """ld.lld of the same version if there is one."""
    suffix = re.sub(r".*clang", "", Path(clang).name)
    beside = Path(clang).resolve().with_name("ld.lld")
    found = str(beside) if beside.exists() else shutil.which(f"ld.lld{suffix}") or shutil.which("ld.lld")
    if found is None:
        raise BackendUnavailable(f"{clang} is there, but no ld.lld: {REMEDY}")
    return found


def _version(clang: tuple[str, ...]) -> str:
    try:
        return _run(*clang, "--version", output=True).splitlines()[0]
    except (OSError, CompileError, IndexError) as reason:
        raise BackendUnavailable(f"{' '.join(clang)} does not run ({reason}): {REMEDY}") from reason


def _major(version: str) -> int:
    found = re.search(r"version (\d+)", version)
    return int(found[1]) if found else 0


def _run(*command: str | Path, output: bool = False) -> str:
    """Its stderr (with `output` its stdout); raises CompileError with what it said."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise CompileError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout if output else done.stderr
