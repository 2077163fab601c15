"""Dumps as a port: what any program, in any language, wrote of its intermediate results. Nothing in a file is executed."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.files import can_name_a_file, check_regular, visible
from refsam.formats import npz_file
from refsam.formats.stored import decode
from refsam.model.sam import MobileSam
from refsam.tracing import read_arrays
from refsam.types import Array
from refsam.verify.ports.dumped_case import check_case
from refsam.verify.ports.port import BF16, arrays, only, precision_of_types, renamed, telling
from refsam.verify.precision import precision_of
from refsam.verify.preprocessed import STAGES
from refsam.verify.reference import Case

MANIFEST = "manifest.json"
SUFFIXES = (".npy", ".npz", ".safetensors")
RAW_TYPES = ("float16", BF16, "float32", "float64", "uint8", "int8", "int32", "int64", "bool")
"""What the numbers of a raw file may be; little-endian."""

MAX_BYTES = 16 << 30
"""Of the arrays of one picture; all stages of MobileSAM in float64 are 6 GiB."""
_MAX_JSON = 16 << 20


class DumpPort:
    """Dumps in a file or a folder.

    A folder holds any of: `STAGE.npy`; .npz and .safetensors files of arrays by stage name; raw files that a `manifest.json`
    describes, {"precision": "fp16", "tensors": [{"name": STAGE, "file": "x.bin", "dtype": "float32", "shape": [1, 3]}]} (an entry
    of a .npy file needs no dtype and shape, so a manifest may also rename). Those of several pictures are in folders of the
    pictures' names.

    Args:
        path: a folder, or one .npz, .npy or .safetensors file (such as a trace).
        precision: what computed them; None: what the manifest says, else fp16 or bf16 where a stage is of it, else float32.
        weights_sha256: of the weights that they are judged by, "" for unknown ones: a trace says which it was made with.

    Raises InputError where there is nothing there.
    """

    def __init__(self, path: Path, precision: str | None = None, weights_sha256: str = "") -> None:
        if not path.exists():
            raise InputError(f"there are no dumps {path}")
        self.path, self.asked, self.declared, self.weights_sha256 = path, precision, precision, weights_sha256
        self.name, self.precision = str(path), precision or "float32"
        self.notes: tuple[str, ...] = ()
        self._answered = ""

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:  # noqa: ARG002 - what there is, is there
        """Read the picture's dumps. Raises InputError where a file is damaged, or they are another picture's or prompt's."""
        own = _own_folder(self.path, case.name)
        if own is not None:
            return self._shown(_folder(own), case)
        if self._answered not in ("", case.sha256):
            raise InputError(_belongs(self.path, case.name))
        self._answered = case.sha256
        return self._shown(_folder(self.path, case.name) if self.path.is_dir() else _file(self.path), case)

    def _shown(self, found: "_Dumps", case: Case) -> dict[str, Array]:
        """The tensors, where they are the case's; the precision and the notes follow."""
        for trace, names, metadata in found.traces:
            check_case(trace, names, self._believed(metadata), case)
        self.declared = self.asked or found.precision
        own, note = ("", ()) if self.declared else precision_of_types(self._telling(found.types()))
        self.precision, self.notes = self.declared or own or "float32", note
        made_with = dict.fromkeys(metadata.get("weights_sha256") for _, _, metadata in found.traces)
        for sha256 in made_with:
            if sha256 and self.weights_sha256 and sha256 != self.weights_sha256:
                these = f"these are {self.weights_sha256[:12]}..."
                self.notes = (*self.notes, f"weights: the trace was made with another file (sha256 {sha256[:12]}...); {these}")
        return arrays(found.tensors)

    def _believed(self, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Of what a trace says of its picture and prompt that which has to be the case's."""
        return metadata

    def _telling(self, types: Mapping[str, str]) -> Mapping[str, str]:
        """Of the types of all tensors those that tell the precision."""
        return telling(types)


class PictureDumps(DumpPort):
    """Dumps of which only what was made of the picture is looked at, so that they may be of any prompt."""

    def _believed(self, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """The picture alone."""
        return {name: value for name, value in metadata.items() if name != "prompts"}

    def _telling(self, types: Mapping[str, str]) -> Mapping[str, str]:
        """The type of the tensor that is looked at, whatever its name."""
        name = preprocessed_among(types)
        return {} if name is None else {name: types[name]}


def preprocessed_among(shown: Collection[str]) -> str | None:
    """The name of the tensor of preprocessing, or of the only one that there is."""
    only = next(iter(shown)) if len(shown) == 1 else None
    return next((stage for stage in STAGES if stage in shown), only)


class _Dumps:
    """Arrays by name as they were found, and what is known about them."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}
        self.traces: list[tuple[Path, tuple[str, ...], Mapping[str, str]]] = []  # file, stages, metadata: each is of its own run
        self.precision = ""
        self.bf16: set[str] = set()
        self.bytes = 0

    def types(self) -> dict[str, str]:
        """Name -> the type that it was written in."""
        return {name: BF16 if name in self.bf16 else array.dtype.name for name, array in self.tensors.items()}

    def add(self, name: str, array: Array, path: Path) -> None:
        """Two bytes without a type are bfloat16, which .npy has no name for: MLX and JAX's ml_dtypes write it so."""
        if name in self.tensors:
            raise InputError(f"{path}: there is another dump of {name}")
        if array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.dtype.names is None:
            array = decode(array.tobytes(), "BF16").reshape(array.shape)
            self.bf16.add(name)
        self.bytes += array.nbytes
        if self.bytes > MAX_BYTES:
            raise InputError(f"{path}: the dumps of one picture are larger than {MAX_BYTES >> 30} GiB")
        self.tensors[name] = array


def _file(path: Path) -> _Dumps:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} is none of {', '.join(SUFFIXES)}; raw numbers need a {MANIFEST} in their folder that describes them:"
            " give that folder"
        )
    found = _Dumps()
    _add_file(found, path)
    return found


def _own_folder(path: Path, name: str) -> Path | None:
    """The folder of a picture's dumps, where it has one of its own."""
    return path / name if name and path.is_dir() and (path / name).is_dir() else None


def _belongs(path: Path, name: str) -> str:
    return f"{path} holds the dumps of one picture; those of {name} belong into {path / name}"


def check_several(path: Path, names: Sequence[str]) -> None:
    """Before several pictures are put to dumps, here or in processes of their own: raises InputError where more than one of them
    has no folder, as those would be given the same dumps."""
    lacking = [name for name in names if _own_folder(path, name) is None]
    if len(lacking) > 1:
        raise InputError(_belongs(path, lacking[1]))


def _folder(folder: Path, name: str = "") -> _Dumps:
    """The dumps in a folder; in an error `name` is the picture that has no folder of its own there."""
    found = _Dumps()
    described = set()
    if (folder / MANIFEST).exists():
        described = _add_manifest(found, folder)
    for path in _files(folder):
        if path.resolve() not in described:
            _add_file(found, path)
    if not found.tensors:
        own = f", and no folder {folder / name} of this picture's" if name else ""
        raise InputError(f"{folder} has no dumps: no {', '.join(SUFFIXES)} and no {MANIFEST}{own}")
    return found


def _files(folder: Path) -> list[Path]:
    """Those with arrays, in order."""
    return [path for path in visible(folder) if path.suffix.lower() in SUFFIXES]


def _add_file(found: _Dumps, path: Path) -> None:
    if path.suffix.lower() == ".npy":
        found.add(path.name[: -len(".npy")], npz_file.read_npy(path), path)
        return
    if path.suffix.lower() == ".npz":
        for name, array in npz_file.read(path, MAX_BYTES).items():
            found.add(name, array, path)
        return
    tensors, metadata, bf16 = read_arrays(path)
    found.bf16 |= bf16
    for name, array in tensors.items():
        found.add(name, array, path)
    found.traces.append((path, tuple(renamed(tensors)[0]), metadata))


def _add_manifest(found: _Dumps, folder: Path) -> set[Path]:
    """The tensors that manifest.json describes. Returns their files."""
    path = folder / MANIFEST
    document = _json(path)
    entries = document.get("tensors") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{path} has no list "tensors" of objects with name, file, dtype and shape')
    precision = document.get("precision")  # null is what some serializers write where nothing is said
    found.precision = "" if precision is None else precision_of(str(precision)).name
    files = set()
    for entry in entries:
        name, file = entry.get("name"), _inside(path, entry.get("file"))
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: an entry has no name")
        raw = file.suffix.lower() != ".npy"
        found.add(name, _raw(path, entry, file) if raw else npz_file.read_npy(file), file)
        if raw and entry["dtype"] == BF16:
            found.bf16.add(name)
        files.add(file.resolve())
    return files


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise InputError(f"{path} is larger than any manifest ({_MAX_JSON >> 20} MiB)")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def _inside(manifest: Path, name: Any) -> Path:
    """A file that a manifest names: one in its folder."""
    folder = manifest.parent
    if not isinstance(name, str) or not can_name_a_file(name) or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{manifest}: the file {name!r} is not in the manifest's folder")
    return folder / name


def _raw(manifest: Path, entry: Mapping[str, Any], file: Path) -> Array:
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if dtype not in RAW_TYPES:
        raise InputError(f"{manifest}: {file.name} is of dtype {dtype!r}; one of {', '.join(RAW_TYPES)} is needed")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise InputError(f"{manifest}: {file.name} has the shape {shape!r}; a list of lengths is needed")
    kind = np.dtype("<u2" if dtype == BF16 else dtype).newbyteorder("<")
    wanted = math.prod(shape) * kind.itemsize
    try:
        check_regular(file)
        size = file.stat().st_size
        flat = np.fromfile(file, kind) if size == wanted else None
    except (OSError, InputError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if flat is None:
        raise InputError(f"{file} has {size} bytes; {dtype} {tuple(shape)} has {wanted}")
    return decode(flat.tobytes(), "BF16").reshape(shape) if dtype == BF16 else flat.reshape(shape).astype(dtype, copy=False)


def is_dumps(words: tuple[str, ...]) -> bool:
    """One file of arrays, or a folder with some."""
    path = Path(words[0])
    if len(words) != 1:
        return False
    if path.is_dir():
        places = [path, *(child for child in path.iterdir() if child.is_dir() and child.suffix != ".mlpackage")]
        return any(_holds_dumps(place) for place in places)
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _holds_dumps(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or bool(_files(folder))


def open_dumps(words: tuple[str, ...], *, model: MobileSam, precision: str | None) -> DumpPort:
    """A folder or a file of dumps."""
    return DumpPort(Path(only(words, "dumps")), precision, model.weights_sha256)
