"""Steps that a pipeline leaves alone are not run again, and nobody can tell."""

from functools import cache

import numpy as np
import pytest
from standin import TINY
from verify.mistaken import reference, tiny

from refsam import MobileSam
from refsam.ops import Ops
from refsam.verify.chain import Chain
from refsam.verify.hooks import hooked
from refsam.verify.hypotheses import encoder
from refsam.verify.hypothesis import Hypothesis
from refsam.verify.pipeline import Pipeline
from refsam.verify.steps import encoder_steps

pytestmark = pytest.mark.core

STEPS = encoder_steps(TINY)


@cache
def chain() -> Chain:
    base = MobileSam(tiny().scope.weights, TINY, Ops(), "float32")
    return Chain(base, STEPS, reference("points").truth["input_image"].astype(np.float32))


@pytest.mark.parametrize("mistake", encoder.HYPOTHESES[::6], ids=lambda h: h.name.replace(" ", "-"))
def test_the_result_is_that_of_all_steps(mistake: Hypothesis) -> None:
    pipeline, x = mistake.apply(Pipeline()), chain().inputs[0]
    model = hooked(pipeline.model(chain().base), replaced=True)
    y = x
    for step in STEPS:
        y = step.run(model.scope, y)
    assert np.array_equal(chain().run(pipeline, x), y)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("tanh GELU", "image_encoder.patch_embed"),
        ("attention bias transposed", "image_encoder.layers.1.blocks.0"),
        ("window padding masked", "image_encoder.layers.1.blocks.0"),
        ("LayerNorm2d epsilon 1e-3", "image_encoder"),
    ],
)
def test_a_run_begins_where_something_changes(name: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    noted = [step._replace(run=lambda s, x, step=step: ran.append(step.stage) or step.run(s, x)) for step in STEPS]
    monkeypatch.setattr(chain(), "steps", noted)
    mistake = next(h for h in encoder.HYPOTHESES if h.name == name)
    chain().run(mistake.apply(Pipeline()), chain().inputs[0])
    assert ran[0] == first


def test_another_input_goes_through_all_steps() -> None:
    x = chain().inputs[0]
    assert not np.array_equal(chain().run(Pipeline(), x + 1), chain().result)
    assert np.array_equal(chain().run(Pipeline(), x.copy()), chain().result)
