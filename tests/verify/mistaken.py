"""Ports with known mistakes: the reference's own pipeline with a hypothesis applied, run in float32, every stage shown."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from golden.cases import mask_prompt
from standin import TINY, standin_weights

from refsam import MobileSam, Trace
from refsam.config import Config
from refsam.ops import Ops
from refsam.verify.hooks import hooked
from refsam.verify.hypotheses.preprocessing import preprocess
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.local import predict_on
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import at_precision, precision_of
from refsam.verify.reference import Case, Reference
from refsam.verify.steps import default_stages


def picture(height: int, width: int) -> np.ndarray:
    """Smooth blobs, edges and a little noise: every way to resize, recolour or turn it gives something else."""
    rng = np.random.RandomState(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    blobs = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(-4, 4, (3, 3))]
    checks = ((x * 13).astype(int) + (y * 9).astype(int)) % 2
    levels = 120 + 40 * np.stack(blobs, axis=-1) + 35 * checks[..., None] + rng.normal(0, 12, (height, width, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


def cases(config: Config) -> dict[str, Case]:
    """Pictures and prompts; each mistake shows in at least one of them. They shrink, or the commonest mistake would not show."""
    side = config.image_size
    wide, tall = picture(int(side * 1.54), int(side * 2.344)), picture(int(side * 2.344), int(side * 1.54))
    height, width = wide.shape[:2]
    points = {"point_coords": [[width * 0.55, height * 0.6], [width * 0.1, height * 0.2]], "point_labels": [1, 0]}
    box = {"box": [width * 0.2, height * 0.15, width * 0.9, height * 0.95]}
    return {
        "points": Case(wide, points),
        "box": Case(wide, box),
        "box and points": Case(wide, {**points, **box}),
        "mask": Case(wide, {**points, "mask_input": mask_prompt(config.mask_size), "multimask_output": False}),
        "portrait": Case(tall, {"point_coords": [[height * 0.5, width * 0.5]], "point_labels": [1]}),
    }


def case_for(hypothesis: Hypothesis) -> str:
    """The name of a case in which this mistake shows."""
    special = {
        "padding point with a box": "box and points",
        "row stride of the unpadded picture": "portrait",
        "canvas of 684 x 1024": "portrait",
    }
    if hypothesis.name in special:
        return special[hypothesis.name]
    if hypothesis.name.startswith("mask prompt"):
        return "mask"
    if "box" in hypothesis.name and "prompts" in hypothesis.areas:
        return "box"
    return "points"


@cache
def tiny() -> MobileSam:
    return MobileSam(standin_weights(TINY), TINY, dtype="float64")


@cache
def reference(name: str) -> Reference:
    """The tiny model's truth of a case."""
    return Reference(tiny(), cases(TINY)[name], default_stages(TINY))


def run(pipeline: Pipeline, case: Case, model: MobileSam, precision: str = "float32") -> Mapping[str, np.ndarray]:
    """What a port that computes as this pipeline shows."""
    trace = Trace(",".join(default_stages(model.config)))
    base = MobileSam(model.scope.weights, model.config, Ops(), "float32")
    port = hooked(at_precision(pipeline.model(base), precision_of(precision)), trace=trace, replaced=True)
    before = preprocess(pipeline, case.image, model.config.image_size)
    predict_on(port, port.encode_image(before["input_image"]), case, pipeline.coords, pipeline.mask)
    size, side = (case.image.shape[0], case.image.shape[1]), model.config.image_size
    masks = pipeline.binarize(pipeline.upsample(trace["low_res_masks"], pipeline.size(size, side), size, side))
    return {**before, **trace, "masks": masks}
