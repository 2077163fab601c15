"""What contenders share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import inputs

Run = Callable[[], Any]
"""What is timed. It returns its result, or a `Timed`."""

Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From points (B, 1, 2) and labels (B, 1) to mask logits (B, 3, L, L)."""

BATCH_SIZES = (64, 16, 4, 1)
"""Tried for many prompts: runtimes differ in which is fastest, and each may use its own. Upstream's everything mode takes 64."""

TRIALS = 2
"""Of each batch size. The least time counts: a machine that does something else meanwhile only adds to it."""


@dataclass(frozen=True)
class Timed:
    """A result that brings its own times: of parts, or of a whole that was extrapolated."""

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


def split(begin: float, ends: dict[str, float]) -> Timed:
    """The whole and its parts: each stage took the time from the end of the one before."""
    begins = [begin, *ends.values()]
    parts = {name: end - before for (name, end), before in zip(ends.items(), begins, strict=False)}
    return Timed(begins[-1] - begin, parts)


def blas() -> str:
    """The BLAS libraries of this process, with the kernel that each chose for this CPU."""
    from threadpoolctl import threadpool_info

    found = [x for x in threadpool_info() if x["user_api"] == "blas"]
    names = [f"{x['internal_api']} {x.get('version')} {x.get('architecture', '')}".strip() for x in found]
    return ", ".join(names) or "one that threadpoolctl does not know"


def batched(decode: Decode, count: int, side: int, notes: dict[str, Any]) -> Run:
    """Decodes `count` prompts in batches of the size that is fastest here, which goes into `notes`; results are not kept."""
    coords, labels = inputs.points(count, side)
    best = _fastest_size(decode, coords[: BATCH_SIZES[0]], labels[: BATCH_SIZES[0]])
    notes["batch"] = best
    return lambda: _decode_all(decode, coords, labels, best)


def _fastest_size(decode: Decode, coords: np.ndarray, labels: np.ndarray) -> int:
    """The batch size whose least time is least, the sizes taking turns.

    Each decodes a batch before, which is not timed: a runtime may plan, compile or fetch memory for a shape that is new to it.
    """
    sizes = [size for size in BATCH_SIZES if size <= len(coords)]
    for size in sizes:
        decode(coords[:size], labels[:size])
    if len(sizes) == 1:
        return sizes[0]
    turns = [[_seconds(lambda size=size: _decode_all(decode, coords, labels, size)) for size in sizes] for _ in range(TRIALS)]
    return sizes[int(np.argmin(np.min(turns, axis=0)))]


class EncoderAndDecoder(ABC):
    """The rows of a contender that has `encode` and `decode` on NumPy arrays."""

    side: int
    notes: dict[str, Any]

    @abstractmethod
    def encode(self, input_image: np.ndarray) -> np.ndarray:
        """(1, 3, S, S) -> the image embedding."""

    @abstractmethod
    def decode(self, features: np.ndarray, coords: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The embedding, points (B, 1, 2) and labels (B, 1) -> mask logits."""

    def encoder(self) -> Run:
        """One encoding."""
        input_image = inputs.input_image(self.side)
        return lambda: self.encode(input_image)

    def decoder(self, count: str) -> Run:
        """`count` prompts on one embedding, prompt encoder included."""
        features = self.encode(inputs.input_image(self.side))
        return batched(lambda *prompts: self.decode(features, *prompts), int(count), self.side, self.notes)


def _decode_all(decode: Decode, coords: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """The last prompt's logits."""
    for start in range(0, len(coords), size):
        masks = decode(coords[start : start + size], labels[start : start + size])
    return masks[-1:]


def _seconds(run: Run) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def everything(generator: Any, points: int, notes: dict[str, Any]) -> Run:
    """Everything mode on a grid of `points` x `points`, extrapolated to upstream's 32 x 32 where that is more.

    What encodes the picture is timed within, so that only the rest is multiplied.
    """
    image, scale, encoding = inputs.picture(inputs.PHOTO), (32 / points) ** 2, [0.0]
    set_image = generator.predictor.set_image

    def timed(*arguments: Any) -> None:
        encoding[0] += _seconds(lambda: set_image(*arguments))

    generator.predictor.set_image = timed
    notes.update(points=points * points, scaled_by=scale)

    def run() -> Timed:
        encoding[0] = 0.0
        start = perf_counter()
        notes["records"] = len(generator.generate(image))
        decoding = perf_counter() - start - encoding[0]
        return Timed(encoding[0] + scale * decoding, {"set_image": encoding[0], "points": decoding})

    return run
