"""How near a stage comes to float16's greatest number, in its results and on the way to them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from refsam.types import Array
from refsam.verify.hypotheses.float16 import GREATEST
from refsam.verify.recovery import Call


class Greatest(NamedTuple):
    """The greatest absolute value of something that an operation computes."""

    what: str
    value: float

    @property
    def fits(self) -> bool:
        """Whether float16 holds it."""
        return self.value <= GREATEST

    def __str__(self) -> str:
        share = self.value / GREATEST
        room = f"{share:.3g} times" if share >= 1 else f"{100 * share:.2g} % of"
        return f"{self.what} reach {self.value:.3g}, {room} float16's greatest number ({GREATEST:.0f})"


class Headroom:
    """The greatest that operations compute, of each kind."""

    def __init__(self) -> None:
        self._found: dict[str, float] = {}
        self.clear = self._found.clear

    def note(self, call: Call) -> None:
        """One more operation."""
        for what, values in _values(call):
            self._found[what] = max(self._found.get(what, 0.0), float(np.abs(values).max(initial=0.0)))

    def greatest(self) -> list[Greatest]:
        """By size, the greatest first."""
        return sorted((Greatest(what, value) for what, value in self._found.items()), key=lambda g: -g.value)


def _values(call: Call) -> Iterator[tuple[str, Any]]:
    """What an operation stores, and what it may store on the way where it is computed in steps."""
    yield f"results of {call.op}", call.result
    x: Array = call.arguments[0]
    if call.op in ("layer_norm", "layer_norm_2d"):
        axis = 1 if call.op == "layer_norm_2d" else -1
        squares = np.square(x - x.mean(axis=axis, keepdims=True), dtype=np.float64)
        yield f"squares in {call.op}", squares
        yield f"sums of squares in {call.op}", squares.sum(axis=axis)
    if call.op == "attention":
        yield "products of queries and keys before scaling", x @ call.arguments[1].swapaxes(-1, -2)
