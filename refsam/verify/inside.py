"""What a stage is made of: tensors that are read, and operations that run, since the last stage that a port shows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refsam.types import Array
from refsam.verify.bench import Bench
from refsam.verify.chain import NotingWeights
from refsam.verify.crop import crop_of
from refsam.verify.headroom import Greatest, Headroom
from refsam.verify.hypotheses import tensors
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import wrapped
from refsam.verify.recovery import Call, recovered

MOST_TENSORS = 32
"""Of a stage: a port that shows so little that more come into question has to show more before its weights are searched."""

_WORTH_ALL = 0.5
"""What a change of a tensor has to explain of a corner to be tried on the whole."""


class _TooMany(Exception):
    """Of the tensors."""


class Inside(NamedTuple):
    """The tensors' names and the calls, in order, and the stage's value."""

    names: list[str]
    calls: list[Call]
    value: Array


def guesses(bench: Bench) -> Iterator[list[Hypothesis]]:
    """Hypotheses about single tensors that a stage is made of, beyond those that are known: what is tried as it is, what can be
    read off the stage, numbers that are solved for. None where there are more than MOST_TENSORS."""
    if bench.area in ("preprocessing", "postprocessing") or bench.is_long or bench.plain.shape != bench.target.shape:
        return
    found = _looked_into(bench)
    if found is None:
        return
    weights, part = bench.base.scope.weights, small(bench)
    whole = [hypothesis for name in found.names for hypothesis in tensors.whole(name, weights, bench.area)]
    yield [h for h in whole if part is bench or part.explained([h]) > _WORTH_ALL]
    if not np.isfinite(bench.target).all():  # nothing to read off or to solve
        return
    yield list(recovered(found.calls, found.value, bench.target, bench.area))
    yield [h for name in found.names for h in tensors.solved(name, weights, bench.area, part.explained)]


def _looked_into(bench: Bench) -> Inside | None:
    """What ran; None where too many tensors are read."""
    names: dict[str, None] = {}
    calls: list[Call] = []

    def read(name: str) -> None:
        names[name] = None
        if len(names) > MOST_TENSORS and bench.area == "encoder":  # runs from the last stage that is shown: none will come
            raise _TooMany

    def forget() -> None:
        names.clear()
        calls.clear()

    try:
        value = _run(bench, calls.append, read, forget)
    except _TooMany:
        return None
    return Inside(list(names), calls, value) if len(names) <= MOST_TENSORS else None


def headroom(bench: Bench) -> list[Greatest]:
    """How near what is computed between the last stage that the port shows and this one comes to float16's limit."""
    if bench.area in ("preprocessing", "postprocessing"):
        return []
    found = Headroom()
    _run(bench, found.note, lambda _: None, found.clear)
    return found.greatest()


def _run(bench: Bench, called: Callable[[Call], None], read: Callable[[str], None], passed: Callable[[], None]) -> Array:
    """Compute the stage, telling of each operation, each tensor, and each stage before it that the port has."""
    weights = bench.base.scope.weights
    pipeline = Pipeline().with_ops(**recorded(weights, called))
    return bench.captured(replace(pipeline, weights=lambda _: NotingWeights(weights, read)), passed)


def recorded(weights: Mapping[str, Array], called: Callable[[Call], None]) -> dict[str, Callable[..., Array]]:
    """The definition's operations, each call told of, with the names of its tensors."""
    names = {id(tensor): name for name, tensor in weights.items()}

    def telling(name: str, op: Callable[..., Array]) -> Callable[..., Array]:
        def run(*arguments: Any, **options: Any) -> Array:
            result = op(*arguments, **options)
            called(Call(name, tuple(names.get(id(x)) for x in arguments), (*arguments, *options.values()), result))
            return result

        return run

    return wrapped(telling)


def small(bench: Bench) -> Bench:
    """The same on a corner of the maps, where the stage is one step of the encoder from what the port shows."""
    step = bench.steps()[-1] if bench.area == "encoder" else None
    if step is None or step.after not in bench.candidate or not np.isfinite(bench.target).all():
        return bench
    crop = crop_of(step, bench.base.config, bench.candidate[step.after])
    if crop is None:
        return bench
    inside = {name: x for name, x in bench.candidate.items() if step.covers(name) and name != step.after}
    cut = {name: crop.of_stage(x) for name, x in inside.items()} | {step.after: crop.of_input(bench.candidate[step.after])}
    return Bench(bench.reference, cut, bench.stage, crop.of_stage(bench.target), crop=crop)
