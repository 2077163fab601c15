"""Random faults, a few of them: what `make evidence` tries by the hundred."""

import pytest
from kernels.evidence import FAULTS, SEED
from kernels.mechanical import EQUIVALENT, broken, mutants, outcome, same_number, sites
from kernels.mutants import caught_by

from refsam.metal import sources


def test_a_token_becomes_another_of_its_kind() -> None:
    text = "#include <metal_stdlib>\nuint n = 3, m = 4; // 5 + 6\nx[[buffer(7)]]; y = n < 8.5f;\n"
    text += "threadgroup_barrier(mem_flags::mem_none);\n"
    found = {site.old: site.choices for site in sites(text)}
    assert found == {
        "n": ("m",), "3": ("4", "2"), "4": ("5", "3"), "<": ("<=", ">"), "8.5f": ("8.585f", "-8.5f", "9.5f"),
        "threadgroup_barrier(mem_flags::mem_none);": ("",),
    }  # fmt: skip
    assert same_number("-0.0f", "0.0f")
    assert not same_number("n", "0.0f")


def test_a_seed_gives_the_same_faults_everywhere() -> None:
    first, again = mutants(7, 20), mutants(7, 20)
    assert first == again
    assert len({mutant.name for mutant in first}) == 20
    assert broken(3) == broken(3) != broken(4)


def test_faults_that_are_said_to_change_nothing_are_of_these_files() -> None:
    """Their names have the line in them: who changes it, looks again."""
    assert EQUIVALENT.keys() <= {mutant.name for mutant in mutants(SEED, FAULTS)}


def test_every_random_fault_can_be_planted(tmp_path) -> None:
    for place, mutant in enumerate(mutants(2, 40)):
        planted = mutant.plant(tmp_path / str(place))
        changed = [path for path in sorted(planted.iterdir()) if path.read_text() != (sources.folder() / path.name).read_text()]
        assert [path.stem for path in changed] == [mutant.file]


@pytest.mark.parametrize("seed", [11, 12, 13, 14])
def test_a_random_fault_is_noticed(seed: int, tmp_path) -> None:
    [mutant] = mutants(seed, 1)
    assert caught_by(mutant, tmp_path / "kernels") is not None or mutant.name in EQUIVALENT, mutant.name


@pytest.mark.parametrize(("seed", "what"), [(1001, "refused"), (1012, "wrong"), (1014, "fault"), (1015, "fault")])
def test_broken_kernels_leave_python_alive(seed: int, what: str, tmp_path) -> None:
    """They run in this very process, as far as Python is concerned. Who changes a kernel may have to find other seeds."""
    assert outcome(seed, tmp_path / "kernels") == what
