"""Reading and writing .safetensors.

The format: 8 bytes with the header's length, a JSON header (name -> dtype, shape, data_offsets), the data without gaps.
Read here and not by the safetensors package, because every bound is checked before any memory is asked for, and because
weights are written straight to their file; tests hold both directions against the package.
"""

import json
from collections.abc import Mapping
from functools import partial
from io import BufferedIOBase
from typing import Any

import numpy as np

from refsam.errors import CheckpointError, InputError
from refsam.formats.stored import ITEM_SIZE, MAX_HEADER, Stored, StoredTensor, check_shape, decode, nbytes
from refsam.types import Array


def matches(head: bytes) -> bool:
    """Whether a file that begins so is .safetensors: a length, then an object."""
    return len(head) > 8 and head[8:9] == b"{" and head[4:8] == b"\0\0\0\0"


def read(file: BufferedIOBase, size: int) -> Stored:
    """The tensors of a .safetensors file of `size` bytes. Raises CheckpointError where any byte is not accounted for."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER, size - 8):
        raise CheckpointError(
            f"the safetensors header claims {length} bytes of a file of {size}: truncated or not a weights file"
        )
    header = _parse(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError("the safetensors metadata is not a table of texts; the file is damaged")
    entries = {name: _entry(name, value) for name, value in header.items()}
    _check_layout({name: (start, stop) for name, (_, _, start, stop) in entries.items()}, size - 8 - length)
    return Stored(
        {
            name: StoredTensor(dtype, shape, partial(_load, file, dtype, shape, 8 + length + start, 8 + length + stop))
            for name, (dtype, shape, start, stop) in entries.items()
        },
        metadata,
    )


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats, parse_int=_bounded)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the safetensors header is damaged: {error}") from None
    if not isinstance(header, dict):
        raise CheckpointError("the safetensors header is not a table; the file is damaged")
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _bounded(digits: str) -> int:
    """Python takes quadratic time for long numbers, and only newer versions refuse them."""
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _entry(name: str, value: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, start, stop) of one tensor, consistent in itself."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"tensor {name} is not described as dtype, shape and data_offsets; the file is damaged")
    dtype, shape = value["dtype"], check_shape(name, value["shape"])
    if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
        raise CheckpointError(f"tensor {name} has the unknown type {dtype!s:.40}; save it as F32, F16, BF16 or F64")
    offsets = check_shape(name, value["data_offsets"])
    if len(offsets) != 2 or offsets[1] - offsets[0] != nbytes(dtype, shape):
        raise CheckpointError(f"tensor {name} has data_offsets {offsets} that do not fit its shape {shape}; the file is damaged")
    return dtype, shape, offsets[0], offsets[1]


def _check_layout(spans: Mapping[str, tuple[int, int]], size: int) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    end = 0
    for name, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if start != end:
            raise CheckpointError(f"tensor {name} starts at byte {start} of the data, not at {end}: a gap or an overlap")
        end = stop
    if end != size:
        raise CheckpointError(f"the tensors need {end} bytes and the file has {size}: truncated or damaged")


def _load(file: BufferedIOBase, dtype: str, shape: tuple[int, ...], start: int, stop: int) -> Array:
    file.seek(start)
    raw = file.read(stop - start)
    if len(raw) != stop - start:
        raise CheckpointError("the file ended while it was read: it is being changed")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which the checkpoint refuses by name
        return decode(raw, dtype).reshape(shape).astype(np.float32)


def write(file: BufferedIOBase, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays one by one, so that no second copy of them all is made: the same bytes on every run.

    Wide types come first, then names in order, so that every tensor is aligned to its type. Raises InputError, before anything
    is written, for a type that the format does not have, and for metadata that `read` would refuse.
    """
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InputError(f"metadata {name!r:.80} is {value!r:.80}; texts are stored, make it one with str() or json.dumps()")
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    end = 0
    for name in order:
        array = tensors[name]
        header[name] = {"dtype": _dtype_name(array), "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned for readers that map the file
    if len(text) > MAX_HEADER:
        longest = max(metadata, key=lambda name: len(metadata[name]), default="")
        raise InputError(
            f"names, shapes and metadata take {len(text)} bytes, of which {MAX_HEADER} are read again; the longest text is"
            f" metadata {longest!r:.80}"
        )
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False).tobytes())


def _dtype_name(array: Array) -> str:
    """The name that the format gives to an array's type."""
    name = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}.get(array.dtype.kind, "")
    name = name if name in ("", "BOOL") else f"{name}{8 * array.itemsize}"
    if name not in ITEM_SIZE:
        raise InputError(f"an array of {array.dtype} cannot be stored as safetensors; cast it to float32")
    return name
