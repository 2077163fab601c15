"""Batches for one training process, made by a thread ahead of time."""

import queue
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from .pool import ScenePool
from .prompts import Prompts, prompts

PER_IMAGE = ("image", "groups")


class Loader:
    """`next()` gives one batch of `images` images with `prompts` prompts each, prompts of all images in one row."""

    def __init__(self, folder: Path, seed: list[int], images: int, prompts: int, size: int, ahead: int = 3) -> None:
        self.pool, self.images, self.prompts, self.size = ScenePool(folder), images, prompts, size
        self.rng = np.random.default_rng(seed)
        self.ready: queue.Queue[dict[str, Tensor]] = queue.Queue(ahead)
        threading.Thread(target=self._fill, daemon=True).start()

    def next(self) -> dict[str, Tensor]:
        """The next batch; waits for it."""
        return self.ready.get()

    def _fill(self) -> None:
        cv2.setNumThreads(1)
        while self.pool.count[0] < 128:
            time.sleep(0.5)
        while True:
            scenes = [self.pool.draw(self.rng) for _ in range(self.images)]
            self.ready.put(as_batch([prompts(self.rng, s, self.prompts, self.size) for s in scenes]))


def as_batch(samples: list[Prompts]) -> dict[str, Tensor]:
    """PER_IMAGE fields (B, ...); everything else (B*P, ...), targets as coverage in 0..1."""
    batch = {name: torch.from_numpy(np.stack([getattr(s, name) for s in samples])) for name in Prompts._fields}
    batch = {name: v if name in PER_IMAGE else v.flatten(0, 1) for name, v in batch.items()}
    batch["targets"] = batch["targets"].float() / 255
    return batch
