"""Makes the goldens with upstream's torch code; needs the `peer` extra.  Run: python tests/golden/make.py [NAME ...]

For each case: its weights go into upstream's model, in float32 as it is and in float64 (tests/peer.py says what that
takes); every stage's float64 values are kept as samples and a norm, beside the relative L2 error of upstream's float32.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
warnings.simplefilter("ignore")

import peer  # noqa: E402 - after the path is set
import PIL  # noqa: E402
import torch  # noqa: E402
from golden.cases import CASES, EVERYTHING, Case, Everything, demo, picture, sample  # noqa: E402
from mobile_sam import SamAutomaticMaskGenerator, automatic_mask_generator  # noqa: E402
from mobile_sam.utils.transforms import ResizeLongestSide  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from standin import weights_sha256  # noqa: E402


def main(names: list[str]) -> None:
    """Write the goldens of these cases, of all where none is named."""
    for name in names or [*CASES, *(f"everything-{name}" for name in EVERYTHING)]:
        if name.startswith("everything-"):
            make_everything(EVERYTHING[name.removeprefix("everything-")])
        else:
            make(CASES[name])


def make(case: Case) -> None:
    """Write one golden. float64 goes first and is kept; float32 is compared stage by stage as it comes, and not kept."""
    weights = case.weights
    double: dict[str, np.ndarray] = {}
    resized = run(case, weights, torch.float64, double.__setitem__)
    stages, tensors = {}, {"samples": np.concatenate([sample(value) for value in double.values()])}

    def compare(name: str, single: np.ndarray) -> None:
        stages[name] = describe(single, double[name])
        if name.endswith("/masks"):
            tensors[name] = np.packbits(single > 0)

    run(case, weights, torch.float32, compare)
    metadata = {
        "stages": json.dumps(stages),
        "weights_sha256": weights_sha256(weights),
        "picture_sha256": digest(picture(case.size)),
        "resized_sha256": digest(resized),
        "made_with": f"torch {torch.__version__}, numpy {np.__version__}, pillow {PIL.__version__}, mobilesam-mirror 1.0.0",
    }
    save_file(tensors, case.path, metadata)
    print(f"{case.path.name}: {len(stages)} stages, {case.path.stat().st_size / 1024:.0f} KiB", flush=True)


def make_everything(case: Everything) -> None:
    """Write the records of upstream's generator in float32, and how far its scores are from float64's, where both found one."""
    weights = dict(demo().tensors)
    single, double = (everything(case, weights, dtype) for dtype in (torch.float32, torch.float64))
    pairs = [(a, b) for a in single for b in double if (a["point_coords"], a["bbox"]) == (b["point_coords"], b["bbox"])]
    budget = {score: max(abs(a[score] - b[score]) for a, b in pairs) for score in ("predicted_iou", "stability_score")}
    document = {
        "weights_sha256": weights_sha256(weights),
        "picture_sha256": digest(picture(case.size)),
        "made_with": f"torch {torch.__version__}, numpy {np.__version__}, pillow {PIL.__version__}, mobilesam-mirror 1.0.0",
        "float32_error": budget,
        "records": single,
    }
    case.path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{case.path.name}: {len(single)} records, {len(double)} in float64, {len(pairs)} paired; {budget}", flush=True)


def everything(case: Everything, weights: dict[str, np.ndarray], dtype: torch.dtype) -> list[dict[str, Any]]:
    """What upstream's generator returns, with the transform of the demo model's smaller input."""
    generator = SamAutomaticMaskGenerator(peer.upstream(demo().config, weights, dtype), **case.options)
    generator.predictor.transform = ResizeLongestSide(demo().config.image_size)
    suppress = automatic_mask_generator.batched_nms

    def in_float32(boxes: torch.Tensor, scores: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        """It takes boxes and scores of one dtype only, and upstream makes the boxes float32."""
        return suppress(boxes, scores.float(), *rest, **options)

    with mock.patch.object(automatic_mask_generator, "batched_nms", in_float32):
        return generator.generate(picture(case.size))


def run(case: Case, weights: dict[str, np.ndarray], dtype: torch.dtype, keep: peer.Keep) -> np.ndarray:
    """Give `keep` all stages of all prompts, the encoder's under their own names, the others as PROMPT/NAME; return the picture
    as resized."""
    sam, transform = peer.upstream(case.config, weights, dtype), ResizeLongestSide(case.config.image_size)
    resized = transform.apply_image(picture(case.size))
    as_tensor = torch.as_tensor(resized).permute(2, 0, 1)[None]
    # The float64 model begins with the float32 input picture, as ours does: mean and std are float32 numbers.
    input_image = peer.upstream(case.config, weights).preprocess(as_tensor).numpy()
    keep("input_image", input_image)
    with peer.hooked(sam, keep):
        embedding = peer.encode(sam, input_image)
    for kind, prompt in case.prompts.items():
        with peer.hooked(sam, lambda name, value, kind=kind: keep(f"{kind}/{name}", value)):
            prompts = batched(prompt, transform, case.size)
            low_res_masks, _ = peer.decode(sam, embedding, prompts, prompt.get("multimask_output", True))
        logits = sam.postprocess_masks(torch.from_numpy(low_res_masks), resized.shape[:2], case.size)
        keep(f"{kind}/masks", logits.numpy())
    return resized


def batched(prompt: dict[str, Any], transform: ResizeLongestSide, size: tuple[int, int]) -> dict[str, Any]:
    """A prompt in image pixels as a batch of one in the input frame, as upstream's predict makes it."""
    result: dict[str, Any] = {}
    if "point_coords" in prompt:
        coords = transform.apply_coords(np.array(prompt["point_coords"]), size)
        result["points"] = (coords[None], np.array(prompt["point_labels"])[None])
    if "box" in prompt:
        result["boxes"] = transform.apply_boxes(np.array(prompt["box"]), size)
    if "mask_input" in prompt:
        result["masks"] = prompt["mask_input"][None]
    return result


def describe(single: np.ndarray, double: np.ndarray) -> dict[str, Any]:
    """Shape, norm, number of samples, relative L2 error of float32."""
    norm = float(np.linalg.norm(double.astype(np.float64)))
    error = float(np.linalg.norm(single.astype(np.float64) - double)) / norm if norm else 0.0
    return {"shape": list(double.shape), "norm": norm, "count": len(sample(double)), "float32_error": error}


def digest(array: np.ndarray) -> str:
    """sha256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
