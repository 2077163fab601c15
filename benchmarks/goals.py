"""What the fast backend promises, as a table of goals; and the gate that notices when a ratio gets worse."""

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
    """What the gate found: ratios that got worse, those that held, and those that only one side has."""

    worse: tuple[str, ...]
    held: tuple[str, ...]
    skipped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def gate(document: Document, baseline: Document) -> Verdict:
    """Compare ratios with the baseline's, never times: those are another machine's.

    A ratio is worse where all of its range lies above all of the baseline's, widened by RUN_TO_RUN. Stages are left out: they
    are for looking. Raises InputError where the two have no ratio in common.
    """
    now, then = _ratios(document), _ratios(baseline)
    shared = [key for key in now if key in then]
    if not shared:
        raise InputError("the baseline and these rows have no ratio in common: time the same rows with the same contenders")
    lines = {key: _told(now[key], then[key]) for key in shared}
    worse = [key for key in shared if now[key].low > then[key].high * (1 + RUN_TO_RUN)]
    skipped = [" / ".join(key[1:]) + f" at {key[0]}" for key in {**then, **now} if key not in shared]
    return Verdict(tuple(lines[key] for key in worse), tuple(lines[key] for key in shared if key not in worse), tuple(skipped))


def _ratios(document: Document) -> dict[tuple[str, str, str], Ratio]:
    return {x.key: x for x in all_ratios(document, OURS) if not x.row.startswith("stages")}


def _told(now: Ratio, then: Ratio) -> str:
    return (
        f"{now.row}: {now.contender} / {now.against} is {now.value:.2f} ({now.low:.2f} to {now.high:.2f});"
        f" it was {then.value:.2f} ({then.low:.2f} to {then.high:.2f})"
    )
