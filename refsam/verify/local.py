"""Teacher-forced errors: each part of the model on the candidate's own inputs, so that an early fault does not blame the rest."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from refsam import transforms
from refsam.blas import one_blas_thread
from refsam.figures import relative_l2
from refsam.model.sam import MobileSam
from refsam.types import Array, Size
from refsam.verify.hooks import hooked
from refsam.verify.pipeline import mask_as_it_is, normalize_and_pad
from refsam.verify.precision import model_of_precision, precision_of
from refsam.verify.reference import Case, Reference
from refsam.verify.single import narrowed
from refsam.verify.steps import Step, encoder_steps, step_of

Scale = Callable[[Array, Size, int], Array]

_ENCODER = "image_encoder"
_OWN = 2.0
"""Budgets of float32 that the fast backend's embedding may be off by (docs/fast.md)."""
_FLOAT32 = 4e-6
"""More than float32 costs an embedding, where that was not measured: 1.2e-6 on stand-in weights, 6e-7 on the demo model's."""
_CLEARLY = 8.0
"""Times the bound: what no input makes of rounding."""


class LocalError(NamedTuple):
    """How far a candidate's stage is from float64 on the candidate's own inputs, and what rounding costs there.

    `expected` is what the stage should be on these inputs, kept of an encoder that shows only its result.
    """

    error: float
    budget: float
    expected: Array | None = None


class Quick(NamedTuple):
    """What may stand in for float64: a model in float32 on the fast backend; and how many budgets are allowed."""

    model: MobileSam
    k: float


def local_errors(
    reference: Reference, candidate: Mapping[str, Array], precision: str, threads: int = 2, quick: Quick | None = None
) -> dict[str, LocalError]:  # fmt: skip
    """Teacher-forced errors of the candidate's stages, in the order in which they run; without the masks at the picture's size.

    A stage is computed from the candidate's own results before it, so that one early fault does not blame the rest.

    Args:
        reference: its model and case; its `truth` stands in where the candidate has no inputs of its own.
        candidate: stage name -> finite array in the stage's shape, or that of one of several masks (`single.narrowed`).
        precision: the candidate's.
        threads: segments computed at once.
        quick: decides, where it can, about an encoder that shows only its result: float64 would take seven times as long.
    """
    precise = model_of_precision(reference.model, precision)
    segments = [*_encoder_segments(reference, candidate), Segment(_prediction)]
    floor = precision_of(precision).unit

    @np.errstate(all="ignore")  # float16 may overflow, and each thread has settings of its own
    def measure(segment: "Segment") -> dict[str, LocalError]:
        found = _known(segment, reference, candidate, precision) or _quickly(segment, reference, candidate, precision, quick)
        if found is not None:
            return found
        rounded, exact = _Feed(reference, candidate), _Feed(reference, candidate)
        segment.run(_forced(precise, rounded), rounded)
        segment.run(_forced(reference.model, exact), exact)
        truths, coarse = (narrowed(feed.computed, candidate)[0] for feed in (exact, rounded))
        return {
            name: LocalError(relative_l2(truth, candidate[name]), _rounding(truth, coarse[name], floor))
            for name, truth in truths.items()
        }

    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        found = _before_the_model(reference, candidate, reference.budget(precision), floor)
        for errors in pool.map(measure, segments):
            found.update({name: error for name, error in errors.items() if name not in found})
    return found


def _rounding(truth: Array, rounded: Array, floor: float) -> float:
    """What rounding costs here; the least that it may where the rounded overflows, as then no port that rounds is right."""
    cost = relative_l2(truth, rounded) if np.isfinite(rounded).all() else floor
    return max(cost, floor)


def _before_the_model(
    reference: Reference, candidate: Mapping[str, Array], budget: Mapping[str, float], floor: float
) -> dict[str, LocalError]:  # fmt: skip
    """The resized picture, and the encoder's input made of the candidate's own resized picture."""
    resized, given = "transforms.resized", "input_image"
    pixels = candidate.get(resized, reference.truth.get(resized))
    found = {}
    if resized in candidate and resized in reference.truth:
        found[resized] = LocalError(relative_l2(reference.truth[resized], candidate[resized]), max(budget[resized], floor))
    if given in candidate:
        side = reference.model.config.image_size
        made = reference.truth[given] if pixels is None else normalize_and_pad(pixels, side)
        found[given] = LocalError(relative_l2(made, candidate[given]), max(budget[given], floor))
    return found


class Segment(NamedTuple):
    """A part of the model between stages that the candidate has.

    Attributes:
        run: computes it, on what a feed gives.
        after, stages: of a chain of the encoder's steps, the stage before it and those of the candidate that are in it.
    """

    run: "Callable[[MobileSam, _Feed], Any]"
    after: str = ""
    stages: tuple[str, ...] = ()


def _known(
    segment: Segment, reference: Reference, candidate: Mapping[str, Array], precision: str
) -> dict[str, LocalError] | None:  # fmt: skip
    """The errors of a segment with one stage whose input is the reference's own, bit for bit: those of the reference's runs."""
    if len(segment.stages) != 1 or segment.after != "input_image":
        return None
    given = candidate.get(segment.after)
    if given is not None and not np.array_equal(given, reference.truth[segment.after]):
        return None
    (stage,) = segment.stages
    truth, budget = reference.truth[stage], reference.budget(precision)[stage]
    return {stage: LocalError(relative_l2(truth, candidate[stage]), budget, truth)}


def _quickly(
    segment: Segment, reference: Reference, candidate: Mapping[str, Array], precision: str, quick: Quick | None
) -> dict[str, LocalError] | None:  # fmt: skip
    """The error of an encoder that shows only its result, in float32, where that is enough to tell whether it holds.

    Rounding is taken to cost what it does on the reference's own input. Near the bound float64 has to decide: below it by no more
    than float32 itself may cost, above it by less than a factor that leaves room for inputs on which rounding costs more.
    """
    if quick is None or segment.stages != (_ENCODER,) or segment.after != "input_image" or segment.after not in candidate:
        return None
    budget = reference.budget(precision)[_ENCODER]
    value = quick.model.encode_image(candidate[segment.after].astype(np.float32))
    error = relative_l2(value, candidate[_ENCODER])
    own = budget if precision_of(precision).name == "float32" else _FLOAT32
    clear = error < quick.k * budget - _OWN * own or error > _CLEARLY * quick.k * budget
    return {_ENCODER: LocalError(error, budget, value)} if clear else None


class _Feed:
    """Where a segment's inputs come from (the candidate, else the truth), and what was computed for the candidate's stages."""

    def __init__(self, reference: Reference, candidate: Mapping[str, Array]) -> None:
        self.reference, self.candidate = reference, candidate
        self.computed: dict[str, Array] = {}

    def __getitem__(self, stage: str) -> Array:
        return self.candidate[stage] if stage in self.candidate else self.reference.truth[stage]

    def seen(self, name: str, value: Array) -> None:
        if name in self.candidate and name not in self.computed:
            self.computed[name] = np.array(value)


def _forced(model: MobileSam, feed: _Feed) -> MobileSam:
    """The model whose stages go on with the candidate's values."""
    return hooked(model, forced=feed.candidate, seen=feed.seen)


def _encoder_segments(reference: Reference, candidate: Mapping[str, Array]) -> list[Segment]:
    """Runs of steps, each beginning at a stage that the candidate has (or at the input), up to its last one."""
    steps = encoder_steps(reference.model.config)
    shown = {name: step_of(name, steps) for name in candidate if name.startswith("image_encoder")}
    segments: list[list[Step]] = []
    for step in steps[: max(shown.values(), default=-1) + 1]:
        if not segments or step.after in candidate:
            segments.append([])
        segments[-1].append(step)
    inside = [[name for name, step in shown.items() if steps[step] in segment] for segment in segments]
    chains = zip(segments, inside, strict=True)
    return [Segment(_chain(segment), segment[0].after, tuple(names)) for segment, names in chains]


def _chain(steps: list[Step]) -> Callable[[MobileSam, _Feed], Any]:
    def run(model: MobileSam, feed: _Feed) -> None:
        x = feed[steps[0].after].astype(model.dtype)
        for step in steps:
            x = step.run(model.scope, x)

    return run


def _prediction(model: MobileSam, feed: _Feed) -> None:
    """Prompt encoder and mask decoder on the candidate's embedding. The masks at full size are compared elsewhere."""
    predict_on(model, feed["image_encoder"], feed.reference.case)


def predict_on(
    model: MobileSam,
    features: Array,
    case: Case,
    scale: Scale = transforms.apply_coords,
    change_mask: Scale = mask_as_it_is,
) -> None:
    """Answer the case's prompt on an embedding, up to the low-resolution masks, for the sake of the stages on the way.

    Args:
        scale: takes points from image pixels to the input frame.
        change_mask: what becomes of the mask prompt (1, L, L).
    """
    prompts, size = case.prompts, (case.image.shape[0], case.image.shape[1])
    points = boxes = mask = None
    if prompts.get("point_coords") is not None:
        coords = scale(np.asarray(prompts["point_coords"], np.float64), size, model.config.image_size)
        points = model.tap("transforms.point_coords", coords[None]), np.asarray(prompts["point_labels"])[None]
    if prompts.get("box") is not None:
        corners = scale(np.asarray(prompts["box"], np.float64).reshape(2, 2), size, model.config.image_size)
        boxes = model.tap("transforms.boxes", corners.reshape(1, 4))
    if prompts.get("mask_input") is not None:
        mask = change_mask(np.asarray(prompts["mask_input"]), size, model.config.image_size)[None]
    sparse, dense = model.encode_prompts(points, boxes, mask)
    multimask = bool(prompts.get("multimask_output", True))
    logits, scores = model.decode_masks(features, model.image_pe, sparse, dense, multimask)
    model.tap("low_res_masks", logits)
    model.tap("iou_predictions", scores)
