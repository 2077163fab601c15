"""The precisions that a port can declare, and a model that computes in one of them.

A precision is where numbers are rounded: the weights once, and every operation's result and every stage; so are the coordinates
of prompts and each step of their encoding. Sums inside an operation are float32's, as on a GPU; a port that sums in float16 is
coarser than `fp16` says, by less than a factor of two on this model, and the bound's factor k has room for that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.model import prompt_encoder
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.scope import Scope
from refsam.types import Array
from refsam.verify.hooks import Rounding, hooked
from refsam.verify.pipeline import definition


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


def to_int8_and_fp16(x: Array) -> Array:
    """int8's steps stored in float16, and so are the small tensors."""
    return to_fp16(to_int8_weights(x))


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
        Precision("int8-fp16", 2.0**-11, to_int8_and_fp16, to_fp16),
    )
}
"""float32; fp16 and bf16 for weights and every stored value; int8 weights with float32 arithmetic, and with all else in fp16."""


def precision_of(name: str) -> Precision:
    """The precision of this name. Raises InputError for an unknown one."""
    aliases = {"float16": "fp16", "fp32": "float32", "bfloat16": "bf16", "int8 weights": "int8"}
    found = PRECISIONS.get(aliases.get(name, name))
    if found is None:
        raise InputError(f"precision is {name!r}; there are: {', '.join(PRECISIONS)}")
    return found


OPERATIONS = tuple(name for name, value in vars(Ops).items() if isinstance(value, staticmethod))
"""The names of the model's operations."""


def wrapped(
    wrap: Callable[[str, Callable[..., Array]], Callable[..., Array]], ops: Ops | None = None
) -> dict[str, Callable[..., Array]]:
    """Operations by name, the definition's by default, each as `wrap(name, operation)` makes it."""
    return {name: wrap(name, getattr(ops or Ops, name)) for name in OPERATIONS}


class RoundingOps(Ops):
    """Operations (the definition's by default), each result rounded, and positions encoded from rounded coordinates."""

    def __init__(self, values: Rounding, ops: Ops | None = None) -> None:
        self.inner = ops or Ops()
        self.functions = _positions(values)
        vars(self).update(storing(values, self.inner))

    def replacement(self, name: str) -> Callable[..., Any] | None:
        """The inner operations' own, else what rounds where no operation and no stage shows it."""
        return self.inner.replacement(name) or self.functions.get(name)


def storing(rounding: Rounding, ops: Ops | None = None) -> dict[str, Callable[..., Array]]:
    """Operations by name, each result stored so."""
    return wrapped(lambda _, op: lambda *args, **options: rounding(op(*args, **options)), ops)


def _positions(values: Rounding) -> dict[str, Callable[..., Any]]:
    """The prompt encoder's functions of coordinates, each step stored: float16 has half pixels beyond 512 and whole angles of
    6e-4 of a turn, which costs more than all else in a prompt."""

    def place(coords: Array) -> Array:
        return values(values(coords) + coords.dtype.type(0.5)) - coords.dtype.type(0.5)

    def embed_points(s: Scope, coords: Array, labels: Array, pad: bool, image_size: int) -> Array:
        return definition(prompt_encoder.embed_points)(s, place(coords), labels, pad, image_size)

    def embed_boxes(s: Scope, boxes: Array, image_size: int) -> Array:
        return definition(prompt_encoder.embed_boxes)(s, place(boxes), image_size)

    def position_encoding(s: Scope, coords: Array) -> Array:
        matrix = s["positional_encoding_gaussian_matrix"]
        projected = values(values(values(2 * values(coords.astype(matrix.dtype))) - 1) @ matrix)
        angles = values(projected * values(np.full((), 2 * np.pi, matrix.dtype)))
        return values(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1))

    functions = (embed_points, embed_boxes, position_encoding)
    return {f"prompt_encoder.{function.__name__}": function for function in functions}


def model_of_precision(model: MobileSam, precision: str) -> MobileSam:
    """The model as a port of this precision computes it, in float32 arithmetic on the definition.

    Args:
        model: gives weights and config; of any dtype and backend.
        precision: a name in PRECISIONS.
    """
    plain = MobileSam(model.scope.weights, model.config, Ops(), "float32", model.metadata)
    return at_precision(plain, precision_of(precision))


def at_precision(model: MobileSam, precision: Precision) -> MobileSam:
    """A float32 model with its weights, and the results of its own operations, rounded to a precision."""
    weights = {name: precision.weights(tensor) for name, tensor in model.scope.weights.items()}
    ops = model.scope.ops if precision.values is to_float32 else RoundingOps(precision.values, model.scope.ops)
    rounded = model.with_scope(replace(model.scope, weights=weights, ops=ops))
    return rounded if precision.values is to_float32 else hooked(rounded, values=precision.values, replaced=True)
