"""The packages that the tests run: upstream's torch code at a tiny size, converted by make_data.py, and what torch said."""

import dataclasses
import io
import json
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from standin import TINY

DATA = Path(__file__).parent / "data"
CONFIG = dataclasses.replace(TINY, mlp_ratio=0.25)
"""The width of the last stage is fixed by upstream's rule, so its MLP is narrowed, to keep the files small."""

PARTS = ("ImageEncoder", "PromptEncoder", "MaskDecoder")
POINTS = (1, 100)


@cache
def _index() -> dict[str, str]:
    with zipfile.ZipFile(DATA / "packages.zip") as archive:
        return json.loads(archive.read("index.json"))


def names() -> list[str]:
    """All packages in the archive."""
    return sorted({path.split("/")[0] for path in _index()})


def extract(folder: Path) -> Path:
    """Write all packages into `folder`. Packages of several targets share their weights, which the archive has once."""
    with zipfile.ZipFile(DATA / "packages.zip") as archive:
        for path, content in _index().items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(content))
    return folder


@cache
def expected() -> dict[str, np.ndarray]:
    """ "ImageEncoder.1/torch64/embeddings" and so on, inputs included ("ImageEncoder.1/image")."""
    with np.load(io.BytesIO((DATA / "expected.npz").read_bytes())) as archive:
        return {name: archive[name] for name in archive.files}


def case(part: str, points: int, kind: str = "inputs") -> dict[str, np.ndarray]:
    """The inputs of one case, or torch's results ("torch32", "torch64")."""
    prefix = f"{part}.{points}/{kind}/"
    return {name.removeprefix(prefix): x for name, x in expected().items() if name.startswith(prefix)}
