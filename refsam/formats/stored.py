"""What a weights file holds, before any of its data is read: the common result of all readers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from refsam.errors import CheckpointError
from refsam.types import Array

Shape = tuple[int, ...]

ITEM_SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
             "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip
"""Bytes of one element, by the names that safetensors gives to the types."""

MAX_RANK = 8
MAX_HEADER = 2 << 20
"""Bytes of the part that lists names and shapes; MobileSAM's is 50 kB, ViT-H's 100 kB."""

_FLOATS = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2"}


def nbytes(dtype: str, shape: Shape) -> int:
    """Bytes of a tensor."""
    return math.prod(shape) * ITEM_SIZE[dtype]


class StoredTensor(NamedTuple):
    """One tensor: its type (a key of ITEM_SIZE), its shape, and a function that reads it as float32."""

    dtype: str
    shape: Shape
    read: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return nbytes(self.dtype, self.shape)


@dataclass(frozen=True)
class Stored:
    """All tensors of a file by name, and its metadata."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def check_shape(name: str, shape: object) -> Shape:
    """`shape` as a tuple of sizes; raises CheckpointError where it is anything else."""
    sizes = tuple(shape) if isinstance(shape, list | tuple) else None
    if sizes is None or len(sizes) > MAX_RANK or not all(type(size) is int and 0 <= size < 1 << 40 for size in sizes):
        raise CheckpointError(f"tensor {name} has no valid shape; the file is damaged")
    return sizes


def decode(raw: bytes, dtype: str, byteorder: str = "<") -> Array:
    """`raw` as a flat float array that shares its memory (BF16: a float32 copy, exactly its values).

    Raises CheckpointError for a type that is not a float: weights are never whole numbers.
    """
    if dtype not in _FLOATS:
        raise CheckpointError(f"its type is {dtype}; a weight has to be F32, F16, BF16 or F64")
    flat = np.frombuffer(raw, dtype=byteorder + _FLOATS[dtype])
    if dtype == "BF16":  # the upper half of a float32
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat
