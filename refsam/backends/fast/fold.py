"""Weights as the fast functions read them: BatchNorm, norms' affine maps, scales folded in float64, then rounded once."""

from typing import NamedTuple, TypeVar

import numpy as np

from refsam.backends.fast.layout import empty
from refsam.scope import Scope
from refsam.types import Array, Float

T = TypeVar("T")

BATCH_NORM_EPS = 1e-5


class Affine(NamedTuple):
    """x @ weight + bias."""

    weight: Float[Array, "C D"]
    bias: Float[Array, " D"]


def affine(weight: Float[Array, "D C"], bias: Float[Array, " D"], before: float = 1.0, after: float = 1.0) -> Affine:
    """From outputs x inputs; the input comes times `before`, the result goes out times `after`."""
    return Affine(single(weight.T * (after / before)), single(bias * after))


def linear(s: Scope, before: float = 1.0, after: float = 1.0) -> Affine:
    """A linear map."""
    return affine(double(s["weight"]), double(s["bias"]), before, after)


def normed_linear(norm: Scope, s: Scope) -> tuple[Float[Array, "D C"], Float[Array, " D"]]:
    """A LayerNorm's weight and bias and the linear map that follows, in float64: what is left of the norm is to standardise."""
    weight = double(s["weight"])
    return weight * double(norm["weight"]), double(s["bias"]) + weight @ double(norm["bias"])


def conv_bn(s: Scope) -> tuple[Float[Array, "D C k k"], Float[Array, " D"]]:
    """Convolution and BatchNorm as one convolution, in float64."""
    scale = double(s["bn.weight"]) / np.sqrt(double(s["bn.running_var"]) + BATCH_NORM_EPS)
    bias = double(s["bn.bias"]) - double(s["bn.running_mean"]) * scale
    return double(s["c.weight"]) * scale[:, None, None, None], bias


def pointwise(s: Scope, before: float = 1.0, after: float = 1.0) -> Affine:
    """A 1x1 convolution with BatchNorm, for channels last."""
    weight, bias = conv_bn(s)
    return affine(weight[:, :, 0, 0], bias, before, after)


def single(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """float32, in C order."""
    y = empty(*x.shape)
    y[...] = x
    return y


def frozen(weights: T) -> T:
    """NamedTuples and lists of arrays with views of these that cannot be written to, by which processes.py knows what it may copy
    once. Some are the model's own tensors; who changes those has to empty `scope.memo`, as for all that is folded."""
    if isinstance(weights, np.ndarray):
        view = weights.view()
        view.flags.writeable = False
        return view
    if isinstance(weights, tuple):
        return type(weights)(*map(frozen, weights))
    return [frozen(part) for part in weights] if isinstance(weights, list) else weights  # type: ignore[return-value]


def double(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """float64."""
    return x.astype(np.float64)
