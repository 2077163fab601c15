"""Batches for one training process, made by a thread ahead of time."""

import itertools
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from .photo_scenes import PhotoScenes, paste, photo_view
from .pool import ScenePool
from .prompts import Prompts, prompts
from .scenes import Scene

PER_IMAGE = ("image", "groups")
LEAST_SCENES = 128  # to begin with
PATIENCE = 300.0  # seconds without a new scene
PHOTO_SHARE = 0.2  # of the pictures are photographs with outlined objects
PASTED_SHARE = 0.3  # of all pictures get objects cut out of photographs


class Kind(NamedTuple):
    """What a batch has."""

    images: int
    prompts: int  # for each image
    size: int  # of the images, in pixels: squares of larger pictures, if these are larger


class Loader:
    """`next()` gives one batch, of each of the `kinds` in turn, prompts of all images in one row. Pictures have `whole`
    pixels. A share of them, `plain`, are as evaluation shows them: scenes without photographs, of `plain_folder(folder)`."""

    def __init__(
        self,
        folder: Path,
        seed: list[int],
        kinds: Sequence[Kind],
        whole: int,
        photos: PhotoScenes,
        plain: float = 0.0,
        ahead: int = 3,
    ) -> None:
        self.pool, self.kinds, self.photos = ScenePool(folder), kinds, photos
        self.plain, self.plain_pool = plain, ScenePool(plain_folder(folder)) if plain else self.pool
        self.whole, self.rng = whole, np.random.default_rng(seed)
        self.ready: queue.Queue[dict[str, Tensor] | Exception] = queue.Queue(ahead)
        threading.Thread(target=self._fill, daemon=True).start()

    def next(self) -> dict[str, Tensor]:
        """The next batch; waits for it. Raises RuntimeError where making it failed, as would all later ones."""
        made = self.ready.get()
        if isinstance(made, Exception):
            self.ready.put(made)
            raise RuntimeError("the loader has stopped") from made
        return made

    def _fill(self) -> None:
        cv2.setNumThreads(1)
        try:
            self._wait_for_scenes()
            for kind in itertools.cycle(self.kinds):
                self.ready.put(as_batch([self._prompts(kind) for _ in range(kind.images)]))
        except Exception as error:
            self.ready.put(error)

    def _wait_for_scenes(self) -> None:
        """Raises TimeoutError where the painter has painted nothing for PATIENCE seconds."""
        count, since = -1, time.monotonic()
        while (least := int(min(self.pool.count[0], self.plain_pool.count[0]))) < LEAST_SCENES:
            if least != count:
                count, since = least, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise TimeoutError(f"{count} of {LEAST_SCENES} scenes to begin with, and no new one for {PATIENCE} s")
            time.sleep(0.5)

    def _prompts(self, kind: Kind) -> Prompts:
        plain = bool(self.plain) and self.rng.random() < self.plain
        drawn = self.plain_pool.draw(self.rng) if plain else self._scene()
        return prompts(self.rng, drawn, kind.prompts, kind.size, self.whole, plain)

    def _scene(self) -> Scene:
        """A scene of the pool or a photograph, at times with objects of other photographs in front."""
        scenes, cutouts = self.photos
        if scenes and self.rng.random() < PHOTO_SHARE:
            drawn = photo_view(self.rng, scenes[self.rng.integers(len(scenes))])
        else:
            drawn = self.pool.draw(self.rng)
        return paste(self.rng, drawn, cutouts) if cutouts and self.rng.random() < PASTED_SHARE else drawn


def plain_folder(folder: Path) -> Path:
    """Where the scenes without photographs are, beside those of `folder`."""
    return folder.with_name(f"{folder.name}-plain")


def as_batch(samples: list[Prompts]) -> dict[str, Tensor]:
    """PER_IMAGE fields (B, ...); everything else (B*P, ...), targets as coverage in 0..1."""
    batch = {name: torch.from_numpy(np.stack([getattr(s, name) for s in samples])) for name in Prompts._fields}
    batch = {name: v if name in PER_IMAGE else v.flatten(0, 1) for name, v in batch.items()}
    batch["targets"] = batch["targets"].float() / 255
    return batch
