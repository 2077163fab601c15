"""The torch twin behind the protocol of evaluate.py."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refsam import transforms

from .evaluate import Logits, Prompt
from .model import Sam


class Embedded(NamedTuple):
    """A picture: its embedding (1, C, G, G), and its size (h, w), from which prompts come into the input frame."""

    embedding: Tensor
    size: tuple[int, int]


class TorchSegmenter:
    """`Segmenter` on torch."""

    def __init__(self, sam: Sam) -> None:
        self.sam = sam

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> Embedded:
        """Resize, normalise and pad as refsam does, encode."""
        x = torch.from_numpy(transforms.preprocess(image, self.sam.config.image_size))
        return Embedded(self.sam.encode(x), image.shape[:2])

    @torch.inference_mode()
    def predict(self, embedding: Embedded, prompt: Prompt, several: bool) -> tuple[Logits, NDArray[np.float32]]:
        """Upstream's prompt encoder and our decoder."""
        frame = embedding.size, self.sam.config.image_size
        clicks = torch.from_numpy(transforms.apply_coords(prompt.clicks, *frame)).float()
        points = (clicks[None], torch.from_numpy(prompt.labels)[None]) if len(prompt.clicks) else None
        box = None if prompt.box is None else torch.from_numpy(transforms.apply_boxes(prompt.box[None], *frame)).float()
        mask = None if prompt.mask is None else torch.from_numpy(prompt.mask)[None, None]
        sparse, dense = self.sam.prompt_encoder(points, box, mask)
        logits, iou = self.sam.decode(embedding.embedding, sparse, dense)
        kept = slice(1, None) if several else slice(0, 1)
        return logits[0, kept].numpy(), iou[0, kept].numpy()
