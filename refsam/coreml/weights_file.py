"""From a folder of packages to a weights file, which is proved before it is written."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refsam import backends, checkpoint
from refsam.checkpoint import Checkpoint
from refsam.coreml.app_parts import ModelParts, PackageParts
from refsam.coreml.export import PACKAGES, Part
from refsam.coreml.mil import Program, load
from refsam.coreml.weights import Recovered, recover
from refsam.errors import InputError
from refsam.figures import relative_l2
from refsam.model.sam import MobileSam
from refsam.types import Array

AGREEMENT = {"fp32": 1e-4, "fp16": 2e-2}
"""Relative L2 that each output of the packages may be off the model with the recovered weights, by how constants are stored.

Weights are the same on both sides; what differs are float32's rounding, the converter's epsilon (5e-6), and in a float16 package
the constants that are no weights: 2 pi, the attention's scale, LayerNorm2d's epsilon. A tensor in the wrong place costs far more.
"""

SEED = 0
"""Of the picture and points that the proof runs on."""


def is_package_set(folder: Path) -> bool:
    """Whether the three packages are there."""
    return all((folder / name).is_dir() for name in PACKAGES.values())


def convert(
    folder: Path, base: Checkpoint, target: str | os.PathLike[str], dtype: str = "float32"
) -> tuple[Recovered, Mapping[str, float]]:
    """Write the weights of the packages in `folder` as .safetensors to `target`.

    Args:
        folder: has ImageEncoder, PromptEncoder and MaskDecoder.mlpackage.
        base: a checkpoint of the same architecture, for what packages do not have: mask prompts and boxes.
        target: the file; it is whole or not there.
        dtype: "float32" or "float16".

    Returns:
        The weights, and how far (relative L2) each output of the packages is from the model's with them.

    Raises PackageError where a package is damaged or of another architecture; InputError where the packages compute something
    else than the model does with these weights: then nothing is written.
    """
    programs = {part: load(folder / name) for part, name in PACKAGES.items()}
    recovered = recover(programs, base.tensors, base.config)
    model = MobileSam(recovered.tensors, base.config, backends.create("fast", None), "float32")
    distances = prove(programs, model)
    notes = {"source": "Core ML packages", "tensors_of_base": ",".join(recovered.from_base), "base_sha256": base.sha256}
    kept = {key: base.metadata[key] for key in ("licence", "origin") if key in base.metadata}
    checkpoint.save(target, recovered.tensors, base.config, {**kept, **notes}, dtype)
    return recovered, distances


def prove(programs: Mapping[Part, Program], model: MobileSam) -> dict[str, float]:
    """Run packages and model on the same random inputs: output -> relative L2. Raises InputError where they are not the same."""
    theirs, ours = PackageParts(programs, model.image_pe, "fp32"), ModelParts(model)
    if theirs.image_size != ours.image_size:
        raise InputError(
            f"the packages take pictures of {theirs.image_size} pixels, and the base's architecture {ours.image_size}"
        )
    rng = np.random.RandomState(SEED)
    picture = rng.normal(0, 1, (1, 3, ours.image_size, ours.image_size)).astype(np.float32)
    points, labels = rng.uniform(0, ours.image_size, (1, 3, 2)).astype(np.float32), np.array([[1, 0, -1]], np.float32)
    embeddings = ours.encode(picture)
    sparse, dense = ours.embed(points, labels)
    prompt = (embeddings, sparse, dense)
    expected = {"image_encoder": (embeddings,), "prompt_encoder": (sparse, dense), "mask_decoder": ours.decode(*prompt)}
    found: dict[Part, tuple[Array, ...]] = {
        "image_encoder": (theirs.encode(picture),), "prompt_encoder": theirs.embed(points, labels),
        "mask_decoder": theirs.decode(*prompt),
    }  # fmt: skip
    distances = {}
    for part, outputs in found.items():
        stored = "fp16" if any(kind.dtype == "fp16" for kind in programs[part].types.values()) else "fp32"
        for feature, theirs_, ours_ in zip(programs[part].outputs, outputs, expected[part], strict=True):
            if theirs_.shape != ours_.shape:  # a prompt encoder that adds the padding point, a decoder that gives three masks
                raise InputError(
                    f"{PACKAGES[part]} gives a {feature.name} of shape {theirs_.shape} where MobileSAM's has {ours_.shape};"
                    " nothing is written"
                )
            distance = distances[f"{part}: {feature.name}"] = relative_l2(ours_, theirs_)
            if not distance <= AGREEMENT[stored]:
                raise InputError(
                    f"{PACKAGES[part]} computes another {feature.name} than MobileSAM does with its weights (relative L2"
                    f" {distance:.1e}, {AGREEMENT[stored]:.0e} for {stored}); nothing is written"
                )
    return distances
