"""The tables of docs/evidence/kernels.md and kernel-faults.md."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from kernels.mechanical import EQUIVALENT, mutants, outcome
from kernels.modes import MODES, runner
from kernels.mutants import MUTANTS, caught_by

from refsam.metal.cases import SMALL
from refsam.metal.runner import Runner


def kernel_modes() -> Iterable[str]:
    """The worst error of every kernel in every mode, as a part of its bound."""
    devices = {mode: runner(mode) for mode in MODES}
    kernels = sorted({case.kernel for case in SMALL})
    yield "# Every kernel in every mode of the emulator"
    yield ""
    yield f"{len(SMALL)} cases, {len(MODES)} modes. In each field the greatest error against the definition in float64 over all"
    yield "cases of the kernel, as a part of the bound that its header derives: 1 would be at the bound, more is wrong. An alarm"
    yield "of a checked run on a correct kernel would have ended this table."
    yield ""
    yield f"| kernel | {' | '.join(MODES)} |"
    yield f"|---|{'--:|' * len(MODES)}"
    for kernel in kernels:
        yield f"| {kernel} | {' | '.join(f'{worst(kernel, devices[mode]):.2g}' for mode in MODES)} |"


def worst(kernel: str, device: Runner) -> float:
    """The greatest required part of the bound over the kernel's cases."""
    return max(case.judge(case.run(device, *case.arguments())).required for case in SMALL if case.kernel == kernel)


def kernel_faults() -> Iterable[str]:
    """One line for each planted fault: what noticed it."""
    with tempfile.TemporaryDirectory() as folder:
        caught = [(mutant, caught_by(mutant, Path(folder) / str(place))) for place, mutant in enumerate(MUTANTS)]
    counts = Counter(catch.by if catch else "NOTHING" for _, catch in caught)
    yield "# Faults planted in the kernels, and what notices them"
    yield ""
    yield "Each line is one piece of text replaced in a copy of kernels/ (tests/kernels/mutants.py), tried as a user would:"
    yield "compiled, run in checked mode on the kernel's small cases, compared with the definition, then so on other devices."
    yield f"{len(caught)} faults: {', '.join(f'{count} by {by}' for by, count in counts.most_common())}."
    yield ""
    yield "| file | fault | noticed by | in these words |"
    yield "|---|---|---|---|"
    for mutant, catch in caught:
        by, words = (catch.by, catch.words) if catch else ("NOTHING", "")
        yield f"| {mutant.file} | {mutant.fault} | {by} | {escaped(words)} |"


SEED, FAULTS, BROKEN = 20261126, 60, 200


def kernel_random_faults() -> Iterable[str]:
    """Faults that nobody thought of: how many are noticed, and which are not."""
    with tempfile.TemporaryDirectory() as folder:
        population = mutants(SEED, FAULTS)
        caught = {mutant: caught_by(mutant, Path(folder) / str(place)) for place, mutant in enumerate(population)}
    counts = Counter(catch.by for catch in caught.values() if catch)
    compiled = FAULTS - counts["compiler"]
    missed = [mutant for mutant, catch in caught.items() if catch is None]
    faults = compiled - sum(mutant.name in EQUIVALENT for mutant in missed)
    others = ", ".join(f"{n} by {by}" for by, n in counts.most_common() if by != "compiler")
    yield "# Random faults in the kernels"
    yield ""
    yield f"{FAULTS} faults, each one token of one file, drawn with seed {SEED} (tests/kernels/mechanical.py): operators,"
    yield "numbers, names of whole numbers, barriers. They are tried as those of [kernel-faults](kernel-faults.md), but nobody"
    yield f"chose them, and the cases were not made for them. The compiler refuses {counts['compiler']}. Of the other {compiled},"
    yield f"{compiled - len(missed)} are noticed ({others}); {compiled - faults} change no result that a kernel promises."
    yield f"**Rate on real faults: {compiled - len(missed)} of {faults}.**"
    yield ""
    if missed:
        yield "| not noticed | fault | why |"
        yield "|---|---|---|"
        for mutant in missed:
            yield f"| {mutant.file} | {escaped(mutant.fault)} | {EQUIVALENT.get(mutant.name, 'MISSED')} |"
        yield ""
    yield "| noticed | fault | by |"
    yield "|---|---|---|"
    for mutant, catch in caught.items():
        if catch and catch.by != "compiler":
            yield f"| {mutant.file} | {escaped(mutant.fault)} | {catch.by}: {escaped(catch.words)} |"


def kernel_fuzzing() -> Iterable[str]:
    """What becomes of kernels that are broken in several places at once."""
    with tempfile.TemporaryDirectory() as folder:
        ends = Counter(outcome(seed, Path(folder) / str(seed)) for seed in range(BROKEN))
    yield "# Broken kernels in checked mode"
    yield ""
    yield f"{BROKEN} kernel files with up to four random faults in operators, numbers, barriers (tests/kernels/mechanical.py),"
    yield "run in checked mode on their small cases from one Python process, which lived on. What came of each:"
    yield ""
    yield "| outcome | files |"
    yield "|---|--:|"
    words = {
        "refused": "refused by the compiler", "fault": "an error that names the fault", "wrong": "a wrong result",
        "right": "right results: the faults do not show",
    }  # fmt: skip
    for what, count in ends.most_common():
        yield f"| {words[what]} | {count} |"


def escaped(text: str) -> str:
    """For a field of a Markdown table."""
    return text.replace("|", "\\|")
