"""An .mlpackage on disk: which of its files is the model, and where its weights are. No file outside the package is opened."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from refsam.coreml import blob, spec
from refsam.coreml.types import TensorType
from refsam.errors import PackageError
from refsam.types import Array

MAX_MANIFEST = 1 << 20
MAX_MODEL = 64 << 20
"""Bytes of model.mlmodel: the graph, not the weights. MobileSAM's largest has 180 kB."""

MODEL_PATH = "@model_path/"
"""How a program names the folder of its model.mlmodel."""


def read(path: str | os.PathLike[str]) -> spec.Model:
    """The model in an .mlpackage, or in a bare .mlmodel. Raises PackageError, which names the path."""
    place = Path(path)
    try:
        root, model = _locate(place)
        data = _bytes(model, MAX_MODEL)
        return spec.read(data, _loader(root, model.parent))
    except PackageError as error:
        raise PackageError(f"{place}: {error}") from None
    except OSError as error:
        raise PackageError(f"{place}: cannot be read: {error.strerror or error}") from None


def _locate(path: Path) -> tuple[Path, Path]:
    """(folder that holds all of it, model.mlmodel)."""
    try:
        kind = path.stat().st_mode
    except ValueError as error:  # a zero byte in the name
        raise PackageError(f"this cannot be the name of a package ({error})") from None
    if not stat.S_ISDIR(kind):
        return path.parent.resolve(), path
    if not (path / "Manifest.json").exists():
        kind_of_folder = "a compiled model; give the .mlpackage" if (path / "model.mil").exists() else "no .mlpackage"
        raise PackageError(f"this folder is {kind_of_folder}: it has no Manifest.json")
    root = path.resolve()
    return root, _inside(root, root / "Data", _model_path(_bytes(root / "Manifest.json", MAX_MANIFEST)))


def _model_path(manifest: bytes) -> str:
    """Where below Data/ the manifest says that the model is."""
    try:
        table = json.loads(manifest.decode("utf-8"))
        found: Any = table["itemInfoEntries"][table["rootModelIdentifier"]]["path"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PackageError("Manifest.json does not say where the model is; the package is damaged") from None
    if not isinstance(found, str):
        raise PackageError("Manifest.json does not name the model's file; the package is damaged")
    return found


def _inside(root: Path, folder: Path, name: str) -> Path:
    """`folder / name`, whose links may lead anywhere within `root` and nowhere else."""
    try:
        path = (folder / name).resolve()
    except (ValueError, RuntimeError, OSError) as error:  # a zero byte, a circle of links, a name too long
        raise PackageError(f"{name!r:.80} cannot be the name of a file ({error!s:.80})") from None
    if not path.is_relative_to(root):
        raise PackageError(f"{name!r:.80} leads out of the package; it is not opened")
    return path


def _bytes(path: Path, most: int) -> bytes:
    """A whole small file."""
    _check_regular(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise PackageError(f"{path.name} has {size} bytes; at most {most} are read")
        return file.read(size)


def _check_regular(path: Path) -> None:
    """Opening a pipe would wait for ever, and a device never ends."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise PackageError(f"{path.name} is not a regular file")


def _loader(root: Path, folder: Path) -> spec.Load:
    def load(name: str, offset: int, kind: TensorType) -> Array:
        if not name.startswith(MODEL_PATH):
            raise PackageError(f"a weight is in {name!r:.80}; it has to be a file below {MODEL_PATH}")
        path = _inside(root, folder, name.removeprefix(MODEL_PATH))
        try:
            _check_regular(path)
        except OSError as error:
            raise PackageError(f"{name}: cannot be read: {error.strerror or error}") from None
        return blob.read(path, offset, kind)

    return load
