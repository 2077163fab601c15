"""What the fast backend promises, as a table of goals; and the gate that notices when a ratio gets worse."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.contenders import OURS
from benchmarks.ratios import Ratio, all_ratios, ratio
from benchmarks.rows import Document
from refsam.errors import InputError


@dataclass(frozen=True)
class Goal:
    """One line of the table: our time divided by a peer's, or where `against` is None the peak memory in MB."""

    what: str
    row: str
    against: str | None
    bound: float
    aim: float


GOALS = (
    Goal("encoder / ONNX Runtime", "encoder", "onnxruntime", 1.1, 0.9),
    Goal("encoder / OpenVINO", "encoder", "openvino", 1.4, 1.0),
    Goal("encoder / torch eager with tuned malloc", "encoder", "torch-malloc", 0.75, 0.6),
    Goal("decoder, 1 prompt / ONNX Runtime", "decoder/1", "onnxruntime", 0.75, 0.6),
    Goal("decoder, 256 prompts / ONNX Runtime, per prompt", "decoder/256", "onnxruntime", 0.75, 0.5),
    Goal("predict at 12 MP / torch SamPredictor.predict", "predict/12MP", "torch", 0.4, 0.2),
    Goal("set_image at 12 MP / torch", "set_image/12MP", "torch", 0.5, 0.35),
    Goal("cold start to first mask / ONNX Runtime", "cold_start", "onnxruntime", 1.0, 0.8),
    Goal("everything mode, 32x32 points, 1024x768 / torch", "everything", "torch", 0.3, 0.12),
    Goal("peak RSS, photo to mask at 1024x768, MB", "photo", None, 350, 250),
)


NOT_IDLE = "the machine was not idle"


@dataclass(frozen=True)
class Result:
    """A goal and what was measured: None where it was not. Where there is a `caution`, the value is no verdict."""

    goal: Goal
    value: float | None
    low: float | None = None
    high: float | None = None
    caution: str = ""

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.value is None:
            return "not measured"
        if self.caution:
            return "not judged"
        return "aim met" if self.value <= self.goal.aim else "met" if self.value <= self.goal.bound else "NOT met"


def results(document: Document) -> list[Result]:
    """Each goal's result."""
    return [_result(document, goal) for goal in GOALS]


def _result(document: Document, goal: Goal) -> Result:
    mine = document.find(goal.row, OURS)
    if goal.against is None:
        peaks = mine.peaks if mine else ()
        return Result(goal, mine.peak if mine else None, min(peaks, default=None), max(peaks, default=None))
    other = document.find(goal.row, goal.against)
    if mine is None or other is None:
        return Result(goal, None)
    found = ratio(mine, other)
    return Result(goal, found.value, found.low, found.high, NOT_IDLE if found.disturbed else "")


RUN_TO_RUN = 0.10
"""How much a ratio differs between two runs on one quiet machine, beyond what the samples of one run show."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found: ratios that got worse, those that held, and those that were not judged."""

    worse: tuple[str, ...]
    held: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether nothing got worse, and something was judged at all."""
        return bool(self.held) and not self.worse

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def gate(document: Document, baseline: Document) -> Verdict:
    """Compare ratios with the baseline's, never times: those are another machine's.

    A ratio is worse where it rose beyond `noticed`. Those that rest on disturbed rows are not judged. Stages are left out: they
    are for looking. Raises InputError where the two have no ratio in common.
    """
    now, then = _ratios(document), _ratios(baseline)
    shared = [key for key in now if key in then]
    if not shared:
        raise InputError("the baseline and these rows have no ratio in common: time the same rows with the same contenders")
    lines: dict[str, list[str]] = {"worse": [], "held": []}
    skipped = [f"{_name(key)}: only one side has it" for key in {**then, **now} if key not in shared]
    for key in shared:
        if whose := [side for side, found in (("now", now[key]), ("in the baseline", then[key])) if found.disturbed]:
            skipped.append(f"{_name(key)}: {NOT_IDLE} {' and '.join(whose)}")
        else:
            rose = now[key].value > then[key].value * noticed(now[key], then[key])
            lines["worse" if rose else "held"].append(_told(now[key], then[key]))
    return Verdict(tuple(lines["worse"]), tuple(lines["held"]), tuple(skipped))


def noticed(now: Ratio, then: Ratio) -> float:
    """How many times what it was a ratio has to be for the gate to take it for a rise.

    Beyond RUN_TO_RUN, all of the change's own 95 % range has to lie above 1. That range is made of those of the two ratios: runs
    are independent, so in logarithms their distances add up as squares (Zou and Donner, Statistics in Medicine 27, 2008).
    """
    return (1 + RUN_TO_RUN) * math.exp(math.hypot(math.log(now.value / now.low), math.log(then.high / then.value)))


def _ratios(document: Document) -> dict[tuple[str, str, str], Ratio]:
    return {x.key: x for x in all_ratios(document, OURS) if not x.row.startswith("stages")}


def _name(key: tuple[str, str, str]) -> str:
    row, contender, against = key
    return f"{row}: {contender} / {against}"


def _told(now: Ratio, then: Ratio) -> str:
    return (
        f"{_name(now.key)} is {now.value:.2f} ({now.low:.2f} to {now.high:.2f}); it was {then.value:.2f}"
        f" ({then.low:.2f} to {then.high:.2f}); worse means at least {noticed(now, then):.2f} times that"
    )
