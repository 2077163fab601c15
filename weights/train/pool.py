"""A ring of ready scenes in memory-mapped files: one process paints at its own pace, the trainers draw from it.

Scenes cost about 50 ms each; a trainer needs ten a second. Each one is therefore used several times, flipped, turned,
cropped and recoloured anew (prompts.py), and replaced by a fresh seed as the ring goes round.
"""

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from .painter import MAX_LEAVES, SIZE, Photos
from .scenes import TRAINING_SEEDS, Scene, scene


class ScenePool:
    """`capacity` scenes on disk under `folder`; `count` is how many were ever painted (it survives a restart)."""

    def __init__(self, folder: Path, capacity: int = 6000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.capacity = capacity
        self.count = _array(folder / "count.npy", (1,), np.int64)
        self.images = _array(folder / "images.npy", (capacity, SIZE, SIZE, 3), np.uint8)
        self.leaves = _array(folder / "leaves.npy", (capacity, SIZE, SIZE), np.uint8)
        self.trees = _array(folder / "trees.npy", (capacity, MAX_LEAVES, 3), np.uint8)

    def put(self, new: Scene) -> None:
        """Store the newest scene over the oldest."""
        slot = int(self.count[0]) % self.capacity
        self.images[slot], self.leaves[slot], self.trees[slot] = new
        self.count[0] += 1

    def draw(self, rng: Generator) -> Scene:
        """A random scene of those in the ring."""
        slot = rng.integers(min(int(self.count[0]), self.capacity))
        return Scene(self.images[slot], self.leaves[slot], self.trees[slot])


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """Open a memory-mapped .npy file, made if it is not there or has another shape."""
    mode = "r+" if path.exists() and np.load(path, mmap_mode="r").shape == shape else "w+"
    return np.lib.format.open_memmap(path, mode, dtype=dtype, shape=shape)


def keep_painting(folder: Path, photos: Photos, per_second: float, first: int = 256) -> None:
    """Paint scenes for ever: `first` of them at once when the pool is new, then `per_second`."""
    cv2.setNumThreads(1)
    pool = ScenePool(folder)
    while True:
        started = time.monotonic()
        pool.put(scene(TRAINING_SEEDS + int(pool.count[0]), photos))
        if pool.count[0] > first:
            time.sleep(max(0.0, 1 / per_second - (time.monotonic() - started)))
