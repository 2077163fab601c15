"""From refsam's weights to the three .mlpackages of a MobileSAM app, without torch: `export`.

coremltools' MIL builder makes the programs (extra `coreml`); the graphs are in export_encoder.py and export_decoder.py.
"""

import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from refsam.config import Config
from refsam.coreml import export_package
from refsam.coreml.export_decoder import mask_decoder, prompt_encoder
from refsam.coreml.export_encoder import tiny_vit
from refsam.coreml.export_layers import Var, builder, coremltools
from refsam.errors import InputError
from refsam.model.sam import MobileSam
from refsam.scope import Scope

Part: TypeAlias = Literal["image_encoder", "prompt_encoder", "mask_decoder"]
Precision: TypeAlias = Literal["fp16", "fp32"]
Target: TypeAlias = Literal["iOS15", "iOS16", "iOS17", "iOS18"]
Naming: TypeAlias = Literal["article", "app"]

PACKAGES: dict[Part, str] = {
    "image_encoder": "ImageEncoder.mlpackage",
    "prompt_encoder": "PromptEncoder.mlpackage",
    "mask_decoder": "MaskDecoder.mlpackage",
}
"""Part -> the name of its package."""

MAX_POINTS = 100
"""The greatest number of points (tokens) that the packages take, as in the article."""


@dataclass(frozen=True)
class Interface:
    """The names of a package's inputs and outputs, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


INTERFACES: dict[Naming, dict[Part, Interface]] = {
    "article": {
        "image_encoder": Interface(("image",), ("imageEmbeddings",)),
        "prompt_encoder": Interface(("points", "labels"), ("sparsePromptEmbeddings", "densePromptEmbeddings")),
        "mask_decoder": Interface(
            ("imageEmbeddings", "imagePositionalEncoding", "sparsePromptEmbeddings", "densePromptEmbeddings"),
            ("masks", "iouPredictions"),
        ),
    },
    "app": {
        "image_encoder": Interface(("input",), ("output",)),
        "prompt_encoder": Interface(("points", "labels"), ("sparseEmbeddings", "denseEmbeddings")),
        "mask_decoder": Interface(
            ("imageEmbeddings", "imagePointEmbeddings", "sparsePromptEmbeddings", "densePromptEmbeddings"),
            ("masks", "iou_predictions"),
        ),
    },
}
"""The names in the article's conversion script, and those that the app's Swift classes have."""


def export(
    model: MobileSam,
    folder: Path,
    *,
    precision: Precision = "fp16",
    target: Target = "iOS15",
    names: Naming = "article",
    parts: tuple[Part, ...] = ("image_encoder", "prompt_encoder", "mask_decoder"),
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Path]:
    """Write the packages of `model` into `folder`, which is made where it is missing; older packages there are replaced.

    Args:
        precision: of weights and computation; inputs and outputs are float32 always, as the app reads them.
        target: the oldest system that runs them.
        names: the article's names of inputs and outputs, or the app's.
        parts: which of the three.
        progress: called with (packages done, packages in all).

    Returns:
        The packages. The same weights, versions and arguments give the same bytes.

    While it works, stderr, warnings and the log of the whole process are quiet: coremltools writes there what is not ours.

    Raises BackendUnavailable where coremltools is not installed; InputError where a package cannot be written.
    """
    coremltools_module()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    paths = [folder / PACKAGES[part] for part in parts]
    for path in paths:
        export_package.check_replaceable(path)
    for done, (part, path) in enumerate(zip(parts, paths, strict=True)):
        progress(done, len(paths))
        export_part(model, part, path, precision, target, INTERFACES[names][part])
    progress(len(paths), len(paths))
    return paths


def export_part(
    model: MobileSam, part: Part, path: Path, precision: Precision, target: Target, interface: Interface
) -> None:  # fmt: skip
    """Write one package."""
    with tempfile.TemporaryDirectory(prefix="refsam-") as scratch, quiet():
        program = build(model, part, target, interface)
        converted = _convert(program, precision, target, Path(scratch) / "converted.mlpackage")
        spec = converted.get_spec()
        _describe(spec, model, part)
        export_package.write(path, spec, Path(converted.weights_dir) / "weight.bin")


def coremltools_module() -> Any:
    """coremltools, imported without its remarks about versions of torch and parts that only a Mac has."""
    with quiet():
        return coremltools()


def build(model: MobileSam, part: Part, target: Target, interface: Interface) -> Any:
    """The MIL program of one part, in float32 and not yet optimised."""
    from coremltools.converters.mil.mil import Function, Program, get_new_symbol

    ct = coremltools()
    points = get_new_symbol()
    shapes = input_shapes(model.config, part, points)
    placeholders = {name: builder().placeholder(shape) for name, shape in zip(interface.inputs, shapes, strict=True)}
    program = Program()
    with Function(placeholders, opset_version=ct.target[target]) as function:
        outputs = _graph(model, part, [function.inputs[name] for name in interface.inputs])
        for output, name in zip(outputs, interface.outputs, strict=True):
            output.set_name(name)
        function.set_outputs(list(outputs))
        program.add_function("main", function)
    ranged = [tuple(ct.RangeDim(1, MAX_POINTS) if n is points else n for n in shape) for shape in shapes]
    types = [ct.TensorType(name=name, shape=shape) for name, shape in zip(interface.inputs, ranged, strict=True)]
    function.set_input_types(tuple(types))
    return program


def input_shapes(config: Config, part: Part, points: Any) -> list[tuple[Any, ...]]:
    """The shapes of a part's inputs, `points` standing for the number of points."""
    side, map_shape = config.image_size, (1, config.prompt_embed_dim, config.embedding_size, config.embedding_size)
    if part == "image_encoder":
        return [(1, 3, side, side)]
    if part == "prompt_encoder":
        return [(1, points, 2), (1, points)]
    return [map_shape, map_shape, (1, points, config.prompt_embed_dim), map_shape]


def _graph(model: MobileSam, part: Part, inputs: list[Var]) -> tuple[Var, ...]:
    s: Scope = model.scope / part
    if part == "image_encoder":
        return (tiny_vit(s, inputs[0], model.config),)
    if part == "prompt_encoder":
        return prompt_encoder(s, inputs[0], inputs[1], model.config)
    return mask_decoder(s, inputs[0], inputs[1], inputs[2], inputs[3], model.config)


def _convert(program: Any, precision: Precision, target: Target, package: Path) -> Any:
    """coremltools' model of a program: its passes fold constants and put in the casts of fp16."""
    ct = coremltools()
    return ct.convert(
        program,
        source="milinternal",
        convert_to="mlprogram",
        compute_precision={"fp16": ct.precision.FLOAT16, "fp32": ct.precision.FLOAT32}[precision],
        minimum_deployment_target=ct.target[target],
        skip_model_load=True,
        package_dir=str(package),
    )


def _describe(spec: Any, model: MobileSam, part: Part) -> None:
    """What Xcode shows, and what a later reader needs to know where the package came from."""
    from refsam import __version__

    spec.description.metadata.shortDescription = f"MobileSAM {part.replace('_', ' ')}"
    known = {"version": __version__, "part": part, "config": model.config.to_json(), "weights_sha256": model.weights_sha256}
    for key, value in known.items():
        spec.description.metadata.userDefined[f"refsam.{key}"] = value


@contextmanager
def quiet() -> Iterator[None]:
    """coremltools writes progress bars and remarks to stderr; neither is ours, and errors come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
