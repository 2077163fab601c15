"""Reductions over axes, by default over all."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsam.coreml.ops.registry import op
from refsam.types import Array

REDUCTIONS: dict[str, Callable[..., Array]] = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, **over: np.sum(np.abs(x), **over),
    "reduce_l2_norm": lambda x, **over: np.sqrt(np.sum(np.square(x), **over)),
    "reduce_sum_square": lambda x, **over: np.sum(np.square(x), **over),
    "reduce_log_sum": lambda x, **over: np.log(np.sum(x, **over)),
}


def _reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def compute(x: Array, axes: Any = None, keep_dims: Any = False) -> Array:
        over = None if axes is None else tuple(int(a) for a in np.ravel(axes))
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return compute


for _name, _function in REDUCTIONS.items():
    op(_name, moves=_name in ("reduce_max", "reduce_min"))(_reduction(_function))


@op("reduce_log_sum_exp")
def reduce_log_sum_exp(x: Array, axes: Any = None, keep_dims: Any = False) -> Array:
    """ln sum e^x; the greatest is subtracted first."""
    over = None if axes is None else tuple(int(a) for a in np.ravel(axes))
    greatest = np.max(x, axis=over, keepdims=True)
    shift = np.where(np.isfinite(greatest), greatest, 0)  # of nothing but -inf the logarithm is -inf, not NaN
    result = np.log(np.sum(np.exp(x - shift), axis=over, keepdims=True)) + shift
    return result if bool(keep_dims) else np.asarray(np.squeeze(result, over))


@op("reduce_argmax")
def reduce_argmax(x: Array, axis: Any = -1, keep_dims: Any = False) -> Array:
    """Where the greatest is."""
    return np.asarray(np.argmax(x, axis=int(axis), keepdims=bool(keep_dims)))


@op("reduce_argmin")
def reduce_argmin(x: Array, axis: Any = -1, keep_dims: Any = False) -> Array:
    """Where the least is."""
    return np.asarray(np.argmin(x, axis=int(axis), keepdims=bool(keep_dims)))


@op("cumsum")
def cumsum(x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Array:
    """Sums of all elements up to each, with it or (exclusive) without."""
    along = int(axis)
    x = np.flip(x, along) if bool(reverse) else x
    total = np.cumsum(x, along)
    if bool(exclusive):  # moved on by one: taking x off again would leave a NaN behind an infinity
        total = np.roll(total, 1, along)
        total[(slice(None),) * (along % x.ndim) + (0,)] = 0
    return np.flip(total, along) if bool(reverse) else total
