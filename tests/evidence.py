"""Writes the tables of docs/evidence/ from the same cases and checks as the tests.  Run: make evidence."""

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import conftest  # noqa: E402, F401 - the import hook that checks shapes
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from coreml import evidence as coreml_evidence  # noqa: E402
from emulator import evidence as emulator_evidence  # noqa: E402
from golden.cases import CASES  # noqa: E402
from golden.test_golden import float32_error, golden, sample_difference  # noqa: E402
from tables import write_pages  # noqa: E402
from test_quirks import MUTANTS, Mutant, first_difference  # noqa: E402
from threadpoolctl import threadpool_info  # noqa: E402
from verify import clean_evidence, oracle_evidence, verdict_cost  # noqa: E402

from kernels import evidence as kernel_evidence  # noqa: E402


def main(folder: Path) -> None:
    """Write all tables into `folder`. Ends with an error where one has a miss, after all are written."""
    pages = {
        "quirks.md": quirks,
        "parity.md": parity,
        "emulator.md": emulator_evidence.emulator_tables,
        "kernels.md": kernel_evidence.kernel_modes,
        "kernel-faults.md": kernel_evidence.kernel_faults,
        "kernel-random-faults.md": kernel_evidence.kernel_random_faults,
        "kernel-fuzzing.md": kernel_evidence.kernel_fuzzing,
        "oracle-faults.md": oracle_evidence.oracle_faults,
        "oracle-clean.md": clean_evidence.oracle_clean,
        "oracle-cost.md": verdict_cost.cost,
    }
    for name in ("package_faults", "executor_faults", "drawn_faults", "fuzzing"):
        pages[f"coreml-{name.replace('_', '-')}.md"] = getattr(coreml_evidence, f"coreml_{name}")
    write_pages(folder, pages)


def quirks() -> Iterable[str]:
    """One line for each planted mistake: where the goldens notice it."""
    yield "# Mistakes planted, and where they are noticed"
    yield ""
    yield "Each line is upstream's quirk of that number (see [quirks](../quirks.md)) broken the way ports break it, on stand-in"
    yield "weights in float64. *First stage* is where the first golden of upstream's torch code differs by more than 1e-12."
    yield ""
    yield "| quirk | mistake | first stage that differs | as planned |"
    yield "|--:|---|---|---|"
    for mutant in MUTANTS:
        found = noticed(mutant)
        yield f"| {mutant.quirk} | {mutant.mistake} | `{found}` | {'yes' if found == mutant.differs_at else 'NO'} |"


def noticed(mutant: Mutant) -> str | None:
    """Where the goldens notice this mistake."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutant.patch(monkeypatch)
        return first_difference(mutant.case, mutant.prompt)


def parity() -> Iterable[str]:
    """For each golden: how far refsam's float64 is from upstream's, and from that the float32 of all three."""
    yield "# Parity with upstream's torch code"
    yield ""
    yield "Stand-in weights and the demo model's, every stage of every prompt. *float64*: the greatest difference of a sample or"
    yield "norm from upstream's, as a part of the stage's own scale. The others: relative L2 error of float32 against float64, of"
    yield "torch, of refsam's definition (backend reference) and of the backend fast, and as parts of torch's. One prompt's"
    yield "is a draw of luck; the last line of a case is the root mean square over its prompts, which the tests hold at 2."
    yield f"Upstream: {golden('tiny-odd').metadata['made_with']}."
    yield f"refsam: NumPy {np.__version__}, {blas()}."
    yield ""
    yield "| case | stages | float64 | output | torch | reference | fast | reference / torch | fast / torch |"
    yield "|---|--:|--:|---|--:|--:|--:|--:|--:|"
    for name in CASES:
        stages = golden(name).stages
        worst = max(sample_difference(name, stage) for stage in stages)
        errors = {stage: float32_errors(name, stage) for stage in stages if stage.endswith(("image_encoder", "low_res_masks"))}
        prompts = [errors[stage] for stage in errors if stage != "image_encoder"]
        errors["all prompts"] = np.sqrt(np.mean(np.square(prompts), axis=0))
        for stage, (theirs, ours, fast) in errors.items():
            figures = f"{theirs:.2e} | {ours:.2e} | {fast:.2e} | {ours / theirs:.2f} | {fast / theirs:.2f}"
            yield f"| {name} | {len(stages)} | {worst:.1e} | {stage} | {figures} |"


def float32_errors(name: str, stage: str) -> np.ndarray:
    """Torch's, the definition's and the fast backend's."""
    ours = [float32_error(name, stage, backend) for backend in ("reference", "fast")]
    return np.array([golden(name).stages[stage]["float32_error"], *ours])


def blas() -> str:
    """The BLAS that NumPy computes with here."""
    found = [x for x in threadpool_info() if x["user_api"] == "blas"]
    return ", ".join(f"{x['internal_api']} {x['version']} ({x.get('architecture', 'unknown')})" for x in found) or "its own BLAS"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
