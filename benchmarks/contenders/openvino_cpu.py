"""OpenVINO on a CPU in float32, with the graphs of export.py."""

from typing import Any

import numpy as np

from benchmarks.contenders.onnx_runtime import OnnxRuntime


class OpenVino(OnnxRuntime):
    """The same rows as ONNX Runtime."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import openvino

        # Without the hint it computes in bfloat16 where the CPU can.
        properties = {"INFERENCE_NUM_THREADS": settings["threads"], "INFERENCE_PRECISION_HINT": "f32",
                      "PERFORMANCE_HINT": "LATENCY"}  # fmt: skip
        core = openvino.Core()
        self.encoder_graph, self.decoder_graph = (core.compile_model(path, "CPU", properties) for path in settings["graphs"])
        self.notes: dict[str, Any] = {}
        self.side = settings["side"]

    def versions(self) -> dict[str, str]:
        """Of OpenVINO."""
        import openvino

        return {"openvino": openvino.__version__.split("-")[0]}

    def encode(self, input_image: np.ndarray) -> np.ndarray:
        """The image embedding."""
        return self.encoder_graph([input_image])[0]

    def decode(self, features: np.ndarray, coords: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mask logits of a batch of points."""
        return self.decoder_graph([features, coords, labels])[0]
