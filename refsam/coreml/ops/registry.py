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
    """

    function: Callable[..., Any]
    moves: bool
    wants_arithmetic: bool
    required: frozenset[str]
    optional: frozenset[str]


OPS: dict[str, Definition] = {}

IGNORED = frozenset({"name", "validate_indices", "sort", "output_indices_dtype", "output_dtype"})
"""Parameters that change no value: indices are always checked, topk always sorts, a result's type is declared."""


EXACT = frozenset({"epsilon", "scale_factor_height", "scale_factor_width"})
"""Numbers that no precision rounds: a length follows from them, or float16 has nothing so small."""


def op(name: str, moves: bool = False) -> Callable[[Function], Function]:
    """Register a function as the operation of this name."""

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        names = {p.name for p in parameters if p.name != "c"}
        optional = {p.name for p in parameters if p.default is not inspect.Parameter.empty}
        wants = any(p.name == "c" for p in parameters)
        OPS[name] = Definition(function, moves, wants, frozenset(names - optional), frozenset(optional))
        return function

    return register
