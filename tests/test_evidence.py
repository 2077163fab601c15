"""The tables of docs/evidence: none admits a miss, and `make evidence` ends with an error where one does."""

import re
from pathlib import Path

import pytest
from kernels.mutants import MUTANTS
from tables import FURTHER, misses, write_pages

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in (DOCS / "evidence").glob("*.md") if not path.name.startswith("benchmarks"))

pytestmark = pytest.mark.core


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_admits_a_miss(page: Path) -> None:
    assert misses(page.name, page.read_text()) == []


MISSES = {
    "quirks.md": ("| `mask` | yes |", "| `masks` | NO |"),
    "emulator.md": ("| copied | 7: error: reads NO byte |", "| copied | NOT CAUGHT |"),
    "kernels.md": ("| kernel | fast math |", "| relu | 1.01 |"),
    "kernel-faults.md": ("| matmul | nothing | runner | x |", "| matmul | barrier | NOTHING |  |"),
    "kernel-random-faults.md": ("| tile | a | rows lie further apart |", "| tile | line 7 | MISSED |"),
    "coreml-package-faults.md": ("| a | fp16 | below the budget | 1e-4 |", "| a | fp16 | NO: `gelu` | 1e-4 |"),
    "oracle-clean.md": ("| tiny | bf16 | 9 | 0 | 1.02 | a |", "| tiny | bf16 | 9 | 1 | 4.02 | a |"),
    "oracle-cost.md": ("| both | 11.4 | 13.0 | yes | as planted |", "| both | 15.4 | 13.0 | **NO** | as planted |"),
    "oracle-faults.md": ("| a | 80 | 20 | 19 (95 %) | 10 | 9 (90 %) | 19 |", "| a | 80 | 20 | 18 (90 %) | 10 | 9 (90 %) | 19 |"),
}


@pytest.mark.parametrize("name", MISSES)
def test_a_miss_is_an_error_after_all_pages_are_written(tmp_path: Path, name: str) -> None:
    good, bad = MISSES[name]
    write_pages(tmp_path, {name: lambda: [good]})
    with pytest.raises(SystemExit, match=re.escape(f"{name}: {bad}")):
        write_pages(tmp_path, {name: lambda: [good, bad], "last.md": lambda: [good]})
    assert (tmp_path / "last.md").read_text() == good + "\n"


@pytest.mark.parametrize("row", ["| a | 8 | 4 | 4 (100 %) | 0 | none | 4 |", "| a | 8 | 0 | none | 0 | none | 4 |"])
def test_nothing_that_could_be_named_is_no_miss(row: str) -> None:
    assert misses("oracle-faults.md", row) == []
    assert misses("oracle-faults.md", row.replace("| 0 | none | 4 |", "| 10 | 8 (80 %) | 4 |")) != []


def test_pages_with_numbers_are_those_that_exist() -> None:
    assert {*FURTHER} <= {page.name for page in PAGES}


def test_the_faults_planted_in_kernels_are_as_many_as_are_said() -> None:
    table = (DOCS / "evidence" / "kernel-faults.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert f"{len(MUTANTS)} faults planted" in (DOCS / "kernels.md").read_text()
    assert f"\n{len(MUTANTS)} faults: " in table
    assert [row.split(" | ")[:2] for row in rows] == [[f"| {mutant.file}", mutant.fault] for mutant in MUTANTS]
