"""Faults planted in copies of our kernels are noticed. A few here, one of each kind; `make evidence` tries them all."""

import pytest
from kernels.mutants import MUTANTS, Catch, Mutant, caught_by, caught_unchecked

EXPECTED = {
    "matmul: barrier after the products removed": ("checked run", "data race: reads byte 0 of threadgroup variable `As`"),
    "layer_norm: barrier before the next rows removed": ("checked run", "data race"),
    "attention: early return before the barrier": ("checked run", "barrier not reached by all"),
    "matmul: <= for < in the store's rows": ("checked run", "out of bounds, byte 4 of buffer 3 `C`"),
    "matmul: one batch too few": ("runner", "left 42 of 490 words of buffer 3"),
    "erf: a digit of a coefficient": ("comparison", "times the bound"),
    "preprocess: float3 read where a packed one would lie": ("comparison", "times the bound"),
    "matmul: 33 KB of threadgroup memory": ("compiler", "33792 bytes of threadgroup memory; the limit is 32768"),
    "erf: recursion": ("compiler", "calls itself"),
    "gelu: pointer without address space": ("compiler", "needs an address space"),
}


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in EXPECTED], ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_noticed(mutant: Mutant, tmp_path) -> None:
    by, words = EXPECTED[mutant.name]
    catch = caught_by(mutant, tmp_path / "kernels")
    assert catch is not None
    assert catch.by == by
    assert words in catch.words


def test_faults_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 40
    assert set(EXPECTED) <= set(names)


def test_every_fault_can_be_planted(tmp_path) -> None:
    for place, mutant in enumerate(MUTANTS):
        assert mutant.cases(mutant.plant(tmp_path / str(place)))


def test_what_is_no_fault_is_not_called_one(tmp_path) -> None:
    same = Mutant("relu", "the same in other words", "max(x[i], 0.0f)", "max(0.0f, x[i])")
    assert caught_by(same, tmp_path / "kernels") is None


def test_a_wrong_number_is_told_as_a_comparison(tmp_path) -> None:
    wrong = Mutant("relu", "leaks", "max(x[i], 0.0f)", "max(x[i], 0.01f * x[i])")
    catch = caught_by(wrong, tmp_path / "kernels")
    assert catch is not None
    assert (catch.by, catch.words.split(":")[0]) == ("comparison", "relu/map")


def test_an_unchecked_run_that_does_not_end_is_ended(tmp_path) -> None:
    endless = Mutant("relu", "no step", "max(x[i], 0.0f)", "0.0f, i -= grid, threadgroup_barrier(mem_flags::mem_none)")
    catch = caught_unchecked(endless, endless.plant(tmp_path / "kernels"), seconds=4)
    assert catch == Catch("end of the process", "an unchecked run ends with SIGXCPU")
