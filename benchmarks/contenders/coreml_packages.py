"""The Core ML packages that refsam exports, run by refsam's interpreter.  Needs coremltools to export them."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import refsam
from benchmarks import inputs
from benchmarks.contenders.common import EncoderAndDecoder, blas


class CoreMlPackages(EncoderAndDecoder):
    """Rows of encoder and decoder."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from refsam import coreml
        from refsam.coreml.export import INTERFACES, PACKAGES, export

        self.notes: dict[str, Any] = {}
        self.threads: int = settings["threads"]
        model = refsam.load(settings["weights"], backend="reference")
        self.side, self.image_pe, self.names = model.config.image_size, model.image_pe, INTERFACES["article"]
        with tempfile.TemporaryDirectory() as folder:
            export(model, Path(folder), precision=settings["precision"])
            self.programs = {part: coreml.load(Path(folder) / name) for part, name in PACKAGES.items()}
            self.encode(inputs.input_image(self.side))  # reads the weights, while the folder is there
            self.decode(np.zeros_like(self.image_pe), *inputs.points(1, self.side))

    def versions(self) -> dict[str, str]:
        """Of refsam, NumPy and its BLAS."""
        return {"refsam": refsam.__version__, "numpy": np.__version__, "blas": blas()}

    def encode(self, input_image: np.ndarray) -> np.ndarray:
        """The image embedding."""
        return self._run("image_encoder", input_image)[0]

    def decode(self, features: np.ndarray, coords: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mask logits of a batch of points, one after the other: a package takes one prompt."""
        masks = []
        for point, label in zip(coords, labels, strict=True):
            padded = np.concatenate([point, np.zeros_like(point)])[None], np.append(label, np.float32(-1))[None]
            sparse, dense = self._run("prompt_encoder", *padded)
            masks.append(self._run("mask_decoder", features, self.image_pe, sparse, dense)[0][:, 1:])
        return np.concatenate(masks)

    def _run(self, part: str, *values: np.ndarray) -> list[np.ndarray]:
        names, program = self.names[part], self.programs[part]
        found = program.run(dict(zip(names.inputs, values, strict=True)), threads=self.threads)
        return [found[name] for name in names.outputs]
