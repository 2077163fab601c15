"""Runs packages of MobileSAM that somebody publishes without weight.bin, and holds them against refsam:

    python tests/coreml/shipped.py FOLDER

FOLDER has ImageEncoder, PromptEncoder and MaskDecoder.mlpackage. Copies get seeded random weights in the places that the programs
name. refsam reads these out again (refsam.coreml.weights), and its own model runs with them on the same picture and points. Such
programs are other people's, so none is kept here; docs/coreml.md says what came of the six that were tried.
"""

import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from math import isqrt, prod
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from standin import standin_weights  # noqa: E402

from refsam import MobileSam, backends  # noqa: E402
from refsam.config import Config  # noqa: E402
from refsam.coreml import load  # noqa: E402
from refsam.coreml.app_parts import ModelParts, PackageParts  # noqa: E402
from refsam.coreml.blob import ALIGNMENT, ELEMENT_TYPES, HEADER, RECORD, SENTINEL, VERSION  # noqa: E402
from refsam.coreml.export import PACKAGES  # noqa: E402
from refsam.coreml.mil import Program  # noqa: E402
from refsam.coreml.types import Blob  # noqa: E402
from refsam.coreml.weights import recover  # noqa: E402
from refsam.coreml.weights_file import prove  # noqa: E402
from refsam.figures import relative_l2  # noqa: E402
from refsam.masks import iou  # noqa: E402
from refsam.ops.attention import attention_bias_index  # noqa: E402

POINTS = 100
Use = tuple[str, str]
"""Operation and parameter."""


def main(folder: Path) -> None:
    """Print how far each output is from refsam's: the programs in float32, then as they are typed."""
    config = Config()
    with tempfile.TemporaryDirectory() as scratch:
        programs = {part: filled(folder / name, Path(scratch) / name) for part, name in PACKAGES.items()}
        recovered = recover(programs, standin_weights(config), config)
        model = MobileSam(recovered.tensors, config, backends.create("fast", None), "float32")
        for output, distance in prove(programs, model).items():
            print(f"fp32   {output}: relative L2 {distance:.1e}")
        for line in as_typed(ModelParts(model), PackageParts(programs, model.image_pe)):
            print(line)


def as_typed(ours: ModelParts, theirs: PackageParts) -> Iterator[str]:
    """One line for each output, from the picture on, with a hundred points."""
    rng = np.random.RandomState(1)
    picture = rng.normal(0, 1, (1, 3, ours.image_size, ours.image_size)).astype(np.float32)
    points = rng.uniform(0, ours.image_size, (1, POINTS, 2)).astype(np.float32)
    labels = np.resize(np.float32([1, 0, -1, 1]), (1, POINTS))
    results = []
    for parts in (ours, theirs):
        embeddings, prompt = parts.encode(picture), parts.embed(points, labels)
        results.append((embeddings, prompt[0], *parts.decode(embeddings, *prompt)))
    for name, exact, found in zip(("embedding", "sparse", "masks", "scores"), *results, strict=True):
        flipped = f", IoU of each {[round(iou(a > 0, b > 0), 4) for a, b in zip(exact[0], found[0], strict=True)]}"
        yield f"typed  {name}: relative L2 {relative_l2(exact, found):.1e}{flipped if name == 'masks' else ''}"


def filled(source: Path, target: Path) -> Program:
    """A copy of the package whose weight.bin has a random number for every number that the program reads there."""
    shutil.copytree(source, target)
    program = load(target)
    uses: dict[str, Use] = {}
    alone = sum(op.type == "linear" for op in program.ops) == 1  # the prompt encoder's, which projects positions
    for op in program.ops:
        kind = "projection" if alone and op.type == "linear" else op.type
        uses |= {a: (kind, parameter) for parameter, group in op.inputs.items() for a in group if isinstance(a, str)}
    rng, files = np.random.RandomState(0), defaultdict(bytearray)
    for op in program.ops:
        for blob in (value for value in op.attributes.values() if isinstance(value, Blob)):
            values = number_for(uses.get(op.name, ("", "")), blob.type.shape, rng).astype(blob.type.dtype.replace("fp", "float"))
            write(files[blob.file], blob, values.tobytes())
    (model,) = target.rglob("*.mlmodel")
    for name, content in files.items():
        path = model.parent / name.removeprefix("@model_path/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return load(target)


def number_for(use: Use, shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    """Random numbers such as a trained model has in this place; the last axes of biases and embeddings keep their symmetry."""
    operation, parameter = use
    if parameter in ("mean", "variance"):  # of the batch_norm that converters make of LayerNorm2d's last step
        return np.full(shape, float(parameter == "variance"))
    if parameter == "gamma":
        return rng.uniform(0.7, 1.3, shape)
    if operation == "projection":  # upstream's has no bias
        return rng.normal(0, float(parameter == "weight"), shape)
    if parameter == "weight":
        inputs = shape[0] if operation == "conv_transpose" else prod(shape[1:])
        return rng.normal(0, (1.5 / inputs) ** 0.5, shape)
    if operation == "add" and len(shape) >= 3:
        index = attention_bias_index(isqrt(shape[-1]))
        return rng.normal(0, 0.5, (prod(shape[:-2]), shape[-1]))[:, index].reshape(shape)
    if len(shape) == 4:  # one embedding for every place
        return np.broadcast_to(rng.normal(0, 1, (1, shape[1], 1, 1)), shape)
    return rng.normal(0, 0.1 if parameter in ("bias", "beta") else 1, shape)


def write(content: bytearray, blob: Blob, data: bytes) -> None:
    """The tensor's record where the program says it is, its data behind that."""
    content.extend(bytes(max(0, blob.offset + ALIGNMENT + len(data) - len(content))))
    code = next(code for code, name in ELEMENT_TYPES.items() if name == blob.type.dtype)
    RECORD.pack_into(content, blob.offset, SENTINEL, code, len(data), blob.offset + ALIGNMENT, 0)
    content[blob.offset + ALIGNMENT : blob.offset + ALIGNMENT + len(data)] = data
    HEADER.pack_into(content, 0, HEADER.unpack_from(content)[0] + 1, VERSION)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
