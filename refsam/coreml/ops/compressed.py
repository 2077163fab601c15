"""Compressed weights, made dense: `constexpr_*`. iOS 16 packs bits and has a `shape`; iOS 18 has typed tensors instead.

And `quantize` and `dequantize`, which do to results what compression does to weights.
"""

import math
from typing import Any

import numpy as np

from refsam.coreml.arithmetic import Arithmetic
from refsam.coreml.blob import unpack_bits
from refsam.coreml.ops.registry import op
from refsam.coreml.types import check_broadcast, check_elements
from refsam.errors import PackageError, UnsupportedOp
from refsam.types import Array


@op("constexpr_affine_dequantize")
def affine_dequantize(c: Arithmetic, quantized_data: Array, zero_point: Array, scale: Array, axis: Any) -> Array:
    """(q - zero_point) * scale, one of each or one for each index of an axis."""
    offset, factor = (_along(quantized_data, v, axis) for v in (zero_point, scale))
    return (quantized_data.astype(c.dtype) - offset.astype(c.dtype)) * factor


def _along(x: Array, values: Array, axis: Any) -> Array:
    """One number, or one for each index of an axis of x, in a shape that is broadcast with x."""
    if values.size != 1:
        values = values.reshape([-1 if i == int(axis) % x.ndim else 1 for i in range(x.ndim)])
        check_broadcast(x, values)
    return values.reshape(()) if values.size == 1 else values


@op("dequantize")
def dequantize(c: Arithmetic, input: Array, scale: Array, zero_point: Array | None = None, axis: Any = None) -> Array:
    """(q - zero_point) * scale, one of each or one for each index of an axis."""
    values = input.astype(c.dtype)
    values = values if zero_point is None else values - _along(input, zero_point, axis).astype(c.dtype)
    return values * _along(input, scale, axis)


@op("quantize")
def quantize(
    c: Arithmetic, input: Array, scale: Array, output_dtype: str, zero_point: Array | None = None, axis: Any = None
) -> Array:
    """x / scale, rounded to the even neighbour where both are as near, + zero_point, within int8's or uint8's range."""
    if output_dtype not in ("int8", "uint8"):
        raise UnsupportedOp(f"quantize to {output_dtype!r:.40} is not one of MIL's; there are int8 and uint8")
    whole = np.round(c.step(input / _along(input, scale, axis)))
    whole = whole if zero_point is None else whole + _along(input, zero_point, axis).astype(whole.dtype)
    limits = np.iinfo(output_dtype)
    return np.clip(whole, limits.min, limits.max).astype(output_dtype)


@op("constexpr_lut_to_dense", moves=True)
def lut_to_dense(indices: Array, lut: Array, shape: Any = None, vector_axis: Any = None) -> Array:
    """Each index stands for an entry of a table (iOS 16), or of its group's table, whose entries may be vectors (iOS 18)."""
    if shape is not None:
        return _packed_lut(indices, lut, tuple(int(n) for n in np.ravel(shape)))
    if lut.ndim != indices.ndim + 2 or any(g < 1 or n % g for n, g in zip(indices.shape, lut.shape, strict=False)):
        raise PackageError(f"tables of shape {lut.shape} do not fit indices of shape {indices.shape}")
    if indices.size and indices.max() >= lut.shape[-2]:
        raise PackageError(f"index {indices.max()} into a table of {lut.shape[-2]}")
    check_elements("the weight", (*indices.shape, lut.shape[-1]))
    groups = np.ix_(*(np.arange(n) * g // n for n, g in zip(indices.shape, lut.shape, strict=False)))
    entries = lut[(*groups, indices.astype(np.int64))]
    if lut.shape[-1] == 1:
        return entries[..., 0]
    axis = int(vector_axis) % indices.ndim
    lengths = [n * lut.shape[-1] if i == axis else n for i, n in enumerate(indices.shape)]
    return np.moveaxis(entries, -1, axis + 1).reshape(lengths)


def _packed_lut(packed: Array, lut: Array, shape: tuple[int, ...]) -> Array:
    check_elements("the weight", shape)
    bits = lut.size.bit_length() - 1
    if lut.size != 1 << bits or not 1 <= bits <= 8:
        raise PackageError(f"a table of {lut.size} entries; it has to have 2, 4, ... or 256")
    return lut.reshape(-1)[unpack_bits(packed.reshape(-1).view(np.uint8), bits, math.prod(shape))].reshape(shape)


@op("constexpr_sparse_to_dense", moves=True)
def sparse_to_dense(nonzero_data: Array, mask: Array, shape: Any = None) -> Array:
    """Zero but where the mask is set."""
    if shape is not None:
        lengths = tuple(int(n) for n in np.ravel(shape))
        check_elements("the weight", lengths)
        mask = unpack_bits(mask.reshape(-1).view(np.uint8), 1, math.prod(lengths)).reshape(lengths)
    return _spread(nonzero_data, mask)


def _spread(values: Array, mask: Array) -> Array:
    chosen = mask.astype(bool)
    if values.size != np.count_nonzero(chosen):
        raise PackageError(f"{values.size} values for {np.count_nonzero(chosen)} places of a sparse weight")
    result = np.zeros(mask.shape, values.dtype)
    result[chosen] = values.reshape(-1)
    return result


@op("constexpr_blockwise_shift_scale")
def blockwise_shift_scale(c: Arithmetic, data: Array, scale: Array, offset: Array | None = None) -> Array:
    """(data - offset) * scale, one of each for every block."""
    values = data.astype(c.dtype)
    values = values if offset is None else values - _per_block(offset, data.shape).astype(c.dtype)
    return values * _per_block(scale, data.shape)


def _per_block(x: Array, shape: tuple[int, ...]) -> Array:
    if x.ndim != len(shape) or any(g < 1 or n % g for n, g in zip(shape, x.shape, strict=True)):
        raise PackageError(f"blocks of shape {x.shape} do not divide a weight of shape {shape}")
    return x[np.ix_(*(np.arange(n) * g // n for n, g in zip(shape, x.shape, strict=True)))]


@op("constexpr_lut_to_sparse", moves=True)
def lut_to_sparse(indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Any = None) -> list[Array]:
    """The mask, and the values of a sparse weight that is given by a table."""
    dense = lut_to_dense(_spread(indices_nonzero_data, indices_mask), lut, None, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = np.repeat(indices_mask, lut.shape[-1], int(vector_axis))
    return [mask, dense[mask.astype(bool)]]


@op("constexpr_sparse_blockwise_shift_scale")
def sparse_blockwise_shift_scale(
    c: Arithmetic, data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> list[Array]:
    """The mask, and the values of a sparse weight that is given by blocks."""
    dense = blockwise_shift_scale(c, _spread(nonzero_data, data_mask), scale, offset)
    return [data_mask, dense[data_mask.astype(bool)]]


@op("constexpr_cast")
def constexpr_cast(c: Arithmetic, source_val: Array) -> Array:
    """A weight that is stored in another type (float16 for float32)."""
    return source_val.astype(c.dtype)
