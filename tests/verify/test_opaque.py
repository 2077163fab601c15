"""An encoder of a large picture that shows nothing but its result: hypotheses are sorted on a corner of it."""

from dataclasses import replace

import numpy as np
import pytest
from standin import TINY, standin_weights
from verify.mistaken import picture

from refsam import MobileSam
from refsam.config import MOBILE_SAM
from refsam.ops import Ops
from refsam.verify.bench import RUNS, Bench
from refsam.verify.hypotheses import encoder
from refsam.verify.pipeline import Pipeline
from refsam.verify.reference import Case, Reference
from refsam.verify.verdict import judge

CONFIG = replace(TINY, image_size=512, window_sizes=MOBILE_SAM.window_sizes)
NAME = "window padding masked"
TRIED = [h for i, h in enumerate(encoder.HYPOTHESES) if h.name == NAME or i % 12 == 4]


def test_its_mistake_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that shows only at the other end of the picture."""
    model = MobileSam(standin_weights(CONFIG), CONFIG, dtype="float64")
    made, mistake = Reference(model, Case(picture(400, 620), {}), []), next(h for h in TRIED if h.name == NAME)
    port_model = mistake.apply(Pipeline()).model(MobileSam(model.scope.weights, CONFIG, Ops()))
    input_image = made.truth["input_image"].astype(np.float32)
    port = {"input_image": input_image, "image_encoder": port_model.encode_image(input_image)}
    runs: list[str] = []
    value = Bench.value
    monkeypatch.setattr(Bench, "value", lambda self, pipeline: runs.append(self.stage) or value(self, pipeline))
    (explanation,) = judge(made, port, hypotheses=TRIED).explanations
    assert explanation.names == (NAME,)
    assert explanation.explained > 1 - 1e-6
    assert len(runs) <= RUNS < len(TRIED)
