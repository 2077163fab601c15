"""Packages that refsam exported, and what the reference says for the same inputs."""

import fcntl
from functools import cache
from pathlib import Path

import numpy as np
from coreml.packages import CONFIG
from standin import standin_weights

from refsam import MobileSam, checkpoint, load
from refsam.coreml.export import PACKAGES, Precision, Target, export
from refsam.model.mask_decoder import predict_masks
from refsam.model.prompt_encoder import embed_points, no_mask

PARTS = tuple(PACKAGES)


@cache
def tiny(dtype: str = "float32") -> MobileSam:
    return MobileSam(standin_weights(CONFIG), CONFIG, dtype=dtype)


@cache
def packages(root: Path, precision: Precision = "fp32", target: Target = "iOS15") -> dict[str, Path]:
    """Part -> package, made once for a `root`, by whichever process comes first; for newer systems without the slow encoder."""
    parts, folder = PARTS if target == "iOS15" else PARTS[1:], root / f"{precision}-{target}"
    paths = {part: folder / PACKAGES[part] for part in parts}
    with (root / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(path.exists() for path in paths.values()):
            export(load(weights(root)), folder, precision=precision, target=target, parts=parts)
    return paths


def weights(root: Path) -> Path:
    """The file that the packages were made of; saved whole, so that another process may be doing the same."""
    path = root / "exported.safetensors"
    if not path.exists():
        checkpoint.save(path, standin_weights(CONFIG), CONFIG)
    return path


def points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(1, N, 2) and (1, N), with every label among them where there are enough."""
    rng = np.random.RandomState(seed)
    return rng.uniform(0, CONFIG.image_size, (1, count, 2)).astype(np.float32), rng.randint(-1, 2, (1, count))


def picture() -> np.ndarray:
    return np.random.RandomState(1).normal(0, 1, (1, 3, CONFIG.image_size, CONFIG.image_size)).astype(np.float32)


def reference(model: MobileSam, inputs: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Part -> outputs, each part on its own inputs: without the padding point, and with all four masks."""
    s, cast = model.scope, model.dtype.type
    coords, labels = inputs["prompt_encoder"]
    sparse = embed_points(s / "prompt_encoder", coords.astype(cast), labels.astype(int), False, CONFIG.image_size)
    dense = no_mask(s / "prompt_encoder", 1, CONFIG.embedding_size)
    decoded = predict_masks(s / "mask_decoder", *(x.astype(cast) for x in inputs["mask_decoder"]), CONFIG)
    return {
        "image_encoder": [model.encode_image(inputs["image_encoder"][0])],
        "prompt_encoder": [sparse, dense],
        "mask_decoder": list(decoded),
    }


def inputs(count: int) -> dict[str, list[np.ndarray]]:
    """Part -> inputs for a prompt of so many points."""
    coords, labels = points(count)
    image, model = picture(), tiny()
    sparse = embed_points(model.scope / "prompt_encoder", coords, labels, False, CONFIG.image_size)
    dense = np.ascontiguousarray(no_mask(model.scope / "prompt_encoder", 1, CONFIG.embedding_size))
    return {
        "image_encoder": [image],
        "prompt_encoder": [coords, labels.astype(np.float32)],
        "mask_decoder": [model.encode_image(image), model.image_pe, sparse, dense],
    }
