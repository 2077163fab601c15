"""refsam itself behind the protocol of evaluate.py: the scores of a weights file, without torch."""

import numpy as np
from numpy.typing import NDArray

from refsam import MobileSam, SamPredictor

from .evaluate import Logits, Prompt


class NumpySegmenter:
    """`Segmenter` on refsam, with any of its backends."""

    def __init__(self, model: MobileSam) -> None:
        self.model = model

    def embed(self, image: NDArray[np.uint8]) -> SamPredictor:
        """A predictor with the picture set."""
        predictor = SamPredictor(self.model)
        predictor.set_image(image)
        return predictor

    def predict(self, embedding: SamPredictor, prompt: Prompt, several: bool) -> tuple[Logits, NDArray[np.float32]]:
        """What the predictor gives, but for the masks at the picture's size."""
        points = (prompt.clicks, prompt.labels.astype(np.int64)) if len(prompt.clicks) else (None, None)
        mask = None if prompt.mask is None else prompt.mask[None]
        _, iou, logits = embedding.predict(*points, prompt.box, mask, multimask_output=several)
        return logits, iou
