"""Normalisations. Epsilon is added to the variance, under the root."""

from typing import Any

import numpy as np

from refsam.coreml.arithmetic import Arithmetic
from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_broadcast
from refsam.types import Array

BATCH_NORM_EPSILON = 1e-5
"""What a batch_norm without an epsilon adds. Converters forget to say 0: see docs/coreml.md."""


@op("layer_norm")
def layer_norm(
    c: Arithmetic, x: Array, axes: Any = None, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Over these axes, by default all; gamma and beta have their shape."""
    over = tuple(range(x.ndim)) if axes is None else tuple(int(a) % x.ndim for a in axes)
    kept = x.ndim - len(over)
    if kept and set(over) == set(range(kept, x.ndim)):  # the last axes: row by row
        trailing = tuple(range(1, 1 + len(over)))
        rows = c.rows(lambda part: _normal(c, part, trailing, gamma, beta, epsilon), x.reshape(-1, *x.shape[kept:]))
        return rows.reshape(x.shape)
    return _normal(c, x, over, gamma, beta, epsilon)


def _normal(c: Arithmetic, x: Array, over: tuple[int, ...], gamma: Array | None, beta: Array | None, epsilon: Any) -> Array:
    mean = c.step(x.mean(over, keepdims=True))
    centred = c.step(x - mean)
    variance = c.step(np.square(centred).mean(over, keepdims=True))
    centred /= c.step(np.sqrt(variance + np.asarray(epsilon, x.dtype)))
    lengths = [n if i in over else 1 for i, n in enumerate(x.shape)]
    if gamma is not None:
        centred = c.step(centred) * gamma.reshape(lengths)
    return centred if beta is None else centred + beta.reshape(lengths)


@op("batch_norm")
def batch_norm(
    c: Arithmetic,
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = BATCH_NORM_EPSILON,
) -> Array:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta for each channel, axis 1."""
    check_broadcast(*(v for v in (mean, variance, gamma, beta) if v is not None))
    scale = c.step(1 / c.step(np.sqrt(variance + np.asarray(epsilon, x.dtype))))
    scale = scale if gamma is None else c.step(gamma * scale)
    shift = -c.step(mean * scale) if beta is None else c.step(beta - c.step(mean * scale))
    return _affine(c, x, scale, shift)


def _affine(c: Arithmetic, x: Array, scale: Array | None, shift: Array | None) -> Array:
    """x times a number and plus a number of its channel, axis 1."""
    shape = (-1,) + (1,) * (x.ndim - 2)
    if scale is not None:
        check_broadcast(x, scale.reshape(shape))
        x = x * scale.reshape(shape)
    if shift is None:
        return x
    check_broadcast(x, shift.reshape(shape))
    return (x if scale is None else c.step(x)) + shift.reshape(shape)


@op("instance_norm")
def instance_norm(c: Arithmetic, x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5) -> Array:
    """Each channel of each picture by its own mean and variance."""
    normal = layer_norm(c, x, tuple(range(2, x.ndim)), None, None, epsilon)
    return normal if gamma is None and beta is None else _affine(c, c.step(normal), gamma, beta)


@op("l2_norm")
def l2_norm(c: Arithmetic, x: Array, epsilon: Any = 1e-6) -> Array:
    """x divided by sqrt(sum of squares over the last three axes + epsilon)."""
    total = c.step(c.step(np.square(x)).sum((-3, -2, -1), keepdims=True))
    return x / c.step(np.sqrt(total + np.asarray(epsilon, x.dtype)))
