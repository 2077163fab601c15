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
from refsam.types import Array, Size
from refsam.verify.bench import Bench
from refsam.verify.comparison import CompareReport
from refsam.verify.difference import aligned
from refsam.verify.hypotheses import float16, known
from refsam.verify.hypothesis import Hypothesis, pipeline_of
from refsam.verify.inside import guesses, headroom
from refsam.verify.masks import binary
from refsam.verify.pipeline import Pipeline
from refsam.verify.reference import Reference
from refsam.verify.single import narrowed
from refsam.verify.steps import encoder_steps

ENOUGH = 0.75
"""A set of hypotheses that explains less of a difference than this explains nothing: faults that nobody thought of look a little
like some that are known."""
WORTHWHILE = 0.5
"""... and one more has to explain at least this share of what those before it left over."""
AT_MOST = 4
"""Hypotheses together."""
_CHANCE = 1e-4
"""How often a hypothesis that has nothing to do with a difference may explain it (`_left_over`). Some hundreds are tried."""
_TIE = 1e-3  # of the difference: hypotheses that leave less than this, or than twice what the best one leaves, are tied
CERTAIN = 0.9
"""What a change of a single tensor has to explain: there are so many of them that one always explains something."""
_SEEDS = 3
"""Hypotheses of preprocessing, the best ones, that are tried with each other one where none explains enough alone."""
_ALL_BUT = 16.0  # times what rounding leaves over: a squared difference below that is not worth looking at single tensors for
_WITNESSES = 4
_WORTH_SAYING = 0.05


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
        note: how near the stage comes to float16's limit, where it holds infinite or NaN values or float16 is to blame.
    """

    stage: str
    names: tuple[str, ...]
    explained: float
    remedies: tuple[str, ...] = ()
    others: tuple[tuple[str, float], ...] = ()
    also: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        if not self.names:
            return f"{self.stage}: nothing known explains the difference{note}"
        also = f" (and those at {len(self.also)} later stages)" if self.also else ""
        return f"{self.stage}: {' + '.join(self.names)} explains {_percent(self.explained)} of the difference{also}{note}"


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
    threads: int = 2,
) -> list[Explanation]:
    """Explain the differences that a report found, one explanation for each stage where a new one enters.

    Args:
        reference: what the report was made with.
        candidate: the port's stages.
        report: best one with local errors, so that what an early fault does later is not taken for a fault of its own.
        hypotheses: those to try; by default `hypotheses.known()`.
        most: how many stages are explained at most.
        threads: hypotheses tried at once.
    """
    tried = tuple(known() if hypotheses is None else hypotheses)
    truth, _ = narrowed(reference.truth, candidate)
    known_stages = aligned(truth, candidate)
    found: list[Explanation] = []

    expected = {result.stage: result.local.expected for result in report.stages if result.local is not None}

    def bench(stage: str) -> Bench:
        target = _target(candidate, known_stages, stage, reference.case.size)
        return Bench(reference, known_stages, stage, target, expected.get(stage), _budget(report, stage))

    entering = _entering(report, truth["low_res_masks"].shape[1])
    deeper = hypotheses is None
    chosen: dict[str, Sequence[Hypothesis]] = {}

    def witnesses() -> list[Bench]:
        return [bench(stage) for stage in _witnesses(reference.model.config, report, entering) if stage != "masks"]

    with one_blas_thread():
        for stage in entering:
            here = bench(stage)
            index = next((i for i, earlier in enumerate(found) if _explains(here, chosen[earlier.stage])), None)
            if index is not None:
                found[index] = replace(found[index], also=(*found[index].also, stage))
            elif len(found) < most:
                explanation, chosen[stage] = search(here, tried, witnesses, threads, deeper)
                found.append(explanation)
    return found


def _budget(report: CompareReport, stage: str) -> float:
    """What rounding to the port's precision costs at a stage."""
    if stage == "masks":
        return 0.0
    result = report[stage]
    return result.budget if result.local is None else result.local.budget


def _witnesses(config: Config, report: CompareReport, entering: Sequence[str]) -> list[str]:
    """Other stages to ask when two hypotheses are tied: some where differences enter, and some whole steps that hold."""
    steps = {step.stage for step in encoder_steps(config)} | {"mask_decoder.output_upscaling"}
    holding = [result.stage for result in report.stages if result.holds and not result.local_fault and result.stage in steps]
    return [*entering[:_WITNESSES], *holding[:: max(1, len(holding) // _WITNESSES)]]


def _target(candidate: Mapping[str, Array], known: Mapping[str, Array], stage: str, size: Size) -> Array:
    """What the port has at a stage, in its own shape where that is not the reference's."""
    return binary(candidate[stage], size)[None] if stage == "masks" else np.asarray(known.get(stage, candidate[stage]))


def _entering(report: CompareReport, masks: int) -> list[str]:
    """The stages where differences enter, first to last.

    `masks` is how many those make that the port's logits are held against.
    """
    if report.first is None:
        return []
    entering = [result.stage for result in report.entering]
    if report.masks_enter:
        entering.append("masks")
    # Masks of another count or size have nothing that the model's could be held against.
    fit = len(report.masks) == masks and not any(mask.misfit for mask in report.masks)
    return [stage for stage in entering or [report.first] if fit or stage != "masks"]


def _explains(bench: Bench, chosen: Sequence[Hypothesis]) -> bool:
    """Whether an explanation found at an earlier stage serves here too."""
    return any(bench.may_show(hypothesis) for hypothesis in chosen) and bench.explained(chosen) >= ENOUGH


def search(
    bench: Bench,
    tried: Sequence[Hypothesis],
    witnesses: Callable[[], list[Bench]],
    threads: int = 2,
    deeper: bool = False,
) -> tuple[Explanation, Sequence[Hypothesis]]:
    """The best hypothesis, then the one that explains most of the rest with it, and so on.

    Args:
        deeper: whether single tensors are looked at where no hypothesis explains all.
    """
    tried = [hypothesis for hypothesis in tried if bench.may_show(hypothesis)]
    alone = dict(zip(tried, bench.scores([[h] for h in tried], threads), strict=True))
    if deeper:
        alone |= _of_tensors(bench, max(alone.values(), default=0.0))
    chosen, explained = _chain(bench, alone, witnesses, threads)
    names, remedies = tuple(h.name for h in chosen), tuple(h.remedy for h in chosen)
    rest = sorted(
        ((h.name, score) for h, score in alone.items() if {*_said([h])} - {*chosen} and score > _WORTH_SAYING),
        key=lambda x: -x[1],
    )
    shares = _shares(bench, chosen, explained)
    return Explanation(bench.stage, names, explained, remedies, tuple(rest[:5]), (), shares, _note(bench, chosen)), chosen


def _of_tensors(bench: Bench, best: float) -> dict[Hypothesis, float]:
    """Changes of single tensors that explain nearly all, sort by sort until one leaves no more than rounding does."""
    found: dict[Hypothesis, float] = {}
    groups = guesses(bench)
    while 1 - max(best, *found.values(), 0.0) > _ALL_BUT * bench.rounding and (group := next(groups, None)) is not None:
        scores = {guess: bench.explained([guess]) for guess in group}
        found |= {guess: score for guess, score in scores.items() if 1 - score <= _left_over(bench, 1 - CERTAIN)}
    return found


def _left_over(bench: Bench, most: float) -> float:
    """What may be left of a difference that is said to be explained: `most`, less where it is of few numbers. A value that has
    nothing to do with n numbers leaves a share of at most x of their squared difference about as often as x^(n / 2)."""
    return min(most, _CHANCE ** (2 / max(bench.target.size, 1)))


def _chain(
    bench: Bench, alone: Mapping[Hypothesis, float], witnesses: Callable[[], list[Bench]], threads: int
) -> tuple[list[Hypothesis], float]:
    """Hypotheses that explain more and more together, and how much."""
    chosen, explained = _pair(bench, alone, threads)
    scores = _next(bench, chosen, explained, alone, threads) if chosen else dict(alone)
    while scores and len(chosen) < AT_MOST:
        best = max(scores.values())
        enough = 1 - (_left_over(bench, 1 - WORTHWHILE) * (1 - explained) if chosen else _left_over(bench, 1 - ENOUGH))
        if not best >= enough:  # "not": all are NaN where the port's stage is
            break
        tied = [h for h, score in scores.items() if score >= enough and 1 - score <= max(2 * (1 - best), _TIE)]
        taken = _most_consistent(tied, chosen, witnesses()) if len(tied) > 1 else tied[0]
        chosen = _needed(_said([*chosen, taken]))
        explained = scores[taken]
        scores = _next(bench, chosen, explained, alone, threads)
    return chosen, explained


def _said(chosen: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Those that a diagnosis names, each once: of several mistakes that are made together, the parts."""
    return [*dict.fromkeys(part for hypothesis in chosen for part in hypothesis.parts or (hypothesis,))]


def _needed(chosen: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Without those that change nothing beside the others, as a filter of the resize in whose place another was chosen."""
    left = list(chosen)
    for hypothesis in chosen:
        others = [other for other in left if other is not hypothesis]
        if others and pipeline_of(others) == pipeline_of(left):
            left = others
    return left


def _next(
    bench: Bench, chosen: Sequence[Hypothesis], explained: float, tried: Iterable[Hypothesis], threads: int
) -> dict[Hypothesis, float]:
    """`_with`, as long as more is left over than rounding."""
    return {} if 1 - explained < bench.rounding else _with(bench, chosen, tried, threads)


def _with(bench: Bench, chosen: Sequence[Hypothesis], tried: Iterable[Hypothesis], threads: int) -> dict[Hypothesis, float]:
    """What each of the others explains together with those that were chosen."""
    left = [h for h in tried if h not in chosen]
    return dict(zip(left, bench.scores([[*chosen, h] for h in left], threads), strict=True))


def _pair(bench: Bench, alone: Mapping[Hypothesis, float], threads: int) -> tuple[list[Hypothesis], float]:
    """Two that explain nearly all where each alone explains little, as an exchange of channels in a picture upside down.

    Only of preprocessing, where a run costs a resize, and without those of the filter alone, whose differences are small beside
    any other's. Nothing, where one alone explains enough, or no pair nearly all.
    """
    if bench.area != "preprocessing" or max(alone.values(), default=ENOUGH) >= ENOUGH:
        return [], 0.0
    able = [h for h, score in alone.items() if score > -math.inf and not _only_filters(h)]  # the others fail, or do not fit
    tried = sorted(able, key=lambda h: -alone[h])
    found: dict[tuple[Hypothesis, Hypothesis], float] = {}
    for number, seed in enumerate(tried[:_SEEDS]):
        found |= {(seed, h): score for h, score in _with(bench, [seed], tried[number + 1 :], threads).items()}
    best = max(found, key=lambda pair: found[pair], default=None)
    return (_said(best), found[best]) if best is not None and found[best] >= CERTAIN else ([], 0.0)


def _only_filters(hypothesis: Hypothesis) -> bool:
    """Whether it changes nothing but the resize's filter."""
    changed = hypothesis.apply(Pipeline())
    return replace(changed, resize=Pipeline().resize) == Pipeline()


def _note(bench: Bench, chosen: Sequence[Hypothesis]) -> str:
    """What does not fit into float16 here, where that is what is wrong; else what comes nearest to its limit."""
    if np.isfinite(bench.target).all() and not any(hypothesis in float16.HYPOTHESES for hypothesis in chosen):
        return ""
    found = headroom(bench)
    return "; ".join(map(str, [greatest for greatest in found if not greatest.fits] or found[:1]))


def _shares(bench: Bench, chosen: Sequence[Hypothesis], explained: float) -> tuple[float, ...]:
    """By how much less is explained without each of them."""
    if len(chosen) < 2:
        return tuple(explained for _ in chosen)
    rest = [[other for other in chosen if other is not hypothesis] for hypothesis in chosen]
    return tuple(explained - bench.explained(others) for others in rest)


def _most_consistent(tied: Sequence[Hypothesis], chosen: Sequence[Hypothesis], others: Sequence[Bench]) -> Hypothesis:
    """Of hypotheses that explain one stage equally well, the one that fits the other stages best to a hundredth, so that noise
    does not decide; the first known, in a draw."""
    return max(tied, key=lambda h: (sum(round(bench.fit([*chosen, h]), 2) for bench in others), -tied.index(h)))
