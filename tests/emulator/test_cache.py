"""The cache of compiled kernels, and the compiler that fills it."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from emulator.sources import SQUARE

from refsam import emulator as mc
from refsam.emulator import build, cache, checker, ir, library, toolchain
from refsam.emulator.options import Options
from refsam.errors import BackendUnavailable, InputError
from refsam.weights_store import cache_folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with nothing but the runtime, whose compilation is no matter of these tests."""
    folder = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("REFSAM_CACHE", str(folder))
        build.runtime_folder(toolchain.toolchain())
    return folder


@pytest.fixture(autouse=True)
def _new_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: Path) -> None:
    shutil.copytree(runtime, tmp_path / "cache")
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path / "cache"))


MADE = ("the runtime", "the library for the tree", "the library for code", "the kernel")
"""Entries that a first kernel makes."""


@pytest.fixture
def _no_memory_of_toolchains() -> object:
    toolchain.toolchain.cache_clear()
    yield
    toolchain.toolchain.cache_clear()


def entries() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "emulator").iterdir())


def test_what_is_compiled_is_found_again() -> None:
    first = build.compile_source(SQUARE, Options())
    begin = entries()
    changed = first.path.stat().st_mtime_ns
    again = build.compile_source(SQUARE, Options())
    assert again == first
    assert again.path.stat().st_mtime_ns == changed
    assert entries() == begin


def test_source_and_kind_of_build_have_entries_of_their_own() -> None:
    variants = [Options(), Options(fast_math=False), Options(noise=1), Options(checked=True)]
    paths = {build.compile_source(source, options).path for source in (SQUARE, SQUARE + "//") for options in variants}
    assert len(paths) == 8
    assert build.compile_source(SQUARE, Options(noise=2, seed=4, group_size=64, threads=1)).path in paths


def test_a_failed_build_leaves_nothing() -> None:
    build.compile_source(SQUARE, Options())
    before = entries()
    for broken in (SQUARE.replace("x[i] *", "z[i] *"), SQUARE.replace("x[i] *", "goto *")):
        with pytest.raises(mc.error):
            build.compile_source(broken, Options())
    assert entries() == before


def test_threads_build_the_same_kernel_at_once() -> None:
    def compile_and_run(number: int) -> float:
        device = mc.Device(threads=1)
        y = device.buffer(4)
        device.kernel(SQUARE).function("square")(1, np.float32([number]), y, np.uint32(1))
        return float(np.frombuffer(y, np.float32)[0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(compile_and_run, range(4))) == [0.0, 1.0, 4.0, 9.0]
    assert not [name for name in entries() if name.startswith(".")]
    assert len(entries()) == len(MADE)


def test_processes_build_the_same_kernel_at_once() -> None:
    program = f"from refsam import emulator as mc; mc.Device(threads=1).kernel({SQUARE!r}); print('fine')"
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == ["fine\n"] * 3
    assert len(entries()) == len(MADE)


def test_a_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFSAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write the cache folder .*; set REFSAM_CACHE"):
        cache.entry("0", lambda folder: None)


def test_a_folder_from_which_nothing_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("neither a library nor a program")
    for path in (tmp_path / "kernels", tmp_path / "gone" / "kernels"):
        with pytest.raises(InputError, match=rf"cannot load kernels from the cache folder {path.parent}: .*; set REFSAM_CACHE"):
            library._load(path, library.Launch())
        with pytest.raises(InputError, match=rf"cannot run kernels from the cache folder {path.parent}: .*; set REFSAM_CACHE"):
            checker._execute(path, 0)


@pytest.mark.usefixtures("_no_memory_of_toolchains")
def test_other_platforms_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.sys, "platform", "win32")
    with pytest.raises(BackendUnavailable, match="the emulator runs on Linux on x86-64"):
        mc.Device().kernel(SQUARE)


@pytest.mark.usefixtures("_no_memory_of_toolchains")
def test_a_missing_compiler_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match=r'pip install "refsam\[emulator\]"'):
        mc.Device().kernel(SQUARE)


@pytest.mark.usefixtures("_no_memory_of_toolchains")
def test_a_named_compiler_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = toolchain.toolchain()
    for name, command in (("clang", tools.clang), ("ld.lld", tools.linker)):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho {name} >> {tmp_path}/log\nexec {" ".join(command)} "$@"\n')
        script.chmod(0o755)
    toolchain.toolchain.cache_clear()
    monkeypatch.setenv("REFSAM_CLANG", str(tmp_path / "clang"))
    mc.Device(threads=1).kernel(SQUARE)
    assert {"clang", "ld.lld"} == set((tmp_path / "log").read_text().split())
    toolchain.toolchain.cache_clear()
    monkeypatch.setenv("REFSAM_CLANG", str(tmp_path / "nothing"))
    with pytest.raises(BackendUnavailable, match="which is not a program"):
        mc.Device().kernel(SQUARE)


@pytest.mark.usefixtures("_no_memory_of_toolchains")
def test_a_compiler_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, version in (("clang", "Debian clang version 16.0.6"), ("ld.lld", "LLD")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("REFSAM_CLANG", str(tmp_path / "clang"))
    with pytest.raises(BackendUnavailable, match=rf"which is Debian clang version 16.0.6; .* {toolchain.OLDEST} or newer"):
        mc.Device().kernel(SQUARE)


def test_kernels_and_runtime_are_compiled_for_aarch64_too(tmp_path: Path) -> None:
    """Built, not run: there is no such machine here."""
    tools = toolchain.toolchain()
    target = ("--target=aarch64-linux-musl",)
    runtime = build.HERE / "runtime"
    for name in ("library", "checker"):
        tools.compile(*build.FREESTANDING, *target, "-c", runtime / f"{name}.cpp", "-o", tmp_path / f"{name}.o")
    tools.compile(*build.MATH, *target, "-c", runtime / "math.cpp", "-o", tmp_path / "math.bc")
    options = Options(checked=True)
    native = build.runtime_folder(tools)
    program = tmp_path / build.SOURCE
    signatures = build.parse.signatures(SQUARE)
    program.write_text(build.translation_unit(SQUARE, signatures))
    assembly = tmp_path / "front.ll"
    tools.compile(
        *build.LANGUAGE, *target, "-I", native / "include", *build.variant(options), "-O2", "-Xclang", "-disable-llvm-passes",
        "-Xclang", "-mlink-builtin-bitcode", "-Xclang", tmp_path / "math.bc", "-emit-llvm", "-S", "-o", assembly, program,
    )  # fmt: skip
    text = build.instrument(ir.Module(assembly.read_text()), build.SOURCE).text
    assembly.write_text(ir.executable(text, red_zones=True))
    arguments = ("-x", "ir", "-O1", "-fPIC", "-Wno-everything", "-c", assembly)
    tools.compile(*target, *arguments, "-o", tmp_path / "kernels.o")
    tools.link("-static", "-o", tmp_path / "kernels", tmp_path / "kernels.o", tmp_path / "checker.o")
    assert (tmp_path / "kernels").read_bytes()[18] == 0xB7  # ELF's number for aarch64
