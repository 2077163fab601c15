"""What the oracle says of a port with a known fault, and whether it is so."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsam.verify.reference import Reference
from refsam.verify.verdict import judge

LOCATED, NAMED = 0.95, 0.90
"""Of faults beyond the budget: the shares to be found at the right stage, and to be named first."""


class Trial(NamedTuple):
    """A fault and what was said of it.

    Attributes:
        fault: in words.
        enters: the first stage that differs at all from the same port without the fault; None where no stage does.
        required: budgets that the port would need; at most 4 hold.
        located: the stage that is named; None where the port holds.
        names, explained: the explanation of that stage.
        wanted: parts of the right names, where there are hypotheses for the fault.
    """

    fault: str
    enters: str | None
    required: float
    located: str | None
    names: tuple[str, ...]
    explained: float
    wanted: tuple[str, ...]

    @property
    def exceeds(self) -> bool:
        return self.located is not None

    @property
    def right_place(self) -> bool:
        return self.located == self.enters

    @property
    def named(self) -> bool:
        """Whether one of the right hypotheses is named first."""
        return bool(self.names) and any(wanted in self.names[0] for wanted in self.wanted)


def trial(
    fault: str,
    reference: Reference,
    clean: Mapping[str, np.ndarray],
    port: Mapping[str, np.ndarray],
    precision: str,
    wanted: Sequence[str],
) -> Trial:
    """Judge a faulty port.

    Args:
        clean: the same port's stages without the fault, bit for bit where the fault does not reach.
    """
    verdict = judge(reference, port, precision=precision)
    order = [*reference.truth]
    enters = next((s for s in order if s in port and not np.array_equal(clean[s], port[s], equal_nan=True)), None)
    said = verdict.explanations[0] if verdict.explanations else None
    names, explained = (said.names, said.explained) if said else ((), 0.0)
    return Trial(fault, enters, verdict.report.required_k, verdict.report.first, names, explained, tuple(wanted))


class Score(NamedTuple):
    """Of many trials: how many, beyond the budget, located, nameable, named, and given a name although none was known."""

    all: int
    exceed: int
    located: int
    nameable: int
    named: int
    unasked: int


def score(trials: Sequence[Trial]) -> Score:
    beyond = [t for t in trials if t.exceeds]
    nameable = [t for t in beyond if t.wanted]
    return Score(
        len(trials), len(beyond), sum(t.right_place for t in beyond), len(nameable), sum(t.named for t in nameable),
        sum(bool(t.names) and not t.wanted for t in beyond),
    )  # fmt: skip
