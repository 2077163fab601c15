"""refsam itself behind the protocol of evaluate.py: the scores of a weights file, without torch."""

import numpy as np
from numpy.typing import NDArray

from refsam import MobileSam
from refsam.transforms import preprocess

from .evaluate import Logits, Prompt


class NumpySegmenter:
    """`Segmenter` on refsam, with any of its backends."""

    def __init__(self, model: MobileSam) -> None:
        self.model = model

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise, pad, encode; (1, D, E, E)."""
        return self.model.encode_image(preprocess(image, self.model.config.image_size))

    def predict(self, embedding: object, prompt: Prompt, several: bool) -> tuple[Logits, NDArray[np.float32]]:
        """Prompts are in the input frame already: a picture's longer side is the model's own."""
        points = (prompt.clicks[None], prompt.labels.astype(np.int64)[None]) if len(prompt.clicks) else None
        box = None if prompt.box is None else prompt.box[None]
        mask = None if prompt.mask is None else prompt.mask[None, None]
        sparse, dense = self.model.encode_prompts(points, box, mask)
        logits, iou = self.model.decode_masks(embedding, self.model.image_pe, sparse, dense, several)
        return logits[0], iou[0]
