"""A tiny model as ONNX files: upstream's torch code exported by make_onnx.py; here unpacked, without torch."""

import dataclasses
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from standin import TINY, standin_weights

from refsam import MobileSam

ARCHIVE = Path(__file__).parent / "data" / "onnx.zip"
CONFIG = dataclasses.replace(TINY, mlp_ratio=0.25)
"""The width of the last stage is fixed by upstream's rule, so its MLP is narrowed."""


def weights() -> dict[str, np.ndarray]:
    """Stand-in weights in few levels, so that the files are small when packed."""
    return {name: (np.round(x * 32) / 32).astype(np.float32) for name, x in standin_weights(CONFIG, seed=5).items()}


@cache
def model() -> MobileSam:
    return MobileSam(weights(), CONFIG, dtype="float64")


def unpack(folder: Path) -> Path:
    """encoder.onnx, decoder.onnx, and single.onnx, a decoder that gives only the mask that it chose."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder
