"""ONNX files as a port: upstream's own exports of a tiny model, in ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify.mistaken import cases
from verify.ports.onnx_pair import CONFIG, model, unpack

from refsam import MobileSam
from refsam.errors import InputError
from refsam.verify import Case, open_port, verify
from refsam.verify.ports.onnx import Graph, OnnxPort, is_onnx, stores_halves
from refsam.verify.ports.onnx import files as onnx_files

CASES = cases(CONFIG)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("onnx"))


@pytest.mark.onnxruntime
@pytest.mark.parametrize("prompt", ["points", "box", "box and points", "portrait"])
def test_upstreams_export_holds(prompt: str, files: Path) -> None:
    port = open_port([files / "decoder.onnx", files / "encoder.onnx"], model=model(), threads=1)
    (found,) = verify(port, model(), [CASES[prompt]], cached=False)
    assert set(found.candidate) == {"input_image", "image_encoder", "low_res_masks", "iou_predictions", "masks"}
    assert found.port == "encoder.onnx + decoder.onnx"
    assert found, found


@pytest.mark.onnxruntime
def test_a_mask_prompt_and_a_single_mask(files: Path) -> None:
    low = np.random.RandomState(0).normal(0, 3, (1, 16, 16))
    case = Case(CASES["points"].image, {**CASES["points"].prompts, "mask_input": low, "multimask_output": False})
    assert next(verify(open_port([files / "encoder.onnx", files / "decoder.onnx"], model=model()), model(), [case], cached=False))


@pytest.mark.onnxruntime
def test_a_decoder_alone_is_given_the_references_embedding(files: Path) -> None:
    (found,) = verify(open_port(files / "decoder.onnx", model=model()), model(), [CASES["points"]], cached=False)
    assert found
    assert any(note.startswith("image_encoder: the reference's") for note in found.notes)


@pytest.mark.onnxruntime
def test_an_encoder_alone_is_followed_by_the_references_decoder(files: Path) -> None:
    (found,) = verify(open_port(files / "encoder.onnx", model=model()), model(), [CASES["box"]], cached=False)
    assert found
    assert list(found.candidate) == ["input_image", "image_encoder"]
    assert [mask.iou for mask in found.masks] == [1.0, 1.0, 1.0]


@pytest.mark.onnxruntime
def test_samexporters_padding_point_with_a_box_is_named(files: Path) -> None:
    port = open_port([files / "encoder.onnx", files / "decoder.onnx"], model=model(), layout="samexporter")
    (found,) = verify(port, model(), [CASES["box and points"]], cached=False)
    assert not found
    assert found.verdict.explanations[0].names == ("padding point with a box",)


@pytest.mark.onnxruntime
def test_a_decoder_that_chooses_is_refused_where_it_cannot_be_judged(files: Path) -> None:
    port = open_port([files / "encoder.onnx", files / "single.onnx"], model=model())
    with pytest.raises(InputError, match=r"single.onnx gives only the mask that it chose.*--return-single-mask"):
        port.run(CASES["points"], ())
    single = Case(CASES["points"].image, {**CASES["points"].prompts, "multimask_output": False})
    assert next(verify(port, model(), [single], cached=False))


@pytest.mark.onnxruntime
@pytest.mark.parametrize("prompt", ["portrait", "box"])
def test_a_decoder_that_chooses_gives_the_best_of_three_for_few_points(prompt: str, files: Path) -> None:
    """One point and its padding, or the corners of a box: fewer than three."""
    port = open_port([files / "encoder.onnx", files / "single.onnx"], model=model())
    (found,) = verify(port, model(), [CASES[prompt]], cached=False)
    assert found, found
    assert found.candidate["low_res_masks"].shape == (1, 1, 16, 16)
    assert found.notes[-1].endswith("(its best by score)")
    single = Case(CASES[prompt].image, {**CASES[prompt].prompts, "multimask_output": False})
    with pytest.raises(InputError, match=r"with 2 points, .* the best of the three: .* leave --single out"):
        port.run(single, ())


@pytest.mark.onnxruntime
def test_files_that_are_no_port_are_refused(files: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"\7" * 40)
    with pytest.raises(InputError, match=r"noise.onnx cannot be opened as ONNX"):
        open_port(tmp_path / "noise.onnx", model=model())
    with pytest.raises(InputError, match="there are 3 files"):
        open_port(files, model=model())
    with pytest.raises(InputError, match="layout is 'mine'"):
        open_port(files / "encoder.onnx", model=model(), layout="mine")


class Session:
    """ONNX Runtime's part in the tests that need none."""

    def __init__(self, outputs: Mapping[str, np.ndarray]) -> None:
        self.outputs, self.fed = outputs, {}

    def run(self, names: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.fed = dict(feeds)
        return list(self.outputs.values())


def graph(inputs: dict[str, Any], outputs: Mapping[str, np.ndarray]) -> Graph:
    return Graph(Path("double.onnx"), Session(outputs), inputs, list(outputs))


def test_an_encoder_that_takes_pixels_is_given_the_resized_picture() -> None:
    encoder = graph({"input_image": (np.float32, ["h", "w", 3])}, {"image_embeddings": np.zeros((1, 32, 4, 4))})
    port = OnnxPort(encoder, None, model())
    shown = port.run(CASES["points"], ())
    assert encoder.session.fed["input_image"].shape == (42, 64, 3)
    assert encoder.session.fed["input_image"].max() > 200
    assert "input_image" not in shown
    assert port.notes == ("preprocessing: resizing is the reference's; the encoder normalises and pads",)


@pytest.mark.parametrize("told", [True, False])
def test_masks_of_a_decoder_that_is_not_told_the_pictures_size_are_not_judged(told: bool) -> None:
    """They cannot be of that size; those of one that is told have to be."""
    inputs = {"image_embeddings": 4, "point_coords": 3, "point_labels": 2, "mask_input": 4, "has_mask_input": 1}
    inputs |= {"orig_im_size": 1} if told else {}
    answers = {"masks": np.ones((1, 4, 64, 64)), "iou_predictions": np.ones((1, 4)), "low_res_masks": np.ones((1, 4, 16, 16))}
    decoder = graph({name: (np.float32, [None] * axes) for name, axes in inputs.items()}, answers)
    port = OnnxPort(None, decoder, model())
    shown = port.run(CASES["points"], ())
    assert ("masks" in shown) is told
    said = "masks: the decoder is not told the picture's size, and gives them at 64 x 64; not judged"
    assert port.notes.count(said) == (0 if told else 1)
    port.run(CASES["points"], ())
    assert port.notes.count(said) == (0 if told else 1)


def test_logits_of_an_export_with_extra_metrics_are_its_last_output() -> None:
    """Upstream's script gives their name to the stability scores, and names the last two outputs not at all."""
    inputs = {"image_embeddings": 4, "point_coords": 3, "point_labels": 2, "mask_input": 4, "has_mask_input": 1}
    inputs |= {"orig_im_size": 1}
    scores, logits = np.full((1, 4), 0.5), np.random.RandomState(0).normal(0, 1, (1, 4, 16, 16))
    answers = {"masks": np.ones((1, 4, *CASES["points"].size)), "iou_predictions": scores, "low_res_masks": scores}
    answers |= {"1507": np.ones((1, 4), np.int64), "1490": logits}
    decoder = graph({name: (np.float32, [None] * axes) for name, axes in inputs.items()}, answers)
    shown = OnnxPort(None, decoder, model()).run(CASES["points"], ())
    assert np.array_equal(shown["low_res_masks"], logits[:, 1:])


def test_halves_declare_fp16() -> None:
    encoder = graph({"x": (np.float16, [1, 3, 64, 64])}, {"y": np.zeros((1, 32, 4, 4), np.float16)})._replace(halves=True)
    port = OnnxPort(encoder, None, model())
    assert port.precision == "fp16"
    assert port.notes[-1] == "precision: fp16, as there is float16 in double.onnx"
    declared = OnnxPort(encoder, None, model(), "float32")
    assert (declared.precision, len(declared.notes)) == ("float32", 1)
    port.run(CASES["points"], ())
    assert encoder.session.fed["x"].dtype == np.float16


def field(number: int, content: bytes | int) -> bytes:
    """One field of a Protocol Buffers message that is shorter than 128 bytes."""
    return bytes([number << 3, content]) if isinstance(content, int) else bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(("kind", "halves"), [(10, True), (1, False)])
def test_halves_inside_are_found_where_inputs_and_outputs_are_float32(kind: int, halves: bool, tmp_path: Path) -> None:
    tensor = field(2, kind) + field(9, b"\0\x3c")
    for name, graph in (("weight", field(5, tensor)), ("constant", field(1, field(4, b"Constant") + field(5, field(5, tensor))))):
        (tmp_path / f"{name}.onnx").write_bytes(field(1, 8) + field(7, graph))
        assert stores_halves(tmp_path / f"{name}.onnx") is halves
    (tmp_path / "cut.onnx").write_bytes(field(7, field(5, tensor))[:-3])
    assert not stores_halves(tmp_path / "cut.onnx")


def test_the_onnx_files_of_a_folder_are_those_that_are_not_hidden(tmp_path: Path) -> None:
    """macOS leaves "._NAME" beside files that it copies."""
    for name in ("encoder.onnx", "._encoder.onnx", "decoder.ONNX", "readme.md"):
        (tmp_path / name).touch()
    assert is_onnx((str(tmp_path),))
    assert [path.name for path in onnx_files((str(tmp_path),))] == ["decoder.ONNX", "encoder.onnx"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": (np.float32, [1, 3, 1024, 1024])}, "an encoder has one input .1, 3, 64, 64. or .h, w, 3."),
        ({"x": (np.float32, ["N"])}, "an encoder has one input"),
        ({"x": (np.float32, [3, 64, 64])}, "an encoder has one input .1, 3, 64, 64. or .h, w, 3."),
        ({"x": (np.float32, [1, 3, 64, 64]), "z": (np.float32, [1])}, "an encoder has one input"),
    ],
)
def test_an_encoder_of_another_layout_is_refused(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OnnxPort(graph(inputs, {"y": np.zeros(3)}), None, model())


def test_a_decoder_of_another_layout_is_refused() -> None:
    decoder = graph({"point_coords": (np.float32, [1, "n", 2]), "magic": (np.float32, [1])}, {"masks": np.zeros(3)})
    with pytest.raises(InputError, match="those of upstream's export are needed"):
        OnnxPort(None, decoder, model())


def test_the_model_is_not_vacuous() -> None:
    single = MobileSam(model().scope.weights, CONFIG)
    noise = np.random.RandomState(0).normal(0, 1, (2, 1, 3, 64, 64)).astype(np.float32)
    first, second = (single.encode_image(picture) for picture in noise)
    assert np.linalg.norm(first - second) > 0.5 * np.linalg.norm(first)
