"""A hypothesis: a known mistake as a change of the reference's pipeline. `register` adds one's own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from refsam.errors import InputError
from refsam.verify.pipeline import Pipeline

Area = Literal["preprocessing", "prompts", "encoder", "decoder", "postprocessing"]


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


_registered: dict[str, Hypothesis] = {}


def register(hypothesis: Hypothesis) -> Hypothesis:
    """Add a hypothesis to those that every diagnosis tries. Raises InputError where the name is taken."""
    from refsam.verify.hypotheses import known  # refsam's own are made with this module

    if hypothesis.name in {other.name for other in known()}:
        raise InputError(f"there is a hypothesis named {hypothesis.name!r} already; give it another name")
    _registered[hypothesis.name] = hypothesis
    return hypothesis


def registered() -> tuple[Hypothesis, ...]:
    """Those that were added, in order."""
    return tuple(_registered.values())


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
