"""A picture's embedding as a file, so that one encoding serves many prompts in many runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.files import atomic_write
from refsam.formats import safetensors_file
from refsam.images import MAX_PIXELS, as_image, pixels_sha256
from refsam.predictor import SamPredictor
from refsam.tracing import read_arrays
from refsam.transforms import resized_size
from refsam.types import Array, Float, Size, UInt8

KIND = "embedding"
MAX_BYTES = 256 * 2**20
"""The largest file that is opened; MobileSAM's embedding takes 4 MiB."""


@dataclass(frozen=True)
class Embedding:
    """The image encoder's result for one picture, and what it was made of.

    Attributes:
        features: in the dtype of the model that made it.
        original_size: (height, width) of the picture.
        weights_sha256: of the weights file.
        image_sha256: of the picture's RGB pixels (`images.pixels_sha256`).
    """

    features: Float[Array, "1 D E E"]
    original_size: Size
    weights_sha256: str
    image_sha256: str

    @classmethod
    def of(cls, predictor: SamPredictor, image: UInt8[Array, "H W 3"]) -> "Embedding":
        """The embedding of `image`, which `predictor` holds already.

        Raises NotReady where it holds none, InputError where `image` is none, or of another size than what it holds.
        """
        features = predictor.get_image_embedding()
        size = as_image(image).shape[:2]
        if size != predictor.original_size:
            raise InputError(
                f"image is {_text(size)}, but the predictor holds one of {_text(predictor.original_size)}; set it first"
            )
        return cls(features, predictor.original_size, predictor.model.weights_sha256, pixels_sha256(image))

    def give_to(self, predictor: SamPredictor, image: UInt8[Array, "H W 3"] | None = None) -> None:
        """Set it as the picture of `predictor`, instead of `set_image`.

        Raises InputError where the predictor's weights or dtype are others, or `image` is another picture.
        """
        model = predictor.model
        if self.weights_sha256 != model.weights_sha256:
            raise InputError(
                f"the embedding was made with other weights (sha256 {self.weights_sha256[:12]}..., the model's are"
                f" {model.weights_sha256[:12]}...); make it again with: refsam embed"
            )
        if self.features.dtype != model.dtype:
            raise InputError(f"the embedding is of {self.features.dtype} and the model of {model.dtype}; make both the same")
        if image is not None and (as_image(image).shape[:2] != self.original_size or pixels_sha256(image) != self.image_sha256):
            raise InputError(
                f"the embedding is of another picture ({_text(self.original_size)}, sha256 {self.image_sha256[:12]}...)"
            )
        predictor.set_embedding(self.features, self.original_size)

    def save(self, path: str | Path) -> None:
        """Write .safetensors, atomically. Raises InputError of a picture with more pixels than `load` takes (MAX_PIXELS)."""
        from refsam import __version__

        if _size(json.dumps(self.original_size)) is None:
            raise InputError(
                f"the picture is {_text(self.original_size)}; embeddings of over {MAX_PIXELS} pixels are not kept; scale it down"
            )

        side = 16 * self.features.shape[-1]
        metadata = {
            "refsam": KIND,
            "refsam_version": __version__,
            "original_size": json.dumps(self.original_size),
            "input_size": json.dumps(resized_size(self.original_size, side)),
            "weights_sha256": self.weights_sha256,
            "image_sha256": self.image_sha256,
        }
        with atomic_write(path) as file:
            safetensors_file.write(file, {"image_embeddings": self.features}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Embedding":
        """The inverse of `save`. Raises InputError where the file is not an embedding, or a damaged one."""
        metadata, features = _open(path)
        size = _size(metadata.get("original_size", ""))
        if (
            size is None
            or features.ndim != 4
            or features.dtype not in (np.float32, np.float64)
            or not np.isfinite(features).all()
        ):
            raise InputError(f"{path} is a damaged embedding; make it again with: refsam embed")
        return cls(features, size, metadata.get("weights_sha256", ""), metadata.get("image_sha256", ""))


def _open(path: str | Path) -> tuple[dict[str, str], Array]:
    try:
        size = Path(path).stat().st_size
    except FileNotFoundError:
        raise InputError(f"there is no embedding {path}; refsam embed writes one") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{path} cannot be read as an embedding: {error}") from None
    if size > MAX_BYTES:
        raise InputError(f"{path} is larger than any embedding ({MAX_BYTES >> 20} MiB)")
    arrays, metadata, bf16 = read_arrays(path)
    if metadata.get("refsam") != KIND or list(arrays) != ["image_embeddings"] or bf16:
        raise InputError(f"{path} is a safetensors file but not an embedding; refsam embed writes one")
    return metadata, arrays["image_embeddings"]


def _size(text: str) -> Size | None:
    """(height, width) from JSON, None where it is no size that a picture has: its masks would get that size."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int and 0 < n <= MAX_PIXELS for n in value):
        return None
    return (value[0], value[1]) if value[0] * value[1] <= MAX_PIXELS else None


def _text(size: Size) -> str:
    return f"{size[1]} x {size[0]}"
