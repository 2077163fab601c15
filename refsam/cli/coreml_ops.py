"""What `refsam coreml ops` prints."""

from dataclasses import asdict
from typing import Any

from refsam.cli.common import one_line
from refsam.coreml.verdicts import OpVerdict, PackageVerdict, RunVerdict

SHOWN = 12


def run_document(verdict: RunVerdict) -> dict[str, Any]:
    """For `--json`."""
    ops = [{**asdict(op), "holds": op.holds} for op in verdict.ops]
    return {"ok": bool(verdict), "precision": verdict.precision, "faults": [op.name for op in verdict.faults], "operations": ops}


def package_document(verdict: PackageVerdict) -> dict[str, Any]:
    """For `--json`."""
    return {"ok": bool(verdict), **asdict(verdict)}


def print_run(verdict: RunVerdict) -> None:
    """The faults, or where there are none the operations that come nearest to one."""
    faults = verdict.faults
    shown = faults[:SHOWN] or sorted(verdict.ops, key=lambda op: -op.excess)[:SHOWN]
    print(
        f"{'operation':<16} {'local':>8} {'rounding':>8} {'accumul.':>8} {'excess':>7} {'headroom':>8} {'subnormal':>9}  result"
    )
    for op in shown:
        print(_row(op))
    overflow = [op.name for op in verdict.ops if op.headroom < 1]
    if overflow:
        print(f"{len(overflow)} results overflow float16, the first is {one_line(overflow[0])}")
    if faults:
        print(f"FAULT at {faults[0].op} {one_line(faults[0].name)}: rounding to {verdict.precision} does not explain its result")
    else:
        print(
            f"ok: rounding ({verdict.precision}) explains all {len(verdict.ops)} results; what has an excess below 1 stays hidden"
        )


def _row(op: OpVerdict) -> str:
    numbers = f"{op.local:8.1e} {op.rounding:8.1e} {op.accumulated:8.1e} {op.excess:7.2g} {op.headroom:8.3g} {op.subnormal:9.1%}"
    note = f"  ({op.reason})" if op.reason else f"  ({op.beyond} of {op.elements} elements)" if op.beyond else ""
    return f"{one_line(op.op):<16} {numbers}  {one_line(op.name)}{note}"


def print_package(verdict: PackageVerdict) -> None:
    """Faults, the converter's epsilon, and how much was seen."""
    for fault in verdict.faults[:SHOWN]:
        print(f"FAULT at {one_line(fault.op)} {one_line(fault.name)}: {one_line(fault.stage)} is off by {fault.error:.2e}")
        print(f"  between the last values that are right and the first wrong one: {', '.join(map(one_line, fault.segment))}")
    for name, error in verdict.epsilon:
        print(f"known converter fault at batch_norm {one_line(name)}: a needless epsilon makes it {error:.2e} too small")
    for name, factor in verdict.overflow[:SHOWN]:
        print(f"overflows float16 on these inputs: {one_line(name)}, {factor:.3g} times its greatest number")
    if verdict.faults and verdict.compressed:
        print(
            f"{verdict.compressed} weights are compressed, which is off by more than the budget; hold the package against"
            " its own: refsam weights convert"
        )
    worst = max((found.error for found in verdict.found), default=0.0)
    print(f"{verdict.part}: {len(verdict.found)} results are refsam's, the worst off by {worst:.1e} (relative L2)")
    print(f"in operations with weights, faults of less than {verdict.budget:.0e} are hidden by their precision")
