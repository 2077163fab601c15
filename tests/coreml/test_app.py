"""The app's SegmentAnything from picture to masks, on refsam's model, on packages, and on packages that do not fit."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from coreml.exported import packages, tiny

from refsam import SamPredictor
from refsam.coreml.app import Point, SegmentAnything
from refsam.coreml.app_parts import ModelParts, PackageParts
from refsam.coreml.app_report import costs
from refsam.coreml.app_switches import BINARY, DEVIATIONS, POSTPROCESSING, PREPROCESSING, PROMPT, REFERENCE, SOURCE, Switches
from refsam.errors import InputError, NotReady
from refsam.masks import iou

IMAGE = np.random.RandomState(3).randint(0, 256, (96, 128, 3)).astype(np.uint8)  # twice the model's side: points map exactly
POINTS = [Point(60, 40), Point(100.5, 20, 0)]


@pytest.mark.core
@pytest.mark.parametrize("points", [POINTS[:1], POINTS])
def test_with_the_reference_s_switches_it_is_the_predictor(points):
    predictor = SamPredictor(tiny())
    predictor.set_image(IMAGE)
    masks, scores, _ = predictor.predict([(p.x, p.y) for p in points], [p.label for p in points])
    app = SegmentAnything(ModelParts(tiny()))
    app.preprocess(IMAGE)
    np.testing.assert_array_equal(app.predict(points), masks[np.argmax(scores)])
    four = app.predict_masks(points)
    np.testing.assert_array_equal([mask.score for mask in four[1:]], scores)
    np.testing.assert_array_equal([mask.values > 0 for mask in four[1:]], masks)


def test_the_shipped_app_differs_from_it():
    reference, shipped = SegmentAnything(ModelParts(tiny())), SegmentAnything(ModelParts(tiny()), BINARY)
    for app in (reference, shipped):
        app.preprocess(IMAGE)
    assert iou(reference.predict(POINTS), shipped.predict(POINTS)) < 0.9
    assert shipped.chosen(np.float32([0.1, 0.9, 0.2, 0.3])) == 0
    assert reference.chosen(np.float32([0.9, 0.1, 0.3, 0.2])) == 2


def test_a_second_picture_finds_what_the_first_left():
    turned = np.ascontiguousarray(np.rot90(IMAGE))
    first, second = SegmentAnything(ModelParts(tiny()), BINARY), SegmentAnything(ModelParts(tiny()), BINARY)
    first.preprocess(turned)
    for app in (first, second):
        app.preprocess(IMAGE)
    assert (first.input_buffer != second.input_buffer).any()
    assert not second.input_buffer[..., 49:, :].any()


def test_points_are_mapped_by_axis_and_padded():
    app = SegmentAnything(ModelParts(tiny()))
    app.preprocess(IMAGE)
    coords, labels = app.map_points(POINTS)
    assert coords.tolist() == [[[30, 20], [50.25, 10], [0, 0]]]
    assert labels.tolist() == [[1, 0, -1]]
    app.switches = replace(REFERENCE, padding_point=False)
    coords, labels = app.map_points(POINTS)
    assert (coords.shape, labels.tolist()) == ((1, 2, 2), [[1, 0]])


@pytest.mark.parametrize(
    ("points", "message"),
    [([], "0 points"), ([Point(1, 1)] * 100, "1 to 99"), ([Point(1, float("nan"))], "finite"), ([Point(1, 1, 2)], "label")],
)
def test_other_points_are_refused(points, message):
    app = SegmentAnything(ModelParts(tiny()))
    app.preprocess(IMAGE)
    with pytest.raises(InputError, match=message):
        app.predict_masks(points)


def test_without_a_picture_there_is_nothing_to_predict():
    with pytest.raises(NotReady, match="preprocess"):
        SegmentAnything(ModelParts(tiny())).predict(POINTS)


@pytest.mark.coremltools
def test_packages_in_the_place_of_the_model(root):
    """Masks of a random model have many weak logits: a few may flip."""
    folder = packages(root, "fp32")["image_encoder"].parent
    ours, theirs = (SegmentAnything(parts) for parts in (ModelParts(tiny()), PackageParts.load(folder, tiny().image_pe)))
    for app in (ours, theirs):
        app.preprocess(IMAGE)
    np.testing.assert_allclose(theirs.predict_logits(POINTS)[0], ours.predict_logits(POINTS)[0], atol=1e-4)
    assert iou(ours.predict(POINTS), theirs.predict(POINTS)) > 0.999


class Fake:
    """A program with any number of inputs and outputs of any shape."""

    def __init__(self, shapes: list[tuple[int, ...]], results: list[tuple[int, ...]]) -> None:
        self.inputs = tuple(SimpleNamespace(name=f"in{i}", shape=shape) for i, shape in enumerate(shapes))
        self.outputs = tuple(SimpleNamespace(name=f"out{i}") for i in range(len(results)))
        self.results = results

    def run(self, inputs: dict, precision: str | None = None) -> dict:
        return {f"out{i}": np.zeros(shape, np.float32) for i, shape in enumerate(self.results)}


MAP = (1, 32, 4, 4)
GOOD = {
    "image_encoder": Fake([(1, 3, 64, 64)], [MAP]),
    "prompt_encoder": Fake([(1, 1, 2), (1, 1)], [(1, 2, 32), MAP]),
    "mask_decoder": Fake([MAP, MAP, (1, 1, 32), MAP], [(1, 4, 16, 16), (1, 4)]),
}


@pytest.mark.parametrize(
    ("part", "program", "message"),
    [
        ("image_encoder", Fake([(1, 3, 64, 64)] * 2, [MAP]), "2 inputs and 1 outputs"),
        ("image_encoder", Fake([()], [MAP]), r"takes \(\)"),
        ("image_encoder", Fake([(1, 3, 64, 32)], [MAP]), r"\(1, 3, S, S\)"),
        ("image_encoder", Fake([(1, 3, 64, 64)], [(0,)]), "4 axes"),
        ("prompt_encoder", Fake([(1, 1, 2), (1, 1)], [(1, 2, 32), ()]), "out1 of the prompt encoder is"),
        ("mask_decoder", Fake([MAP] * 4, [(1, 4, 16, 16), (1, 3)]), "do not fit"),
        ("mask_decoder", Fake([MAP] * 4, [(1, 4, 16, 8), (1, 4)]), "do not fit"),
        ("mask_decoder", Fake([MAP] * 4, [(1, 1, 16, 16), (1, 1)]), "do not fit"),
    ],
)
def test_programs_that_are_something_else_are_refused(unchecked, part, program, message):
    def predict() -> None:
        app = SegmentAnything(PackageParts({**GOOD, part: program}, np.zeros(MAP, np.float32)))
        app.preprocess(IMAGE)
        app.predict(POINTS)

    with pytest.raises(InputError, match=message):
        predict()


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(InputError, match=r"ImageEncoder.mlpackage"):
        PackageParts.load(Path(tmp_path), tiny().image_pe)


def test_every_switch_has_a_place_and_every_deviation_a_row():
    switches = set(vars(REFERENCE))
    assert switches == {*PREPROCESSING, *PROMPT, *POSTPROCESSING} == {d.switch for d in DEVIATIONS}
    assert all(getattr(REFERENCE, d.switch) != d.value for d in DEVIATIONS)
    assert replace(BINARY, values="clamp") == SOURCE
    assert replace(SOURCE, colour="linear", filter="nearest") == Switches(**{d.switch: d.value for d in DEVIATIONS})


def test_the_report_of_costs():
    parts = ModelParts(tiny())
    rows = {row.name: row for row in costs(parts, IMAGE, POINTS, rounded=parts)}
    assert list(rows)[-5:] == ["preprocessing", "postprocessing", "source", "binary", "precision"]
    changes_input = {name for name, row in rows.items() if row.embedding > 0}
    assert changes_input == {*PREPROCESSING, "preprocessing", "source", "binary"}
    assert rows["precision"].iou == 1  # the same parts
    assert rows["padding_index"].displaced > rows["half_pixel"].displaced > rows["rounding"].displaced == 0
    assert rows["antialias"].levels > rows["rounding"].levels > 0
    assert all(rows[name].iou < 1 for name in POSTPROCESSING if name != "mask_size")  # which is exact at 4:3
    assert rows["stale_buffer"].levels == 0  # the picture itself is untouched
    assert rows["binary"].levels == rows["preprocessing"].levels


def test_a_portrait_picture_pays_nothing_for_the_padding_index():
    portrait = np.ascontiguousarray(np.rot90(IMAGE))
    row = next(row for row in costs(ModelParts(tiny()), portrait, POINTS[:1]) if row.name == "padding_index")
    assert (row.levels, row.embedding, row.iou) == (0, 0, 1)


def test_the_picture_before_can_be_given():
    same = costs(ModelParts(tiny()), IMAGE, POINTS, before=IMAGE)
    assert next(row for row in same if row.name == "stale_buffer").embedding == 0
