"""The scope: a place in the checkpoint's tree of names.

`s / "attn"` descends, `s["weight"]` reads a tensor, `s.tap(x)` records a stage: weights, trace keys and error messages share
one name, the checkpoint's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from refsam.errors import CheckpointError
from refsam.ops import Ops
from refsam.tracing import Trace
from refsam.types import Array


@dataclass(frozen=True)
class Scope:
    """Where a model function stands: its weights, the operations to use, and the trace that listens, if one does."""

    weights: Mapping[str, Array]
    ops: Ops
    trace: Trace | None = None
    name: str = ""

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
