"""Held-out photographs and the masks of objects in them (tests/data/photos); training never reads this folder."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "photos"


class Photo(NamedTuple):
    """A held-out photograph."""

    name: str
    image: NDArray[np.uint8]  # (H, W, 3)
    masks: dict[str, NDArray[np.bool_]]  # object name -> (H, W)


def held_out_photos(folder: Path = FOLDER) -> list[Photo]:
    """Every photograph in the folder that has masks; an empty list if there is no folder."""
    return [_open(folder, path) for path in sorted((folder / "masks").glob("*.json")) if "recipe" not in path.name]


def _open(folder: Path, path: Path) -> Photo:
    record = json.loads(path.read_text())
    with Image.open(folder / record["photo"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    masks = {o["name"]: run_lengths_to_mask(o["rle"]["counts"], *o["rle"]["size"]) for o in record["objects"]}
    return Photo(path.stem, pixels, masks)


def run_lengths_to_mask(counts: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """COCO's run lengths: alternately off and on, column by column."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T
