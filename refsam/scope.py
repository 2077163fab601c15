"""The scope: a place in the checkpoint's tree of names.

`s / "attn"` descends, `s["weight"]` reads a tensor, `s.tap(x)` records a stage: weights, trace keys and error messages share
one name, the checkpoint's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from refsam.errors import CheckpointError
from refsam.ops import Ops
from refsam.tracing import Trace
from refsam.types import Array

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """Where a model function stands: its weights, the operations to use, and the trace that listens, if one does."""

    weights: Mapping[str, Array]
    ops: Ops
    trace: Trace | None = None
    name: str = ""
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, in this process or another one, makes what is prepared anew, which is the weights once more."""
        return {**vars(self), "memo": {}}

    def __truediv__(self, child: str | int) -> "Scope":
        return replace(self, name=f"{self.name}.{child}" if self.name else str(child))

    def __getitem__(self, tensor: str) -> Array:
        found = self.get(tensor)
        if found is None:
            raise CheckpointError(f"tensor {(self / tensor).name} is not in the weights")
        return found

    def get(self, tensor: str) -> Array | None:
        """The tensor of this name here, or None where the checkpoint has none (a convolution without bias)."""
        return self.weights.get((self / tensor).name)

    def tap(self, x: Array) -> Array:
        """Record `x` as the stage of this name, and hand it on unchanged."""
        if self.trace is not None:
            self.trace.record(self.name, x)
        return x

    def prepared(self, make: "Callable[Concatenate[Scope, P], T]", *arguments: P.args, **options: P.kwargs) -> T:
        """`make(self, ...)`, weights in another form: made on the first call at this name and kept as long as the weights.

        Scopes below one root share what is kept. Two threads that come first at once make the same; one of them is kept.
        """
        key = (self.name, make, *arguments, *options.items())
        if key not in self.memo:
            self.memo.setdefault(key, make(self, *arguments, **options))
        found: T = self.memo[key]
        return found

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the weights, and so of all computation."""
        return next(iter(self.weights.values())).dtype

    @property
    def is_traced_inside(self) -> bool:
        """Whether the trace may ask for a stage below this one."""
        return self.trace is not None and self.trace.may_want_below(self.name)


def qualified_name(function: Callable[..., Any]) -> str:
    """Module and name of a model function, "tiny_vit.mb_conv", by which backends refer to it."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def replaceable(function: Callable[Concatenate[Scope, P], T]) -> Callable[Concatenate[Scope, P], T]:
    """Marks a model function that a backend may run whole in its own way (`Ops.replacement`).

    What stands in the function is the definition; it runs where the backend has no replacement, and where a stage inside is
    traced. A replacement records the stages that the definition records under the function's own name.
    """
    name = qualified_name(function)

    @wraps(function)
    def run(s: Scope, /, *arguments: P.args, **options: P.kwargs) -> T:
        found = None if s.is_traced_inside else s.ops.replacement(name)
        if found is None or s.dtype != np.float32:
            return function(s, *arguments, **options)
        result: T = found(s, *arguments, **options)
        return result

    return run
