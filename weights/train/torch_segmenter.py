"""The torch twin behind the protocol of evaluate.py, and how its weights are opened."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from refsam import checkpoint

from .evaluate import Logits, Prompt
from .model import DEMO, Sam, fit_biases, normalise


def load(path: Path) -> Sam:
    """A model from a file that refsam opens, or the averaged weights of a training checkpoint."""
    if path.suffix == ".safetensors":
        opened = checkpoint.load(path)
        sam = Sam(opened.config)
        state = {name: torch.from_numpy(tensor) for name, tensor in opened.tensors.items()}
    else:
        sam = Sam(DEMO)
        state = fit_biases(torch.load(path, map_location="cpu", weights_only=True)["ema"], sam)
    sam.load_state_dict({**sam.state_dict(), **state})
    return sam.eval()


class TorchSegmenter:
    """`Segmenter` on torch."""

    def __init__(self, sam: Sam) -> None:
        self.sam = sam

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> Tensor:
        """Normalise, pad, encode."""
        size = self.sam.config.image_size
        x = normalise(torch.from_numpy(np.ascontiguousarray(image))[None])
        return self.sam.encode(F.pad(x, (0, size - x.shape[3], 0, size - x.shape[2])))

    @torch.inference_mode()
    def predict(self, embedding: object, prompt: Prompt, several: bool) -> tuple[Logits, NDArray[np.float32]]:
        """Upstream's prompt encoder and our decoder."""
        points = (torch.from_numpy(prompt.clicks)[None], torch.from_numpy(prompt.labels)[None]) if len(prompt.clicks) else None
        box = None if prompt.box is None else torch.from_numpy(prompt.box)[None]
        mask = None if prompt.mask is None else torch.from_numpy(prompt.mask)[None, None]
        sparse, dense = self.sam.prompt_encoder(points, box, mask)
        logits, iou = self.sam.decode(embedding, sparse, dense)
        kept = slice(1, None) if several else slice(0, 1)
        return logits[0, kept].numpy(), iou[0, kept].numpy()
