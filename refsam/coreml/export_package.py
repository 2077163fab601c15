"""A converted program as an .mlpackage folder, byte for byte the same for the same program, whole or not there."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from refsam.errors import InputError
from refsam.files import atomic_folder

AUTHOR = "com.apple.CoreML"
ITEMS = {"model.mlmodel": "CoreML Model Specification", "weights": "CoreML Model Weights"}
"""Name and description in the manifest, as Core ML's own tools write them."""

_DATE = "com.github.apple.coremltools.conversion_date"


def write(target: Path, spec: Any, weights: Path) -> None:
    """Write the package `target` from a model's protobuf and its weight.bin; an older package there is replaced."""
    spec.description.metadata.userDefined.pop(_DATE, None)  # the one thing that differs from day to day
    check_replaceable(target)
    with atomic_folder(target) as folder:
        data = folder / "Data" / AUTHOR
        (data / "weights").mkdir(parents=True)
        (data / "model.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
        shutil.copyfile(weights, data / "weights" / "weight.bin")
        (folder / "Manifest.json").write_text(json.dumps(_manifest(), indent=4), "utf-8")


def _manifest() -> dict[str, Any]:
    """Identifiers have to be unique within one manifest, so the names can make them."""
    identifiers = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"refsam:{name}")).upper() for name in ITEMS}
    entries = {
        identifiers[name]: {"author": AUTHOR, "description": text, "name": name, "path": f"{AUTHOR}/{name}"}
        for name, text in ITEMS.items()
    }
    return {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": identifiers["model.mlmodel"]}


def check_replaceable(target: Path) -> None:
    """Raise InputError where `target` is there and is no package: nothing else is ever deleted."""
    if target.is_symlink() or (target.exists() and not (target / "Manifest.json").is_file()):
        raise InputError(f"cannot write {target}: there is something else than an .mlpackage of this name")
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {target.parent}")
