"""A port's preprocessed picture alone, without a model: how far it is from what the reference makes of the picture, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.figures import relative_l2
from refsam.transforms import PIXEL_STD
from refsam.types import Array, Float, UInt8
from refsam.verify.bench import Bench
from refsam.verify.comparison import K
from refsam.verify.diagnosis import Explanation, search
from refsam.verify.difference import align
from refsam.verify.hypotheses import known
from refsam.verify.hypotheses.preprocessing import preprocess
from refsam.verify.hypothesis import Hypothesis, pipeline_of
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import precision_of

STAGES = ("input_image", "transforms.resized")


@dataclass(frozen=True)
class Levels:
    """Absolute differences in grey levels of 255, over all channels."""

    mean: float
    p99: float
    max: float

    def __str__(self) -> str:
        return f"mean {self.mean:.3g}, 99th percentile {self.p99:.3g}, greatest {self.max:.3g} grey levels"


@dataclass(frozen=True)
class Preprocessed:
    """What was found. True where the tensor is the reference's, up to rounding.

    Attributes:
        stage: which of STAGES it is.
        layout: how its axes were taken, "" as they are.
        relative_l2: of the whole tensor.
        off, left: how far it is from the reference, and from the reference with the explanation's mistakes.
        explanation: None where it holds.
        notes: how the tensor was read.
    """

    stage: str
    layout: str
    relative_l2: float
    off: Levels
    left: Levels
    explanation: Explanation | None
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.explanation is None

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *(f"  {note}" for note in self.notes)])

    def _lines(self) -> list[str]:
        taken = f" (taken as {self.layout})" if self.layout else ""
        if self.explanation is None:
            return [f"{self.stage}{taken} is the reference's, up to rounding: {self.off}"]
        lines = [f"{self.stage}{taken} differs: {self.off}"]
        if not self.explanation.names:
            return [*lines, "  nothing known explains it"]
        lines.append(f"  matches '{' + '.join(self.explanation.names)}'; what is left: {self.left}")
        return [*lines, *(f"  instead: {remedy}" for remedy in self.explanation.remedies)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        levels = {name: vars(getattr(self, name)) for name in ("off", "left")}
        why = None if self.explanation is None else self.explanation.to_dict()
        return {"holds": bool(self), "stage": self.stage, "layout": self.layout, "relative_l2": self.relative_l2, **levels,
                "explanation": why, "notes": list(self.notes)}  # fmt: skip


def diagnose_preprocessed(
    tensor: Array,
    image: UInt8[Array, "H W 3"],
    stage: str | None = None,
    hypotheses: Iterable[Hypothesis] | None = None,
    *,
    precision: str = "float32",
    k: float = K,
    notes: tuple[str, ...] = (),
) -> Preprocessed:
    """Hold a preprocessed tensor against the reference, and look for the mistakes that make the one of the other.

    Args:
        tensor: what a port gives its encoder, (1, 3, S, S) in any order of axes, or the resized picture (h, w, 3).
        image: the picture that it was made of.
        stage: which of STAGES it is; None: as its shape says.
        hypotheses: those that are tried; None: all that are known of preprocessing.
        precision: what the tensor was computed, or kept, in.
        k: how many roundings of it are allowed.
        notes: how the tensor was read, for the result.

    Raises InputError where it is neither, or not finite, or the precision is unknown.
    """
    given = np.asarray(tensor)
    if given.dtype.kind not in "iuf" or given.size == 0 or not np.isfinite(given).all():
        raise InputError(f"the tensor is of dtype {given.dtype} and shape {given.shape}; finite numbers are needed")
    lengths = sorted(n for n in given.shape if n != 1)
    name = stage or ("input_image" if lengths[:1] == [3] and lengths[1:2] == lengths[2:] else "transforms.resized")
    side = lengths[-1] if len(lengths) == 3 else 0
    if 3 not in lengths or side < 16 or name not in STAGES:
        raise InputError(f"the tensor is {given.shape}; (1, 3, S, S) or a resized picture (h, w, 3) is needed")
    bench = _Tensor(image, given.astype(np.float64), name, side)
    error = relative_l2(bench.reference_value, bench.target)
    if error <= k * precision_of(precision).unit:
        levels = _levels(bench.target - bench.reference_value, name)
        return Preprocessed(name, bench.layout, error, levels, levels, None, notes)
    tried = [h for h in (known() if hypotheses is None else hypotheses) if "preprocessing" in h.areas]
    found, chosen = search(bench, tried, list)
    off, left = (_levels(bench.target - bench.value(pipeline_of(x)), name) for x in ((), chosen))
    return Preprocessed(name, bench.layout, error, off, left, found, notes)


class _Tensor(Bench):
    """A tensor with its picture in the place of a port's stage."""

    def __init__(self, image: UInt8[Array, "H W 3"], tensor: Float[Array, "..."], stage: str, side: int) -> None:
        self.image, self.side, self.stage, self.area, self.crop = image, side, stage, "preprocessing", None
        self.reference_value = preprocess(Pipeline(), image, side)[stage]
        turned, self.layout = align(self.reference_value, tensor)
        if turned is None:
            shape = self.reference_value.shape
            raise InputError(f"the tensor is {tensor.shape}; of a picture of this size {stage} is {shape} in some order of axes")
        self.measure(turned)

    def whole_path(self, hypothesis: Hypothesis) -> bool:  # noqa: ARG002 - there is nothing but preprocessing
        """Nothing else can show here."""
        return False


def _levels(difference: Array, stage: str) -> Levels:
    std = PIXEL_STD[:, None, None] if stage == "input_image" else 1.0
    found = np.abs(difference * std)
    return Levels(float(found.mean()), float(np.percentile(found, 99)), float(found.max()))
