"""Teacher-forced errors: one fault is blamed once."""

import numpy as np
import pytest
from verify.mistaken import reference, run, tiny

from refsam import MobileSam, backends
from refsam.verify.hypotheses import known
from refsam.verify.local import Quick, local_errors
from refsam.verify.pipeline import Pipeline

pytestmark = pytest.mark.core


def shown(pipeline: Pipeline) -> dict[str, np.ndarray]:
    found = run(pipeline, reference("points").case, tiny())
    return {name: value for name, value in found.items() if name not in ("masks", "transforms.resized")}


def test_a_clean_port_has_no_local_error_beyond_its_budget() -> None:
    for stage, local in local_errors(reference("points"), shown(Pipeline()), "float32").items():
        assert local.error <= local.budget * (1 + 1e-6), stage


def test_a_fault_at_one_stage_is_that_stages_alone() -> None:
    port, stage = shown(Pipeline()), "image_encoder.layers.2.blocks.0.mlp"
    port[stage] = port[stage] * np.float32(1.01)
    errors = local_errors(reference("points"), port, "float32")
    wrong = {name for name, local in errors.items() if local.error > 4 * local.budget}
    # The block's own result was computed from the right MLP, so against the shown one it is wrong too.
    assert wrong == {stage, "image_encoder.layers.2.blocks.0"}


def test_a_mistake_in_the_encoder_does_not_blame_the_decoder() -> None:
    mistake = next(h for h in known() if h.name == "window padding masked")
    errors = local_errors(reference("points"), shown(mistake.apply(Pipeline())), "float32")
    wrong = {name for name, local in errors.items() if local.error > 4 * local.budget}
    assert wrong
    assert all(name.endswith(".attn") for name in wrong)


@pytest.mark.parametrize(
    "few", [["image_encoder"], ["low_res_masks"], ["image_encoder.layers.2", "mask_decoder.transformer.keys"]]
)
def test_ports_that_show_little_are_judged_on_the_references_inputs(few: list[str]) -> None:
    port = {name: value for name, value in shown(Pipeline()).items() if name in few}
    errors = local_errors(reference("points"), port, "float32")
    assert set(errors) == set(few)
    for stage, local in errors.items():
        assert local.error <= 4 * local.budget, stage


@pytest.mark.parametrize(("precision", "factor", "decides"), [
    ("float32", 1.0, True), ("float32", 1 + 4e-6, False), ("float32", 1.01, True), ("fp16", 1.01, True),
])  # fmt: skip
def test_the_fast_backend_decides_where_it_can(precision: str, factor: float, decides: bool) -> None:
    """On an encoder that shows its result only, of a picture that the port preprocessed in its own way."""
    quick = Quick(MobileSam(tiny().scope.weights, tiny().config, backends.create("fast", 1), "float32"), k=4.0)
    bgr = next(h for h in known() if h.name == "BGR")
    port = {name: value for name, value in shown(bgr.apply(Pipeline())).items() if name in ("input_image", "image_encoder")}
    port["image_encoder"] = port["image_encoder"] * np.float32(factor)
    (fast, exact) = (local_errors(reference("points"), port, precision, quick=q)["image_encoder"] for q in (quick, None))
    assert (fast.expected is not None) == decides
    assert (fast.error > 4 * fast.budget) == (exact.error > 4 * exact.budget)
    assert fast.error == pytest.approx(exact.error, abs=2 * reference("points").budget("float32")["image_encoder"])
