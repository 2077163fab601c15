"""Why a port differs: which known mistakes turn the reference into the port, and how much of the difference they explain.

For the stage where a difference enters, the reference is computed on the port's own inputs once as it is and once with each
hypothesis. It explains 1 - |port - hypothesis|^2 / |port - reference|^2 of the difference. The best one is kept, and the
search goes on from there for a second one, as long as it explains most of what is left.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from refsam.blas import one_blas_thread
from refsam.config import Config
from refsam.errors import InputError, RefsamError
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.types import Array
from refsam.verify.comparison import CompareReport
from refsam.verify.difference import aligned
from refsam.verify.hooks import hooked
from refsam.verify.hypotheses import known
from refsam.verify.hypothesis import Area, Hypothesis
from refsam.verify.local import predict_on
from refsam.verify.pipeline import Pipeline, Pixels
from refsam.verify.reference import Reference
from refsam.verify.steps import Step, encoder_steps, step_of

ENOUGH = 0.5
"""A set of hypotheses that explains less of a difference than this explains nothing."""
WORTHWHILE = 0.5
"""... and one more has to explain at least this share of what those before it left over."""
_ROUNDING = 2.0**-22  # relative L2 that a run in float32 costs: what is left over below that needs no explanation
AT_MOST = 4
_TIE = 1e-3  # of the difference: hypotheses that leave less than this, or than twice what the best one leaves, are tied
_WITNESSES = 4
_WORTH_SAYING = 0.05
"""Hypotheses together."""


@dataclass(frozen=True)
class Explanation:
    """What explains the difference at one stage.

    Attributes:
        stage: where the difference enters.
        names: the hypotheses, the one that explains most first; empty where nothing known explains it.
        explained: how much of the squared difference they explain together, from 0 to 1.
        remedies: one for each hypothesis.
        others: further single hypotheses and what each explains alone, best first.
        also: later stages at which these hypotheses explain a difference that enters there.
        shares: of each hypothesis, how much less is explained without it.
    """

    stage: str
    names: tuple[str, ...]
    explained: float
    remedies: tuple[str, ...] = ()
    others: tuple[tuple[str, float], ...] = ()
    also: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.names:
            return f"{self.stage}: nothing known explains the difference"
        also = f" (and those at {len(self.also)} later stages)" if self.also else ""
        return f"{self.stage}: {' + '.join(self.names)} explains {_percent(self.explained)} of the difference{also}"


def _percent(share: float) -> str:
    """As many nines as there are, so that 99.99 % does not look like all."""
    if 1 - share < 1e-6:
        return "100 %"
    digits = min(max(0, math.ceil(-math.log10(max(1 - share, 1e-6))) - 1), 4) if share > 0.9 else 0
    return f"{100 * share:.{digits}f} %"


def diagnose(
    reference: Reference,
    candidate: Mapping[str, Array],
    report: CompareReport,
    hypotheses: Iterable[Hypothesis] | None = None,
    most: int = 4,
) -> list[Explanation]:
    """Explain the differences that a report found, one explanation for each stage where a new one enters.

    Args:
        reference: what the report was made with.
        candidate: the port's stages.
        report: best one with local errors, so that what an early fault does later is not taken for a fault of its own.
        hypotheses: those to try; by default `hypotheses.known()`.
        most: how many stages are explained at most.
    """
    tried = tuple(known() if hypotheses is None else hypotheses)
    known_stages = aligned(reference.truth, candidate)
    found: list[Explanation] = []

    def bench(stage: str) -> Bench:
        return Bench(reference, known_stages, stage, _target(reference, candidate, known_stages, stage))

    entering = _entering(report)

    def witnesses() -> list[Bench]:
        return [bench(stage) for stage in _witnesses(reference.model.config, report, entering) if stage != "masks"]

    with one_blas_thread():
        for stage in entering:
            if len(found) == most:
                break
            here = bench(stage)
            index = next((i for i, earlier in enumerate(found) if _explains(here, earlier, tried)), None)
            if index is None:
                found.append(search(here, tried, witnesses))
            else:
                found[index] = replace(found[index], also=(*found[index].also, stage))
    return found


def _witnesses(config: Config, report: CompareReport, entering: Sequence[str]) -> list[str]:
    """Other stages to ask when two hypotheses are tied: some where differences enter, and some whole steps that hold."""
    steps = {step.stage for step in encoder_steps(config)} | {"mask_decoder.output_upscaling"}
    holding = [result.stage for result in report.stages if result.holds and not result.local_fault and result.stage in steps]
    return [*entering[:_WITNESSES], *holding[:: max(1, len(holding) // _WITNESSES)]]


def _target(reference: Reference, candidate: Mapping[str, Array], known: Mapping[str, Array], stage: str) -> Array:
    """What the port has at a stage, in its own shape where that is not the reference's."""
    value = np.asarray(known.get(stage, candidate[stage]))
    return value.reshape(reference.truth["low_res_masks"].shape[:2] + value.shape[-2:]) if stage == "masks" else value


def _entering(report: CompareReport) -> list[str]:
    """The stages where differences enter, first to last."""
    if report.first is None:
        return []
    stages = [result.stage for result in report.stages if result.local_fault]
    return stages or [report.first]


def _explains(bench: "Bench", earlier: Explanation, tried: Sequence[Hypothesis]) -> bool:
    """Whether an explanation found at an earlier stage serves here too."""
    chosen = [hypothesis for hypothesis in tried if hypothesis.name in earlier.names]
    return bool(chosen) and bench.explained(chosen) >= ENOUGH


def search(bench: "Bench", tried: Sequence[Hypothesis], witnesses: Callable[[], list["Bench"]]) -> Explanation:
    """The best hypothesis, then the one that explains most of the rest with it, and so on."""
    tried = [hypothesis for hypothesis in tried if bench.area in hypothesis.areas or bench.whole_path(hypothesis)]
    alone = {hypothesis: bench.explained([hypothesis]) for hypothesis in tried}
    chosen: list[Hypothesis] = []
    explained, scores = 0.0, alone
    while scores and len(chosen) < AT_MOST:
        best = max(scores.values())
        enough = explained + WORTHWHILE * (1 - explained) if chosen else ENOUGH
        if not best >= enough or (chosen and 1 - explained < bench.rounding):  # "not": all are NaN where the port's stage is
            break
        tied = [h for h, score in scores.items() if 1 - score <= max(2 * (1 - best), _TIE)]
        taken = _most_consistent(tied, chosen, witnesses()) if len(tied) > 1 else tied[0]
        chosen += taken.parts or [taken]
        explained = scores[taken]
        scores = {h: bench.explained([*chosen, h]) for h in tried if h not in chosen}
    names, remedies = tuple(h.name for h in chosen), tuple(h.remedy for h in chosen)
    rest = sorted(
        ((h.name, score) for h, score in alone.items() if h not in chosen and score > _WORTH_SAYING), key=lambda x: -x[1]
    )
    return Explanation(bench.stage, names, explained, remedies, tuple(rest[:5]), shares=_shares(bench, chosen, explained))


def _shares(bench: "Bench", chosen: Sequence[Hypothesis], explained: float) -> tuple[float, ...]:
    """By how much less is explained without each of them."""
    if len(chosen) < 2:
        return tuple(explained for _ in chosen)
    rest = [[other for other in chosen if other is not hypothesis] for hypothesis in chosen]
    return tuple(explained - bench.explained(others) for others in rest)


def _most_consistent(tied: Sequence[Hypothesis], chosen: Sequence[Hypothesis], others: Sequence["Bench"]) -> Hypothesis:
    """Of hypotheses that explain one stage equally well, the one that fits the other stages best; the first known, in a draw."""
    return max(tied, key=lambda h: (sum(bench.fit([*chosen, h]) for bench in others), -tied.index(h)))


class _Reached(Exception):
    pass


class Bench:
    """One stage of a port, and what the reference gives there under any hypotheses on the port's own inputs.

    Args:
        reference: gives the model, the case, and inputs that the port does not have.
        candidate: the port's stages.
        stage: the one to explain.
        target: what the port has there, if not what `candidate` has.
    """

    def __init__(self, reference: Reference, candidate: Mapping[str, Array], stage: str, target: Array | None = None) -> None:
        self.reference, self.candidate, self.stage = reference, candidate, stage
        model = reference.model
        self.base = MobileSam(model.scope.weights, model.config, Ops(), "float32", model.metadata)
        self.area = area_of(stage)
        self.image, self.side = reference.case.image, model.config.image_size
        self.measure(np.asarray(candidate[stage] if target is None else target, np.float64))

    def measure(self, target: Array) -> None:
        """Take `target` for what the port has, and note how far it is from the reference."""
        self.target = target
        self._pixels: dict[Any, Pixels] = {}
        norm = float(np.linalg.norm(self.target))
        distance = self._distance(Pipeline())
        self.unexplained = distance if math.isfinite(distance) else norm  # all of it, where the reference has another shape
        self.rounding = min(1.0, (_ROUNDING * norm / self.unexplained) ** 2) if self.unexplained else 1.0

    def whole_path(self, hypothesis: Hypothesis) -> bool:
        """Whether a hypothesis of an earlier part may show here, because the port has nothing in between."""
        if self.area == "encoder":
            return "preprocessing" in hypothesis.areas and not self._has_encoder_input()
        if self.area == "decoder":
            return "prompts" in hypothesis.areas and "prompt_encoder.sparse_prompt_embeddings" not in self.candidate
        return False

    def explained(self, hypotheses: Sequence[Hypothesis]) -> float:
        """How much of the squared difference these explain together; less than 0 where they make it greater."""
        distance = self._distance(pipeline_of(hypotheses))
        return 1 - (distance / self.unexplained) ** 2 if self.unexplained else 0.0

    def fit(self, hypotheses: Sequence[Hypothesis]) -> float:
        """How well these fit here: 1 where they explain what is wrong, 0 where they change nothing, -1 where they do harm."""
        return max(self.explained(hypotheses), -1.0)

    def _distance(self, pipeline: Pipeline) -> float:
        """|port - reference under this pipeline|, infinite where it gives something of another shape."""
        try:
            with np.errstate(all="ignore"):
                value = self.value(pipeline)
        except (RefsamError, ValueError, IndexError):
            return math.inf
        if value.shape != self.target.shape or not np.isfinite(value).all():
            return math.inf
        return float(np.linalg.norm(self.target - value))

    def value(self, pipeline: Pipeline) -> Array:
        """What the reference gives here under a pipeline."""
        if self.area == "preprocessing":
            return self._preprocessed(pipeline)
        if self.area == "postprocessing":
            return self._masks(pipeline)
        return self._captured(pipeline)

    def _preprocessed(self, pipeline: Pipeline) -> Array:
        """Pipelines that differ only in what they do to the resized pixels share these."""
        key = (pipeline.picture, pipeline.size, pipeline.resize)
        if key not in self._pixels:
            self._pixels[key] = pipeline.resized(self.image, self.side)
        pixels = self._pixels[key]
        return pixels if self.stage == "transforms.resized" else pipeline.place(pixels, self.side).astype(np.float32)

    def _masks(self, pipeline: Pipeline) -> Array:
        """Masks at the picture's size from the port's own logits."""
        logits = np.asarray(self.candidate.get("low_res_masks", self.reference.truth["low_res_masks"]), np.float32)
        height, width = self.reference.case.image.shape[:2]
        side = self.base.config.image_size
        sizes = (pipeline.size((height, width), side), (height, width), side)
        return pipeline.binarize(pipeline.upsample(logits, *sizes))

    def _captured(self, pipeline: Pipeline) -> Array:
        """The stage out of a run of the model's part that it is in; the run ends there."""
        caught: list[Array] = []

        def seen(name: str, value: Array) -> None:
            if name == self.stage:
                caught.append(np.array(value))
                raise _Reached

        earlier = {name: value for name, value in self.candidate.items() if name != self.stage and self._before(name)}
        model = hooked(pipeline.model(self.base), seen=seen, forced=earlier, replaced=True)
        run = self._encoder if self.area == "encoder" else self._decoder
        try:
            run(model, pipeline)
        except _Reached:
            return caught[0]
        raise InputError(f"stage {self.stage} is not one that this model has")

    def _before(self, name: str) -> bool:
        """Whether a stage may be forced: not the parts of the one in question, or nothing would be left to explain."""
        return not name.startswith(f"{self.stage}.")

    def _has_encoder_input(self) -> bool:
        return "input_image" in self.candidate or any(step.stage in self.candidate for step in self._steps()[:-1])

    def _steps(self) -> list[Step]:
        """The encoder's steps up to the one that the stage is in, that one included."""
        steps = encoder_steps(self.base.config)
        return steps[: step_of(self.stage, steps) + 1]

    def _encoder(self, model: MobileSam, pipeline: Pipeline) -> None:
        """From the nearest stage before that the port has, else from the picture."""
        steps = self._steps()
        start = max((i for i, step in enumerate(steps) if step.after in self.candidate), default=0)
        if steps[start].after in self.candidate:
            x = self.candidate[steps[start].after]
        else:
            x = pipeline.input_image(self.reference.case.image, self.base.config.image_size)
        x = x.astype(np.float32)
        for step in steps[start:]:
            x = step.run(model.scope, x)

    def _decoder(self, model: MobileSam, pipeline: Pipeline) -> None:
        """The whole of prompt encoder and decoder, on the port's embedding."""
        features = self.candidate.get("image_encoder", self.reference.truth["image_encoder"])
        predict_on(model, features, self.reference.case, pipeline.coords)


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
