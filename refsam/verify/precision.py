"""The precisions that a port can declare, and a model that computes in one of them.

A precision is where numbers are rounded: the weights once, and every operation's result and every stage. Sums inside an operation
are float32's, as on a GPU; a port that sums in float16 too is coarser than `fp16` says, by less than a factor of two on this
model, and the bound's factor k has room for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.types import Array
from refsam.verify.hooks import Rounding, hooked


def to_float32(x: Array) -> Array:
    """Nothing to round: the model's arrays are float32 already."""
    return x


def to_fp16(x: Array) -> Array:
    """The nearest IEEE half, in float32; beyond 65504 it is infinite, as on a device."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def to_bf16(x: Array) -> Array:
    """The nearest bfloat16, ties to even, in float32: the upper 16 bits of a float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.where(np.isfinite(x), (rounded & np.uint32(0xFFFF0000)).view(np.float32), x).astype(np.float32)


def to_int8_weights(x: Array) -> Array:
    """Symmetric int8, one scale for each output channel; small tensors stay, as in coremltools' `linear_quantize_weights`."""
    if x.ndim < 2 or x.size <= 2048:
        return x
    scale = np.abs(x).reshape(len(x), -1).max(axis=1).reshape(-1, *[1] * (x.ndim - 1)) / 127
    return np.where(scale > 0, np.rint(x / np.where(scale > 0, scale, 1)) * scale, 0).astype(np.float32)


@dataclass(frozen=True)
class Precision:
    """Where and how a port of this precision rounds.

    Attributes:
        name: what a user calls it.
        unit: the relative error of one rounding of a stored value; a stage's budget is never less.
        weights: applied once to every tensor of the checkpoint.
        values: applied to every operation's result.
    """

    name: str
    unit: float
    weights: Rounding
    values: Rounding


PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("float32", 2.0**-24, to_float32, to_float32),
        Precision("fp16", 2.0**-11, to_fp16, to_fp16),
        Precision("bf16", 2.0**-8, to_bf16, to_bf16),
        Precision("int8", 2.0**-24, to_int8_weights, to_float32),
    )
}
"""float32; fp16 and bf16 for weights and every stored value; int8 weights with float32 arithmetic."""


def precision_of(name: str) -> Precision:
    """The precision of this name. Raises InputError for an unknown one."""
    aliases = {"float16": "fp16", "fp32": "float32", "bfloat16": "bf16", "int8 weights": "int8"}
    found = PRECISIONS.get(aliases.get(name, name))
    if found is None:
        raise InputError(f"precision is {name!r}; there are: {', '.join(PRECISIONS)}")
    return found


_OPS = tuple(name for name, value in vars(Ops).items() if isinstance(value, staticmethod))


class RoundingOps(Ops):
    """The definition's operations, each result rounded."""

    def __init__(self, values: Rounding) -> None:
        for name in _OPS:
            setattr(self, name, _then(getattr(Ops, name), values))


def _then(op: Callable[..., Array], rounding: Rounding) -> Callable[..., Array]:
    def rounded(*args: Any, **kwargs: Any) -> Array:
        return rounding(op(*args, **kwargs))

    return rounded


def model_of_precision(model: MobileSam, precision: str) -> MobileSam:
    """The model as a port of this precision computes it, in float32 arithmetic on the definition.

    Args:
        model: gives weights and config; of any dtype and backend.
        precision: a name in PRECISIONS.
    """
    chosen = precision_of(precision)
    tensors = {name: chosen.weights(tensor.astype(np.float32)) for name, tensor in model.scope.weights.items()}
    if chosen.values is to_float32:
        return MobileSam(tensors, model.config, Ops(), "float32", model.metadata)
    return hooked(MobileSam(tensors, model.config, RoundingOps(chosen.values), "float32", model.metadata), values=chosen.values)
