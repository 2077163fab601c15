"""The encoder as a chain of steps is the encoder."""

import numpy as np
import pytest
from standin import TINY
from verify.mistaken import cases, tiny

from refsam import MobileSam, Trace
from refsam.config import Config
from refsam.verify.hooks import hooked
from refsam.verify.steps import default_stages, encoder_steps, step_of

pytestmark = pytest.mark.core


def test_the_composition_of_the_steps_is_the_encoder() -> None:
    trace = cases(TINY)["points"].run(tiny(), Trace())
    x = trace["input_image"].astype(np.float64)
    for step in encoder_steps(TINY):
        x = step.run(tiny().scope, x)
        assert np.array_equal(x, trace[step.stage]), step.stage


def test_each_step_begins_where_the_last_one_ended() -> None:
    steps = encoder_steps(Config())
    assert [step.after for step in steps] == ["input_image", *(step.stage for step in steps[:-1])]
    assert steps[-1].stage == "image_encoder"


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        ("image_encoder.patch_embed.seq.0.bn", "image_encoder.patch_embed"),
        ("image_encoder.layers.1.blocks.0.attn.qkv", "image_encoder.layers.1.blocks.0"),
        ("image_encoder.layers.1.downsample.conv2.c", "image_encoder.layers.1"),
        ("image_encoder.neck.1", "image_encoder"),
        ("image_encoder", "image_encoder"),
    ],
)
def test_every_stage_belongs_to_a_step(stage: str, step: str) -> None:
    steps = encoder_steps(TINY)
    assert steps[step_of(stage, steps)].stage == step


def test_the_default_stages_are_stages_of_the_model() -> None:
    shown = {*cases(TINY)["points"].run(tiny(), Trace()), *cases(TINY)["box"].run(tiny(), Trace())}
    assert set(default_stages(TINY)) - shown == set()


def test_a_forced_stage_is_gone_on_with() -> None:
    case, stage = cases(TINY)["points"], "image_encoder.layers.1.blocks.0.attn"
    plain = case.run(tiny(), Trace())
    seen: dict[str, np.ndarray] = {}
    model: MobileSam = hooked(tiny(), forced={stage: plain[stage] * 2}, seen=lambda name, x: seen.setdefault(name, x))
    forced = case.run(model, Trace())
    assert np.array_equal(seen[stage], plain[stage])
    assert np.array_equal(forced[stage], plain[stage] * 2)
    assert not np.allclose(
        forced["image_encoder.layers.1.blocks.0.local_conv"], plain["image_encoder.layers.1.blocks.0.local_conv"]
    )
