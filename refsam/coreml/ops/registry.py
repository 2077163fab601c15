"""The table of operations: MIL's name -> a function of MIL's parameter names."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Definition:
    """One operation.

    Attributes:
        function: takes MIL's parameters by name, and `c`, the run's arithmetic, where it wants it.
        moves: whether it only moves values: its result is exact in every precision.
        wants_shape: whether it takes `declared`, the shape that the program says its result has.
    """

    function: Callable[..., Any]
    moves: bool
    wants_arithmetic: bool
    required: frozenset[str]
    optional: frozenset[str]
    wants_shape: bool = False


OPS: dict[str, Definition] = {}

IGNORED = frozenset({"name", "validate_indices", "sort", "output_indices_dtype", "output_dtype"})
"""Parameters that change no value: indices are always checked, topk always sorts, a result's type is declared."""


EXACT = frozenset({"epsilon", "scale_factor_height", "scale_factor_width", "start", "end", "step"})
"""Numbers that no precision rounds: a length follows from them, or float16 has nothing so small."""


def op(name: str, moves: bool = False) -> Callable[[Function], Function]:
    """Register a function as the operation of this name."""

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        names = {p.name for p in parameters if p.name not in ("c", "declared")}
        optional = {p.name for p in parameters if p.default is not inspect.Parameter.empty} & names
        wants = any(p.name == "c" for p in parameters)
        wants_shape = any(p.name == "declared" for p in parameters)
        OPS[name] = Definition(function, moves, wants, frozenset(names - optional), frozenset(optional), wants_shape)
        return function

    return register
