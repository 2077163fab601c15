"""Opening a weights file strictly: names, shapes, types and values are what the graph needs, or the error says what is not.

The formats are one table; what a file is, its first bytes tell, not its name.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from refsam import files
from refsam.config import Config, infer
from refsam.errors import CheckpointError, InputError
from refsam.formats import foreign_models, safetensors_file, torch_pickle
from refsam.formats.stored import Stored, StoredTensor
from refsam.parameters import is_unused, parameter_shapes
from refsam.types import Array

ROOTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
FLOATS = ("F32", "F16", "BF16", "F64")
DTYPES = {"float32": np.float32, "float16": np.float16}
SHOWN = 4
"""How many violations an error names before it counts the rest."""

LONGEST = 1000
"""Characters of an error: names come from the file, and may be long."""


@dataclass(frozen=True)
class Format:
    """A file format: a test on the first bytes, and a reader of (file, size in bytes)."""

    name: str
    matches: Callable[[bytes], bool]
    read: Callable[[BufferedIOBase, int], Stored]


FORMATS = [
    Format("safetensors", safetensors_file.matches, safetensors_file.read),
    Format("torch zip", torch_pickle.matches_zip, torch_pickle.read_zip),
    Format("torch before 1.6", torch_pickle.matches_legacy, torch_pickle.read_legacy),
]


@dataclass(frozen=True)
class Checkpoint:
    """An opened weights file.

    Attributes:
        tensors: float32, under upstream's names, exactly those that the graph of `config` uses, in upstream's order.
        config: from the file's metadata where it has one, else inferred from the shapes.
        sha256: of the whole file, in hexadecimal.
        path: where it was read.
        format: a name in FORMATS.
        metadata: the file's own texts (empty for .pt).
    """

    tensors: dict[str, Array]
    config: Config
    sha256: str
    path: Path
    format: str
    metadata: Mapping[str, str]


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The tensors of a MobileSAM checkpoint (.safetensors or .pt): float32, under upstream's names.

    Storage as float16, bfloat16 or float64 is converted; tensors that upstream saves and never uses are left out.
    Raises CheckpointError, which names the file, the tensor and the remedy.
    """
    return load(path).tensors


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """As `read`, with the config, the file's hash and its metadata. Raises CheckpointError."""
    place = Path(path)
    try:
        with _open(place) as file:
            return _load(file, place)
    except InputError as error:
        raise CheckpointError(f"{place}: {str(error)[:LONGEST]}") from None
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read: {error.strerror or error}") from None


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Array],
    config: Config,
    metadata: Mapping[str, str] | None = None,
    dtype: str = "float32",
) -> None:
    """Write a .safetensors checkpoint that `load` reads without guessing: its metadata carry the config and a hash.

    Args:
        path: the file; it is whole or not there, and a symbolic link is replaced.
        tensors: all tensors of the graph of `config`, any float type.
        config: the architecture.
        metadata: further texts, e.g. licence and origin.
        dtype: "float32" or "float16".

    Raises CheckpointError where tensors do not fit `config` or a value has no room in `dtype`, InputError where `path` cannot be
    written, or metadata are no texts or too long.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype is {dtype!r}; weights are stored as one of: {', '.join(DTYPES)}")
    _check_shapes({name: tensor.shape for name, tensor in tensors.items()}, config)
    _refuse(
        [
            f"tensor {name} is {tensor.dtype}; give it as float32"
            for name, tensor in tensors.items()
            if tensor.dtype.kind in "cOSUMm"
        ]
    )
    with np.errstate(over="ignore"):
        stored = {name: np.ascontiguousarray(tensor, DTYPES[dtype]) for name, tensor in tensors.items()}
    _check_values(stored)
    with files.atomic_write(path) as file:
        record = {"config": config.to_json(), "tensors_sha256": tensors_sha256(stored)}
        safetensors_file.write(file, stored, {**(metadata or {}), **record})


def tensors_sha256(tensors: Mapping[str, Array]) -> str:
    """A hash of names, shapes and float32 values: the same in whatever format the tensors are stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor, "<f4").tobytes())
    return digest.hexdigest()


def file_sha256(file: BufferedIOBase) -> str:
    """The hash of all of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _open(path: Path) -> BufferedIOBase:
    if path.is_dir():
        raise CheckpointError("this is a folder; give the .safetensors or .pt file in it")
    files.check_regular(path)
    return path.open("rb")


def _load(file: BufferedIOBase, path: Path) -> Checkpoint:
    size = os.fstat(file.fileno()).st_size
    head = file.read(512)
    if not head:
        raise CheckpointError("the file is empty; get it again")
    found = next((known for known in FORMATS if known.matches(head)), None)
    if found is None:
        raise CheckpointError(f"this is {foreign_models.describe_head(head)}")
    file.seek(0)
    stored = found.read(file, size)
    tensors = _named_by_upstream(stored.tensors)
    used = {name: tensor for name, tensor in tensors.items() if not is_unused(name)}
    config = _checked_config(used, stored.metadata)
    _check_size(tensors, size)
    values = {name: used[name].read() for name in parameter_shapes(config)}
    _check_values(values)
    return Checkpoint(values, config, file_sha256(file), path, found.name, stored.metadata)


def _named_by_upstream(tensors: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
    """Without the prefix (`module.`, `model.`, `sam.`) that a wrapper gave to every name."""
    first = next(iter(tensors), "")
    ends = [first.find("." + root) + 1 for root in ROOTS]
    prefix = first[: max(ends)]
    if prefix and all(name.startswith(prefix) for name in tensors):
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    return tensors


def _checked_config(used: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> Config:
    shapes = {name: tensor.shape for name, tensor in used.items()}
    model = foreign_models.recognise(shapes)
    if model:
        raise CheckpointError(f"this is {model}, and refsam computes MobileSAM only; its weights come with: refsam weights fetch")
    if not any(name.startswith(ROOTS) for name in shapes):
        some = ", ".join(list(shapes)[:3]) or "no tensors at all"
        raise CheckpointError(f"this is not a MobileSAM checkpoint; it holds {some}")
    config = Config.from_json(metadata["config"]) if "config" in metadata else infer(shapes)
    _check_shapes(shapes, config)
    _refuse(
        [f"tensor {name} is {tensor.dtype}; save it as float32" for name, tensor in used.items() if tensor.dtype not in FLOATS]
    )
    return config


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], config: Config) -> None:
    expected = parameter_shapes(config)
    _refuse([f"tensor {name} is missing; save the state dict of the whole model" for name in expected if name not in shapes])
    _refuse([f"tensor {name} is not part of MobileSAM; take it out of the file" for name in shapes if name not in expected])
    _refuse(
        [
            f"tensor {name} has shape {shapes[name]} where {shape} is needed; the file is of another architecture"
            for name, shape in expected.items()
            if shapes[name] != shape
        ]
    )


def _check_size(tensors: Mapping[str, StoredTensor], size: int) -> None:
    """Memory follows the file's size: a view with stride 0 could ask for any amount."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > size:
        raise CheckpointError(
            f"its tensors claim {total} bytes and the file has {size}; some share their data, which weights never do"
        )


def _check_values(values: Mapping[str, Array]) -> None:
    _refuse(
        [
            f"tensor {name} has NaN or infinity as {tensor.dtype}; the file is damaged or its training diverged"
            for name, tensor in values.items()
            if not np.isfinite(tensor).all()
        ]
    )
    _refuse(
        [
            f"tensor {name} has negative variances; the file is damaged"
            for name, tensor in values.items()
            if name.endswith(".running_var") and (tensor < 0).any()
        ]
    )


def _refuse(violations: list[str]) -> None:
    if violations:
        rest = len(violations) - SHOWN
        raise CheckpointError("; ".join(violations[:SHOWN]) + (f"; and {rest} more" if rest > 0 else ""))
