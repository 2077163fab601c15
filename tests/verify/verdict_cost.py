"""What a verdict costs at MobileSAM's size, in encodes of the fast backend.  Run alone: python tests/verify/verdict_cost.py"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np
from standin import standin_weights
from verify.mistaken import picture

from refsam import MobileSam, SamPredictor
from refsam.backends import create
from refsam.config import MOBILE_SAM
from refsam.verify import Case, Outcome, open_port, verify
from refsam.verify.hypotheses import known
from refsam.verify.hypothesis import pipeline_of

BOUND = 15
"""Encodes that a verdict may take."""

PORTS: dict[str, Sequence[str]] = {
    "holds": (),
    "an encoder with tanh GELU": ("tanh GELU",),
    "a resize without antialias": ("no antialias",),
    "both": ("no antialias", "tanh GELU"),
    "two of preprocessing, found as a pair": ("BGR", "upside down"),
}
"""What is wrong with a port that shows `input_image`, `image_encoder`, `low_res_masks`, `iou_predictions` and `masks`."""

THREADS = 2


def cost() -> Iterable[str]:
    """The table."""
    yield from HEAD.split("\n")
    model = MobileSam(standin_weights(MOBILE_SAM), MOBILE_SAM, create("fast", THREADS), metadata={"weights_sha256": "0" * 64})
    case = Case(picture(1500, 2241), {"point_coords": [[1200, 800]], "point_labels": [1]})
    x = np.random.RandomState(0).normal(size=(1, 3, 1024, 1024)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("REFSAM_CACHE")
        os.environ["REFSAM_CACHE"] = folder
        try:
            for name, mistakes in PORTS.items():
                yield _row(name, mistakes, model, case, lambda: model.encode_image(x))
        finally:
            del os.environ["REFSAM_CACHE"]
            if before is not None:
                os.environ["REFSAM_CACHE"] = before


def _row(name: str, mistakes: Sequence[str], model: MobileSam, case: Case, encode: Callable[[], object]) -> str:
    """A port's verdict, between two encodes."""
    port = open_port(lambda image, **prompt: shown, model=model)
    shown = _shown(mistakes, model, case)
    found: list[Outcome] = []
    judge = lambda: found.append(next(verify(port, model, [case], threads=THREADS)))  # noqa: E731
    next(verify(port, model, [case], explain=False))  # the reference goes into the cache
    encode()
    spent = [_spent(work) for work in (encode, judge, encode)]
    cpu, wall = (spent[1][i] / ((spent[0][i] + spent[2][i]) / 2) for i in range(2))
    named = [n for explanation in found[0].verdict.explanations for n in explanation.names]
    right = "as planted" if sorted(named) == sorted(mistakes) else f"**NO**: {', '.join(named) or 'nothing'}"
    return f"| {name} | {cpu:.1f} | {wall:.1f} | {'yes' if cpu <= BOUND else '**NO**'} | {right} |"


def _shown(mistakes: Sequence[str], model: MobileSam, case: Case) -> Mapping[str, np.ndarray]:
    """What a port with these mistakes shows."""
    pipeline = pipeline_of([h for h in known() if h.name in mistakes])
    plain = MobileSam(model.scope.weights, model.config)
    predictor = SamPredictor(pipeline.model(plain) if "tanh GELU" in mistakes else model)
    input_image = pipeline.input_image(case.image, MOBILE_SAM.image_size)
    predictor.set_embedding(predictor.model.encode_image(input_image), case.size)
    embedding = predictor.features
    predictor = SamPredictor(plain)  # the decoder has no mistake
    predictor.set_embedding(embedding, case.size)
    masks, scores, logits = predictor.predict(**case.prompts)
    decoded = {"low_res_masks": logits[None], "iou_predictions": scores[None], "masks": masks}
    return {"input_image": input_image, "image_encoder": embedding, **decoded}


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds and seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


HEAD = f"""# What a verdict costs

One picture (2241 x 1500) and one point at MobileSAM's size, stand-in weights, {THREADS} threads, the reference in the cache; the
port shows its preprocessed picture, its embedding and its masks. The unit is an encode of the fast backend, timed before and
after each verdict: by CPU time, and by the clock, which means something on a quiet machine only. A verdict may take {BOUND}
encodes. Made by `make evidence`; alone: `python tests/verify/verdict_cost.py`.

| port | encodes (CPU) | encodes (clock) | at most {BOUND} | mistakes named |
|---|--:|--:|---|---|"""


if __name__ == "__main__":
    for line in cost():
        print(line, flush=True)
