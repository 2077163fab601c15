"""Prompt rounds: a first click or box, then corrective clicks where the last mask was wrong, as SAM is trained."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from .losses import enlarge
from .model import Sam
from .prompts import TARGET_PIXEL

POSITIVE, PADDING = 1.0, -1.0


@dataclass(frozen=True)
class Asked:
    """N prompts: clicks (N, K, 2) xy with labels (N, K), a box (N, 4) for those where `boxed` (N,), and masks."""

    clicks: Tensor
    labels: Tensor
    box: Tensor
    boxed: Tensor
    previous: Tensor | None = None  # (N, 1, S/4, S/4) logits
    use_previous: Tensor | None = None  # (N,) bool

    def add(self, clicks: Tensor, labels: Tensor, previous: Tensor, use_previous: Tensor) -> "Asked":
        """One more click each (N, 2), labels (N,), and the last logits (N, S/4, S/4) as mask prompt."""
        return replace(
            self, clicks=torch.cat([self.clicks, clicks[:, None]], 1),
            labels=torch.cat([self.labels, labels[:, None]], 1), previous=previous[:, None], use_previous=use_previous,
        )  # fmt: skip


def first_round(point: Tensor, box: Tensor, boxed: Tensor) -> Asked:
    """A click (N, 2), or a box (N, 4) where `boxed`. Both make two tokens, so that they share a batch."""
    return Asked(point[:, None], torch.where(boxed, PADDING, POSITIVE)[:, None], box, boxed)


def encode(sam: Sam, asked: Asked) -> tuple[Tensor, Tensor]:
    """Sparse (N, K + 1, C) and dense (N or 1, C, G, G) embeddings, equal to what upstream makes of each prompt.

    A click prompt is its clicks and one padding point; a box prompt its corrective clicks and two corners. Both have
    K + 1 tokens; in a box prompt the unused first click gives its place to a corner.
    """
    enc = sam.prompt_encoder
    points = enc._embed_points(sam.in_picture(asked.clicks), asked.labels, pad=True)
    corners = enc._embed_boxes(sam.in_picture(asked.box.unflatten(1, (2, 2))).flatten(1))
    rest = torch.cat([points[:, 1:-1], corners], 1)
    sparse = torch.where(asked.boxed[:, None, None], rest, points)
    none = enc.no_mask_embed.weight[..., None, None]
    if asked.previous is None or asked.use_previous is None:
        return sparse, none
    dense = enc.mask_downscaling(asked.previous)
    return sparse, torch.where(asked.use_previous[:, None, None, None], dense, none)


def corrective_clicks(rng: Generator, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A click (N, 2) xy and its label (N,) in the error region of each mask: at its deepest point, where evaluation clicks,
    or, every other time, anywhere inside.

    Args: logits (N, S/4, S/4); target (N, S/2, S/2) coverage in 0..1.
    """
    wrong = ((enlarge(logits[:, None], target)[:, 0] > 0) != (target > 0.5)).numpy().astype(np.uint8)
    inside = (target > 0.5).numpy()
    points, labels = np.zeros((len(wrong), 2), np.float32), np.zeros(len(wrong), np.float32)
    for i, (bad, good) in enumerate(zip(wrong, inside, strict=True)):
        area = bad if bad.any() else good.astype(np.uint8)
        if not area.any():
            area = np.ones_like(bad)
        y, x = _spot(rng, area)
        points[i], labels[i] = ((x + 0.5) * TARGET_PIXEL - 0.5, (y + 0.5) * TARGET_PIXEL - 0.5), float(good[y, x])
    return torch.from_numpy(points), torch.from_numpy(labels)


def _spot(rng: Generator, area: np.ndarray) -> tuple[int, int]:
    depth = cv2.distanceTransform(np.pad(area, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    least = depth.max() * (1 if rng.random() < 0.5 else rng.uniform(0, 1))
    spots = np.argwhere((depth >= least) & (area > 0))
    y, x = spots[rng.integers(len(spots))]
    return int(y), int(x)


def chosen_mask(logits: Tensor, iou: Tensor, boxed: Tensor, first: bool) -> Tensor:
    """The mask (N, h, w) that a user goes on with: after one click the best ranked of three, else the single one."""
    best = torch.where(boxed | (not first), 0, 1 + iou[:, 1:].argmax(-1))
    return logits[torch.arange(len(logits)), best]
