"""What every contender is given: weights, pictures, tensors and prompts that are the same in each process."""

import hashlib
from pathlib import Path

import numpy as np

PICTURES = {"1MP": (864, 1152), "12MP": (3024, 4032)}
"""(height, width) of the rows `set_image/...` and `predict/...`."""

PHOTO = (768, 1024)
"""(height, width) of the JPEG of the row `photo` and of the picture of the row `everything`."""

SEED = 0


def picture(size: tuple[int, int]) -> np.ndarray:
    """A smooth random picture (H, W, 3) uint8: a JPEG of noise would take longer to read than any photograph."""
    rng = np.random.default_rng(SEED)
    y, x = (np.linspace(0, 9, n, dtype=np.float32) for n in size)
    waves = [np.outer(np.sin(y * a + c), np.cos(x * b + d)) for a, b, c, d in rng.uniform(0.5, 3, (3, 4))]
    return (np.stack(waves, axis=-1) * 110 + 128).astype(np.uint8)


def input_image(side: int) -> np.ndarray:
    """A normalised picture (1, 3, S, S) float32."""
    return np.random.default_rng(SEED).standard_normal((1, 3, side, side), np.float32)


def points(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` prompts of one foreground point each: (count, 1, 2) float32 in the input frame, (count, 1) float32 ones."""
    coords = np.random.default_rng(SEED).uniform(0, side, (count, 1, 2)).astype(np.float32)
    return coords, np.ones((count, 1), np.float32)


def standin(folder: Path, seed: int) -> Path:
    """Random weights of MobileSAM's own size, written to `folder` once for each version of tests/standin.py, which makes them."""
    from standin import __file__ as source  # there in a checkout only
    from standin import standin_weights

    from refsam import checkpoint
    from refsam.config import MOBILE_SAM

    version = hashlib.sha256(Path(source).read_bytes() + repr(MOBILE_SAM).encode()).hexdigest()[:8]
    path = folder / f"standin-{seed}-{version}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, standin_weights(MOBILE_SAM, seed), MOBILE_SAM)
    return path


def files(folder: Path, side: int) -> dict[str, str]:
    """The files that whole-process rows read: an input tensor and a JPEG."""
    from PIL import Image

    from refsam.files import atomic_write

    folder.mkdir(parents=True, exist_ok=True)
    tensor, photo = folder / f"input-{side}.npy", folder / "photo.jpg"
    with atomic_write(tensor) as file:
        np.save(file, input_image(side))
    with atomic_write(photo) as file:
        Image.fromarray(picture(PHOTO)).save(file, "JPEG", quality=90)
    return {"tensor": str(tensor), "photo": str(photo)}
