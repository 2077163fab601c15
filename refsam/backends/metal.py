"""The operations on Metal kernels: on a Mac's GPU ("metal"), or the same kernels on a CPU ("emulator").

The definition computes what Metal cannot: float64, which it does not have, and results without elements.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from refsam.metal import calls
from refsam.metal.runner import Runner
from refsam.ops import Ops
from refsam.types import Array, Float

P = ParamSpec("P")
Self = TypeVar("Self", bound="MetalOps")


def _in_float32(method: Callable[Concatenate[Self, P], Array]) -> Callable[Concatenate[Self, P], Array]:
    """Gives a method plain float32 arrays in C order, and every other call to the definition of its name."""
    definition: Callable[..., Array] = getattr(Ops, method.__name__)

    @wraps(method)
    def run(self: Self, /, *arguments: P.args, **options: P.kwargs) -> Array:
        arrays = [x for x in arguments if isinstance(x, np.ndarray)]
        if any(x.dtype != np.float32 or x.size == 0 for x in arrays):
            return definition(*arguments, **options)
        plain: Any = [np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
        return method(self, *plain, **options)

    return run


class MetalOps(Ops):
    """The operations of the model by the kernels of kernels/, float32.

    Args:
        runner: of the device that is to compute.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    @_in_float32
    def linear(self, x: Float[Array, "*N C"], weight: Float[Array, "D C"], bias: Float[Array, " D"]) -> Float[Array, "*N D"]:
        """See `ops.linear`."""
        rows = x.reshape(1, -1, x.shape[-1])
        return calls.matmul(self.runner, rows, weight[None], bias, transposed="b").reshape(*x.shape[:-1], len(weight))

    @_in_float32
    def conv2d(
        self,
        x: Float[Array, "B C H W"],
        weight: Float[Array, "D C k k"],
        bias: Float[Array, " D"] | None = None,
        stride: int = 1,
        padding: int = 0,
    ) -> Float[Array, "B D Ho Wo"]:
        """See `ops.conv2d`. A 1x1 convolution is a matrix product for each picture."""
        if weight.shape[-1] > 1 or stride > 1 or padding:
            return calls.conv2d(self.runner, x, weight, bias, stride, padding)
        pixels = x.reshape(*x.shape[:2], -1)
        y = calls.matmul(self.runner, weight.reshape(1, *weight.shape[:2]), pixels, bias, bias_of="row")
        return y.reshape(len(x), len(weight), *x.shape[2:])

    @_in_float32
    def depthwise_conv2d(
        self, x: Float[Array, "B C H W"], weight: Float[Array, "C 1 3 3"], stride: int = 1
    ) -> Float[Array, "B C Ho Wo"]:
        """See `ops.depthwise_conv2d`."""
        return calls.depthwise_conv2d(self.runner, x, weight, stride)

    @_in_float32
    def conv_transpose2d(
        self, x: Float[Array, "B C H W"], weight: Float[Array, "C D 2 2"], bias: Float[Array, " D"]
    ) -> Float[Array, "B D 2*H 2*W"]:
        """See `ops.conv_transpose2d`."""
        return calls.conv_transpose2d(self.runner, x, weight, bias)

    @_in_float32
    def layer_norm(
        self, x: Float[Array, "*N C"], weight: Float[Array, " C"], bias: Float[Array, " C"], eps: float = 1e-5
    ) -> Float[Array, "*N C"]:
        """See `ops.layer_norm`."""
        return calls.layer_norm(self.runner, x, weight, bias, eps)

    @_in_float32
    def layer_norm_2d(
        self, x: Float[Array, "B C H W"], weight: Float[Array, " C"], bias: Float[Array, " C"], eps: float = 1e-6
    ) -> Float[Array, "B C H W"]:
        """See `ops.layer_norm_2d`."""
        return calls.layer_norm_2d(self.runner, x, weight, bias, eps)

    @_in_float32
    def batch_norm(
        self,
        x: Float[Array, "B C H W"],
        mean: Float[Array, " C"],
        variance: Float[Array, " C"],
        weight: Float[Array, " C"],
        bias: Float[Array, " C"],
        eps: float = 1e-5,
    ) -> Float[Array, "B C H W"]:
        """See `ops.batch_norm`."""
        return calls.batch_norm(self.runner, x, (mean, variance, weight, bias), eps)

    @_in_float32
    def gelu(self, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """See `ops.gelu`."""
        return calls.gelu(self.runner, x)

    @_in_float32
    def relu(self, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """See `ops.relu`."""
        return calls.relu(self.runner, x)

    @_in_float32
    def attention(
        self,
        q: Float[Array, "B K N c"],
        k: Float[Array, "B K T c"],
        v: Float[Array, "B K T d"],
        bias: Float[Array, "K N T"] | None = None,
    ) -> Float[Array, "B K N d"]:
        """See `ops.attention`."""
        return calls.attention(self.runner, q, k, v, bias)
