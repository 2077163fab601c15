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
_STEPS = 20
_PATIENCE = 4  # steps after which at most half of what was left before them may be left, or the search for a number ends
_NOTHING = 1e-9  # left over
_FAR = 240  # first steps: no number is looked for further out, such as a factor greater than 13
_AS_GOOD = 1.1
_CERTAIN = 0.9  # what a number that was fitted has to explain
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
    """The number that explains most: from `start` downhill until more is left over again, then between the best one's neighbours.

    What is left over is a parabola near its lowest point; further off, where units of a ReLU change sides, it is not.
    """
    left = {x: 1 - explained(x) for x in (start - step, start + step)} | {start: 1.0}
    best = min(left, key=left.__getitem__)
    lowest = [1.0] if len({*left.values()}) > 1 else []  # what was left step by step; where nothing changes, none is taken
    while 0 < len(lowest) <= _STEPS and left[best] > _NOTHING:
        x = _between(left, best) if min(left) < best < max(left) else _beyond(left, best, start, _FAR * step)
        if x is None or x in left:
            break
        left[x] = 1 - explained(x)
        best = min(left, key=left.__getitem__)
        lowest.append(left[best])
        if len(lowest) > _PATIENCE and lowest[-1] > lowest[-1 - _PATIENCE] / 2:
            break
    return _plainest(best, left[best], explained) if left[best] < 1 - _CERTAIN else None


def _between(left: Mapping[float, float], best: float) -> float:
    """The lowest point of the parabola through the best number and its neighbours, if there; else halfway to the further one."""
    below, above = max(x for x in left if x < best), min(x for x in left if x > best)
    x = _lowest(left, (below, best, above))
    return x if x is not None and below < x < above else (best + (below if best - below > above - best else above)) / 2


def _beyond(left: Mapping[float, float], best: float, start: float, far: float) -> float | None:
    """Further out than the best number: where a parabola through the last three says, or three times as far; None if too far."""
    x = _lowest(left, sorted(left, key=lambda x: abs(x - best))[:3])
    if x is None or not abs(best - start) < abs(x - start) <= far or (x > start) != (best > start):
        x = start + 3 * (best - start)
    return x if abs(x - start) <= far else None


def _plainest(number: float, left: float, explained: Callable[[float], float]) -> float:
    """The number with as few digits as explain as much."""
    for digits in (1, 2, 3):
        short = float(f"{number:.{digits}g}")
        if 1 - explained(short) <= _AS_GOOD * left + _NOTHING:
            return short
    return number


def _lowest(left: Mapping[float, float], points: Sequence[float]) -> float | None:
    """The lowest point of the parabola through three points; None where it has none."""
    a, b, c = points
    fa, fb, fc = (left[x] for x in points)
    if not np.isfinite([fa, fb, fc]).all():
        return None
    curve = ((fb - fa) / (b - a) - (fc - fa) / (c - a)) / (b - c)
    return a - ((fb - fa) / (b - a) - curve * (b - a)) / (2 * curve) if curve > 0 else None
