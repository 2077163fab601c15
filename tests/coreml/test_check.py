"""The whole path held against the reference, with faults planted in each part of it."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from coreml.exported import packages, tiny

from refsam.coreml import export_layers, load
from refsam.coreml.app import Point
from refsam.coreml.app_parts import ModelParts, PackageParts
from refsam.coreml.check import Candidate, Report, check
from refsam.coreml.check_native import NativeProgram
from refsam.coreml.check_rounding import Rounded
from refsam.coreml.check_ways import around
from refsam.errors import BackendUnavailable, InputError
from refsam.metal.device import open_device
from refsam.verify.precision import model_of_precision, precision_of

IMAGE = np.random.RandomState(3).randint(0, 256, (96, 128, 3)).astype(np.uint8)
POINTS = [Point(60, 40), Point(100.5, 20, 0)]
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
K = 4.0
BEFORE, AFTER = around("reference", "reference", "")
GOOD = Candidate(BEFORE, ModelParts(tiny()), AFTER)


def rounded(precision: str = "float32") -> Rounded:
    parts = ModelParts(model_of_precision(tiny(), precision))
    return Rounded(dict.fromkeys(PARTS, parts), dict.fromkeys(PARTS, precision_of(precision).unit))


def report_of(candidate: Candidate, precision: str = "float32") -> Report:
    return check(IMAGE, POINTS, candidate, ModelParts(tiny("float64")), rounded(precision), K)


class Planted(ModelParts):
    """refsam's own model with one output changed."""

    def __init__(self, stage: str, change) -> None:
        super().__init__(tiny())
        self.stage, self.change = stage, change

    def encode(self, input_image):
        found = super().encode(input_image)
        return self.change(found) if self.stage == "image_embeddings" else found

    def embed(self, points, labels):
        sparse, dense = super().embed(points, labels)
        return self.change(sparse) if self.stage == "sparse_prompt_embeddings" else sparse, dense

    def decode(self, image_embeddings, sparse, dense):
        masks, scores = super().decode(image_embeddings, sparse, dense)
        return self.change(masks) if self.stage == "low_res_masks" else masks, scores


@pytest.mark.core
def test_the_reference_holds_against_itself():
    report = report_of(GOOD)
    assert report
    assert report.first is None
    assert report.to_dict()["holds"] is True
    assert [mask.iou for mask in report.masks] == [1, 1, 1, 1]


@pytest.mark.parametrize("stage", ["image_embeddings", "sparse_prompt_embeddings", "low_res_masks"])
@pytest.mark.parametrize(
    "change",
    [lambda x: x * np.float32(1.0001), lambda x: x[..., ::-1].copy(), lambda x: np.full_like(x, np.nan)],
    ids=["scale", "mirror", "nan"],
)
def test_a_fault_is_named_where_it_enters_and_what_follows_is_not_blamed(stage, change):
    report = report_of(Candidate(GOOD.before, Planted(stage, change), GOOD.after))
    assert not report
    assert report.first == stage
    assert {row.name for row in report.stages if row.enters_here} == {stage}
    assert not any(row.holds for row in report.stages if row.name in (stage, "low_res_masks"))


def test_a_fault_below_the_declared_precision_holds_there_and_not_above():
    candidate = Candidate(GOOD.before, Planted("low_res_masks", lambda x: x * np.float32(1.0001)), GOOD.after)
    assert report_of(candidate, "fp16")
    assert not report_of(candidate, "float32")


def test_a_fault_in_preprocessing_enters_there_and_the_rest_follows():
    report = report_of(replace(GOOD, before=around("binary", "reference", "")[0]))
    assert report.first == "input_image"
    assert [row.name for row in report.stages if row.enters_here] == ["input_image"]
    assert not any(row.holds for row in report.stages if row.name == "image_embeddings")
    assert not any(mask.holds for mask in report.masks)
    assert all(mask.local_unexplained == 0 for mask in report.masks)


@pytest.mark.parametrize("way", ["binary", "source"])
def test_a_fault_in_postprocessing_is_the_masks_alone(way):
    report = report_of(replace(GOOD, after=around("reference", way, "")[1]))
    assert all(row.holds for row in report.stages)
    assert report.first == "masks"
    assert all(mask.local_unexplained > 0 for mask in report.masks)


def test_the_kernels_hold():
    before, after = around("kernel", "kernel", "emulator")
    report = report_of(Candidate(before, GOOD.parts, after))
    assert report, report.first
    assert [mask.local_iou for mask in report.masks] == [1, 1, 1, 1]


def test_without_a_device_the_kernels_are_unavailable(monkeypatch):
    monkeypatch.setitem(sys.modules, "metalcompute", None)
    with pytest.raises(BackendUnavailable, match="metalcompute"):
        around("kernel", "reference", "metal")
    with pytest.raises(InputError, match="device is"):
        open_device("abacus")


@pytest.mark.coremltools
@pytest.mark.parametrize(("precision", "name"), [("fp32", "float32"), ("fp16", "fp16")])
def test_exported_packages_hold(root, precision, name):
    paths = packages(root, precision)
    parts = PackageParts({part: load(path) for part, path in paths.items()}, tiny().image_pe)
    report = report_of(Candidate(GOOD.before, parts, GOOD.after), name)
    assert report, report.to_dict()


@pytest.mark.coremltools
def test_a_permuted_positional_encoding_enters_at_the_decoder(root):
    paths = packages(root, "fp32")
    swapped = tiny().image_pe.swapaxes(2, 3)
    parts = PackageParts({part: load(path) for part, path in paths.items()}, swapped)
    assert report_of(Candidate(GOOD.before, parts, GOOD.after)).first == "low_res_masks"


def test_parts_of_another_size_are_refused(unchecked):
    parts = Planted("low_res_masks", lambda x: x[:, :3])
    with pytest.raises(InputError, match=r"low_res_masks is \(1, 3, 16, 16\); with these weights it is \(1, 4, 16, 16\)"):
        report_of(Candidate(GOOD.before, parts, GOOD.after))


@pytest.mark.parametrize("beyond", [np.inf, np.nan])
def test_where_the_budgets_model_overflows_another_tensor_still_differs_and_the_right_one_holds(beyond):
    """One number is enough to make a measured budget infinite, and the margin of the masks with it."""
    model = Planted("low_res_masks", lambda x: np.where(x == x.max(), np.float32(beyond), x))
    against = {"exact": ModelParts(tiny("float64")), "rounded": replace(rounded(), parts=dict.fromkeys(PARTS, model)), "k": K}
    assert check(IMAGE, POINTS, GOOD, **against)
    unrelated = check(IMAGE, POINTS, replace(GOOD, parts=Planted("low_res_masks", lambda x: -x)), **against)
    assert unrelated.first == "low_res_masks"
    assert all(mask.unexplained > 0 for mask in unrelated.masks)


def test_infinite_logits_are_not_the_postprocessing_s_fault():
    parts = Planted("low_res_masks", lambda x: np.where(x == x.max(), np.float32(np.inf), x))
    report = report_of(replace(GOOD, parts=parts))
    assert report.first == "low_res_masks"
    assert [mask.local_unexplained for mask in report.masks] == [0] * 4
    turned = report_of(replace(GOOD, parts=parts, after=lambda *args: ~AFTER(*args)))
    assert all(mask.local_unexplained > 0 for mask in turned.masks)  # an infinite margin would excuse it


def test_core_ml_itself_is_a_mac_s(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(BackendUnavailable, match="on a Mac only"):
        NativeProgram(tmp_path / "a.mlpackage")


@pytest.mark.coremltools
def test_core_ml_is_called_as_coremltools_wants_it(monkeypatch, root):
    """With a double that stands for a Mac's: it takes what MLModel takes, and answers through refsam's interpreter."""
    path = packages(root, "fp32")["prompt_encoder"]
    asked = {}

    class MLModel:
        def __init__(self, model: str, compute_units: str) -> None:
            asked.update(model=model, units=compute_units)

        def predict(self, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert all(value.dtype == np.float32 for value in data.values())
            return load(asked["model"]).run(data)

    double = SimpleNamespace(models=SimpleNamespace(MLModel=MLModel), ComputeUnit={"CPU_ONLY": "cpu"})
    monkeypatch.setitem(sys.modules, "coremltools", double)
    monkeypatch.setattr(sys, "platform", "darwin")
    export_layers.coremltools.cache_clear()
    try:
        program = NativeProgram(path, "CPU_ONLY")
    finally:
        export_layers.coremltools.cache_clear()
    given = {"points": np.ones((1, 3, 2), np.float32), "labels": np.ones((1, 3), np.float32)}
    assert asked == {"model": str(path), "units": "cpu"}
    for name, value in load(path).run(given).items():
        np.testing.assert_array_equal(program.run(given)[name], value)
    assert [feature.name for feature in program.inputs] == ["points", "labels"]
    assert len(program.outputs) == 2
