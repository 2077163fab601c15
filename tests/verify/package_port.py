"""Core ML packages as a port: the three that refsam exports of the tiny model, run by the interpreter.

(Those that torch's converter makes are not without fault: it gives LayerNorm2d another epsilon.)
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from coreml.exported import packages
from coreml.faults import Fault, faulty_package
from coreml.packages import CONFIG
from standin import standin_weights
from verify.mistaken import cases

from refsam import MobileSam, coreml, transforms
from refsam.coreml.mil import Program
from refsam.verify.ports.coreml import CoreMLPort
from refsam.verify.reference import Case, Reference

SHOWN = (
    "input_image", "image_encoder", "prompt_encoder.sparse_prompt_embeddings", "prompt_encoder.dense_prompt_embeddings",
    "low_res_masks", "iou_predictions", "masks",
)  # fmt: skip
PRECISIONS = {"fp32": "float32", "fp16": "fp16"}


@cache
def model() -> MobileSam:
    return MobileSam(standin_weights(CONFIG), CONFIG, dtype="float64")


@cache
def reference(name: str) -> Reference:
    return Reference(model(), cases(CONFIG)[name], SHOWN)


def programs(folder: Path, stored: str) -> dict[str, Program]:
    """Part -> program; the packages are written below `folder`."""
    return {part: coreml.load(path) for part, path in packages(folder, stored).items()}


def int8_programs(folder: Path) -> dict[str, Program]:
    """The float16 packages with weights that coremltools made int8; written below `folder`."""
    import coremltools as ct
    from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights

    config, found = OptimizationConfig(OpLinearQuantizerConfig(mode="linear_symmetric")), {}
    for part, path in packages(folder, "fp16").items():
        target = folder / f"int8-{path.name}"
        linear_quantize_weights(ct.models.MLModel(str(path), skip_model_load=True), config).save(str(target))
        found[part] = coreml.load(target)
    return found


def run(port: Mapping[str, Program], case: Case, arithmetic: str | None = None) -> dict[str, np.ndarray]:
    """What packages show: their inputs and outputs, and the masks made of them as the reference does.

    Args:
        arithmetic: see `Program.run`; None as they are typed.
    """
    packages_as_port = CoreMLPort(port, port, model())
    packages_as_port.parts.precision = arithmetic
    found = dict(packages_as_port.run(case, SHOWN))
    side = CONFIG.image_size
    low = np.asarray(found["low_res_masks"], np.float32)
    masks = transforms.postprocess_masks(low, transforms.resized_size(case.size, side), case.size, side)
    return {**found, "masks": masks}


PARAMETERS = {
    "conv": ("weight", "bias"), "linear": ("weight", "bias"), "layer_norm": ("gamma", "beta"),
    "conv_transpose": ("weight", "bias"), "add": ("y",), "mul": ("y",), "batch_norm": ("gamma", "beta", "mean", "variance"),
}  # fmt: skip
CHANGES: dict[str, Any] = {
    "negated": lambda x: -x,
    "zero": lambda x: 0 * x,
    "twice as large": lambda x: 2 * x,
    "2 % too large": lambda x: x * x.dtype.type(1.02),
    "reversed": lambda x: x[::-1] if x.ndim else 1 / x,
    "moved by one": lambda x: np.roll(x, 1),
    "with its last two axes exchanged": lambda x: x.swapaxes(-1, -2).reshape(x.shape) if x.ndim > 1 else -x,
    "with one number gone": lambda x: x * (np.arange(x.size) != x.size // 2).reshape(x.shape),
}


def draw(seed: int, count: int, sources: Mapping[str, Mapping[str, Program]]) -> list[tuple[str, str, Fault]]:
    """(case, weights' type, fault): an operation with constants, each as likely as another, one of its constants, a change."""
    rng = np.random.RandomState(seed)
    found = []
    while len(found) < count:
        stored = rng.choice(list(PRECISIONS))
        part = rng.choice(list(sources[stored]))
        program = sources[stored][part]
        constants = {op.name for op in program.ops if op.type == "const"}
        ops = [op for op in program.ops if op.type in PARAMETERS]
        op = ops[rng.randint(len(ops))]
        parameter = rng.choice(PARAMETERS[op.type])
        alike = [o for o in program.ops if o.type == op.type and parameter in o.inputs]
        if parameter == "y":
            alike = [o for o in alike if o.inputs["y"][0] in constants]
        if op not in alike or op.inputs[parameter][0] not in constants:
            continue
        said = rng.choice(list(CHANGES))
        fault = Fault(f"{op.type} {op.name}: {parameter} {said}", part, op.type, alike.index(op), parameter, CHANGES[said])
        found.append((str(rng.choice(["points", "portrait"])), str(stored), fault))
    return found


def faulty(port: Mapping[str, Program], fault: Fault, folder: Path) -> dict[str, Program]:
    """The port with one package changed in its bytes."""
    program, _ = faulty_package(Path(port[fault.part].path), folder, fault)
    return {**port, fault.part: program}
