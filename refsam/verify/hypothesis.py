"""A hypothesis: a known mistake as a change of the reference's pipeline. `hypotheses.register` adds one's own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from refsam.verify.pipeline import Pipeline

Area = Literal["preprocessing", "prompts", "encoder", "decoder", "postprocessing"]

AREAS: tuple[Area, ...] = get_args(Area)


@dataclass(frozen=True)
class Hypothesis:
    """One known mistake.

    Attributes:
        name: a few words, unique.
        areas: where it can show; hypotheses of other areas are not tried.
        remedy: what the port should do instead.
        apply: the reference's pipeline -> one with the mistake.
        parts: of several mistakes that are made together and hide each other, those; a diagnosis names them.
    """

    name: str
    areas: tuple[Area, ...]
    remedy: str
    apply: Callable[[Pipeline], Pipeline]
    parts: "tuple[Hypothesis, ...]" = ()


def pipeline_of(hypotheses: Iterable[Hypothesis]) -> Pipeline:
    """The reference's pipeline with these mistakes."""
    pipeline = Pipeline()
    for hypothesis in hypotheses:
        pipeline = hypothesis.apply(pipeline)
    return pipeline


def area_of(stage: str) -> Area:
    """The part of the path that a stage belongs to."""
    if stage in ("transforms.resized", "input_image"):
        return "preprocessing"
    if stage == "masks":
        return "postprocessing"
    if stage.startswith("image_encoder"):
        return "encoder"
    return "prompts" if stage.startswith(("transforms.", "prompt_encoder.sparse")) else "decoder"
