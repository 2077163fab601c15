"""The truth of one picture and prompt: float64 stages, and what rounding costs at each of them.

A *budget* is measured, not chosen: the model is run again in the declared precision on the same input, and a stage's budget is
the relative L2 between that run and float64. Two kinds: *accumulated* (each run goes on with its own results) and *local* (both
are given the candidate's results of the stages before: `local_errors`).
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsam import backends, weights_store
from refsam.errors import InputError
from refsam.figures import relative_l2, rms
from refsam.images import pixels_sha256
from refsam.model.sam import MobileSam
from refsam.predictor import SamPredictor
from refsam.tracing import Trace
from refsam.types import Array, Float, Size, UInt8
from refsam.verify.precision import model_of_precision, precision_of

Budget = Mapping[str, float]
"""Stage name -> relative L2 that rounding costs there."""

_SCORES = "iou_predictions"
_DRAWS = 6
"""Embeddings, each off by its budget in its own way, on which a prompt's budgets are measured again."""
_DISTURBED = 2.0**-12
"""Of every number of the encoder's weights (a standard deviation), for those: the embedding changes in proportion, and by a
thousand times and more what float32 costs it."""

CACHE_VERSION = "4"
CACHE_BYTES = 8 << 30
"""Of all references that are kept; one of MobileSAM with the outputs of every block takes 0.3 GiB."""


@dataclass(frozen=True)
class Case:
    """What is asked: a picture, and one prompt in its pixels as `SamPredictor.predict` takes it (without return_logits).

    `name` is what people call the picture; two cases that differ in nothing else are the same.
    """

    image: UInt8[Array, "H W 3"]
    prompts: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(default="", compare=False)

    @property
    def size(self) -> Size:
        """(height, width) of the picture."""
        return self.image.shape[0], self.image.shape[1]

    def copied(self) -> "Case":
        """The same with arrays of its own, for whoever may change them in place."""
        return Case(self.image.copy(), copy.deepcopy(dict(self.prompts)), self.name)

    def run(self, model: MobileSam, trace: Trace) -> Trace:
        """Predict with `model`, its stages recorded."""
        predictor = SamPredictor(model.traced(trace))
        predictor.set_image(self.image)
        predictor.predict(**self.prompts)
        return trace

    @property
    def sha256(self) -> str:
        """Of the pixels and the prompts."""
        prompts = {name: np.asarray(value, np.float64).tolist() for name, value in sorted(self.prompts.items())}
        text = json.dumps([pixels_sha256(self.image), prompts])
        return hashlib.sha256(text.encode()).hexdigest()


def in_float64(model: MobileSam) -> MobileSam:
    """The definition in float64 on a model's weights: what references are computed with."""
    if model.dtype == np.float64:
        return model
    return MobileSam(model.scope.weights, model.config, dtype="float64", metadata=model.metadata)


class Encoded:
    """What comes of a picture before any prompt: float64 stages, and what rounding makes of its embedding. Prompts share it.

    Args:
        model: in float64.
        image: RGB.
        stages: names of the stages to keep; those behind the embedding are ignored.
        threads: of the fast backend.
    """

    def __init__(self, model: MobileSam, image: UInt8[Array, "H W 3"], stages: Iterable[str], threads: int | None = None) -> None:
        self.model, self.image, self.threads = model, image, threads
        self.stages = self._own(stages)
        self._rounded: dict[str, _Rounded] = {}

    def serves(self, model: MobileSam, image: UInt8[Array, "H W 3"], stages: Iterable[str]) -> bool:
        """Whether it is that of this picture, with these stages among its own."""
        return model is self.model and {*self._own(stages)} <= {*self.stages} and np.array_equal(image, self.image)

    @staticmethod
    def _own(stages: Iterable[str]) -> list[str]:
        return [name for name in stages if name.startswith(("transforms.resized", "input_image", "image_encoder"))]

    @cached_property
    def truth(self) -> Trace:
        """The float64 stages, computed at the first use."""
        trace = Trace(self.stages)
        SamPredictor(self.model.traced(trace)).set_image(self.image)
        return trace

    def rounded(self, precision: str) -> "_Rounded":
        """The run in this precision. Measured once."""
        if precision not in self._rounded:
            errors = _Errors(self.truth, precision_of(precision).unit)
            predictor = SamPredictor(model_of_precision(self.model, precision).traced(errors))
            predictor.set_image(self.image)
            self._rounded[precision] = _Rounded(errors, predictor.get_image_embedding())
        return self._rounded[precision]

    @cached_property
    def directions(self) -> list[Float[Array, "1 D E E"]]:
        """How rounding in the encoder moves the embedding, in six ways of rms 1: as other weights would that are nearly the same.

        Errors of rounding are alike all over a picture, since every place is computed with the same weights and functions. A
        decoder makes more of such an error than of noise that has no pattern (tests/verify/test_reference.py: more than twice as
        much). The fast backend computes them: how large an error may be is not asked of it.
        """
        quick, directions = backends.create("fast", self.threads), []
        for seed in range(_DRAWS):
            rng = np.random.RandomState(seed)  # its stream is frozen, a Generator's may change with NumPy
            weights = dict(self.model.scope.weights)
            for name in (name for name in weights if name.startswith("image_encoder.")):
                weights[name] = weights[name] * (1 + _DISTURBED * rng.standard_normal(weights[name].shape))
            predictor = SamPredictor(MobileSam(weights, self.model.config, quick, "float32"))
            predictor.set_image(self.image)
            moved = predictor.get_image_embedding() - self.truth["image_encoder"]
            directions.append((moved / (rms(moved) or 1.0)).astype(np.float32))
        return directions


class Reference:
    """The float64 run of a case, and the budgets of each precision that was asked for.

    Args:
        model: in float64.
        case: the picture and prompt.
        stages: names of the stages to keep; those that the model does not have are ignored.
        threads: of the fast backend, which budgets take; None: as many as there are CPUs.
        before: a reference whose picture is taken over where it is the same: another prompt then costs no encoding.
    """

    def __init__(
        self,
        model: MobileSam,
        case: Case,
        stages: Iterable[str],
        threads: int | None = None,
        before: "Reference | None" = None,
    ) -> None:
        if model.dtype != np.float64:
            raise InputError(f"the reference has to be a model in float64, not {model.dtype}: load(..., dtype='float64')")
        self.model, self.case = model, case
        self.stages = sorted({*stages, "input_image", "image_encoder", "low_res_masks", _SCORES})
        same = before is not None and before.encoded.serves(model, case.image, self.stages)
        self.encoded: Encoded = before.encoded if before and same else Encoded(model, case.image, self.stages, threads)
        self._budgets: dict[str, dict[str, float]] = {}
        self._truth: Trace | None = None

    @property
    def truth(self) -> Trace:
        """The float64 stages, computed at the first use."""
        if self._truth is None:
            trace = Trace(self.stages)
            trace.take(self.encoded.truth)
            self._answer(self.model.traced(trace), self.encoded.truth["image_encoder"])
            self._truth = trace
        return self._truth

    def _answer(self, model: MobileSam, features: Float[Array, "1 D E E"]) -> None:
        """Predict on an embedding of the picture, for the sake of the stages on the way."""
        predictor = SamPredictor(model)
        predictor.set_embedding(features, self.case.size)
        predictor.predict(**self.case.prompts)

    def budget(self, precision: str) -> Budget:
        """The accumulated budget of a precision for every stage of `truth`; at least the precision's unit. Measured once.

        One run is one draw: what a prompt's answer loses depends on the order of sums by a factor of four, and a run may happen
        to hit one to three scores. So stages behind the embedding get the greater of the run's own loss and the root mean square
        over runs on embeddings that are off by the embedding's budget (`Encoded.directions`); and scores, which are computed from
        the tokens that the masks are computed from, at least what the masks get. (What the demo model's fast backend then needs
        on 48 prompts is in docs/evidence/oracle-clean.md.)
        """
        name = precision_of(precision).name
        if name not in self._budgets:
            with np.errstate(all="ignore"):  # float16 may overflow
                encoder = self.encoded.rounded(name)
                errors, model = encoder.errors.going_on(self.truth), model_of_precision(self.model, name)
                self._answer(model.traced(errors), encoder.features)
                drawn = self._drawn(model, errors)
            found = {stage: max(cost, drawn.get(stage, 0.0)) for stage, cost in errors.found.items()}
            self._budgets[name] = found | {_SCORES: max(found[_SCORES], found["low_res_masks"])}
        return self._budgets[name]

    def _drawn(self, rounded: MobileSam, run: "_Errors") -> Budget:
        """The root mean square of what is lost on embeddings that are off by as much as a run's, each in its own way."""
        features = self.truth["image_encoder"]
        deviation = run.found["image_encoder"] * rms(features)
        draws = []
        for direction in self.encoded.directions:
            errors = _Errors(self.truth, run.floor)
            self._answer(rounded.traced(errors), (features + deviation * direction).astype(rounded.dtype))
            draws.append(errors.found)
        return {stage: rms(np.array([found[stage] for found in draws])) for stage in draws[0]}

    def margin(self, precision: str, k: float) -> float:
        """How far k budgets may move a logit of low_res_masks."""
        return k * self.budget(precision)["low_res_masks"] * rms(self.truth["low_res_masks"])

    # --- the cache ----------------------------------------------------------------------------------------------------------

    def path(self, precision: str) -> Path:
        """Where the cache keeps this reference: its name is a hash of all that it depends on."""
        from refsam import __version__

        parts = [CACHE_VERSION, __version__, np.__version__, self.model.weights_sha256, self.model.config.to_json()]
        text = json.dumps([*parts, self.case.sha256, self.stages, precision_of(precision).name])
        return weights_store.cache_folder() / "verify" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def load_or_measure(self, precision: str) -> "Reference":
        """Take truth and budget from the user's cache, or compute them and put them there.

        Weights without a known sha256 are never cached; a cache that cannot be written is done without.
        """
        path = self.path(precision)
        if not self.model.weights_sha256:
            self.budget(precision)
        elif path.exists() and (cached := _read(path)) is not None:
            self._truth, self._budgets[precision_of(precision).name] = cached
            self._truth.metadata["budget_precision"] = precision_of(precision).name
        else:
            budget = self.budget(precision)
            self.truth.metadata.update(budget=json.dumps(dict(budget)), budget_precision=precision_of(precision).name)
            with suppress(OSError, InputError):  # a home that cannot be written, a full disk: it is measured again next time
                path.parent.mkdir(parents=True, exist_ok=True)
                self.truth.save(path)
                _prune(path.parent, CACHE_BYTES)
        return self

    def load_or_measure_besides(self, precision: str) -> None:
        """The same for a further precision; the truth's metadata remain those of the first one."""
        metadata = dict(self.truth.metadata)
        self.load_or_measure(precision)
        self.truth.metadata.update(metadata)


def _prune(folder: Path, most: int) -> None:
    """Remove the oldest references until the others take no more than `most` bytes. Another process may do the same."""
    left = most
    for path in sorted(folder.glob("*.safetensors"), key=lambda path: -_written(path)):
        with suppress(OSError):
            left -= path.stat().st_size
            if left < 0:
                path.unlink()


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> tuple[Trace, dict[str, float]] | None:
    """A cached reference, or None where the file is damaged."""
    try:
        trace = Trace.load(path)
        return trace, {str(stage): float(value) for stage, value in json.loads(trace.metadata["budget"]).items()}
    except (InputError, KeyError, ValueError, AttributeError):
        return None


class _Errors(Trace):
    """A trace that keeps, for each stage of `truth`, only how far from it the recorded value is; what the stage before has,
    where that is not finite."""

    def __init__(self, truth: Trace, floor: float) -> None:
        super().__init__(",".join(truth))
        self.truth, self.floor, self.last = truth, floor, floor
        self.found: dict[str, float] = {}

    def going_on(self, truth: Trace) -> "_Errors":
        """What was found so far of these stages, to be gone on with: another object, as each prompt goes on from here."""
        errors = _Errors(truth, self.floor)
        errors.last, errors.found = self.last, {name: cost for name, cost in self.found.items() if name in truth}
        return errors

    def record(self, name: str, value: Array) -> None:
        if name in self.truth:
            truth = self.truth[name]
            if truth.dtype.kind in "bu":
                self.found[name] = 0.0
                return
            # What overflows at this precision has no budget of its own: no port that stores it so can be right there.
            error = max(relative_l2(truth, value), self.floor)
            self.last = error if np.isfinite(error) else self.last
            self.found[name] = self.last


class _Rounded(NamedTuple):
    """The encoder's run in some precision: what its stages lose, and the embedding."""

    errors: _Errors
    features: Float[Array, "1 D E E"]
