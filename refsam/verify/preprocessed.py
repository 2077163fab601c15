"""A port's preprocessed picture alone, without a model: how far it is from what the reference makes of the picture, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsam.errors import InputError
from refsam.figures import relative_l2
from refsam.transforms import PIXEL_STD, resized_size
from refsam.types import Array, Float, UInt8
from refsam.verify.bench import Bench
from refsam.verify.comparison import K, checked_k
from refsam.verify.diagnosis import Explanation, search
from refsam.verify.difference import align
from refsam.verify.hypotheses import known
from refsam.verify.hypotheses.preprocessing import preprocess
from refsam.verify.hypothesis import Hypothesis, pipeline_of
from refsam.verify.pipeline import Pipeline
from refsam.verify.precision import precision_of
from refsam.verify.words import filled, others_in_words

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
        relative_l2: of the whole tensor, or of the rows and columns that it has in common with the reference's.
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
        if self.explanation.names:
            lines.append(f"  matches '{' + '.join(self.explanation.names)}'; what is left: {self.left}")
            lines += [f"  instead: {remedy}" for remedy in self.explanation.remedies]
        else:
            lines.append("  nothing known explains it")
        return [*lines, *filled(others_in_words(self.explanation), "  ")]

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

    A resized picture of whole numbers is told from an encoder's input of the same shape, (S, S, 3), by its type, uint8. One whose
    sides are off by a pixel is compared as far as it goes; it never holds.

    Raises InputError where it is neither, or not finite, the precision is unknown, or k is not above 0.
    """
    checked_k(k)
    given = np.asarray(tensor)
    if given.dtype.kind not in "iuf" or given.size == 0 or not np.isfinite(given).all():
        raise InputError(f"the tensor is of dtype {given.dtype} and shape {given.shape}; finite numbers are needed")
    lengths = sorted(n for n in given.shape if n != 1)
    name = stage or _stage_of(given, image)
    side = lengths[-1] if len(lengths) == 3 else 0
    if 3 not in lengths or side < 16 or name not in STAGES:
        raise InputError(f"the tensor is {given.shape}; (1, 3, S, S) or a resized picture (h, w, 3) is needed")
    bench = _Tensor(image, given.astype(np.float64), name, side)
    error = relative_l2(*_common(bench.reference_value, bench.target))
    notes = (*notes, *bench.notes)
    if bench.target.shape == bench.reference_value.shape and error <= k * precision_of(precision).unit:
        levels = _levels(bench.reference_value, bench.target, name)
        return Preprocessed(name, bench.layout, error, levels, levels, None, notes)
    tried = [h for h in (known() if hypotheses is None else hypotheses) if "preprocessing" in h.areas]
    found, chosen = search(bench, tried, list)
    off, left = (_levels(bench.value(pipeline_of(x)), bench.target, name) for x in ((), chosen))
    return Preprocessed(name, bench.layout, error, off, left, found, notes)


class _Tensor(Bench):
    """A tensor with its picture in the place of a port's stage."""

    def __init__(self, image: UInt8[Array, "H W 3"], tensor: Float[Array, "..."], stage: str, side: int) -> None:
        self.image, self.side, self.stage, self.area, self.crop = image, side, stage, "preprocessing", None
        self.reference_value = preprocess(Pipeline(), image, side)[stage]
        turned, self.layout = align(self.reference_value, tensor)
        self.notes: tuple[str, ...] = ()
        shape = self.reference_value.shape
        if turned is None:
            turned = _off_by_one(tensor, shape)
            if turned is None:
                raise InputError(
                    f"the tensor is {tensor.shape}; of a picture of this size {stage} is {shape} in some order of axes"
                )
            theirs, ours = (" x ".join(map(str, size[:2])) for size in (turned.shape, shape))
            self.notes = (f"its size is {theirs}, where the reference's is {ours}; compared is what both have",)
        self.measure(turned)

    def whole_path(self, hypothesis: Hypothesis) -> bool:  # noqa: ARG002 - there is nothing but preprocessing
        """Nothing else can show here."""
        return False


def _stage_of(tensor: Array, image: UInt8[Array, "H W 3"]) -> str:
    """Which of STAGES a tensor is, as its shape says; for (S, S, 3) of a square picture, its type."""
    lengths = sorted(n for n in tensor.shape if n != 1)
    square = lengths[:1] == [3] and lengths[1:2] == lengths[2:]
    pixels = tensor.dtype == np.uint8 and tensor.shape == (*resized_size(image.shape[:2], lengths[-1]), 3) if square else True
    return "transforms.resized" if pixels else "input_image"


def _off_by_one(tensor: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "h w 3"] | None:
    """A resized picture as (h, w, 3) where its sides are those of `shape`, but for a pixel; else None."""
    squeezed = tensor.squeeze()
    orders = [] if squeezed.ndim != 3 or len(shape) != 3 else [squeezed, np.moveaxis(squeezed, 0, -1)]
    near = (x for x in orders if x.shape[2] == 3 and all(abs(a - b) <= 1 for a, b in zip(x.shape[:2], shape[:2], strict=True)))
    return next(near, None)


def _common(first: Array, second: Array) -> tuple[Array, Array]:
    """Two tensors as far as they overlap from their first elements on."""
    part = tuple(slice(min(sides)) for sides in zip(first.shape, second.shape, strict=True))
    return first[part], second[part]


def _levels(reference: Array, tensor: Array, stage: str) -> Levels:
    ours, theirs = _common(reference, tensor)
    std = PIXEL_STD[:, None, None] if stage == "input_image" else 1.0
    found = np.abs((theirs - ours) * std)
    return Levels(float(found.mean()), float(np.percentile(found, 99)), float(found.max()))
