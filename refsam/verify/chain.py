"""Steps of the encoder under many pipelines: those that a pipeline leaves alone are not computed again."""

from collections.abc import Callable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.types import Array
from refsam.verify.hooks import hooked
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import wrapped
from refsam.verify.steps import Step


class Chain:
    """The steps from a plain input to their result, noted with all that each of them uses.

    Args:
        base: the model, in float32 on the definition.
        steps: one after the other.
        x: the input of the first.
    """

    def __init__(self, base: MobileSam, steps: Sequence[Step], x: Array) -> None:
        self.base, self.steps = base, steps
        self.inputs, self.uses = [x], list[_Uses]()
        for step in steps:
            uses = _Uses()
            self.inputs.append(step.run(uses.noting(base).scope, self.inputs[-1]))
            self.uses.append(uses)

    @property
    def result(self) -> Array:
        """The last step's, of the plain model."""
        return self.inputs[-1]

    def run(self, pipeline: Pipeline, x: Array) -> Array:
        """The result under a pipeline, which may have another input."""
        model = hooked(pipeline.model(self.base), replaced=True)
        start = self._first_touched(pipeline, model) if np.array_equal(x, self.inputs[0]) else 0
        y = self.inputs[start] if start else x
        for step in self.steps[start:]:
            y = step.run(model.scope, y)
        return y

    def _first_touched(self, pipeline: Pipeline, model: MobileSam) -> int:
        """The number of the first step that a pipeline may change."""
        now, before = model.scope.weights, self.base.scope.weights
        tensors = (
            set() if now is before else {n for n, x in now.items() if x is not before[n] and not np.array_equal(x, before[n])}
        )
        changed = {*pipeline.ops, *pipeline.functions, *tensors}
        return next((i for i, uses in enumerate(self.uses) if changed & uses.names), len(self.steps))


@dataclass
class _Uses:
    """The names of what a step runs: operations, functions that may be replaced, tensors."""

    names: set[str] = field(default_factory=set)

    def noting(self, model: MobileSam) -> MobileSam:
        """The model, which adds to `names` as it runs."""
        weights = NotingWeights(model.scope.weights, self.names.add)
        return model.with_scope(replace(model.scope, ops=_NotingOps(self.names), weights=weights))


class _NotingOps(Ops):
    """The definition's operations, noted by name."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        vars(self).update(wrapped(self._noted))

    def replacement(self, name: str) -> None:
        """None of the functions is replaced, but it is asked for."""
        self.names.add(name)

    def _noted(self, name: str, op: Callable[..., Array]) -> Callable[..., Array]:
        def run(*arguments: Any, **options: Any) -> Array:
            self.names.add(name)
            return op(*arguments, **options)

        return run


class NotingWeights(Mapping[str, Array]):
    """Weights that tell which of them are read."""

    def __init__(self, weights: Mapping[str, Array], read: Callable[[str], None]) -> None:
        self.weights, self.read = weights, read

    def __getitem__(self, name: str) -> Array:
        found = self.weights[name]
        self.read(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def values(self) -> ValuesView[Array]:
        """Untold: only asked for the dtype."""
        return self.weights.values()
