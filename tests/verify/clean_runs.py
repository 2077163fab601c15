"""Ports without a fault, in many ways of computing: none of them may be blamed for anything."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

if __name__ == "__main__":  # a child process, which runs with BLAS kernels of another processor
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from golden.cases import mask_prompt
from standin import TINY, standin_weights
from verify.mistaken import cases, picture

from refsam import MobileSam, Trace, backends
from refsam.config import Config
from refsam.ops import Ops
from refsam.verify.precision import PRECISIONS, Precision, at_precision, to_float32
from refsam.verify.reference import Case
from refsam.verify.steps import default_stages, encoder_steps

BLOCK = 16


class Way(NamedTuple):
    """One way to compute: what the port declares, and how it does it."""

    precision: str
    how: str


def model_of(way: Way, weights: Mapping[str, np.ndarray], config: Config) -> MobileSam:
    """A port that computes this way."""
    ops = backends.create("fast", int(way.how[-1])) if way.how.startswith("fast") else Ops()
    plain = MobileSam(weights, config, ops)
    if way.precision == "float32":
        return plain
    precision = PRECISIONS[way.precision]
    if way.how == "weights only":
        return at_precision(plain, Precision(way.precision, precision.unit, precision.weights, to_float32))
    if way.how == "sums stored too":
        plain = MobileSam(weights, config, InBlocks(precision.values))
    return at_precision(plain, precision)


class InBlocks(Ops):
    """Linear layers and convolutions whose sums are stored after every 16 inputs, as hardware without float32 sums does."""

    def __init__(self, values: Callable[[np.ndarray], np.ndarray]) -> None:
        self.values = values

    def linear(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        parts = [Ops.linear(x[..., i : i + BLOCK], weight[:, i : i + BLOCK], 0 * bias) for i in range(0, x.shape[-1], BLOCK)]
        return self._summed(parts) + bias

    def conv2d(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1, padding: int = 0
    ) -> np.ndarray:
        starts = range(0, x.shape[1], BLOCK)
        y = self._summed([Ops.conv2d(x[:, i : i + BLOCK], weight[:, i : i + BLOCK], None, stride, padding) for i in starts])
        return y if bias is None else y + bias[:, None, None]

    def _summed(self, parts: list[np.ndarray]) -> np.ndarray:
        total = self.values(parts[0])
        for part in parts[1:]:
            total = self.values(total + self.values(part))
        return total


WAYS = [
    *(Way("float32", how) for how in ("definition", "fast, threads 1", "fast, threads 2", "fast, threads 3")),
    *(Way("fp16", how) for how in ("weights only", "stored", "sums stored too")),
    *(Way("bf16", how) for how in ("weights only", "stored")),
    Way("int8", "weights only"),
    Way("int8-fp16", "stored"),
]
KERNELS = ("Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott")
IN_A_CHILD = [Way("float32", "definition"), Way("float32", "fast, threads 2"), Way("fp16", "stored")]


@cache
def more_cases(config: Config) -> dict[str, Case]:
    """Those of the known mistakes, and pictures that grow, are square, or are turned; no prompt at all; one mask."""
    side = config.image_size
    small, square = picture(side // 2, side * 3 // 4), picture(side, side)
    mask = {"mask_input": mask_prompt(config.mask_size), "multimask_output": False}
    return {
        **cases(config),
        "a small picture": Case(small, {"point_coords": [[side * 0.3, side * 0.2]], "point_labels": [1]}),
        "no prompt, a square picture": Case(square, {}),
        "a mask alone": Case(square, mask),
        "upside down, a box": Case(np.ascontiguousarray(square[::-1]), {"box": [side * 0.1, side * 0.2, side * 0.6, side * 0.7]}),
    }


def shown(way: Way, config: Config) -> list[str]:
    """All stages; of a fast port those between which it has functions of its own."""
    if not way.how.startswith("fast"):
        return default_stages(config)
    steps = [step.stage for step in encoder_steps(config)]
    return ["transforms.resized", "input_image", *steps, "low_res_masks", "iou_predictions", "masks"]


def run(way: Way, weights: Mapping[str, np.ndarray], config: Config, case: Case) -> dict[str, np.ndarray]:
    """What a port shows."""
    trace = case.run(model_of(way, weights, config), Trace(",".join(shown(way, config))))
    return dict(trace)


# --- other BLAS kernels -----------------------------------------------------------------------------------------------------


def in_child(kernel: str, names: list[str]) -> dict[tuple[Way, str], dict[str, np.ndarray]]:
    """The tiny model's stages for these cases, computed by a process whose OpenBLAS uses another processor's kernels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stages.npz"
        environment = {**os.environ, "OPENBLAS_CORETYPE": kernel}
        subprocess.run([sys.executable, __file__, str(path), *names], check=True, env=environment)
        with np.load(path) as file:
            found: dict[tuple[Way, str], dict[str, np.ndarray]] = {}
            for key in file.files:
                number, name, stage = key.split("|")
                found.setdefault((IN_A_CHILD[int(number)], name), {})[stage] = file[key]
            return found


def write_stages(path: str, names: list[str]) -> None:
    """What the child does."""
    arrays = {
        f"{number}|{name}|{stage}": value
        for number, way in enumerate(IN_A_CHILD)
        for name in names
        for stage, value in run(way, standin_weights(TINY), TINY, more_cases(TINY)[name]).items()
    }
    np.savez(path, **arrays)


if __name__ == "__main__":
    write_stages(sys.argv[1], sys.argv[2:])
