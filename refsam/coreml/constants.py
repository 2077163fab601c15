"""What an app needs beside its packages: the image's positional encoding, and tensors that its tests can be held against."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refsam.coreml.app import Point, SegmentAnything
from refsam.coreml.app_parts import ModelParts
from refsam.errors import InputError
from refsam.files import atomic_write
from refsam.formats import safetensors_file
from refsam.model.sam import MobileSam
from refsam.types import Array, Float, UInt8

IMAGE_PE = "image_embeddings.bin"
"""The name under which the app's sources load it; the article's folder calls the same file image_points_embeddings.bin."""

MANIFEST = "goldens.json"
SAFETENSORS = "goldens.safetensors"


def write_image_pe(path: Path, model: MobileSam) -> None:
    """The positional encoding (1, D, E, E) as raw little-endian float32, D * E * E * 4 bytes (4 MiB for MobileSAM)."""
    _write_raw(path, model.image_pe)


def read_image_pe(path: Path, shape: tuple[int, ...]) -> Float[Array, "1 D E E"]:
    """The inverse of `write_image_pe`. Raises InputError where the file is not of that many finite numbers."""
    size = 4 * int(np.prod(shape))
    try:
        if path.stat().st_size != size:
            raise InputError(f"{path} has {path.stat().st_size} bytes; {shape} in float32 has {size}")
        encoding = np.frombuffer(path.read_bytes(), "<f4").astype(np.float32).reshape(shape)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    if not np.isfinite(encoding).all():
        raise InputError(f"{path} has NaN or infinity in it")
    return encoding


def golden_tensors(model: MobileSam, image: UInt8[Array, "H W 3"], points: list[Point]) -> dict[str, Float[Array, "..."]]:
    """Inputs and outputs of each package on the reference's way, under the names of the article's packages.

    `points` and `labels` are in the input frame and include the padding point, so a test needs nothing but these files.
    """
    parts = ModelParts(model)
    app = SegmentAnything(parts)
    app.preprocess(image)
    coords, labels = app.map_points(points)
    sparse, dense = parts.embed(coords, labels)
    assert app.input_buffer is not None
    assert app.image_embeddings is not None
    masks, iou_predictions = parts.decode(app.image_embeddings, sparse, dense)
    tensors = {
        "image": app.input_buffer,
        "imageEmbeddings": app.image_embeddings,
        "imagePositionalEncoding": model.image_pe,
        "points": coords,
        "labels": labels,
        "sparsePromptEmbeddings": sparse,
        "densePromptEmbeddings": dense,
        "masks": masks,
        "iouPredictions": iou_predictions,
    }
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def write_goldens(folder: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Path]:
    """Each tensor as NAME.bin (raw little-endian float32), a manifest in JSON, and all in one .safetensors; returns the files.

    The manifest comes last: where it is, the files that it lists are whole.
    """
    paths = []
    for name, tensor in tensors.items():
        paths.append(folder / f"{name}.bin")
        _write_raw(paths[-1], tensor)
    with atomic_write(folder / SAFETENSORS) as file:
        safetensors_file.write(file, dict(tensors), {**metadata, "refsam": "goldens"})
    manifest = {"metadata": dict(metadata), "tensors": [_entry(name, tensor) for name, tensor in tensors.items()]}
    with atomic_write(folder / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=2).encode())
    return [*paths, folder / SAFETENSORS, folder / MANIFEST]


def _entry(name: str, tensor: Array) -> dict[str, Any]:
    """What a test needs to load a tensor, and two numbers that say what an error of it is worth."""
    plain = tensor.astype(np.float64)
    return {
        "name": name,
        "file": f"{name}.bin",
        "dtype": "float32",
        "shape": list(tensor.shape),
        "sha256": hashlib.sha256(_raw(tensor)).hexdigest(),
        "rms": float(np.sqrt(np.mean(plain * plain))),
        "max_abs": float(np.abs(plain).max()),
    }


def _write_raw(path: Path, tensor: Array) -> None:
    with atomic_write(path) as file:
        file.write(_raw(tensor))


def _raw(tensor: Array) -> bytes:
    return np.ascontiguousarray(tensor, "<f4").tobytes()
