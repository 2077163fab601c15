"""Core ML packages and the app's own path as ports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coreml.packages import CONFIG, extract
from standin import standin_weights
from verify.mistaken import cases

from refsam import MobileSam
from refsam.coreml import mil
from refsam.coreml.constants import write_image_pe
from refsam.coreml.export import PACKAGES, export
from refsam.errors import BackendUnavailable, InputError
from refsam.verify import Case, open_port, verify
from refsam.verify.ports.coreml import OWN_PE, compression_notes, declared, packages

MODEL = MobileSam(standin_weights(CONFIG), CONFIG, dtype="float64")
CASE = replace(cases(CONFIG)["points"], name="wide")
PARTS = {"image_encoder": "ImageEncoder", "prompt_encoder": "PromptEncoder", "mask_decoder": "MaskDecoder"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """precision -> a folder of three packages of that precision, converted from torch by coremltools."""
    root = tmp_path_factory.mktemp("coreml")
    everything = extract(root / "all")
    for precision in ("fp32", "fp16"):
        for part, stem in PARTS.items():
            target = root / precision / PACKAGES[part]  # type: ignore[index]
            target.parent.mkdir(exist_ok=True)
            (everything / f"{stem}.iOS15.{precision}.mlpackage").rename(target)
    return {precision: root / precision for precision in ("fp32", "fp16")}


def test_fp16_packages_hold_at_their_precision(folders: dict[str, Path]) -> None:
    port = open_port(folders["fp16"], model=MODEL)
    assert port.precision == "fp16"
    (found,) = verify(port, MODEL, [CASE], cached=False)
    assert found, found
    assert OWN_PE in found.notes
    assert "prompt_encoder.sparse_prompt_embeddings" in found.candidate


def test_packages_of_int8_weights_hold_at_theirs(folders: dict[str, Path]) -> None:
    port = open_port([*_without_decoder(folders), folders["fp16"].parent / "all/MaskDecoder.int8.mlpackage"], model=MODEL)
    assert port.precision == "int8-fp16"
    (found,) = verify(port, MODEL, [CASE], cached=False, explain=False)
    assert found, found
    assert not any("compressed" in note for note in found.notes)


def test_packages_of_a_palette_say_with_what_they_can_be_compared(folders: dict[str, Path]) -> None:
    port = open_port([*_without_decoder(folders), folders["fp16"].parent / "all/MaskDecoder.lut4.mlpackage"], model=MODEL)
    (said,) = [note for note in port.notes if "compressed" in note]
    assert said.startswith("weights: 50 tensors of the packages, tokens_to_fp16_palettized the first, are compressed"), said
    assert "refsam weights convert" in said


def _without_decoder(folders: dict[str, Path]) -> list[Path]:
    return [folders["fp16"] / PACKAGES[part] for part in ("image_encoder", "prompt_encoder")]


@pytest.mark.parametrize(
    ("decoder", "precision", "otherwise"),
    [
        ("iOS16.fp16", "fp16", False),
        ("int8", "int8-fp16", False), ("uint8", "int8-fp16", False), ("int8-18", "int8-fp16", False),
        ("int4-block", "fp16", True), ("lut4-grouped", "fp16", True), ("sparse", "fp16", True), ("sparse-18", "fp16", True),
    ],
)  # fmt: skip
def test_compressed_weights_are_told_apart(decoder: str, precision: str, otherwise: bool, folders: dict[str, Path]) -> None:
    path = folders["fp16"].parent / "all" / f"MaskDecoder.{decoder}.mlpackage"
    program = {"mask_decoder": mil.load(path)}
    assert declared(program) == precision
    assert bool(compression_notes(program)) == otherwise


@pytest.mark.coremltools
@pytest.mark.parametrize(("precision", "declared"), [("fp32", "float32"), ("fp16", "fp16")])
def test_refsams_own_packages_hold_at_their_precision(precision: str, declared: str, tmp_path: Path) -> None:
    export(MODEL, tmp_path, precision=precision)  # type: ignore[arg-type]
    port = open_port(tmp_path, model=MODEL)
    assert port.precision == declared
    assert next(verify(port, MODEL, [CASE], cached=False))


def test_what_the_converter_does_to_float32_packages_is_found_and_named(folders: dict[str, Path]) -> None:
    """coremltools fuses LayerNorm2d's affine step into a batch norm and leaves an epsilon in it: 5e-6, ten budgets."""
    (found,) = verify(open_port(folders["fp32"], model=MODEL), MODEL, [CASE], cached=False)
    assert found.verdict.report.first == "image_encoder"
    assert found.verdict.report.required_k > 8
    assert found.verdict.explanations[0].names == ("LayerNorm2d's affine as a batch norm of epsilon 1e-5",)
    assert [mask.iou for mask in found.masks] == [1.0, 1.0, 1.0]


def test_stages_inside_the_packages_are_found(folders: dict[str, Path]) -> None:
    port = open_port(folders["fp32"], model=MODEL, inside=True)
    (found,) = verify(port, MODEL, [CASE], cached=False, explain=False)
    assert found.verdict.report.first == "image_encoder.neck.1"  # a LayerNorm2d, the converter's epsilon again
    before = [result for result in found.verdict.report.stages if result.stage.startswith("image_encoder.layers")]
    assert [result.holds for result in before] == [True] * len(before)
    assert len(before) >= 4


def test_three_paths_in_any_order_are_a_port(folders: dict[str, Path]) -> None:
    paths = sorted(map(str, folders["fp32"].iterdir()), reverse=True)
    shown = open_port(paths, model=MODEL).run(CASE, ())
    assert shown["image_encoder"].shape == (1, 32, 4, 4)


@pytest.mark.parametrize("prefix", ["", "CutMask", "mask-"])
def test_packages_are_told_apart_whatever_word_their_names_share(prefix: str, tmp_path: Path) -> None:
    """Their order counts only where the names do not tell."""
    names = [f"{prefix}{name}.mlpackage" for name in ("ImageEncoder", "PromptEncoder", "MaskDecoder")]
    for name in names:
        (tmp_path / name).mkdir()
    paths = tuple(str(tmp_path / name) for name in reversed(names))
    assert [path.name for path in packages(paths).values()] == names


def test_the_apps_own_encoding_is_a_stage(folders: dict[str, Path], tmp_path: Path) -> None:
    write_image_pe(tmp_path / "pe.bin", MobileSam(MODEL.scope.weights, CONFIG))
    port = open_port(folders["fp32"], model=MODEL, image_pe=tmp_path / "pe.bin")
    (found,) = verify(port, MODEL, [CASE], cached=False, explain=False)
    assert found.verdict.report["prompt_encoder.pe_layer"].holds
    assert OWN_PE not in found.notes


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"box": [1, 2, 3, 4]}, "has a box"),
        ({}, "at least one point"),
        ({"point_coords": [[1, 2]]}, "point_coords and point_labels go together"),
    ],
)
def test_prompts_that_packages_cannot_take_are_errors(prompt: dict, message: str, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=message):
        open_port(folders["fp32"], model=MODEL).run(Case(CASE.image, prompt), ())


def test_what_is_no_set_of_packages_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are 2"):
        open_port([folders["fp32"] / name for name in ("ImageEncoder.mlpackage", "MaskDecoder.mlpackage")], model=MODEL)
    with pytest.raises(InputError, match=r"there is no package .*ImageEncoder.mlpackage"):
        open_port(tmp_path, model=MODEL, kind="coreml")
    with pytest.raises(BackendUnavailable, match="on a Mac only"):
        open_port(folders["fp32"], model=MODEL, native=True)
    with pytest.raises(InputError, match="--inside shows what refsam's interpreter computes"):
        open_port(folders["fp32"], model=MODEL, native=True, inside=True)


def test_the_app_without_its_deviations_holds() -> None:
    (found,) = verify(open_port("app", model=MODEL, way="reference"), MODEL, [CASE], cached=False)
    assert found, found


def test_the_app_fails_on_a_landscape_picture_with_its_causes_named() -> None:
    (found,) = verify(open_port("app", model=MODEL), MODEL, [CASE], cached=False)
    assert not found
    assert found.verdict.report.first == "input_image"
    causes = found.verdict.explanations[0]
    assert causes.stage == "input_image"
    assert set(causes.names) == {
        "padding in the index",
        "no antialias",
        "texture sampled without the half pixel",
        "resized without rounding",
    }
    assert causes.explained > 1 - 1e-9
    shares = dict(zip(causes.names, causes.shares, strict=True))
    assert shares["padding in the index"] > 0.5
    assert min(shares["no antialias"], shares["texture sampled without the half pixel"]) > 0.02
    assert 0 < shares["resized without rounding"] < 1e-3
    prompts, masks = found.verdict.explanations[1], found.verdict.explanations[-1]
    assert prompts.names == ("padding point missing",)
    assert masks.stage == "masks"
    assert masks.names[0] == "mask grown by its blur"  # on so small a picture the corners may change no pixel beside it
    assert masks.explained > 0.99
    assert np.mean([mask.iou for mask in found.masks]) < 0.9


def test_the_app_runs_around_packages(folders: dict[str, Path]) -> None:
    port = open_port(folders["fp16"], model=MODEL, kind="app", way="reference")
    assert port.precision == "fp16"
    (found,) = verify(port, MODEL, [CASE], cached=False)
    assert found, found
    with pytest.raises(InputError, match="way is 'mine'"):
        open_port("app", model=MODEL, way="mine")
