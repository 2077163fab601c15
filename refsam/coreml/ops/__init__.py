"""MIL's operations: one small function each, under MIL's names, with MIL's parameters, defaults and hidden epsilons.

Upstream: coremltools converters/mil/mil/ops/defs, iOS15 to iOS18.  Read in this order: registry, elementwise, activation, norm,
reduction, linear, conv, shaping, gathering, resizing, compressed.
"""

from refsam.coreml.ops import (  # noqa: F401 - each fills the table
    activation,
    compressed,
    conv,
    elementwise,
    gathering,
    linear,
    norm,
    reduction,
    resizing,
    shaping,
)
from refsam.coreml.ops.registry import EXACT, IGNORED, OPS, Definition

__all__ = ["EXACT", "IGNORED", "OPS", "Definition"]
