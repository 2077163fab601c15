"""A kernel on certain arguments, with what it has to compute and how exactly."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from refsam.types import Array

Shape: TypeAlias = tuple[int, ...] | None


@dataclass(frozen=True)
class KernelCase:
    """A kernel on certain arguments.

    Attributes:
        name: "kernel/what".
        shapes: of the array arguments in order, None where the argument is None.
        run: (runner, *arguments) -> the kernel's result.
        definition: (*arguments in float64) -> what it has to be.
        bound: (*arguments in float64) -> how far each element of it may be off.
        options: the arguments after the arrays.
        flops: additions and multiplications, for rates; 0 where nobody counts them.
        offset: added to the first array.
        large: of the model's real size.
        pixels: the arrays are of bytes.
        is_mask: the result is definition > 0; where it is not, the definition itself counts as the error.
    """

    name: str
    shapes: tuple[Shape, ...]
    run: Callable[..., Array]
    definition: Callable[..., Array]
    bound: Callable[..., Array]
    options: tuple[Any, ...] = ()
    flops: int = 0
    offset: float = 0.0
    large: bool = False
    pixels: bool = False
    is_mask: bool = False

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return self.name.split("/")[0]

    def arguments(self) -> list[Any]:
        """The case's own arguments, float32 or uint8, the same on every call."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        arrays = [None if shape is None else self._draw(rng, place, shape) for place, shape in enumerate(self.shapes)]
        return [*arrays, *self.options]

    def judge(self, result: Array) -> "Verdict":
        """How `result` compares with the definition in float64."""
        exact = [x.astype(np.float64) if isinstance(x, np.ndarray) and not self.pixels else x for x in self.arguments()]
        truth, allowed = self.definition(*exact), self.bound(*exact)
        if result.shape != truth.shape:
            return Verdict(np.inf, np.inf)
        error = abs(result.astype(np.float64) - truth) if not self.is_mask else abs(truth) * ((result > 0) != (truth > 0))
        required = np.max(np.where(np.isfinite(error), error, np.inf) / allowed, initial=0.0)
        energy = float(np.sum(np.square(truth, dtype=np.float64)))
        return Verdict(float(required), float(np.sum(error**2)) / energy if energy else 0.0)

    def _draw(self, rng: np.random.Generator, place: int, shape: tuple[int, ...]) -> Array:
        if self.pixels:
            return rng.integers(0, 256, shape, np.uint8)
        if self.kernel == "batch_norm" and place == 2:
            return rng.uniform(0.01, 2, shape).astype(np.float32)  # a variance
        return rng.standard_normal(shape, np.float32) + np.float32(self.offset if place == 0 else 0)


@dataclass(frozen=True)
class Verdict:
    """A result against its definition.

    Attributes:
        required: the error as a part of the bound, at the worst element; at most 1 is right.
        nmse: the squared error as a part of the definition's square.
    """

    required: float
    nmse: float

    def __bool__(self) -> bool:
        return self.required <= 1
