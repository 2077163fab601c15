"""ONNX Runtime on its CPU provider, with the graphs of export.py."""

from typing import Any

import numpy as np

from benchmarks.contenders.common import EncoderAndDecoder


class OnnxRuntime(EncoderAndDecoder):
    """Rows of encoder and decoder; it has no pre- and postprocessing."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = settings["threads"], 1
        options.log_severity_level = 3
        self.encoder_session, self.decoder_session = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in settings["graphs"]
        )
        self.notes: dict[str, Any] = {}
        self.side: int = settings["side"]

    def versions(self) -> dict[str, str]:
        """Of ONNX Runtime."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}

    def encode(self, input_image: np.ndarray) -> np.ndarray:
        """The image embedding."""
        return self.encoder_session.run(None, {"input_image": input_image})[0]

    def decode(self, features: np.ndarray, coords: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mask logits of a batch of points."""
        prompts = {"image_embeddings": features, "point_coords": coords, "point_labels": labels}
        return self.decoder_session.run(None, prompts)[0]
