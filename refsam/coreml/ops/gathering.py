"""Reading and writing at indices that are data. An index beyond an axis is an error here; on a device it reads anything."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_broadcast, check_elements
from refsam.errors import PackageError, UnsupportedOp
from refsam.types import Array

WRITES: dict[str, Callable[[Array, Any, Array], None]] = {
    "add": np.add.at, "sub": np.subtract.at, "mul": np.multiply.at, "div": np.divide.at, "max": np.maximum.at,
    "min": np.minimum.at,
}  # fmt: skip


CHECKED = ("gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd")
"""Operations whose indices are places in a tensor."""


def check_not_negative(kind: str, indices: Any) -> None:
    """Raise PackageError where an operation of a set without negative indices is given one: a device reads anything there."""
    least = np.min(indices, initial=0)
    if kind in CHECKED and least < 0:
        raise PackageError(f"index {least} is negative, which is out of bounds from iOS 17 on; add the axis's length to it")


def _wrapped(indices: Array, length: int) -> Array:
    """Indices from 0 on. Raises PackageError where one is beyond the axis."""
    whole = np.asarray(indices).astype(np.int64)
    if whole.size and (whole.min() < -length or whole.max() >= length):
        raise PackageError(f"an index is between {whole.min()} and {whole.max()}, and the axis has length {length}")
    return np.where(whole < 0, whole + length, whole)


def _write(data: Array, at: Any, updates: Array, mode: str) -> Array:
    result = data.copy()
    if mode == "update":
        result[at] = updates
    elif mode in WRITES:
        WRITES[mode](result, at, updates)
    else:
        raise UnsupportedOp(f"scatter has no mode {mode!r:.40}; there are: update, {', '.join(WRITES)}")
    return result


@op("gather", moves=True)
def gather(x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0) -> Array:
    """Slices of x along an axis; with batch_dims, the first axes of both go together."""
    along, batch = int(axis) % max(x.ndim, 1), int(batch_dims)
    whole = _wrapped(indices, x.shape[along])
    if not 0 <= batch <= min(along, whole.ndim):
        raise PackageError(f"gather with batch_dims {batch} along axis {along}")
    check_elements("the result", (*x.shape[:along], *whole.shape[batch:], *x.shape[along + 1 :]))
    if batch == 0:
        return np.take(x, whole, along)
    lead = x.shape[:batch]
    flat, places = x.reshape(-1, *x.shape[batch:]), whole.reshape(-1, *whole.shape[batch:])
    taken = [np.take(part, at, along - batch) for part, at in zip(flat, places, strict=True)]
    return np.stack(taken).reshape(*lead, *taken[0].shape)


@op("gather_along_axis", moves=True)
def gather_along_axis(x: Array, indices: Array, axis: Any = 0) -> Array:
    """One element for each index, which has its own place in the other axes."""
    whole = _wrapped(indices, x.shape[int(axis)])
    check_broadcast(whole, x[(slice(None),) * (int(axis) % x.ndim) + (slice(1),)])
    return np.take_along_axis(x, whole, int(axis))


@op("gather_nd", moves=True)
def gather_nd(x: Array, indices: Array, batch_dims: Any = 0) -> Array:
    """The last axis of the indices is a place in the first axes of x."""
    if int(batch_dims):
        raise UnsupportedOp("gather_nd with batch_dims is not among the operations that refsam computes")
    at = _places(x, indices)
    check_elements("the result", (*indices.shape[:-1], *x.shape[len(at) :]))
    return np.asarray(x[at])


def _places(x: Array, indices: Array) -> tuple[Array, ...]:
    depth = indices.shape[-1] if indices.ndim else 0
    if not 0 < depth <= x.ndim:
        raise PackageError(f"indices of shape {indices.shape} into an input of {x.ndim} axes")
    return tuple(_wrapped(indices[..., i], x.shape[i]) for i in range(depth))


@op("scatter")
def scatter(data: Array, indices: Array, updates: Array, axis: Any = 0, mode: str = "add") -> Array:
    """Slices of updates into data along an axis. Its default is to add, as in coremltools' code; its text says to replace."""
    along = int(axis) % max(data.ndim, 1)
    return _write(data, (slice(None),) * along + (_wrapped(indices, data.shape[along]),), updates, mode)


@op("scatter_along_axis")
def scatter_along_axis(data: Array, indices: Array, updates: Array, axis: Any = 0, mode: str = "add") -> Array:
    """One element for each index, which has its own place in the other axes."""
    along = int(axis) % max(data.ndim, 1)
    places = list(np.meshgrid(*(np.arange(n) for n in indices.shape), indexing="ij", sparse=True))
    places[along] = _wrapped(indices, data.shape[along])
    return _write(data, tuple(places), updates, mode)


@op("scatter_nd")
def scatter_nd(data: Array, indices: Array, updates: Array, mode: str = "add") -> Array:
    """The last axis of the indices is a place in the first axes of data."""
    return _write(data, _places(data, indices), updates, mode)


@op("argsort", moves=True)
def argsort(x: Array, axis: Any = -1, ascending: Any = False) -> Array:
    """The order that sorts along an axis, the greatest first unless `ascending`; equals keep their order."""
    return np.argsort(x if bool(ascending) else _descending(x), int(axis), kind="stable")


def _descending(x: Array) -> Array:
    """Numbers in the opposite order. Negatives of unsigned and of the least whole ones wrap round, complements do not."""
    return -x if x.dtype.kind == "f" else ~x


@op("topk", moves=True)
def topk(x: Array, k: Any = 1, axis: Any = -1, ascending: Any = False, return_indices: Any = True) -> list[Array]:
    """The k greatest (or least) along an axis, sorted, and where they are."""
    count = int(k) if int(k) >= 0 else x.shape[int(axis)]
    order = np.take(argsort(x, axis, ascending), np.arange(min(count, x.shape[int(axis)])), int(axis))
    values = np.take_along_axis(x, order, int(axis))
    return [values, order] if bool(return_indices) else [values]


@op("non_zero", moves=True)
def non_zero(x: Array) -> Array:
    """The places of all elements that are not zero, one in each row."""
    check_elements("the result", (int(np.count_nonzero(x)), x.ndim))
    return np.argwhere(x)
