"""refsam itself, with the backend that the settings name."""

from time import perf_counter
from typing import Any

import numpy as np

import refsam
from benchmarks import inputs
from benchmarks.contenders.common import EncoderAndDecoder, Run, Timed, blas, everything, split
from benchmarks.work import encoder_stages
from refsam.tracing import Trace


class Refsam(EncoderAndDecoder):
    """All rows."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.notes: dict[str, Any] = {}
        self.model = refsam.load(settings["weights"], backend=settings["backend"], threads=settings["threads"])
        self.side = self.model.config.image_size

    def versions(self) -> dict[str, str]:
        """Of refsam, NumPy and its BLAS."""
        return {"refsam": refsam.__version__, "numpy": np.__version__, "blas": blas()}

    def encode(self, input_image: np.ndarray) -> np.ndarray:
        """The image embedding."""
        return self.model.encode_image(input_image)

    def decode(self, features: np.ndarray, coords: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mask logits of a batch of points."""
        prompts = self.model.encode_prompts((coords, labels.astype(np.int64)))
        return self.model.decode_masks(features, self.model.image_pe, *prompts)[0]

    def photo(self, path: str) -> np.ndarray:
        """From a JPEG to the masks of a click in its middle."""
        from refsam.images import read_image

        predictor = refsam.SamPredictor(self.model)
        image = read_image(path)
        predictor.set_image(image)
        return predictor.predict([[image.shape[1] / 2, image.shape[0] / 2]], [1])[0]

    def stages(self) -> Run:
        """encode_image, with the time at which each block was done."""
        input_image, names = inputs.input_image(self.side), encoder_stages(self.model.config)

        def run() -> Timed:
            clock = StageClock(names)
            self.model.traced(clock).encode_image(input_image)
            return split(clock.begin, clock.ends)

        return run

    def set_image(self, size: str) -> Run:
        """SamPredictor.set_image."""
        predictor, image = refsam.SamPredictor(self.model), inputs.picture(inputs.PICTURES[size])
        return lambda: predictor.set_image(image)

    def predict(self, size: str) -> Run:
        """SamPredictor.predict, three boolean masks of the picture's size."""
        predictor, (height, width) = refsam.SamPredictor(self.model), inputs.PICTURES[size]
        predictor.set_image(inputs.picture((height, width)))
        return lambda: predictor.predict(np.array([[width / 2, height / 2]]), np.array([1]))[0]

    def ops(self, name: str) -> Run:
        """One operation, on a shared case of the tests."""
        from ops.cases import CASES  # tests/ops/cases.py

        from refsam.blas import one_blas_thread

        case = next(case for case in CASES if case.name == name)
        arguments, op = case.seeded(np.float32), getattr(self.model.scope.ops, case.op)

        def run() -> Any:
            with one_blas_thread():
                return op(*arguments)

        return run

    def everything(self) -> Run:
        """SamAutomaticMaskGenerator.generate with upstream's thresholds."""
        points = self.settings["points"]
        return everything(refsam.SamAutomaticMaskGenerator(self.model, points_per_side=points), points, self.notes)


class StageClock(Trace):
    """A trace that keeps the time at which a stage was done in place of its value."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(",".join(names))
        self.begin = perf_counter()
        self.ends: dict[str, float] = {}

    def record(self, name: str, value: np.ndarray) -> None:  # noqa: ARG002 - Trace's signature
        """Note the time."""
        if self.wants(name):
            self.ends[name] = perf_counter()
