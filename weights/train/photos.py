"""Training photographs: textures for procedural scenes, and those whose objects were outlined."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .eval_photos import Photo, held_out_photos

FOLDER = Path(__file__).parent / "photos"


def training_photos(folder: Path = FOLDER, side: int = 640) -> list[NDArray[np.uint8]]:
    """The photographs (H, W, 3) in `folder`, at most `side` pixels wide and high; none if it is not there."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [_open(p, side) for p in paths]


def labelled_photos(folder: Path = FOLDER) -> list[Photo]:
    """Those with masks in `folder`/masks, which `annotate.py` makes from its recipes."""
    return held_out_photos(folder)


def _open(path: Path, side: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        image.thumbnail((side, side))
        return np.asarray(image.convert("RGB"))
