"""Operations one by one, for functions inside which a stage is traced: the definition's own, a part of the array on each thread.
Parts are rows, channels or windows that do not depend on each other, so that no sum has another order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsam.backends.fast.layout import spans
from refsam.backends.fast.scratch import Scratch
from refsam.backends.fast.workers import Workers
from refsam.ops import Ops
from refsam.types import Array, Float

PART = 1 << 18
"""About as many elements of the argument are in a part."""


def linear(
    workers: Workers, x: Float[Array, "*N C"], weight: Float[Array, "D C"], bias: Float[Array, " D"]
) -> Float[Array, "*N D"]:
    """See `ops.linear`."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty((len(rows), len(weight)), x.dtype)
    shared(workers, lambda part: Ops.linear(rows[part], weight, bias), y, rows.size)
    return y.reshape(*x.shape[:-1], len(weight))


def layer_norm(
    workers: Workers, x: Float[Array, "*N C"], weight: Float[Array, " C"], bias: Float[Array, " C"], eps: float = 1e-5
) -> Float[Array, "*N C"]:
    """See `ops.layer_norm`."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty(rows.shape, x.dtype)
    shared(workers, lambda part: Ops.layer_norm(rows[part], weight, bias, eps), y, rows.size)
    return y.reshape(x.shape)


def gelu(workers: Workers, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """See `ops.gelu`."""
    flat = x.reshape(-1)
    y = np.empty(flat.shape, x.dtype)
    shared(workers, lambda part: Ops.gelu(flat[part]), y, flat.size)
    return y.reshape(x.shape)


def attention(
    workers: Workers,
    q: Float[Array, "B K N c"],
    k: Float[Array, "B K T c"],
    v: Float[Array, "B K T d"],
    bias: Float[Array, "K N T"] | None = None,
) -> Float[Array, "B K N d"]:
    """See `ops.attention`. Windows, or prompts, are apart."""
    y = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    scores = len(q) * q.shape[1] * q.shape[2] * k.shape[2]
    shared(workers, lambda part: Ops.attention(q[part], k[part], v[part], bias), y, scores)
    return y


def depthwise_conv2d(
    workers: Workers, x: Float[Array, "B C H W"], weight: Float[Array, "C 1 3 3"], stride: int = 1
) -> Float[Array, "B C Ho Wo"]:
    """See `ops.depthwise_conv2d`. Channels are apart."""
    height, width = ((n - 1) // stride + 1 for n in x.shape[2:])
    y = np.empty((*x.shape[:2], height, width), x.dtype)
    shared(workers, lambda part: Ops.depthwise_conv2d(x[:, part], weight[part], stride), y.swapaxes(0, 1), x.size, axis=1)
    return y


def batch_norm(
    workers: Workers,
    x: Float[Array, "B C H W"],
    mean: Float[Array, " C"],
    variance: Float[Array, " C"],
    weight: Float[Array, " C"],
    bias: Float[Array, " C"],
    eps: float = 1e-5,
) -> Float[Array, "B C H W"]:
    """See `ops.batch_norm`. Channels are apart."""

    def compute(part: slice) -> Float[Array, "B c H W"]:
        return Ops.batch_norm(x[:, part], mean[part], variance[part], weight[part], bias[part], eps)

    y = np.empty(x.shape, x.dtype)
    shared(workers, compute, y.swapaxes(0, 1), x.size, axis=1)
    return y


def shared(workers: Workers, compute: Callable[[slice], Array], y: Float[Array, "n *N"], size: int, axis: int = 0) -> None:
    """Fill rows of `y` with `compute(part)`, where they are the axis `axis`; an argument has `size` elements in all."""
    rows = max(len(y) * PART // max(size, 1), 1)
    workers.map(_part, [(compute, y, slice(*span), axis) for span in spans(len(y), rows)])


def _part(_: Scratch, compute: Callable[[slice], Any], y: Float[Array, "n *N"], part: slice, axis: int) -> None:
    y[part] = compute(part).swapaxes(0, axis)
