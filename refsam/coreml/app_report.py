"""What each deviation of the app costs on a given picture and prompt, alone and together with the others."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from refsam.coreml.app import Point, SegmentAnything
from refsam.coreml.app_parts import Parts
from refsam.coreml.app_preprocessing import preprocess
from refsam.coreml.app_switches import (
    BINARY,
    DEVIATIONS,
    POSTPROCESSING,
    PREPROCESSING,
    REFERENCE,
    SOURCE,
    Switches,
)
from refsam.masks import iou
from refsam.transforms import PIXEL_STD, resized_size
from refsam.types import Array, Bool, Float, UInt8


@dataclass(frozen=True)
class Cost:
    """How far one way through the app is from the reference's, on the same parts.

    Attributes:
        name: a switch, or a set of them.
        kind: "defect", "deviation", "harmless", "suspected" or "together".
        what: in words.
        levels: mean difference of the encoder's input within the picture, in levels of 255; 0 where it is the same.
        levels_p99: 99 of 100 pixels differ by no more.
        displaced: the part of all positions of the input that differ by more than one standard deviation.
        embedding: relative L2 difference of the image embedding.
        iou: of the chosen mask and the reference's.
        score: the predicted IoU of the chosen mask.
    """

    name: str
    kind: str
    what: str
    levels: float
    levels_p99: float
    displaced: float
    embedding: float
    iou: float
    score: float

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def costs(
    parts: Parts,
    image: UInt8[Array, "H W 3"],
    points: Sequence[Point],
    before: UInt8[Array, "H W 3"] | None = None,
    rounded: Parts | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Cost]:
    """Every deviation alone, then all of preprocessing, all of postprocessing, the source's and the binary's together.

    Args:
        parts: the model; the reference's way runs on it too, so that nothing but the way differs.
        before: the picture that the app had before this one; the same turned by 90 degrees where there is none.
        rounded: the same parts at the app's precision, for one row more.
        progress: called with (rows done, rows in all).
    """
    runs = _Runs(parts, image, points, np.rot90(image) if before is None else before)
    ways: list[tuple[str, str, str, Switches]] = [
        *((d.switch, d.kind, d.what, d.alone(_base(d.switch))) for d in DEVIATIONS),
        ("preprocessing", "together", "as in the app, the rest as in the reference", _only(PREPROCESSING)),
        ("postprocessing", "together", "as in the app, the rest as in the reference", _only(POSTPROCESSING)),
        ("source", "together", "the app as its sources read", SOURCE),
        ("binary", "together", "the app as it ships", BINARY),
    ]
    found = []
    for done, (name, kind, what, switches) in enumerate(ways):
        progress(done, len(ways))
        found.append(runs.cost(name, kind, what, switches))
    if rounded is not None:
        found.append(_Runs(rounded, image, points, runs.before).cost("precision", "deviation", "float16", REFERENCE, runs))
    progress(len(ways), len(ways))
    return found


def _base(switch: str) -> Switches:
    """`cut` is about a soft edge, so its row has the blur in it; every other deviation stands alone on the reference."""
    return replace(REFERENCE, blur=True) if switch == "cut" else REFERENCE


def _only(names: tuple[str, ...]) -> Switches:
    """The binary's way in these switches, the reference's in all others."""
    return replace(REFERENCE, **{name: getattr(BINARY, name) for name in names})


class _Runs:
    """The app run on one picture with any switches; what two ways have in common is computed once."""

    def __init__(
        self, parts: Parts, image: UInt8[Array, "H W 3"], points: Sequence[Point], before: UInt8[Array, "H W 3"]
    ) -> None:  # fmt: skip
        self.parts, self.image, self.points, self.before = parts, image, points, before
        self._encoded: dict[tuple[Any, ...], tuple[Float[Array, "1 3 S S"], Float[Array, "1 D E E"]]] = {}
        self._decoded: dict[tuple[Any, ...], tuple[Float[Array, "M L L"], Float[Array, " M"]]] = {}

    def cost(self, name: str, kind: str, what: str, switches: Switches, reference: "_Runs | None" = None) -> Cost:
        """One row: `switches` against the reference's way, of these runs or of others."""
        truth = reference or self
        expected_input, expected_embedding = truth.encoded(REFERENCE)
        expected_mask, _ = truth.mask(REFERENCE)
        given, embedding = self.encoded(switches)
        mask, score = self.mask(switches)
        difference = np.abs(given - expected_input)
        height, width = resized_size(self.image.shape[:2], self.parts.image_size)
        levels = difference[0, :, :height, :width] * PIXEL_STD[:, None, None]
        distance = np.linalg.norm(embedding - expected_embedding) / np.linalg.norm(expected_embedding)
        return Cost(
            name, kind, what, float(levels.mean()), float(np.percentile(levels, 99)), float((difference > 1).mean()),
            float(distance), iou(expected_mask, mask), score,
        )  # fmt: skip

    def encoded(self, switches: Switches) -> tuple[Float[Array, "1 3 S S"], Float[Array, "1 D E E"]]:
        """The encoder's input and its embedding."""
        key = tuple(getattr(switches, name) for name in PREPROCESSING)
        if key not in self._encoded:
            earlier = preprocess(self.before, self.parts.image_size, switches) if switches.stale_buffer else None
            given = preprocess(self.image, self.parts.image_size, switches, earlier)
            self._encoded[key] = given, self.parts.encode(given)
        return self._encoded[key]

    def mask(self, switches: Switches) -> tuple[Bool[Array, "H W"], float]:
        """The chosen mask and its score."""
        app = SegmentAnything(self.parts, switches)
        app.set_embedding(self.encoded(switches)[1], (self.image.shape[0], self.image.shape[1]))
        key = (*(getattr(switches, name) for name in PREPROCESSING), switches.padding_point)
        if key not in self._decoded:
            self._decoded[key] = app.predict_logits(self.points)
        logits, scores = self._decoded[key]
        return app.finish(logits, scores), float(scores[app.chosen(scores)])
