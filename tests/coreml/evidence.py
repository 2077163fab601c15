"""The tables of docs/evidence about Core ML."""

# ruff: noqa: E501 - rows of tables

import itertools
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from coreml import fuzz_structure
from coreml.drawn_faults import drawn
from coreml.faults import IN_EXECUTORS, IN_PACKAGES, Fault, faulty_dump, faulty_package, target
from coreml.fuzz import SOURCE, FilesOpened, attack, outcome
from coreml.packages import CONFIG, PARTS, case, extract
from standin import standin_weights

from refsam import coreml
from refsam.coreml.verdicts import judge_package, judge_run
from refsam.model.sam import MobileSam

FUZZED, MISBUILT = 10_000, 5_000
DRAWN = 25


def coreml_package_faults() -> Iterable[str]:
    """Faults in the bytes of packages."""
    yield "# Faults planted in Core ML packages"
    yield ""
    yield "Each is written into a copy of a package (model.mlmodel or weight.bin) of the tests' tiny model, which is then held against"
    yield "refsam. *Off*: relative L2 of the value that refsam has there. Below the budget (2e-3 for float16 weights, 2e-5 for float32)"
    yield "a fault in an operation with weights is hidden by their precision; its own error is given all the same."
    yield ""
    yield "| fault | weights | operation | named | off |"
    yield "|---|---|---|---|--:|"
    model = MobileSam(standin_weights(CONFIG), CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        packages = extract(Path(folder) / "packages")
        for stored in ("fp16", "fp32"):
            for number, fault in enumerate(IN_PACKAGES):
                source = packages / f"{fault.part}.iOS15.{stored}.mlpackage"
                program, places = faulty_package(source, Path(folder) / f"{stored}{number}", fault)
                verdict = judge_package(program, model, case(fault.part, 100))
                first = verdict.faults[0] if verdict.faults else None
                measured = max((found.error for found in verdict.found if found.name in places), default=float("nan"))
                named = "below the budget" if first is None else "yes" if first.name in places else f"NO: `{first.name}`"
                yield f"| {fault.name} | {stored} | `{fault.op} {places[0]}` | {named} | {first.error if first else measured:.1e} |"


def coreml_executor_faults() -> Iterable[str]:
    """Faults in executors."""
    yield "# Faults planted in an executor of Core ML packages"
    yield ""
    yield "An executor makes one mistake and dumps every result; each operation is done again in float64 on the inputs that it had."
    yield "*Local* and *rounding*: relative L2 of the faulty result and of mere rounding. *Excess*: the greatest error of an element in"
    yield "units of what rounding allows it; a fault from 1 on. *Final*: relative L2 of the program's first output against float64,"
    yield "which is what an end-to-end test sees; without the fault it is in the last column."
    yield ""
    yield "| fault | weights | sums | operation | named | local | rounding | excess | final | final, clean |"
    yield "|---|---|---|---|---|--:|--:|--:|--:|--:|"
    with tempfile.TemporaryDirectory() as folder:
        packages = extract(Path(folder))
        for stored, precision in (("fp16", None), ("fp32", None), ("fp16", "fp16-accumulate")):
            for fault in IN_EXECUTORS:
                program, given = coreml.load(packages / f"{fault.part}.iOS15.{stored}.mlpackage"), case(fault.part, 1)
                verdict = judge_run(program, given, faulty_dump(program, fault, given, precision), precision)
                clean = judge_run(
                    program, given, faulty_dump(program, fault._replace(change=lambda x: x), given, precision), precision
                )
                place, output = target(program, fault).name, program.model.block.outputs[0]
                ops = {op.name: op for op in verdict.ops}
                named = (
                    "yes" if verdict.faults and verdict.faults[0].name == place else "NO" if verdict.faults else "below rounding"
                )
                ends = " | ".join(f"{next(op.accumulated for op in v.ops if op.name == output):.1e}" for v in (verdict, clean))
                at = ops[place]
                yield (
                    f"| {fault.name} | {stored} | {'fp16' if precision else 'fp32'} | `{fault.op} {place}` | {named} | {at.local:.1e} |"
                    f" {at.rounding:.1e} | {at.excess:.2g} | {ends} |"
                )


def coreml_drawn_faults() -> Iterable[str]:
    """Faults that nothing was tuned on."""
    yield "# Faults drawn by lot"
    yield ""
    yield f"{DRAWN} seeds for packages and {DRAWN} for executors (tests/coreml/drawn_faults.py): part, operation, parameter and mistake are drawn, so"
    yield "the verdicts were not made for them. *Error* of a package: relative L2 of the value that refsam has at the first fault, or, where"
    yield "none is found, at the operation; of an executor: the excess over what rounding allows its element. Some mistakes change nothing (a"
    yield "bias that is 0, an epsilon of 1e-6 forgotten, padding that its pad_type does not read): these are below every budget."
    yield ""
    yield "| in | seed | part | fault | weights | operation | named | error |"
    yield "|---|--:|---|---|---|---|---|--:|"
    model = MobileSam(standin_weights(CONFIG), CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        packages = extract(Path(folder) / "packages")
        for stored, seed in itertools.product(("fp16", "fp32"), range(DRAWN)):
            for in_executor in (False, True):
                fault, place, named, error = drawn_outcome(packages, Path(folder), model, stored, seed, in_executor)
                kind = "executor" if in_executor else "package"
                yield f"| {kind} | {seed} | {fault.part} | {fault.name} | {stored} | `{place}` | {named} | {error:.1e} |"


def drawn_outcome(
    packages: Path, folder: Path, model: MobileSam, stored: str, seed: int, in_executor: bool
) -> tuple[Fault, str, str, float]:
    """The fault of this seed, its operation, whether it was named ("yes", "below the budget", or "NO" and what was), the error."""
    programs = {part: coreml.load(packages / f"{part}.iOS15.{stored}.mlpackage") for part in PARTS}
    fault = drawn(seed, programs, in_executor)
    if in_executor:
        program, given = programs[fault.part], case(fault.part, 1)
        place = target(program, fault).name
        run = judge_run(program, given, faulty_dump(program, fault, given, None))
        first, error = next(iter(run.faults), None), next(op.excess for op in run.ops if op.name == place)
        return fault, place, "below the budget" if first is None else "yes" if first.name == place else f"NO: {first.name}", error
    source = packages / f"{fault.part}.iOS15.{stored}.mlpackage"
    program, places = faulty_package(source, folder / f"{stored}{seed}", fault)
    verdict = judge_package(program, model, case(fault.part, 100))
    first = next(iter(verdict.faults), None)
    error = first.error if first else max((found.error for found in verdict.found if found.name in places), default=float("nan"))
    return (
        fault,
        places[0],
        "below the budget" if first is None else "yes" if first.name in places else f"NO: {first.name}",
        error,
    )


def coreml_fuzzing() -> Iterable[str]:
    """Damaged packages."""
    yield "# Damaged Core ML packages"
    yield ""
    yield f"*Bytes*: {FUZZED} seeded damages of one to four places in a package of the prompt encoder, each loaded and run."
    yield f"*Structure*: {MISBUILT} programs of one to three changes to the tree of messages (tests/coreml/fuzz_structure.py), divided among"
    yield f"{', '.join(fuzz_structure.SOURCES)}."
    yield ""
    counts: Counter[tuple[str, str]] = Counter()
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        packages = extract(Path(folder))
        for source in fuzz_structure.SOURCES:  # reads the tests' own data, and what Python and BLAS look at once
            outcome(packages / f"{source}.mlpackage")
        with FilesOpened() as opened:
            for kind, run in _attacks(packages):
                start = time.process_time()
                counts[run(), kind] += 1
                slowest = max(slowest, time.process_time() - start)
        outside = opened.outside(packages)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1 << (20 if sys.platform == "darwin" else 10))
    yield "| outcome | bytes | structure |"
    yield "|---|--:|--:|"
    for name in dict.fromkeys(name for (name, _), _ in counts.most_common()):
        yield f"| {name} | {counts[name, 'bytes']} | {counts[name, 'structure']} |"
    yield ""
    yield f"No other exception. The slowest case took {slowest:.1f} s of processor time; memory grew by {more:.0f} MiB at most; files opened"
    yield f"outside the package: {len(outside)}."


def _attacks(packages: Path) -> Iterable[tuple[str, Callable[[], str]]]:
    """(kind, what does one attack and says what happened)."""
    package = packages / SOURCE
    original = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    yield from (("bytes", partial(attack, package, original, seed)) for seed in range(FUZZED))
    for source in fuzz_structure.SOURCES:
        other = packages / f"{source}.mlpackage"
        tree = fuzz_structure.tree_of(other)
        yield from (
            ("structure", partial(fuzz_structure.attack, other, tree, seed))
            for seed in range(MISBUILT // len(fuzz_structure.SOURCES))
        )
