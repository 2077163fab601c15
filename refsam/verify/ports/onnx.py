"""ONNX files as a port, run by ONNX Runtime: an encoder, a decoder, or both, in the layouts that exporters of SAM write.

Encoders take `input_image` (1, 3, S, S), normalised and padded, or, with the preprocessing inside (samexporter's
`--use-preprocess`), the resized picture (h, w, 3) in levels from 0 to 255. Decoders are those of upstream's
scripts/export_onnx_model.py, which samexporter and the tools that read its files share: inputs image_embeddings, point_coords,
point_labels, mask_input, has_mask_input, orig_im_size; outputs masks, iou_predictions, low_res_masks.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from refsam import backends, transforms
from refsam.coreml.wire import Message
from refsam.errors import BackendUnavailable, InputError, PackageError
from refsam.files import visible
from refsam.model.prompt_encoder import PADDING
from refsam.model.sam import MobileSam
from refsam.types import Array, Float
from refsam.verify.ports.port import COORDINATES, PREPROCESSED, arrays, chosen_masks
from refsam.verify.reference import Case

Layout: TypeAlias = Literal["upstream", "samexporter"]
"""Who calls the files: samexporter and those that copied it add the padding point to a box too, upstream's notebook does not."""

RESIZED = "preprocessing: resizing is the reference's; the encoder normalises and pads"
ENCODED = "image_encoder: the reference's, in float32; there is no encoder file"
SIZELESS = "masks: the decoder is not told the picture's size, and gives them at {} x {}; not judged"
CHOOSES = 3
"""Points from which upstream's `select_masks` takes the single mask; corners of a box and the padding point count."""
WITH_METRICS = 5
"""Outputs of upstream's `--return-extra-metrics`. Its script names the first three, so that "low_res_masks" is on the stability
scores, and the logits, which come last, are without a name."""
UPPER_LEFT, LOWER_RIGHT = 2, 3
"""Labels of a box's corners."""
_HALF, _FLOAT16 = "tensor(float16)", 10
_TYPES = {"tensor(float)": np.float32, _HALF: np.float16, "tensor(double)": np.float64, "tensor(int64)": np.int64,
          "tensor(int32)": np.int32, "tensor(uint8)": np.uint8}  # fmt: skip


class Graph(NamedTuple):
    """One ONNX file, opened.

    Attributes:
        path: the file.
        session: ONNX Runtime's.
        inputs: name -> (dtype, shape); a length that the file leaves open is a text or None.
        outputs: names in order.
        halves: whether something in it is float16: an input, an output, a weight or another constant.
    """

    path: Path
    session: Any
    inputs: Mapping[str, tuple[Any, Sequence[Any]]]
    outputs: Sequence[str]
    halves: bool = False

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Name -> output. Raises InputError where ONNX Runtime refuses."""
        given = {name: np.ascontiguousarray(value, self.inputs[name][0]) for name, value in feeds.items()}
        try:
            return dict(zip(self.outputs, self.session.run(None, given), strict=True))
        except Exception as error:  # ONNX Runtime's own classes, all below Exception
            raise InputError(f"{self.path} failed: {error}") from None

    @property
    def is_decoder(self) -> bool:
        """Whether it takes points."""
        return "point_coords" in self.inputs


def open_graph(path: Path, threads: int | None) -> Graph:
    """Raises BackendUnavailable without onnxruntime, InputError where the file is none of its."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise BackendUnavailable("onnxruntime is not installed; try: pip install 'refsam[onnx]'") from None
    if not path.is_file():
        raise InputError(f"there is no ONNX file {path}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise InputError(f"{path} cannot be opened as ONNX: {error}") from None
    inputs = {}
    for feature in session.get_inputs():
        if feature.type not in _TYPES:
            raise InputError(f"{path}: input {feature.name} is a {feature.type}; {', '.join(_TYPES)} are fed")
        inputs[feature.name] = (_TYPES[feature.type], feature.shape)
    outputs = session.get_outputs()
    halves = any(feature.type == _HALF for feature in (*session.get_inputs(), *outputs)) or stores_halves(path)
    return Graph(path, session, inputs, [feature.name for feature in outputs], halves)


def stores_halves(path: Path) -> bool:
    """Whether a constant of the graph is float16: a converter that keeps inputs and outputs in float32 shows it nowhere else.

    Numbers of fields and types are those of onnx.proto. A file that cannot be read so has none.
    """
    try:
        graph = Message(memoryview(path.read_bytes())).message(7)  # ModelProto.graph
        attributes = (attribute for node in graph.messages(1) for attribute in node.messages(5) if 5 in attribute)
        tensors = (*graph.messages(5), *(attribute.message(5) for attribute in attributes))  # initializer, AttributeProto.t
        return any(tensor.integer(2) == _FLOAT16 for tensor in tensors)  # TensorProto.data_type
    except PackageError:
        return False


class OnnxPort:
    """An encoder, a decoder, or both.

    Args:
        encoder, decoder: at least one.
        model: gives S and, where there is no encoder, the embedding.
        precision: what they compute in; None: fp16 where something in a file is float16 (`Graph.halves`), else float32.
        layout: how the decoder is called.

    Raises InputError where the files' inputs are others than those of a layout that is known.
    """

    def __init__(
        self,
        encoder: Graph | None,
        decoder: Graph | None,
        model: MobileSam,
        precision: str | None = None,
        layout: Layout = "upstream",
    ) -> None:
        if layout not in ("upstream", "samexporter"):
            raise InputError(f"layout is {layout!r}; there are: upstream, samexporter")
        self.encoder, self.decoder, self.model, self.layout = encoder, decoder, model, layout
        graphs = [graph for graph in (encoder, decoder) if graph is not None]
        self.halves = [graph.path.name for graph in graphs if graph.halves] if precision is None else []
        self.declared, self.precision = precision, precision or ("fp16" if self.halves else "float32")
        self.name = " + ".join(graph.path.name for graph in graphs)
        self.takes_pixels = encoder is not None and _takes_pixels(encoder, model.config.image_size)
        before = "transforms.resized" if self.takes_pixels else "input_image"
        self.given = (before, "image_encoder") if encoder is None else (before,)
        if decoder is not None:
            _check_decoder(decoder)
        self.notes = tuple(self._notes())

    def _notes(self) -> list[str]:
        before = ENCODED if self.encoder is None else RESIZED if self.takes_pixels else PREPROCESSED
        found = [before] if self.decoder is None else [before, COORDINATES]
        return [*found, *([f"precision: fp16, as there is float16 in {' and '.join(self.halves)}"] if self.halves else [])]

    def run(self, case: Case, stages: Collection[str]) -> Mapping[str, Array]:  # noqa: ARG002 - a file shows its outputs
        """Encode and decode. Raises InputError where the files cannot answer such a prompt, or fail."""
        found = self._encode(case)
        self.notes = tuple(self._notes())
        if self.decoder is not None:
            found |= self._decode(self.decoder, found["image_encoder"], case)
        return arrays(found)

    def _encode(self, case: Case) -> dict[str, Array]:
        side = self.model.config.image_size
        resized = transforms.resize(case.image, side)
        given = transforms.normalize_and_pad(resized, side)
        if self.encoder is None:
            quick = MobileSam(self.model.scope.weights, self.model.config, backends.create("fast"), "float32")
            return {"input_image": given, "image_encoder": quick.encode_image(given)}
        (name,) = self.encoder.inputs
        embedding = self.encoder.run({name: resized if self.takes_pixels else given})[self.encoder.outputs[0]]
        shown = {"transforms.resized": resized} if self.takes_pixels else {"input_image": given}
        return {**shown, "image_encoder": embedding}

    def _decode(self, decoder: Graph, embedding: Float[Array, "1 D E E"], case: Case) -> dict[str, Array]:
        config, prompts = self.model.config, case.prompts
        coords, labels = self._points(case)
        mask = prompts.get("mask_input")
        low = (1, 1, config.mask_size, config.mask_size)
        feeds = {
            "image_embeddings": embedding,
            "point_coords": coords,
            "point_labels": labels,
            "mask_input": np.zeros(low) if mask is None else np.reshape(mask, low),
            "has_mask_input": np.array([0.0 if mask is None else 1.0]),
            "orig_im_size": np.array(case.size),
        }
        if mask is not None and "mask_input" not in decoder.inputs:
            raise InputError(f"{decoder.path} has no input mask_input, and the prompt has one; leave it out of the case")
        results = decoder.run({name: value for name, value in feeds.items() if name in decoder.inputs})
        if len(decoder.outputs) == WITH_METRICS and results["low_res_masks"].ndim == 2:
            results["low_res_masks"] = results[decoder.outputs[-1]]
        wanted = {name: results[name] for name in ("low_res_masks", "iou_predictions", "masks") if name in results}
        if "orig_im_size" not in decoder.inputs and "masks" in wanted and wanted["masks"].shape[-2:] != case.size:
            self.notes += (SIZELESS.format(*wanted.pop("masks").shape[-2:]),)
        return self._chosen(decoder, wanted, case, len(labels[0]))

    def _points(self, case: Case) -> tuple[Float[Array, "1 N 2"], Float[Array, "1 N"]]:
        """Points, then the corners of the box as points of labels 2 and 3, then the padding point, in the input frame."""
        prompts = case.prompts
        box = prompts.get("box")
        corners = np.zeros((0, 2)) if box is None else np.reshape(box, (2, 2))
        clicks = np.reshape(prompts["point_coords"], (-1, 2)) if prompts.get("point_coords") is not None else np.zeros((0, 2))
        labels = [*np.ravel(prompts.get("point_labels", ())), *([] if box is None else [UPPER_LEFT, LOWER_RIGHT])]
        coords = transforms.apply_coords(np.concatenate([clicks, corners]), case.size, self.model.config.image_size)
        if (len(clicks) and box is None) or self.layout == "samexporter":
            coords, labels = np.concatenate([coords, np.zeros((1, 2))]), [*labels, PADDING]
        if not len(coords):
            raise InputError("the decoder needs at least one point or a box")
        return coords[None].astype(np.float32), np.array([labels], np.float32)

    def _chosen(self, decoder: Graph, results: dict[str, Array], case: Case, points: int) -> dict[str, Array]:
        """Of the four masks those that the case asks for."""
        count, wanted = results["iou_predictions"].shape[-1], chosen_masks(case)
        if count == 1:
            _check_choice(decoder, points, three=wanted.stop is None)
        if count == 1 or count != self.model.config.num_multimask_outputs + 1:
            return results
        return {name: value[..., wanted] if name == "iou_predictions" else value[:, wanted] for name, value in results.items()}


def _takes_pixels(encoder: Graph, side: int) -> bool:
    """Whether an encoder takes a resized picture (h, w, 3) and not input_image. Raises InputError where it takes neither."""
    names = list(encoder.inputs)
    shape = encoder.inputs[names[0]][1] if len(names) == 1 else ()
    if len(shape) == 3 and (shape[2] == 3 or not isinstance(shape[2], int)):
        return True
    fits = [not isinstance(n, int) or n == wanted for n, wanted in zip(shape, (1, 3, side, side), strict=False)]
    if len(names) != 1 or len(shape) != 4 or not all(fits):
        needed = f"one input (1, 3, {side}, {side}) or (h, w, 3)"
        described = {name: list(kind[1]) for name, kind in encoder.inputs.items()}
        raise InputError(f"{encoder.path} takes {described}; an encoder has {needed}. Other layouts: as a Python function")
    return False


def _check_decoder(decoder: Graph) -> None:
    known = {"image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"}
    unknown, missing = set(decoder.inputs) - known, {"image_embeddings", "point_labels"} - set(decoder.inputs)
    lacking = {"low_res_masks", "iou_predictions"} - set(decoder.outputs)
    if unknown or missing or lacking:
        has = f"inputs {list(decoder.inputs)} and outputs {list(decoder.outputs)}"
        raise InputError(f"{decoder.path} has the {has}; those of upstream's export are needed. Other layouts: as a function")


def _check_choice(decoder: Graph, points: int, three: bool) -> None:
    """A decoder exported with --return-single-mask gives upstream's choice: the single mask from CHOOSES points on, else the best
    of the three. Raises InputError where the case asks for the other, which it never shows."""
    if three and points >= CHOOSES:
        instead = "the single mask: export it without --return-single-mask, or ask for a single mask (--single)"
    elif not three and points < CHOOSES:
        instead = "the best of the three: export it without --return-single-mask, or leave --single out"
    else:
        return
    counted = f"with {points} points, corners of a box and padding included, that is {instead}"
    raise InputError(f"{decoder.path} gives only the mask that it chose; {counted}")


def files(words: Sequence[str]) -> list[Path]:
    """The ONNX files that are meant: those named, or all in the folder that is named."""
    paths = [Path(word) for word in words]
    if len(paths) == 1 and paths[0].is_dir():
        return [path for path in visible(paths[0]) if path.suffix.lower() == ".onnx"]
    return paths


def is_onnx(words: tuple[str, ...]) -> bool:
    """Files that end in .onnx, or a folder with some."""
    found = files(words)
    return bool(found) and all(path.suffix.lower() == ".onnx" and path.is_file() for path in found)


def open_onnx(
    words: tuple[str, ...],
    *,
    model: MobileSam,
    precision: str | None,
    layout: Layout = "upstream",
    threads: int | None = None,
) -> OnnxPort:
    """One or two files, in any order, or the folder that they are in."""
    graphs = [open_graph(path, threads) for path in files(words)]
    decoders, encoders = ([g for g in graphs if g.is_decoder is which] for which in (True, False))
    if len(decoders) > 1 or len(encoders) > 1 or not graphs:
        names = ", ".join(str(graph.path) for graph in graphs) or "none"
        raise InputError(f"an encoder and a decoder are needed, or one of them; there are {len(graphs)} files: {names}")
    return OnnxPort(next(iter(encoders), None), next(iter(decoders), None), model, precision, layout)
