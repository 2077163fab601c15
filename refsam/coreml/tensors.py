"""Named tensors from outside: inputs of a run, or the intermediate results that a device dumped.

A file .npz or .safetensors, or a folder with one raw .bin (C order, little-endian) or .npy for each tensor.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refsam.coreml.types import BY_NAME, TensorType
from refsam.errors import InputError
from refsam.files import atomic_write, check_regular, visible
from refsam.formats import npz_file, safetensors_file
from refsam.tracing import read_arrays
from refsam.types import Array

MAX_BYTES = 16 << 30
"""Of what an .npz unpacks to."""


def read(path: str | os.PathLike[str], types: Mapping[str, TensorType]) -> dict[str, Array]:
    """All tensors at `path`; those of raw files have the element type and shape that `types` gives to their name.

    Raises InputError where the file cannot be read, or a raw file's length is not what its type needs, or does not tell between
    two ways to read it. `Program.types_for` leaves no length unknown.
    """
    place = Path(path)
    try:
        return _folder(place, types) if place.is_dir() else _file(place)
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error!s:.300}") from None


def _file(path: Path) -> dict[str, Array]:
    _check_regular(path)
    with path.open("rb") as file:
        head = file.read(512)
    if safetensors_file.matches(head):
        return read_arrays(path)[0]
    if not head.startswith(b"PK"):
        raise InputError(f"{path} is neither .npz nor .safetensors nor a folder of .bin or .npy files")
    return npz_file.read(path, MAX_BYTES)


def _check_regular(path: Path) -> None:
    try:
        check_regular(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _folder(folder: Path, types: Mapping[str, TensorType]) -> dict[str, Array]:
    """The name of a file is the tensor's, with "_" for what a file name cannot hold."""
    names = {file_name(name): name for name in types}
    found = {}
    for path in visible(folder):
        name = names.get(path.stem, path.stem)
        if path.suffix == ".npy":
            found[name] = npz_file.read_npy(path)
        elif path.suffix == ".bin":
            if name not in types:
                raise InputError(f"{path} is no tensor of the program; raw files are named like {next(iter(types), 'x')}.bin")
            found[name] = _raw(path, types[name])
    if not found:
        raise InputError(f"{folder} has no .bin or .npy file")
    return found


def _raw(path: Path, kind: TensorType) -> Array:
    """float16 or float32 for a float tensor, which of them the length says; one unknown length follows from the rest."""
    _check_regular(path)
    data = path.read_bytes()
    own = BY_NAME[kind.dtype].numpy
    candidates = (own, np.float32, np.float16) if kind.is_float else (own,)
    found = {dtype: shape for dtype in candidates if (shape := _shape(len(data), dtype, kind)) is not None}
    if not found:
        raise InputError(f"{path} has {len(data)} bytes, which {kind} does not explain; write it in C order, or as .npy")
    dtype, shape = next(iter(found.items()))
    other = "bfloat16" if kind.dtype == "bf16" else "float32"
    if np.float16 in found and (kind.dtype == "bf16" or (kind.dtype == "fp16" and len(found) > 1)):
        raise InputError(f"{path} has {len(data)} bytes: {kind} may be float16 or {other} here; write it as .npy, which says")
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _shape(size: int, dtype: type, kind: TensorType) -> list[int] | None:
    """The shape of so many bytes of this type, None where they do not fit, or more than one length is unknown."""
    elements, rest = divmod(size, np.dtype(dtype).itemsize)
    count, unknown = math.prod(n for n in kind.shape if n is not None), kind.shape.count(None)
    if rest or unknown > 1 or (elements != count if not unknown else not count or elements % count):
        return None
    return [elements // count if n is None else n for n in kind.shape]


def file_name(tensor: str) -> str:
    """A tensor's name as a file's: letters, digits, "-", "_" and "." stay, anything else becomes "_"."""
    return re.sub(r"[^\w.-]", "_", tensor, flags=re.ASCII)


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array]) -> None:
    """Write tensors as .npz, or as .safetensors where the name ends so. Raises InputError where it cannot be written."""
    with atomic_write(path) as file:
        if Path(path).suffix == ".safetensors":
            safetensors_file.write(file, tensors, {})
        else:
            npz_file.write(file, tensors)
