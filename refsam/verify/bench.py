"""One stage of a port on the bench: what the reference gives there, on the port's own inputs, under any hypotheses."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from refsam.errors import InputError, RefsamError
from refsam.figures import relative_l2, rms
from refsam.model.sam import MobileSam
from refsam.ops import Ops
from refsam.types import Array, Float
from refsam.verify.chain import Chain
from refsam.verify.crop import Crop
from refsam.verify.hooks import hooked
from refsam.verify.hypothesis import Hypothesis, area_of, pipeline_of
from refsam.verify.local import predict_on
from refsam.verify.pipeline import Pipeline, Pixels
from refsam.verify.reference import Reference
from refsam.verify.single import narrowed
from refsam.verify.steps import TWO_WAY_BLOCK, Step, encoder_steps, shortened, step_of

_ROUNDING = 2.0**-22  # relative L2 that a run in float32 costs at least: what is left over below that needs no explanation

_CELL = 16  # pixels
_RIGHT = 0.005  # of the rms of what is wrong: less than that is none of a corner's own
_EDGE = 3  # cells of a corner's embedding that what is missing to the right and below has reached
LONG = 8
"""Steps of the encoder from which on a run is long."""
RUNS = 3
"""Hypotheses that are run in full at most where runs are long: those that explain the corner best, ..."""
PROMISING = 0.3
"""... and at least this much of it."""
PLENTY = 0.999
"""Where the best one explains this much, the others are not run."""

_KEPT = 64
"""Resized pictures that are kept: more than there are hypotheses that change them, fewer than there are pairs of these."""
_RESULTS = ("low_res_masks", "iou_predictions")  # handed out together, when all of the decoder has run


class _Reached(Exception):
    """The stage that is wanted has come."""


class Bench:
    """One stage of a port, and what the reference gives there under any hypotheses on the port's own inputs.

    Args:
        reference: gives the model, the case, and inputs that the port does not have.
        candidate: the port's stages.
        stage: the one to explain.
        target: what the port has there, if not what `candidate` has.
        plain: what the reference gives there on the port's own inputs, where that was computed before.
        budget: what rounding to the port's precision costs there, where that is known.
        crop: where `candidate` and `target` are but a corner of the encoder's maps.
    """

    def __init__(
        self,
        reference: Reference,
        candidate: Mapping[str, Array],
        stage: str,
        target: Array | None = None,
        plain: Array | None = None,
        budget: float = 0.0,
        crop: Crop | None = None,
    ) -> None:
        self.reference, self.candidate, self.stage, self.crop = reference, candidate, stage, crop
        model = reference.model
        self.base = MobileSam(model.scope.weights, model.config, Ops(), "float32", model.metadata)
        self.area = area_of(stage)
        self.image, self.side = reference.case.image, model.config.image_size
        given = np.asarray(candidate[stage] if target is None else target, np.float64)
        self.measure(given, budget, plain)

    def measure(self, target: Array, budget: float = 0.0, plain: Array | None = None) -> None:
        """Take `target` for what the port has and note how far it is from the reference; rounding costs it `budget`, if known."""
        self.target = target
        self._pixels: dict[Any, Pixels] = {}
        self._broken: set[Hypothesis] = set()
        finite = np.where(np.isfinite(target), target, 0)
        self._peak = float(np.abs(finite).max(initial=0)) or 1.0
        norm = float(np.linalg.norm(finite))
        self.plain = self._value_or_nothing(()) if plain is None else plain
        distance = self._distance_of(self.plain)
        self.unexplained = distance if math.isfinite(distance) else norm  # all of it, where the reference has another shape
        self._noise = max(_ROUNDING, 2 * budget)  # of the port's run and of ours
        self.rounding = min(1.0, (self._noise * norm / self.unexplained) ** 2) if self.unexplained else 1.0

    def may_show(self, hypothesis: Hypothesis) -> bool:
        """Whether this stage is one that a hypothesis is about."""
        return self.area in hypothesis.areas or self.whole_path(hypothesis)

    def whole_path(self, hypothesis: Hypothesis) -> bool:
        """Whether a hypothesis of an earlier part may show here, because the port has nothing in between."""
        if self.area == "encoder":
            return "preprocessing" in hypothesis.areas and not self._has_encoder_input()
        if self.area == "decoder":
            return "prompts" in hypothesis.areas and "prompt_encoder.sparse_prompt_embeddings" not in self.candidate
        return False

    def explained(self, hypotheses: Sequence[Hypothesis]) -> float:
        """How much of the squared difference these explain together; less than 0 where they make it greater."""
        distance = self._distance_of(self._value_or_nothing(hypotheses))
        if not self.unexplained:
            return 0.0 if distance == 0 else -math.inf
        return 1 - (distance / self.unexplained) ** 2

    def scores(self, sets: Sequence[Sequence[Hypothesis]], threads: int) -> list[float]:
        """`explained` of each set. Where a run is long, the corner sorts out all but the best, which then explain -inf."""
        with ThreadPoolExecutor(threads) as pool:
            if not self.is_long or len(sets) <= RUNS:
                return list(pool.map(self.explained, sets))
            corner = self._corner()
            first = list(pool.map(lambda hypotheses: self._explained_in(corner, hypotheses), sets))
            promising = [i for i in range(len(sets)) if first[i] >= PROMISING]
            best = sorted(promising, key=lambda i: -first[i])[:RUNS]
            found: dict[int, float] = {}
            for group in (best[:1], best[1:]):
                found.update(zip(group, pool.map(self.explained, [sets[i] for i in group]), strict=True))
                if max(found.values(), default=0.0) >= PLENTY:
                    break
        return [found.get(i, -math.inf) for i in range(len(sets))]

    @property
    def is_long(self) -> bool:
        """Whether a run goes through most of the encoder of a large model, from its input to its end."""
        if self.stage != "image_encoder" or self.side < 2 * self._corner_side:
            return False
        steps = self.steps()
        return len(steps) >= LONG and not any(step.after in self.candidate for step in steps[1:])

    def _explained_in(self, corner: Chain, hypotheses: Sequence[Hypothesis]) -> float:
        """About how much these explain, from the first cells of an encoder that sees a corner of its input: 5 % of the work.

        What is compared is what the hypotheses *change* there, with what the port has changed; what is cut off falls out of it.
        Where the port is right in the corner (windows are padded at the other one), what changes nothing there is possible.
        """
        inner = self._corner_side // _CELL - _EDGE
        cells = np.s_[..., :inner, :inner]
        result = self._under(hypotheses, lambda pipeline: corner.run(pipeline, self._corner_of_input(pipeline)))
        if result is None or not np.isfinite(result).all():
            return -math.inf
        all_wrong = self.target - self.plain
        wrong, changed = all_wrong[cells], (result - corner.result)[cells]
        if rms(wrong) < _RIGHT * rms(all_wrong):
            return 1.0 if rms(changed) <= self._noise * rms(self.target) else 0.0
        return 1 - relative_l2(wrong, changed) ** 2

    def _corner(self) -> Chain:
        """The encoder on the corner of the plain reference's input."""
        return Chain(self.base, self.steps(), self._corner_of_input(Pipeline()))

    def _corner_of_input(self, pipeline: Pipeline) -> Float[Array, "1 3 c c"]:
        return self._encoder_input(pipeline)[:, :, : self._corner_side, : self._corner_side]

    @property
    def _corner_side(self) -> int:
        """Pixels of the upper left corner that hypotheses are sorted on: whole windows of each layer. 224 for MobileSAM."""
        _, *windows = self.base.config.window_sizes
        return math.lcm(*(pixels * window for pixels, window in zip((8, 16, 16), windows, strict=True)))

    def fit(self, hypotheses: Sequence[Hypothesis]) -> float:
        """How well these fit here: 1 where they explain what is wrong, 0 where they change nothing, -1 where they do harm."""
        return max(self.explained(hypotheses), -1.0)

    def _value_or_nothing(self, hypotheses: Sequence[Hypothesis]) -> Array:
        """`value` under these, and an empty array where they cannot be made here, or fail."""
        value = self._under(hypotheses, self.value)
        return np.empty(0) if value is None else value

    def _under(self, hypotheses: Sequence[Hypothesis], compute: Callable[[Pipeline], Array]) -> Array | None:
        """What is computed under these; None where they do not apply, or fail: one with a bug must not end the diagnosis."""
        if not self._broken.isdisjoint(hypotheses):
            return None
        try:
            with np.errstate(all="ignore"):
                return compute(pipeline_of(hypotheses))
        except RefsamError:
            return None
        except Exception as error:
            names = " + ".join(hypothesis.name for hypothesis in hypotheses)
            self._broken.update(hypotheses if len(hypotheses) == 1 else ())  # and is not tried again
            warnings.warn(f"hypothesis {names!r} fails at {self.stage}: {type(error).__name__}: {error}", stacklevel=2)
            return None

    def _distance_of(self, value: Array) -> float:
        """|port - value|, infinite where that is of another shape. Where one of the two is infinite or NaN and the other is not,
        the difference counts as the port's greatest number."""
        if value.shape != self.target.shape:
            return math.inf
        with np.errstate(invalid="ignore"):
            error = np.where(np.isfinite(value) == np.isfinite(self.target), self.target - value, self._peak)
        error = error if self.crop is None else self.crop.inner(error)
        return float(np.linalg.norm(np.nan_to_num(error, nan=0.0, posinf=0.0, neginf=0.0)))

    def value(self, pipeline: Pipeline) -> Array:
        """What the reference gives here under a pipeline; of one mask, where the port shows one of several."""
        if self.area == "preprocessing":
            return self._preprocessed(pipeline)
        if self.area == "postprocessing":
            return self._masks(pipeline)
        return narrowed({self.stage: self.captured(pipeline)}, {self.stage: self.target})[0][self.stage]

    def _preprocessed(self, pipeline: Pipeline) -> Array:
        """Pipelines that differ only in what they do to the resized pixels share these."""
        key = (pipeline.picture, pipeline.size, pipeline.resize)
        pixels = self._pixels.get(key)
        if pixels is None:
            pixels = pipeline.resized(self.image, self.side)
            if len(self._pixels) < _KEPT:
                self._pixels[key] = pixels
        return pixels if self.stage == "transforms.resized" else pipeline.place(pixels, self.side).astype(np.float32)

    def _masks(self, pipeline: Pipeline) -> Array:
        """Masks at the picture's size from the port's own logits."""
        logits = np.asarray(self.candidate.get("low_res_masks", self.reference.truth["low_res_masks"]), np.float32)
        height, width = self.reference.case.image.shape[:2]
        side = self.base.config.image_size
        sizes = (pipeline.size((height, width), side), (height, width), side)
        return pipeline.binarize(pipeline.upsample(logits, *sizes))

    def captured(self, pipeline: Pipeline, passed: Callable[[], None] = lambda: None) -> Array:
        """The stage out of a run of the model's part that it is in; the run ends there.

        Args:
            passed: called after each stage before it that the port has.
        """
        caught: list[Array] = []
        earlier = {name: value for name, value in self.candidate.items() if name != self.stage and self._before(name)}

        def seen(name: str, value: Array) -> None:
            if name == self.stage:
                caught.append(np.array(value))
                raise _Reached
            if name in earlier and name not in _RESULTS:
                passed()

        pipeline = pipeline.with_function(TWO_WAY_BLOCK, shortened(pipeline, earlier, self.stage))
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
        return "input_image" in self.candidate or any(step.stage in self.candidate for step in self.steps()[:-1])

    def steps(self) -> list[Step]:
        """The encoder's steps up to the one that the stage is in, that one included."""
        steps = encoder_steps(self.base.config)
        return steps[: step_of(self.stage, steps) + 1]

    def _encoder(self, model: MobileSam, pipeline: Pipeline) -> None:
        """From the nearest stage before that the port has, else from the picture."""
        steps = self.steps()
        start = max((i for i, step in enumerate(steps) if step.after in self.candidate), default=0)
        x = self.candidate[steps[start].after].astype(np.float32) if start else self._encoder_input(pipeline)
        for step in steps[start:]:
            x = step.run(model.scope, x)

    def _encoder_input(self, pipeline: Pipeline) -> Float[Array, "1 3 S S"]:
        """The port's own where it shows it, else what the pipeline makes of the picture."""
        given = self.candidate.get("input_image")
        return pipeline.input_image(self.image, self.side) if given is None else given.astype(np.float32)

    def _decoder(self, model: MobileSam, pipeline: Pipeline) -> None:
        """The whole of prompt encoder and decoder, on the port's embedding."""
        features = self.candidate.get("image_encoder", self.reference.truth["image_encoder"])
        predict_on(model, features, self.reference.case, pipeline.coords, pipeline.mask)
