"""Verifying a port: each case is put to it, its stages are judged, and its differences followed to the masks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from refsam import backends, transforms
from refsam.errors import InputError
from refsam.mask_difference import MaskDifference
from refsam.model.sam import MobileSam
from refsam.tracing import Trace
from refsam.types import Array, Bool, Float
from refsam.verify.comparison import K, checked_k
from refsam.verify.difference import aligned
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.local import predict_on
from refsam.verify.masks import binary, mask_differences, undefined
from refsam.verify.outcome import Outcome
from refsam.verify.ports.port import Port, asked_for, own_stages, renamed
from refsam.verify.precision import precision_of
from refsam.verify.reference import Case, Reference, in_float64
from refsam.verify.single import narrowed
from refsam.verify.steps import all_stages, default_stages, matching
from refsam.verify.verdict import Verdict, judge

POSTPROCESSED = "masks: the reference's postprocessing of the port's low_res_masks"
DECODED = "masks: the reference's decoder and postprocessing on the port's image_encoder"
ENCODED = "masks: the reference's model on the port's input_image"
_COARSEST = 2e4
"""The greatest required k at float32 that rounding to fp16 may be the reason of: its unit is 8192 of float32's."""
UNFINISHED = "masks: the reference's own, as the port shows nothing that they could be made of"


def verify(
    port: Port,
    model: MobileSam,
    cases: Iterable[Case],
    *,
    precision: str | None = None,
    k: float = K,
    stages: str | None = None,
    hypotheses: Iterable[Hypothesis] | None = None,
    explain: bool = True,
    cached: bool = True,
    threads: int = 2,
) -> Iterator[Outcome]:
    """Put each case to a port and judge what it shows.

    Args:
        port: `open_port` makes one.
        model: the reference's weights, in any dtype and on any backend; the reference computes in float64.
        cases: pictures and prompts.
        precision: what the port computes in; None: what it declares.
        k: how many rounding budgets are allowed (`comparison.K`).
        stages: glob patterns of the stages that are judged, separated by commas; None: `steps.default_stages` and what the port
            shows besides. What it shows of others, or was given, still serves as input.
        hypotheses: those that are tried where a stage differs; None: all known ones.
        explain: whether to look for where and why.
        cached: whether the reference's runs are kept in the user's cache, and taken from there.
        threads: parts computed at once in that search, and threads of the fast backend, which budgets take.

    Raises InputError for a k, a precision or stages that there are not, where the port shows none of its own, and what the port
    raises.
    """
    checked_k(k)
    known = all_stages(model)
    wanted = default_stages(model.config) if stages is None else matching(known, stages)
    tried = None if hypotheses is None else tuple(hypotheses)
    models, reference = _Models.of(model, threads), None
    for case in cases:
        shown, renames = renamed(port.run(case.copied(), wanted))  # its arrays may be changed in place
        own = own_stages(port, shown, known)
        candidate, chosen = asked_for(shown, case, model.config.num_multimask_outputs + 1)
        declared = precision_of(precision or port.precision).name
        reference = Reference(models.exact, case, [name for name in known if name in candidate], threads, reference)
        if cached:
            reference.load_or_measure(declared)
        verdict = judge(
            reference,
            candidate,
            precision=declared,
            k=k,
            hypotheses=tried,
            explain=explain,
            threads=threads,
            quick=models.quick,
            stages=own if stages is None else _asked_for(port, own, wanted),
        )
        named = precision or getattr(port, "declared", None)
        coarser = tuple(_coarser(reference, candidate, verdict, cached)) if explain and not named else ()
        masks, source, lacking = _final_masks(candidate, reference, models.quick)
        truth = reference.truth["low_res_masks"][0]
        ends = mask_differences(truth, masks, case.size, model.config.image_size, reference.margin(declared, k))
        ends = (replace(ends[0], misfit=lacking),) if lacking else ends
        notes = (
            *port.notes,
            *renames,
            *chosen,
            *coarser,
            *_not_shown(stages, own),
            *([source] if source else []),
            *_nearest(masks, ends, reference.truth["iou_predictions"]),
        )
        yield Outcome(port.name, case, reference, candidate, verdict, notes, masks, ends)


def _asked_for(port: Port, own: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Of what a port shows of its own what is wanted. Raises InputError where that is only what it was handed."""
    judged = [name for name in own if name in wanted]
    handed = [name for name in getattr(port, "given", ()) if name in wanted]
    if handed and not judged:
        raise InputError(f"{' and '.join(handed)}: handed to the port, and not judged; of its own it shows {', '.join(own[:5])}")
    return judged


def _not_shown(stages: str | None, own: Sequence[str]) -> Iterator[str]:
    """That nothing was judged of what a pattern asks for, where other patterns have stages that the port shows."""
    for pattern in () if stages is None else Trace(stages).patterns:
        if not any(Trace(pattern).wants(name) for name in own):
            yield f"stages: of its own the port shows none like {pattern!r}; none was judged"


def _coarser(reference: Reference, candidate: Mapping[str, Array], verdict: Verdict, cached: bool) -> Iterator[str]:
    """That a port which does not hold at float32 would at fp16. Its budget costs several runs, so it is not measured where a
    mistake has a name, or where it could not be enough."""
    report, coarse = verdict.report, "fp16"
    explained = any(explanation.names for explanation in verdict.explanations)
    if report.precision != "float32" or not report.failing or explained or report.required_k > _COARSEST:
        return
    if cached:
        reference.load_or_measure_besides(coarse)
    stages = [*(result.stage for result in report.stages), *(["masks"] if report.masks else [])]
    found = judge(reference, candidate, precision=coarse, k=report.k, explain=False, stages=stages).report
    if found:
        yield f"precision: judged at float32; would hold at --precision fp16, required k {found.required_k:.2g}"


class _Models(NamedTuple):
    """The same weights twice.

    Attributes:
        exact: the reference, in float64.
        quick: for what follows from a port's results, in float32 on the fast backend.
    """

    exact: MobileSam
    quick: MobileSam

    @classmethod
    def of(cls, model: MobileSam, threads: int) -> "_Models":
        quick = MobileSam(model.scope.weights, model.config, backends.create("fast", threads), "float32", model.metadata)
        return cls(in_float64(model), quick)


class _Final(NamedTuple):
    """Where a port's differences lead.

    Attributes:
        masks: its own, or those that the reference makes of the last that it shows; none where that cannot be, or they are NaN.
        source: a note of it.
        lacking: why there are none.
    """

    masks: Bool[Array, "M H W"]
    source: str = ""
    lacking: str = ""


@np.errstate(all="ignore")  # as in `judge`
def _final_masks(candidate: Mapping[str, Array], reference: Reference, quick: MobileSam) -> _Final:
    none = np.zeros((0, *reference.case.size), bool)
    if "masks" in candidate:
        lacking = undefined(candidate["masks"])
        return _Final(none, lacking=lacking) if lacking else _Final(binary(candidate["masks"], reference.case.size))
    shown = aligned(narrowed(reference.truth, candidate)[0], candidate)
    last = next((name for name in ("low_res_masks", "image_encoder", "input_image") if name in candidate), "")
    if last and last not in shown:
        return _Final(none, lacking=f"none can be made, as its {last} is of another shape or not finite")
    if last == "low_res_masks":
        return _Final(_postprocessed(shown[last], reference), POSTPROCESSED)
    if last == "image_encoder":
        return _Final(_postprocessed(_decoded(shown[last], reference, quick), reference), DECODED)
    if last == "input_image":
        embedding = quick.encode_image(shown[last])
        return _Final(_postprocessed(_decoded(embedding, reference, quick), reference), ENCODED)
    return _Final(_postprocessed(reference.truth["low_res_masks"], reference), UNFINISHED)


def _nearest(masks: Bool[Array, "M H W"], ends: Sequence[MaskDifference], scores: Float[Array, "1 M"]) -> Iterator[str]:
    """What a single mask was compared with, where there are several: a port that chooses should have chosen the best."""
    if len(masks) == 1 < scores.size and not ends[0].misfit:
        best = int(scores.argmax())
        nearest = f"of the reference's {scores.size} it was held against the nearest, mask {ends[0].number}"
        yield f"masks: one is shown; {nearest} (its best by score{'' if best == ends[0].number else f' is mask {best}'})"


def _decoded(embedding: Float[Array, "1 D E E"], reference: Reference, quick: MobileSam) -> Float[Array, "1 M L L"]:
    trace = Trace("low_res_masks")
    predict_on(quick.traced(trace), embedding, reference.case)
    return trace["low_res_masks"]


def _postprocessed(logits: Float[Array, "1 M L L"], reference: Reference) -> Bool[Array, "M H W"]:
    side, size = reference.model.config.image_size, reference.case.size
    inner = transforms.resized_size(size, side)
    return transforms.postprocess_masks(np.asarray(logits, np.float32), inner, size, side)[0]
