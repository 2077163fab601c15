"""Makes tests/verify/data/resizes.npz: one picture as libraries resize it.  Run: python tests/verify/make_resizes.py

Needs the `peer` extra. Beside the results, by "library way", there are the picture that they are of and the libraries' versions.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms.functional import resize

sys.path.insert(0, str(Path(__file__).parents[1]))

from verify.libraries import RESIZES

DATA = Path(__file__).parent / "data" / "resizes.npz"
PHOTO = Path(__file__).parents[1] / "data" / "photos" / "kitten.jpg"
CORNER, SIZE, SIDE = (300, 420), (54, 79), 32
"""What is cut out of the photograph, and the longest side after resizing: neither scale is a whole number."""
RESIZED = (22, 32)
LARGER = (66, 96)
"""The same for a picture that grows, where it matters less what is done."""

CV2 = ("LINEAR", "LINEAR_EXACT", "AREA", "CUBIC", "LANCZOS4", "NEAREST", "NEAREST_EXACT")
PILLOW = ("BILINEAR", "BICUBIC", "LANCZOS", "BOX", "HAMMING", "NEAREST")
TORCH = ("bilinear", "bicubic", "area", "nearest")


def picture() -> np.ndarray:
    """(54, 79, 3), RGB."""
    (y, x), (height, width) = CORNER, SIZE
    with Image.open(PHOTO) as photo:
        return np.ascontiguousarray(np.asarray(photo.convert("RGB"))[y : y + height, x : x + width])


def resizes(image: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The picture at this size (height, width), by each way."""
    height, width = size
    ways = {name: getattr(cv2, f"INTER_{name}") for name in CV2}
    found = {f"cv2 {name}": cv2.resize(image, (width, height), interpolation=way) for name, way in ways.items()}
    filters = {name: getattr(Image.Resampling, name) for name in PILLOW}
    found |= {f"PIL {name}": np.asarray(Image.fromarray(image).resize((width, height), way)) for name, way in filters.items()}
    whole = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    kinds = {"uint8": whole, "float": whole.float()}
    tensors = {
        f"torchvision {kind}{'' if antialias else ' no antialias'}": resize(tensor, [height, width], antialias=antialias)
        for kind, tensor in kinds.items()
        for antialias in (True, False)
    }
    tensors |= {f"torch {mode}": interpolate(kinds["float"], size, mode=mode) for mode in TORCH}
    tensors["torch align_corners"] = interpolate(kinds["float"], size, mode="bilinear", align_corners=True)
    return found | {name: tensor[0].numpy().transpose(1, 2, 0) for name, tensor in tensors.items()}


def main() -> None:
    """Write the file."""
    image = picture()
    versions = {module.__name__: module.__version__ for module in (cv2, PIL, torch, torchvision)}
    DATA.parent.mkdir(exist_ok=True)
    larger = {f"larger {way}": pixels for way, pixels in resizes(image, LARGER).items() if f"larger {way}" in RESIZES}
    found = resizes(image, RESIZED) | larger
    np.savez_compressed(DATA, picture=image, versions=np.array([f"{name} {x}" for name, x in versions.items()]), **found)
    print(f"{DATA}: {DATA.stat().st_size} bytes; {versions}")


if __name__ == "__main__":
    main()
