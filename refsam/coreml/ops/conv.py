"""Convolutions over one to three spatial axes, and pooling. Kernels are not flipped."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refsam.coreml.arithmetic import Arithmetic, check_work
from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_elements
from refsam.errors import PackageError, UnsupportedOp
from refsam.types import Array

COLUMNS = 1 << 20
"""Elements of the columns that are made at once."""

Pads = list[tuple[int, int]]


def numbers(values: Any, count: int, default: int) -> list[int]:
    """A parameter with one number for each axis."""
    found = [default] * count if values is None else [int(v) for v in np.ravel(values)]
    if len(found) != count:
        raise PackageError(f"a parameter has {len(found)} numbers where {count} are needed")
    return found


def padding(kind: str, pad: Any, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Pads:
    """Elements to add before and after each spatial axis."""
    spans = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    if kind == "valid":
        return [(0, 0)] * len(spans)
    if kind == "custom":
        both = numbers(pad, 2 * len(spans), 0)
        return list(zip(both[::2], both[1::2], strict=True))
    if kind in ("same", "same_lower") and all(s == 1 for s in strides) and all(span % 2 == 0 for span in spans):
        return [(span // 2, span // 2) for span in spans]
    raise UnsupportedOp(
        f"pad_type {kind!r:.40} with strides {list(strides)} and kernel {list(kernel)} is documented in two ways that differ; "
        "convert with explicit padding (pad_type 'custom')"
    )


def _spatial(x: Array, weight_shape: Sequence[int]) -> int:
    if x.ndim not in (3, 4, 5) or len(weight_shape) != x.ndim:
        raise PackageError(f"a convolution of {x.ndim} axes with a kernel of {len(weight_shape)}")
    return x.ndim - 2


def _padded(x: Array, pads: Pads, value: float = 0.0) -> Array:
    if not any(before or after for before, after in pads):
        return x
    check_elements("the padded input", (*x.shape[:2], *(n + sum(p) for n, p in zip(x.shape[2:], pads, strict=True))))
    if min(map(min, pads)) < 0:
        raise PackageError(f"a convolution has negative padding {pads}")
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)


def _windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """A view (B, C, *out, *kernel)."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if min(*strides, *dilations, *kernel) < 1 or any(n < r for n, r in zip(x.shape[2:], reach, strict=True)):
        raise PackageError(f"kernel {list(kernel)}, strides {list(strides)} and dilations {list(dilations)} do not fit {x.shape}")
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(reach), tuple(range(2, x.ndim)))
    at = tuple(slice(None, None, s) for s in strides)
    within = tuple(slice(None, None, d) for d in dilations)
    return view[(slice(None), slice(None), *at, *within)]


@op("conv")
def conv(
    c: Arithmetic,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: int | Array = 1,
) -> Array:
    """weight is (outputs, inputs / groups, *kernel); pad is [before, after] of each axis, read for pad_type "custom" only."""
    axes, kernel, split = _spatial(x, weight.shape), weight.shape[2:], int(groups)
    steps, gaps = numbers(strides, axes, 1), numbers(dilations, axes, 1)
    if split < 1 or weight.shape[1] * split != x.shape[1] or len(weight) % split:
        raise PackageError(f"{split} groups and a weight of shape {weight.shape} do not fit an input of shape {x.shape}")
    pads = padding(pad_type, pad, kernel, steps, gaps)
    if split == 1 and max(*kernel, *steps) == 1 and not any(map(any, pads)):
        return _pointwise(c, x, weight, bias)
    windows = _windows(_padded(x, pads), kernel, steps, gaps)
    shape = (len(x), len(weight), *windows.shape[2 : 2 + axes])
    check_elements("the result", shape)
    check_work(math.prod(shape) * math.prod(weight.shape[1:]))
    out = np.empty(shape, x.dtype)
    shift = np.zeros(len(weight), x.dtype) if bias is None else bias
    if weight.shape[1] == 1 and not c.accumulates_half:
        _depthwise(c, windows, weight, shift, out)
    else:
        _grouped(c, windows, weight, shift, split, out)
    return out


def _pointwise(c: Arithmetic, x: Array, weight: Array, bias: Array | None) -> Array:
    """One matrix product of the channels."""
    columns = x.reshape(*x.shape[:2], -1)
    out = c.dot(weight.reshape(weight.shape[:2]), columns, None if bias is None else bias[:, None])
    return out.reshape(len(x), len(weight), *x.shape[2:])


def _depthwise(c: Arithmetic, windows: Array, weight: Array, bias: Array, out: Array) -> None:
    """Each output sees one channel: a sum of shifted products, channel by channel so that the sum stays in the cache."""
    each = out.shape[1] // windows.shape[1]
    offsets = list(itertools.product(*(range(k) for k in weight.shape[2:])))

    def channel(index: tuple[int, int]) -> None:
        item, output = index
        image, kernel, total = windows[item, output // each], weight[output, 0], out[item, output]
        total[...] = bias[output]
        product = np.empty_like(total)
        for offset in offsets:
            np.multiply(image[(..., *offset)], kernel[offset], out=product)
            np.add(total, product, out=total)

    c.each(channel, list(itertools.product(range(out.shape[0]), range(out.shape[1]))))


def _grouped(c: Arithmetic, windows: Array, weight: Array, bias: Array, groups: int, out: Array) -> None:
    """Every patch becomes a column, a matrix product does the rest; band by band of the first spatial axis."""
    inputs, outputs, axes = weight.shape[1], len(weight) // groups, weight.ndim - 2
    row = weight[0].size * math.prod(out.shape[3:])
    step = max(1, COLUMNS // max(row, 1))
    to_columns = (0, *range(1 + axes, 1 + 2 * axes), *range(1, 1 + axes))

    def band(index: tuple[int, int, int]) -> None:
        item, group, start = index
        part = windows[item, group * inputs : (group + 1) * inputs, start : start + step].transpose(to_columns)
        mine = slice(group * outputs, (group + 1) * outputs)
        product = c.product(weight[mine].reshape(outputs, -1), part.reshape(weight[0].size, -1))
        product += bias[mine, None]
        out[item, mine, start : start + step] = product.reshape(outputs, *part.shape[1 + axes :])

    c.each(band, list(itertools.product(range(len(out)), range(groups), range(0, out.shape[2], step))))


@op("conv_transpose")
def conv_transpose(
    c: Arithmetic,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: str = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: int | Array = 1,
) -> Array:
    """The gradient of `conv`: weight is (inputs, outputs / groups, *kernel); padding is cut off, output_shape fixes the end."""
    axes, kernel, split = _spatial(x, weight.shape), weight.shape[2:], int(groups)
    steps, gaps = numbers(strides, axes, 1), numbers(dilations, axes, 1)
    if split < 1 or len(weight) != x.shape[1] or x.shape[1] % split or min(*steps, *gaps, *kernel) < 1:
        raise PackageError(f"{split} groups and a weight of shape {weight.shape} do not fit an input of shape {x.shape}")
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(x.shape[2:], steps, kernel, gaps, strict=True)]
    shape = (len(x), weight.shape[1] * split, *_allowed(full, x, weight, split))
    apart = list(kernel) == steps and set(gaps) == {1}  # every place has one patch
    everything = np.empty(shape, x.dtype) if apart else np.zeros(shape, x.dtype)
    inputs, outputs = x.shape[1] // split, weight.shape[1]
    for group in range(split):
        given, mine = slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)
        patches = c.dot(weight[given].reshape(inputs, -1).T, x[:, given].reshape(len(x), inputs, -1))
        places = [
            tuple(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in zip(at, gaps, x.shape[2:], steps, strict=True))
            for at in itertools.product(*(range(k) for k in kernel))
        ]
        pieces = patches.reshape(len(x), outputs, len(places), *x.shape[2:])
        _spread(c, pieces, everything[:, mine], places, apart)
    result = _cut(everything, padding(pad_type, pad, kernel, steps, gaps), output_shape)
    if bias is not None:
        result += bias.reshape((-1,) + (1,) * axes)
    return result


def _spread(c: Arithmetic, pieces: Array, out: Array, places: list[tuple[slice, ...]], apart: bool) -> None:
    """Add each piece (axis 2) at its place of `out`; pieces that lie apart are written, by all threads."""

    def one(index: int) -> None:
        target, source = out[(slice(None), slice(None), *places[index])], pieces[:, :, index]
        np.copyto(target, source) if apart else np.add(target, source, out=target)

    if apart:
        c.each(one, range(len(places)))
    else:
        for index in range(len(places)):
            one(index)


def _allowed(full: list[int], x: Array, weight: Array, groups: int) -> list[int]:
    check_elements("the result", (len(x), weight.shape[1] * groups, *full))
    check_elements("the patches", (len(x), weight.shape[1], math.prod(weight.shape[2:]), math.prod(x.shape[2:])))
    return full


def _cut(full: Array, pads: Pads, output_shape: Any) -> Array:
    """Without the padding; where an output shape is given, cut or filled with zeros at the end to have it."""
    lengths = [n - sum(p) for n, p in zip(full.shape[2:], pads, strict=True)]
    if output_shape is not None:
        lengths = numbers(np.ravel(output_shape)[-len(pads) :], len(pads), 0)
    if min(lengths) < 0 or min(map(min, pads)) < 0:
        raise PackageError(f"the result of a transposed convolution would have lengths {lengths}")
    shape = (*full.shape[:2], *lengths)
    check_elements("the result", shape)
    inside = full[(slice(None), slice(None), *(slice(p[0], p[0] + n) for p, n in zip(pads, lengths, strict=True)))]
    if inside.shape == shape:
        return inside
    result = np.zeros(shape, full.dtype)
    result[tuple(slice(0, n) for n in inside.shape)] = inside
    return result


def _pool(x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any, value: float) -> Array:
    """Windows (B, C, *out, elements) of the input padded with `value`."""
    axes = x.ndim - 2
    kernel, steps = numbers(kernel_sizes, axes, 1), numbers(strides, axes, 1)
    pads = padding(pad_type, pad, kernel, steps, [1] * axes)
    if bool(ceil_mode):
        raise UnsupportedOp("pooling with ceil_mode is not among the operations that refsam computes")
    windows = _windows(_padded(x, pads, value), kernel, steps, [1] * axes)
    check_elements("the windows", windows.shape)
    return windows.reshape(*windows.shape[: 2 + axes], -1)


@op("max_pool", moves=True)
def max_pool(
    x: Array, kernel_sizes: Any, strides: Any = None, pad_type: str = "valid", pad: Any = None, ceil_mode: Any = False
) -> Array:
    """The greatest of each window."""
    return _pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, -np.inf).max(-1)


@op("avg_pool")
def avg_pool(
    x: Array,
    kernel_sizes: Any,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    exclude_padding_from_average: Any = False,
    ceil_mode: Any = False,
) -> Array:
    """The mean of each window, with or without the padding."""
    windows = _pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, 0.0)
    if not bool(exclude_padding_from_average):
        return windows.mean(-1)
    return windows.sum(-1) / _pool(np.ones_like(x), kernel_sizes, strides, pad_type, pad, ceil_mode, 0.0).sum(-1)
