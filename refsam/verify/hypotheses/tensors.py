"""What ports do to one tensor of the checkpoint on its way into their own format: hypotheses made for a stage's own tensors.

Changes without a number in them are tried one after the other; a factor or an offset is solved for. What can be read off the
stage's result itself (rows, columns, single elements) is in `recovery`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refsam.types import Array
from refsam.verify.hypothesis import Area, Hypothesis
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import PRECISIONS

Weights = Mapping[str, Array]
Explained = Callable[[Sequence[Hypothesis]], float]

_STEP = 0.05  # of a factor, or of a tensor's scale: what the first slope is taken over
_STEPS = 8
_AS_GOOD = 1.1
_CERTAIN = 0.9  # what a number that was fitted has to explain
_PROMISING = 0.1  # explained after the first step: below that the search for a number ends
_OTHERS = 12


def changed(name: str, said: str, area: Area, change: Callable[[Weights], Array], remedy: str = "") -> Hypothesis:
    """A hypothesis about one tensor."""

    def apply(pipeline: Pipeline) -> Pipeline:
        before = pipeline.weights

        def weights(tensors: Weights) -> Weights:
            tensors = before(tensors)
            return {**tensors, name: np.ascontiguousarray(change(tensors), tensors[name].dtype)}

        return replace(pipeline, weights=weights)

    return Hypothesis(f"{name} {said}", (area,), remedy or f"look at how {name} is converted and loaded", apply)


def whole(name: str, tensors: Weights, area: Area) -> Iterator[Hypothesis]:
    """Changes of the tensor as a whole, without a number to be found."""
    for said, change in _CHANGES.items():
        value = change(tensors[name])
        if value is not None and not np.array_equal(value, tensors[name]):
            yield changed(name, said, area, _only(name, change))
    for other in _nearest(name, [n for n, x in tensors.items() if x.shape == tensors[name].shape and n != name]):
        yield changed(name, f"taken from {other}", area, _other(other), f"{name} is a tensor of its own")


def _only(name: str, change: Callable[[Array], Any]) -> Callable[[Weights], Array]:
    return lambda tensors: change(tensors[name])


def _other(name: str) -> Callable[[Weights], Array]:
    return lambda tensors: tensors[name]


def _nearest(name: str, others: list[str]) -> list[str]:
    """The names most like this one: those that a loader mixes up."""

    def unlike(other: str) -> int:
        parts, theirs = name.split("."), other.split(".")
        return sum(a != b for a, b in zip(parts, theirs, strict=False)) + 2 * abs(len(parts) - len(theirs))

    return sorted(others, key=unlike)[:_OTHERS]


def _in_other_order(x: Array) -> Array | None:
    """The same numbers read as the transposed of the last two axes; None where there are none to exchange."""
    return x.swapaxes(-1, -2).reshape(x.shape) if x.ndim > 1 and x.shape[-1] > 1 else None


def _on_kernels(change: Callable[[Array], Array]) -> Callable[[Array], Array | None]:
    return lambda x: change(x) if x.ndim == 4 and x.shape[-1] > 1 else None


def _in_groups(groups: int, axis: int = 0) -> Callable[[Array], Array | None]:
    """Rows numbered (part, group) in place of (group, part)."""

    def change(x: Array) -> Array | None:
        if x.ndim < 2 or x.shape[axis] % groups or x.shape[axis] == groups:
            return None
        order = np.arange(x.shape[axis]).reshape(groups, -1).T.reshape(-1)
        return np.take(x, order, axis)

    return change


_CHANGES: dict[str, Callable[[Array], Array | None]] = {
    "zero": lambda x: 0 * x,
    "negated": lambda x: -x,
    "transposed": _in_other_order,
    "with kernels flipped": _on_kernels(lambda x: x[..., ::-1, ::-1]),
    "with kernels mirrored": _on_kernels(lambda x: x[..., ::-1]),
    "with kernels upside down": _on_kernels(lambda x: x[..., ::-1, :]),
    "with rows reversed": lambda x: x[::-1],
    "with rows moved by one": lambda x: np.roll(x, 1, 0),
    "with columns reversed": lambda x: x[:, ::-1] if x.ndim > 1 else None,
    "with rows of two groups interleaved": _in_groups(2),
    "with rows of three groups interleaved": _in_groups(3),
    "with columns of two groups interleaved": _in_groups(2, 1),
    "rounded to fp16": PRECISIONS["fp16"].weights,
    "rounded to bf16": PRECISIONS["bf16"].weights,
    "rounded to int8": PRECISIONS["int8"].weights,
}


def solved(name: str, tensors: Weights, area: Area, explained: Explained) -> Iterator[Hypothesis]:
    """A factor and an offset, each as good as can be found in a few steps; nothing where none promises anything."""
    scale = float(np.abs(tensors[name]).mean()) or 1.0

    def times(factor: float) -> Hypothesis:
        return changed(name, f"scaled by {factor:.4g}", area, lambda w: w[name] * np.float32(factor))

    def plus(offset: float) -> Hypothesis:
        return changed(name, f"with {offset:.4g} added", area, lambda w: w[name] + np.float32(offset))

    for make, start, step in ((times, 1.0, _STEP), (plus, 0.0, _STEP * scale)):
        value = best_number(lambda x, make=make: explained([make(x)]), start, step)  # type: ignore[misc]
        if value is not None:
            yield make(value)


def best_number(explained: Callable[[float], float], start: float, step: float) -> float | None:
    """The number that explains most, where 1 - explained is near a parabola: its lowest point, again and again."""
    left = {x: 1 - explained(x) for x in (start - step, start + step)} | {start: 1.0}
    for _ in range(_STEPS):
        x = _lowest(left)
        if x is None or x in left:
            break
        before, left[x] = min(left.values()), 1 - explained(x)
        if left[x] > min(before, 1 - _PROMISING):
            break
    found = min(left, key=left.__getitem__)
    return _plainest(found, left[found], explained) if left[found] < 1 - _CERTAIN else None


def _plainest(number: float, left: float, explained: Callable[[float], float]) -> float:
    """The number with as few digits as explain as much."""
    for digits in (1, 2, 3):
        short = float(f"{number:.{digits}g}")
        if 1 - explained(short) <= _AS_GOOD * left + 1e-9:
            return short
    return number


def _lowest(left: Mapping[float, float]) -> float | None:
    """The lowest point of the parabola through the three best points; None where it has none."""
    a, b, c = sorted(left, key=left.__getitem__)[:3]
    fa, fb, fc = left[a], left[b], left[c]
    if not np.isfinite([fa, fb, fc]).all():
        return None
    curve = (fb - fa) / (b - a) - (fc - fa) / (c - a)
    if curve == 0 or curve / (b - c) <= 0:
        return None
    curve /= b - c
    slope = (fb - fa) / (b - a) - curve * (b - a)
    return a - slope / (2 * curve)
