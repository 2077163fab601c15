"""`refsam kernels`: the Metal kernels held against their definitions, timed and listed; any .metal file checked and run."""

import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter

import refsam
from refsam.cli.common import DIFFERENCE, OK, JsonFlag, one_line, print_json, progress, write_json
from refsam.cli.kernels_device import DeviceOptions
from refsam.cli.kernels_forward import forward
from refsam.cli.kernels_run import run
from refsam.cli.results import check_places
from refsam.errors import BackendUnavailable, InputError, KernelError
from refsam.metal import sources
from refsam.metal.case import KernelCase
from refsam.metal.cases import CASES, WITHOUT_CASE
from refsam.metal.device import describe
from refsam.metal.runner import Runner
from refsam.metal.signature import arguments

app = App(name="kernels", help="Metal kernels, on a Mac's GPU or emulated: test, time, list; check and run any file.")
app.command(run)
app.command(forward)

Pattern = Annotated[str, Parameter(help="Glob pattern of cases: `matmul/*`, `*/windows`.")]
Large = Annotated[bool, Parameter(negative=(), help="The cases of MobileSAM's real size as well.")]
Out = Annotated[Path | None, Parameter(help="Write the JSON document to this file too.")]
Rounds = Annotated[int, Parameter(help="Each case runs so often; the median counts.")]


@app.command(name="list")
def list_kernels(*, as_json: JsonFlag = False) -> int:
    """List the kernels: file, buffers, what they compute."""
    rows = list(_listed())
    if as_json:
        print_json({"kernels": rows})
        return OK
    width = max(len(row["kernel"]) for row in rows)
    for row in rows:
        print(f"{row['kernel']:<{width}}  {row['file']:<26} {row['what']}")
    return OK


def _listed() -> Iterator[dict[str, Any]]:
    for name, path in sources.kernel_files(sources.folder()).items():
        text = sources.read(path)
        cases = [case.name for case in CASES if case.kernel == name]
        yield {
            "kernel": name,
            "file": path.name,
            "what": text.splitlines()[0].lstrip("/ "),
            "buffers": [f"{a.name} {a.type}{' (written)' if a.writable else ''}" for a in arguments(text, name)],
            "cases": cases or [WITHOUT_CASE[name]],
        }


@app.command(name="test")
def compare(
    pattern: Pattern = "*",
    /,
    *,
    large: Large = False,
    out: Out = None,
    device: DeviceOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Run every kernel on its cases and compare with the definition in float64.

    required/allowed: the greatest error as a part of the bound that the kernel's header derives; more than 1 is wrong.
    """
    check_places([out] if out else [], [])
    cases = _chosen(pattern, [case for case in CASES if large or not case.large])
    runner = Runner((device or DeviceOptions()).open())
    rows = list(_watched(cases, lambda case: _judged(runner, case)))
    return _report(rows, runner, out, as_json)


@app.command
def bench(
    pattern: Pattern = "*",
    /,
    *,
    rounds: Rounds = 5,
    out: Out = None,
    device: DeviceOptions | None = None,
    as_json: JsonFlag = False,
) -> int:
    """Time the kernels at MobileSAM's real sizes, copies to and from the device included, and NumPy's definition beside them."""
    if rounds < 1:
        raise InputError(f"--rounds is {rounds}; it has to be at least 1")
    check_places([out] if out else [], [])
    cases = _chosen(pattern, [case for case in CASES if case.large])
    runner = Runner((device or DeviceOptions()).open())
    rows = list(_watched(cases, lambda case: _timed(runner, case, rounds)))
    return _report(rows, runner, out, as_json)


@app.command
def check(file: Path, /, *, device: DeviceOptions | None = None, as_json: JsonFlag = False) -> int:
    """Compile FILE.metal and hold it against the rules of Metal 2.3; messages carry its line numbers.

    A mistake that only shows at run time is found by: refsam kernels run FILE KERNEL ... --checked
    """
    source = sources.read(file)
    opened = (device or DeviceOptions()).open()
    problem, warnings = "", ""
    try:
        warnings = str(getattr(opened.kernel(source), "warnings", "")).replace("program_source", str(file))
    except (BackendUnavailable, InputError):
        raise
    except Exception as error:  # metalcompute.error and its twin have no common base
        problem = str(error).replace("program_source", str(file))
    names = _names(source)
    if as_json:
        print_json(
            {
                "file": file,
                "ok": not problem,
                "device": describe(opened),
                "kernels": names,
                "error": problem,
                "warnings": warnings,
            }
        )
        return DIFFERENCE if problem else OK
    for line in filter(None, (problem + "\n" + warnings).splitlines()):
        print(one_line(line))
    print(f"{file}: refused" if problem else f"{file}: ok, kernels: {', '.join(names) or 'none'}")
    return DIFFERENCE if problem else OK


def _names(source: str) -> list[str]:
    """The kernels of a source that may be refused for how it makes them."""
    try:
        return sources.kernel_names(source)
    except InputError:
        return []


def _chosen(pattern: str, cases: Sequence[KernelCase]) -> list[KernelCase]:
    found = [case for case in cases if fnmatchcase(case.name, pattern)]
    if not found:
        raise InputError(f"no case has a name like {pattern!r}; refsam kernels list --json names them (large ones: --large)")
    return found


def _watched(cases: Sequence[KernelCase], work: Any) -> Iterator[dict[str, Any]]:
    with progress("kernels", unit="cases") as advance:
        for done, case in enumerate(cases):
            advance(done, len(cases))
            yield work(case)


def _judged(runner: Runner, case: KernelCase, rounds: int = 0) -> dict[str, Any]:
    """A row of the table; times only for large cases, and not of the first run, in which the kernel is compiled."""
    values = case.arguments()
    row = {"case": case.name, "shapes": [list(shape) for shape in case.shapes if shape is not None]}
    try:
        verdict = case.judge(case.run(runner, *values))
        times = [_seconds(case.run, runner, *values) for _ in range(max(rounds, case.large))]
    except KernelError as error:
        return {**row, "ok": False, "error": str(error)}
    seconds = median(times) if times else None
    gflops = case.flops / seconds / 1e9 if seconds and case.flops else None
    rates = {"seconds": seconds, "gflops": gflops}
    return {**row, "ok": bool(verdict), "nmse": verdict.nmse, "required_over_allowed": verdict.required, **rates}


def _timed(runner: Runner, case: KernelCase, rounds: int) -> dict[str, Any]:
    values = case.arguments()
    with_numpy = median(_seconds(case.definition, *values) for _ in range(rounds))
    return {**_judged(runner, case, rounds), "numpy_seconds": with_numpy}


def _seconds(function: Any, *values: Any) -> float:
    begin = time.perf_counter()
    function(*values)
    return time.perf_counter() - begin


def _report(rows: list[dict[str, Any]], runner: Runner, out: Path | None, as_json: bool) -> int:
    good = all(row["ok"] for row in rows)
    document = {
        "refsam": refsam.__version__,
        "device": describe(runner.device),
        "numpy": np.__version__,
        "ok": good,
        "rows": rows,
    }
    write_json(document, out)
    if as_json:
        print_json(document)
    else:
        _print(rows, str(document["device"]))
    return OK if good else DIFFERENCE


def _print(rows: list[dict[str, Any]], device: str) -> None:
    """A Markdown table, to be pasted into an issue."""
    with_numpy = any("numpy_seconds" in row for row in rows)
    print(f"{device}; refsam {refsam.__version__}\n")
    columns = [
        "kernel",
        "shapes",
        "NMSE",
        "required/allowed",
        "ms",
        "GFLOP/s",
        *(["NumPy ms", "of NumPy's rate"] if with_numpy else []),
    ]
    print(f"| {' | '.join(columns)} |\n|---|---|{'--:|' * (len(columns) - 2)}")
    for row in rows:
        shapes = ", ".join("x".join(map(str, shape)) for shape in row["shapes"])
        if "error" in row:
            print(f"| {row['case']} | {shapes} | FAILED: {one_line(row['error'])} |")
            continue
        cells = [
            row["case"], shapes, f"{row['nmse']:.1e}", f"{row['required_over_allowed']:.3f}{'' if row['ok'] else ' WRONG'}",
            f"{1000 * row['seconds']:.1f}" if row["seconds"] else "", f"{row['gflops']:.1f}" if row["gflops"] else "",
        ]  # fmt: skip
        if with_numpy:
            rate = row["numpy_seconds"] / row["seconds"]
            cells += [f"{1000 * row['numpy_seconds']:.1f}", f"{100 * rate:.1f} %"]
        print(f"| {' | '.join(cells)} |")
    wrong = sum(not row["ok"] for row in rows)
    print(f"\n{len(rows)} cases, {wrong} wrong")
