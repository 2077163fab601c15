"""Tensors in weight.bin (MIL blob storage, version 2), and how values of less than a byte are packed.

The file is little-endian: a header of 64 bytes, then for each tensor a record of 64 bytes that says where its data is.
Records and data begin at multiples of 64.
"""

import math
import os
import struct
from pathlib import Path

import numpy as np

from refsam.coreml.types import BY_NAME, Shape, TensorType, check_elements, known_shape
from refsam.errors import PackageError
from refsam.types import Array, UInt8

HEADER = struct.Struct("<II")
"""Count of tensors, version of the format."""

RECORD = struct.Struct("<IIQQQ")
"""Sentinel, element type, bytes of data, where the data begins in the file, unused bits at its end."""

SENTINEL = 0xDEADBEEF
VERSION = 2
ALIGNMENT = 64

ELEMENT_TYPES = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 5: "bf16", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1", 10: "uint2",
    11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32", 16: "fp8e4m3fn", 17: "fp8e5m2",
}  # fmt: skip


def read(path: Path, offset: int, kind: TensorType) -> Array:
    """The tensor whose record is at `offset`. Raises PackageError where record, length or type are not what `kind` needs."""
    shape = known_shape(f"the tensor at {offset}", kind.shape)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_header(file.read(HEADER.size))
            if offset % ALIGNMENT or not 0 < offset <= size - ALIGNMENT:
                raise PackageError(f"there is no tensor at byte {offset} of {size}")
            file.seek(offset)
            begin, length = _extent(file.read(RECORD.size), offset, size, kind.dtype, shape)
            file.seek(begin)
            raw = file.read(length)
    except PackageError as error:
        raise PackageError(f"{path.name}: {error}; the package is damaged") from None
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror or error}") from None
    return decode(raw, kind.dtype, shape)


def _check_header(raw: bytes) -> None:
    if len(raw) < HEADER.size:
        raise PackageError("the file is empty or truncated")
    _, version = HEADER.unpack(raw)
    if version != VERSION:
        raise PackageError(f"this is blob storage of version {version}; refsam reads version {VERSION}")


def _extent(record: bytes, offset: int, size: int, dtype: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Where the data begins and how many bytes it has."""
    sentinel, code, length, begin, unused = RECORD.unpack(record)
    if sentinel != SENTINEL:
        raise PackageError(f"there is no tensor at byte {offset}")
    stored = ELEMENT_TYPES.get(code, f"type {code}")
    if stored != dtype and not {stored, dtype} <= {"bool", "uint8"}:
        raise PackageError(f"the tensor at byte {offset} is {stored}, and the program takes it for {dtype}")
    if begin % ALIGNMENT or begin > size or length > size - begin:
        raise PackageError(f"the tensor at byte {offset} claims {length} bytes from {begin}, and the file has {size}")
    needed = packed_bytes(dtype, shape)
    if length != needed or unused >= 8:
        raise PackageError(f"the tensor at byte {offset} has {length} bytes where {dtype} {shape} needs {needed}")
    return begin, length


def packed_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor whose elements follow each other without gaps."""
    return -(-math.prod(shape) * BY_NAME[dtype].bits // 8)


def decode(raw: bytes | memoryview, dtype: str, shape: Shape) -> Array:
    """Packed little-endian bytes as an array. Raises PackageError where their number does not fit."""
    lengths = known_shape("a tensor", shape)
    if len(raw) != packed_bytes(dtype, lengths):
        raise PackageError(f"{len(raw)} bytes where {dtype} {lengths} needs {packed_bytes(dtype, lengths)}; the file is damaged")
    bits, numpy = BY_NAME[dtype].bits, BY_NAME[dtype].numpy
    if bits < 8:
        return unpack_bits(np.frombuffer(raw, np.uint8), bits, math.prod(lengths), dtype == "int4").reshape(lengths)
    if dtype == "bf16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(lengths)
    if dtype.startswith("fp8"):
        return _float8(np.frombuffer(raw, np.uint8), dtype).reshape(lengths)
    return np.frombuffer(raw, np.dtype(numpy).newbyteorder("<")).astype(numpy, copy=False).reshape(lengths)


def unpack_bits(raw: UInt8[Array, " bytes"], bits: int, count: int, signed: bool = False) -> Array:
    """`count` numbers of `bits` bits each, the lowest bit first, as uint8, or int8 in two's complement."""
    check_elements("a packed tensor", (count, bits))
    if 8 * len(raw) < count * bits:
        raise PackageError(f"{len(raw)} bytes hold fewer than {count} numbers of {bits} bits; the file is damaged")
    spread = np.unpackbits(raw, bitorder="little", count=count * bits).reshape(count, bits)
    values = np.packbits(spread, axis=1, bitorder="little")[:, 0] if count else np.zeros(0, np.uint8)
    if not signed:
        return values
    sign = 1 << (bits - 1)
    return ((values ^ sign).astype(np.int8) - np.int8(sign)).astype(np.int8)


def _float8(codes: UInt8[Array, " n"], dtype: str) -> Array:
    """OCP 8-bit floats as float32. Paper: arXiv 2209.05433."""
    exponent_bits, bias = (4, 7) if dtype == "fp8e4m3fn" else (5, 15)
    mantissa_bits = 7 - exponent_bits
    every = np.arange(256)
    exponent = (every >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (every & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    size = np.where(exponent > 0, (1 + fraction) * 2.0 ** (exponent - bias), fraction * 2.0 ** (1 - bias))
    if dtype == "fp8e4m3fn":  # finite only: one code for NaN, none for infinity
        size[(every & 0x7F) == 0x7F] = np.nan
    else:
        size[exponent == 31] = np.where(fraction[exponent == 31] > 0, np.nan, np.inf)
    return np.where(every < 128, size, -size).astype(np.float32)[codes]
