"""The cases that goldens are made of: weights, a picture, prompts. make.py runs upstream on them, test_golden.py us."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from standin import TINY, standin_weights

from refsam import checkpoint, resources
from refsam.checkpoint import Checkpoint
from refsam.config import MOBILE_SAM, Config

FOLDER = Path(__file__).parent
SAMPLES = 24
"""How many values of each stage a golden keeps, evenly spread over the flattened tensor; its norm is kept too."""


@dataclass(frozen=True)
class Case:
    """One picture of height x width, and named prompts in image pixels (arguments of `SamPredictor.predict`)."""

    name: str
    config: Config
    size: tuple[int, int]
    prompts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """Random ones, but for the demo model, which has been trained."""
        return dict(demo().tensors) if self.name.startswith("demo") else standin_weights(self.config)

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.safetensors"


def demo() -> Checkpoint:
    """The trained model in the repository."""
    return checkpoint.load(resources.path("weights", "demo.safetensors"))


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 with soft gradients, hard edges and noise, from integers alone, so that it is the same everywhere."""
    rng = np.random.RandomState(seed)  # its stream is frozen, the Generator's is not
    y, x = np.mgrid[: size[0], : size[1]]
    layers = [(y * a + x * b) * 255 // (size[0] * a + size[1] * b) for a, b in ((1, 2), (3, 1), (2, 2))]
    image = np.stack(layers, axis=-1)
    for _ in range(12):
        (y0, x0), (h, w) = rng.randint(0, size), rng.randint(1, [n // 3 + 2 for n in size])
        image[y0 : y0 + h, x0 : x0 + w] = rng.randint(0, 256, 3)
    return np.clip(image + rng.randint(-12, 13, image.shape), 0, 255).astype(np.uint8)


def mask_prompt(side: int) -> np.ndarray:
    """(1, side, side) float32 logits: a square, positive inside."""
    logits = np.full((1, side, side), -6.0, np.float32)
    logits[:, side // 4 : side // 2, side // 3 : side // 2] = 6.5
    return logits


def _every_kind(width: int, height: int, side: int) -> dict[str, dict[str, Any]]:
    """Each kind of prompt, at places given as parts of the picture."""

    def at(*parts: tuple[float, float]) -> list[list[float]]:
        return [[fx * width, fy * height] for fx, fy in parts]

    point = {"point_coords": at((0.4, 0.6)), "point_labels": [1]}
    points = {"point_coords": at((0.4, 0.6), (0.8, 0.2), (0.45, 0.5)), "point_labels": [1, 0, 1]}
    box = {"box": [0.2 * width, 0.3 * height, 0.7 * width, 0.9 * height]}
    mask = {"mask_input": mask_prompt(side)}
    return {
        "point": point, "points": points, "box": {**box, "multimask_output": False}, "box-point": {**box, **point},
        "mask": mask, "all": {**points, **box, **mask}, "none": {},
    }  # fmt: skip


def _case(name: str, config: Config, size: tuple[int, int], kinds: tuple[str, ...]) -> Case:
    prompts = _every_kind(size[1], size[0], config.mask_size)
    return Case(name, config, size, {kind: prompts[kind] for kind in kinds})


ALL_KINDS = ("point", "points", "box", "box-point", "mask", "all", "none")
CASES = {
    case.name: case
    for case in (
        _case("mobile_sam-landscape", MOBILE_SAM, (427, 640), ("point", "box")),
        _case("mobile_sam-portrait", MOBILE_SAM, (1237, 811), ("all",)),
        _case("demo-landscape", demo().config, (427, 640), ALL_KINDS),
        _case("tiny-landscape", TINY, (48, 77), ALL_KINDS),
        _case("tiny-portrait", TINY, (131, 50), ("points", "mask")),
        _case("tiny-odd", TINY, (63, 64), ("point", "all")),
        _case("tiny-pixel", TINY, (1, 1), ("point",)),
        _case("tiny-sliver", TINY, (3, 150), ("box-point",)),
    )
}


@dataclass(frozen=True)
class Golden:
    """What upstream computed: for each stage its shape, norm and samples in float64, and the error of upstream's own float32."""

    metadata: dict[str, str]
    samples: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    stages: dict[str, dict[str, Any]]


def load(case: Case) -> Golden:
    """The golden of a case."""
    with safe_open(case.path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    stages = json.loads(metadata["stages"])
    values = iter(tensors.pop("samples"))
    samples = {name: np.array([next(values) for _ in range(stage["count"])]) for name, stage in stages.items()}
    return Golden(metadata, samples, tensors, stages)


def sample(x: np.ndarray) -> np.ndarray:
    """The values of a tensor that a golden keeps."""
    flat = np.asarray(x).reshape(-1)
    return flat[np.unique(np.linspace(0, flat.size - 1, SAMPLES).astype(int))].astype(np.float64) if flat.size else flat


@dataclass(frozen=True)
class Everything:
    """A picture for the demo model's everything mode, and the generator's options: thresholds that let some masks pass."""

    name: str
    size: tuple[int, int]
    options: dict[str, Any]

    @property
    def path(self) -> Path:
        return FOLDER / f"everything-{self.name}.json"


_RELAXED = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.5, "stability_score_offset": 0.15, "output_mode": "coco_rle"}
EVERYTHING = {
    case.name: case
    for case in (
        Everything("grid", (300, 400), {"points_per_side": 12, **_RELAXED}),
        Everything(
            "crops",
            (301, 397),
            {
                "points_per_side": 12,
                "crop_n_layers": 1,
                "crop_n_points_downscale_factor": 2,
                "min_mask_region_area": 60,
                **_RELAXED,
            },
        ),
    )
}
