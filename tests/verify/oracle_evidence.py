"""The table of docs/evidence about faults that were planted, and what the oracle says of them."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from standin import TINY
from verify import libraries, mutant_calls, mutants, package_port
from verify.mistaken import case_for, reference, run, tiny
from verify.trials import Trial, score, trial

from refsam.verify.hypotheses import own
from refsam.verify.pipeline import Pipeline

DEVELOPED, FRESH = 3, 71_126
"""Seeds: one that the oracle was looked at with while it was built, and one that it was not."""

UNNAMED = (
    "No name, or another one first: an order is not found where noise of float16 hides it, and numbers that saturate are stored"
    " like any others where none is that great"
)
"""Why."""

HEAD = ["| fault | enters at | required k | named stage | first hypothesis | explains |", "|---|---|--:|---|---|--:|"]


def known_trials(every: int = 1) -> Iterable[Trial]:
    """Each known hypothesis, or every so manieth, planted in the tiny model."""
    for mistake in own()[::every]:
        case = case_for(mistake)
        with np.errstate(all="ignore"):
            port = run(mistake.apply(Pipeline()), reference(case).case, tiny())
        yield trial(
            mistake.name, reference(case), clean(case, "float32"), port, "float32", [h.name for h in mistake.parts or [mistake]]
        )


@cache
def clean(case: str, precision: str) -> dict[str, np.ndarray]:
    return dict(run(Pipeline(), reference(case).case, tiny(), precision))


@cache
def calls(case: str) -> list[str]:
    return mutant_calls.calls_of(lambda pipeline: run(pipeline, reference(case).case, tiny()))


def drawn_trials(seed: int, count: int) -> Iterable[Trial]:
    """Mechanical mutants of a seed."""
    for mutant in mutants.draw(seed, count, TINY, calls):
        with np.errstate(all="ignore"):
            port = run(mutant.pipeline(), reference(mutant.case).case, tiny(), mutant.precision)
        words = f"{mutant.words} ({mutant.precision})"
        unchanged = clean(mutant.case, mutant.precision)
        yield trial(words, reference(mutant.case), unchanged, port, mutant.precision, mutant.names)


def package_trials(seed: int, count: int) -> Iterable[Trial]:
    """Faults in the bytes of Core ML packages, drawn with a seed."""
    with tempfile.TemporaryDirectory() as folder:
        sources = {stored: package_port.programs(Path(folder), stored) for stored in package_port.PRECISIONS}
        unchanged = cache(lambda case, stored: package_port.run(sources[stored], package_port.reference(case).case))
        for number, (case, stored, fault) in enumerate(package_port.draw(seed, count, sources)):
            port = package_port.faulty(sources[stored], fault, Path(folder) / str(number))
            found = package_port.run(port, package_port.reference(case).case)
            precision = package_port.PRECISIONS[stored]
            words = f"{fault.part} {fault.name} ({stored})"
            yield trial(words, package_port.reference(case), unchanged(case, stored), found, precision, ())


# --- tables -----------------------------------------------------------------------------------------------------------------


def oracle_faults() -> Iterable[str]:
    """All faults, one table for each way they were found."""
    yield from FAULTS.split("\n")
    kinds: dict[str, Callable[[], Iterable[Trial]]] = {
        "Known mistakes, every second hypothesis": partial(known_trials, 2),
        f"Drawn mechanically, seed {FRESH}": partial(drawn_trials, FRESH, 80),
        f"Core ML packages that show three results only, seed {FRESH}": partial(package_trials, FRESH, 8),
    }
    tables = {title: list(make()) for title, make in kinds.items()}
    yield "| faults | planted | beyond the budget | right stage | hypothesis exists | named first | named without |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for title, trials in tables.items():
        s = score(trials)
        located, named = share(s.located, s.exceed), share(s.named, s.nameable)
        yield f"| {title} | {s.all} | {s.exceed} | {located} | {s.nameable} | {named} | {s.unasked} |"
    for title, trials in tables.items():
        yield from ["", f"## {title}", ""]
        yield from _misses(trials)
        yield from HEAD
        yield from map(_row, trials)
    yield from ["", "## A picture as libraries resize it", ""]
    yield from libraries.table()


def share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.0f} %)" if whole else "none"


def _row(t: Trial) -> str:
    place = "holds" if t.located is None else f"`{t.located}`" + ("" if t.right_place else " **NO**")
    verdict = "" if not t.exceeds or not t.wanted else "" if t.named else " **NO**"
    first = (t.names[0] if t.names else "none" if t.exceeds else "") + verdict
    explains = f"{100 * t.explained:.1f} %" if t.names else ""
    return f"| {t.fault} | `{t.enters}` | {t.required:.3g} | {place} | {first} | {explains} |"


def _misses(trials: Sequence[Trial]) -> Iterable[str]:
    held = [t for t in trials if not t.exceeds]
    for reason, missed in {
        "No stage changes by a bit (the tensor or the result is not used by this prompt)": [t for t in held if not t.enters],
        "Within 4 budgets of rounding, so no oracle can tell": [t for t in held if t.enters],
        "Located at another stage": [t for t in trials if t.exceeds and not t.right_place],
        UNNAMED: [t for t in trials if t.exceeds and t.wanted and not t.named],
    }.items():
        if missed:
            yield f"- {reason}: {len(missed)}: {'; '.join(t.fault for t in missed)}."
    yield ""


FAULTS = """# Faults planted, and what the oracle says of them

Each fault is planted in a port of the tests' tiny model (stand-in weights that depend on their input), which then answers a
prompt on a picture that shrinks; its stages go to `refsam.verify.judge`. *Enters at*: the first stage that differs by a bit from
the same port without the fault. *Required k*: how many rounding budgets the port would need; 4 hold. *Named stage*: where the
oracle says that the difference enters. *Named without*: a name was given although no hypothesis says what was changed; often it
is another way to say it.

The mechanical faults come from `tests/verify/mutants.py`: tensors (half of them), operations, axes, constants and indices by
stated odds, 30 % of them in float16 ports; nobody chose them. For them a hypothesis counts as existing where the change is one
that `refsam/verify/hypotheses` says in words and that the stage's own numbers determine (a row of a matrix that lies deep within
a stage is not). Made by `make evidence`.
"""
