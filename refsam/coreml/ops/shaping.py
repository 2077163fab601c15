"""Operations that move values and change none, and those that make tensors from numbers."""

import math
from typing import Any

import numpy as np

from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_broadcast, check_elements
from refsam.errors import PackageError, UnsupportedOp
from refsam.types import Array

Index = tuple[int | slice, ...]


def ints(values: Any) -> list[int]:
    """A parameter of whole numbers as a list."""
    return [int(v) for v in np.ravel(values)]


@op("reshape", moves=True)
def reshape(x: Array, shape: Any) -> Array:
    """The same elements in another shape: 0 keeps that axis's length, one -1 follows from the rest."""
    lengths = [x.shape[i] if n == 0 and i < x.ndim else n for i, n in enumerate(ints(shape))]
    return x.reshape(lengths)


@op("reshape_like", moves=True)
def reshape_like(x: Array, ref_tensors: list[Array], begins: Any, ends: Any, end_masks: Any) -> Array:
    """The shape is put together from ranges of the axes of other tensors."""
    lengths: list[int] = []
    for ref, begin, end, open_end in zip(ref_tensors, ints(begins), ints(ends), np.ravel(end_masks), strict=True):
        lengths.extend(ref.shape[begin : None if open_end else end])
    return x.reshape(lengths)


@op("flatten2d", moves=True)
def flatten2d(x: Array, axis: Any = 1) -> Array:
    """The axes before `axis` as one, the others as one."""
    at = int(axis) % x.ndim if x.ndim else 0
    return x.reshape(math.prod(x.shape[:at]), -1)


@op("transpose", moves=True)
def transpose(x: Array, perm: Any) -> Array:
    """The axes in another order."""
    return x.transpose(ints(perm))


@op("expand_dims", moves=True)
def expand_dims(x: Array, axes: Any) -> Array:
    """New axes of length 1."""
    return np.expand_dims(x, tuple(ints(axes)))


@op("squeeze", moves=True)
def squeeze(x: Array, axes: Any = None) -> Array:
    """Without these axes of length 1, by default without all such."""
    return np.squeeze(x, None if axes is None else tuple(ints(axes)))


@op("concat", moves=True)
def concat(values: list[Array], axis: Any, interleave: Any = False) -> Array:
    """One after the other along an axis, or element by element in turn."""
    along = int(axis)
    check_elements("the result", (sum(v.size for v in values),))
    if not bool(interleave):
        values = [np.atleast_1d(v) for v in values]
        return np.concatenate(values, along)
    stacked = np.stack(values, along % values[0].ndim + 1)
    return stacked.reshape([len(values) * n if i == along % values[0].ndim else n for i, n in enumerate(values[0].shape)])


@op("stack", moves=True)
def stack(values: list[Array], axis: Any) -> Array:
    """One after the other along a new axis."""
    check_elements("the result", (sum(v.size for v in values),))
    return np.stack(values, int(axis))


@op("split", moves=True)
def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> list[Array]:
    """Parts along an axis, equal ones or of these sizes."""
    along = int(axis)
    if split_sizes is None:
        count = int(num_splits) if num_splits is not None else 0
        if not 0 < count <= max(x.shape[along], 1):
            raise PackageError(f"an axis of length {x.shape[along]} cannot be split into {count} parts")
        return np.split(x, count, along)
    sizes = ints(split_sizes)
    if min(sizes, default=0) < 0 or sum(sizes) != x.shape[along]:
        raise PackageError(f"parts of lengths {sizes} are not an axis of length {x.shape[along]}")
    return np.split(x, np.cumsum(sizes)[:-1].tolist(), along)


def where(x: Array, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any, squeeze_mask: Any) -> Index:
    """NumPy's index of a slice in MIL's terms: a mask leaves that end open, squeeze takes one element and drops the axis.

    Where begin is open too, that element is the first.
    """
    begins, ends = ints(begin), ints(end)
    steps = [1] * x.ndim if stride is None else ints(stride)
    open_begin, open_end, single = (
        [False] * x.ndim if m is None else [bool(v) for v in np.ravel(m)] for m in (begin_mask, end_mask, squeeze_mask)
    )
    if {len(v) for v in (begins, ends, steps, open_begin, open_end, single)} != {x.ndim} or 0 in steps:
        raise PackageError(f"begin {begins}, end {ends} and stride {steps} do not fit an input of {x.ndim} axes")
    parts = (slice(None if open_begin[i] else begins[i], None if open_end[i] else ends[i], steps[i]) for i in range(x.ndim))
    return tuple((0 if open_begin[i] else begins[i]) if single[i] else part for i, part in enumerate(parts))


@op("slice_by_index", moves=True)
def slice_by_index(
    x: Array, begin: Any, end: Any, stride: Any = None, begin_mask: Any = None, end_mask: Any = None, squeeze_mask: Any = None
) -> Array:
    """A part with steps; negative indices count from the end."""
    return np.asarray(x[where(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)])


@op("slice_update", moves=True)
def slice_update(
    x: Array,
    update: Array,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """x with that part replaced."""
    result = x.copy()
    result[where(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return result


@op("slice_by_size", moves=True)
def slice_by_size(x: Array, begin: Any, size: Any) -> Array:
    """A part of these lengths; -1 goes to the end."""
    starts = [b + n if b < 0 else b for b, n in zip(ints(begin), x.shape, strict=True)]
    parts = [slice(b, None if n == -1 else b + n) for b, n in zip(starts, ints(size), strict=True)]
    return x[tuple(parts)]


@op("pad", moves=True)
def pad(x: Array, pad: Any, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """`pad` is [before, after] for each of the *last* axes, from the first of those on."""
    both = ints(pad)
    own = [(0, 0)] * (x.ndim - len(both) // 2) + list(zip(both[::2], both[1::2], strict=True))
    if len(own) != x.ndim or min(both, default=0) < 0:
        raise PackageError(f"padding {both} does not fit an input of {x.ndim} axes")
    check_elements("the result", tuple(n + sum(p) for n, p in zip(x.shape, own, strict=True)))
    if mode == "constant":
        return np.pad(x, own, constant_values=np.asarray(constant_val, x.dtype))
    if mode == "reflect" and all(max(p) < n for p, n in zip(own, x.shape, strict=True)):
        return np.pad(x, own, mode="reflect")
    if mode == "replicate":
        return np.pad(x, own, mode="edge")
    raise UnsupportedOp(f"pad with mode {mode!r:.40} and {both}; there are constant, replicate, and reflect within the input")


@op("tile", moves=True)
def tile(x: Array, reps: Any) -> Array:
    """Repeated along each axis."""
    counts = ints(reps)
    if min(counts, default=0) < 0 or len(counts) != x.ndim:
        raise PackageError(f"{counts} repetitions of an input of {x.ndim} axes")
    check_elements("the result", tuple(n * r for n, r in zip(x.shape, counts, strict=True)))
    return np.tile(x, counts)


@op("reverse", moves=True)
def reverse(x: Array, axes: Any = None) -> Array:
    """Back to front along these axes, by default all."""
    return np.flip(x, None if axes is None else tuple(ints(axes)))


@op("shape", moves=True)
def shape(x: Array) -> Array:
    """The lengths of all axes."""
    return np.array(x.shape, np.int32)


@op("fill", moves=True)
def fill(shape: Any, value: Any = 0.0) -> Array:
    """A tensor of one value."""
    check_elements("the result", tuple(ints(shape)))
    return np.full(ints(shape), value)


@op("fill_like", moves=True)
def fill_like(ref_tensor: Array, value: Any = 0.0) -> Array:
    """A tensor of one value in the shape of another."""
    return np.full(ref_tensor.shape, value)


@op("range_1d")
def range_1d(start: Array, end: Array, step: Array) -> Array:
    """start, start + step, ... below end."""
    count = math.ceil((float(end) - float(start)) / float(step)) if float(step) else -1
    check_elements("the result", (max(count, 0) if float(step) else -1,))
    return np.asarray(start + np.arange(max(count, 0)).astype(np.asarray(start).dtype) * step)


@op("one_hot", moves=True)
def one_hot(indices: Array, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0) -> Array:
    """A new axis with `on_value` where the index says, else `off_value`."""
    size = int(one_hot_vector_size)
    check_broadcast(np.broadcast_to(0, (*indices.shape, size)), on_value, off_value)
    hot = np.where(np.arange(size) == indices[..., None], on_value, off_value)
    return np.moveaxis(hot, -1, int(axis))


@op("band_part", moves=True)
def band_part(x: Array, lower: Any = -1, upper: Any = -1) -> Array:
    """Zero outside a band around the diagonal; -1 keeps all on that side."""
    check_elements("the result", x.shape)  # one without elements may be as large as it likes
    distance = np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]
    keep = ((int(lower) < 0) | (-distance <= int(lower))) & ((int(upper) < 0) | (distance <= int(upper)))
    return np.where(keep, x, np.zeros((), x.dtype))


@op("depth_to_space", moves=True)
def depth_to_space(x: Array, block_size: Any) -> Array:
    """Channels become blocks of pixels: channel (dy, dx, C) of TensorFlow's order."""
    n, (batch, channels, height, width) = int(block_size), x.shape
    blocks = x.reshape(batch, n, n, channels // (n * n), height, width)
    return blocks.transpose(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * n, width * n)


@op("space_to_depth", moves=True)
def space_to_depth(x: Array, block_size: Any) -> Array:
    """The inverse of `depth_to_space`."""
    n, (batch, channels, height, width) = int(block_size), x.shape
    blocks = x.reshape(batch, channels, height // n, n, width // n, n)
    return blocks.transpose(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // n, width // n)


@op("pixel_shuffle", moves=True)
def pixel_shuffle(x: Array, upscale_factor: Any) -> Array:
    """Channels become blocks of pixels: channel (C, dy, dx), torch's order."""
    n, (batch, channels, height, width) = int(upscale_factor), x.shape
    blocks = x.reshape(batch, channels // (n * n), n, n, height, width)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * n, width * n)


@op("pixel_unshuffle", moves=True)
def pixel_unshuffle(x: Array, downscale_factor: Any) -> Array:
    """The inverse of `pixel_shuffle`."""
    n, (batch, channels, height, width) = int(downscale_factor), x.shape
    blocks = x.reshape(batch, channels, height // n, n, width // n, n)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // n, width // n)
