"""Training photographs: textures for procedural scenes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parent / "photos"


def training_photos(folder: Path = FOLDER, side: int = 640) -> list[NDArray[np.uint8]]:
    """The photographs (H, W, 3) in `folder`, at most `side` pixels wide and high; none if it is not there."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [_open(p, side) for p in paths]


def _open(path: Path, side: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        image.thumbnail((side, side))
        return np.asarray(image.convert("RGB"))
