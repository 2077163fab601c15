"""The scores of the demo model: `python -m weights.train.evaluate WEIGHTS [--scenes 100] [--json FILE] [--against OTHER]`.

WEIGHTS is weights/demo.safetensors, or any file that refsam opens, and refsam computes; or a training checkpoint (.pt), which
needs torch. --against says how far the masks of OTHER are the same, such as of the checkpoint that was exported in float16.

Scenes are procedural with seeds below 10,000 (training starts at 1,000,000) and no photographs in them; photographs are those
under tests/data/photos, none of them trained on. Each score comes with its standard error. Any model that can `embed` a picture
and `predict` from prompts can be scored (`Segmenter`). "ellipse" and "photo_ellipse" are the scores of the ellipse that fills a
box, which takes no look at the picture; "eroded" of the objects themselves without their outermost pixels: what an edge that is
one pixel off costs.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .eval_photos import Photo, held_out_photos
from .painter import SIZE
from .prompts import bounds, inner_point
from .scenes import HELD_OUT_SEEDS, Scene, scene

MIN_SHARE = 0.004  # of the picture: smaller objects (262 of 256 x 256 pixels) are not asked for
OBJECTS_PER_SCENE = 6
CORRECTIONS = 4
BOUNDS = {
    "click": (0.78, 0.90),
    "box": (0.85, 0.94),
    "corrected": (0.86, 0.95),
    "photo_box": (0.70, 0.85),
    "correlation": (0.6, 0.85),
}

Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Prompt(NamedTuple):
    """One prompt in pixels of the picture given to `embed`; L is the side of the model's logits, a quarter of its input's."""

    clicks: NDArray[np.float32] = np.zeros((0, 2), np.float32)  # (K, 2) xy
    labels: NDArray[np.float32] = np.zeros(0, np.float32)  # (K,) 1 on the object, 0 beside it
    box: NDArray[np.float32] | None = None  # (4,) xyxy
    mask: Logits | None = None  # (L, L)


class Segmenter(Protocol):
    """What is scored."""

    def embed(self, image: NDArray[np.uint8]) -> object:
        """Embed a picture (h, w, 3) of any size."""

    def predict(self, embedding: object, prompt: Prompt, several: bool) -> tuple[Logits, NDArray[np.float32]]:
        """Logits (3, L, L) and predicted IoUs (3,) if `several`, else of the single mask (1, ...), (1,)."""


def full_size(logits: Logits, height: int, width: int) -> Mask:
    """Upstream's postprocessing: low-resolution logits (L, L) -> mask (height, width)."""
    size = 4 * len(logits)
    scale = size / max(height, width)
    h, w = int(height * scale + 0.5), int(width * scale + 0.5)
    square = cv2.resize(logits, (size, size), interpolation=cv2.INTER_LINEAR)[:h, :w]
    return cv2.resize(square, (width, height), interpolation=cv2.INTER_LINEAR) > 0


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))


class Click(NamedTuple):
    """What one click gave: per mask its predicted IoU and its IoU with the best-fitting legal answer."""

    predicted: NDArray[np.float32]  # (3,)
    true: NDArray[np.float64]  # (3,)
    logits: Logits  # of the mask that the model ranks first

    @property
    def chosen(self) -> float:
        """The true IoU of the mask that the model ranks first."""
        return float(self.true[self.predicted.argmax()])


def one_click(model: Segmenter, embedding: object, at: tuple[int, int], legal: list[Mask]) -> Click:
    """Three masks for one click at (x, y), scored against the legal answers."""
    prompt = Prompt(np.float32([at]), np.ones(1, np.float32))
    logits, predicted = model.predict(embedding, prompt, several=True)
    true = np.array([max(iou(full_size(one, SIZE, SIZE), m) for m in legal) for one in logits])
    return Click(predicted, true, logits[predicted.argmax()])


def deepest(area: Mask) -> tuple[int, int]:
    """The (x, y) of a mask that is farthest from its edge."""
    depth = cv2.distanceTransform(np.pad(area, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y)


def corrected(model: Segmenter, embedding: object, at: tuple[int, int], logits: Logits, target: Mask) -> list[float]:
    """IoU with the object after the first click and after each correction (CORRECTIONS + 1 values)."""
    clicks, labels = [at], [1.0]
    mask = full_size(logits, SIZE, SIZE)
    scores = [iou(mask, target)]
    for _ in range(CORRECTIONS):
        if (mask != target).any():
            x, y = deepest(mask != target)
            clicks, labels = [*clicks, (x, y)], [*labels, float(target[y, x])]
            logits = model.predict(embedding, Prompt(np.float32(clicks), np.float32(labels), None, logits), several=False)[0][0]
            mask = full_size(logits, SIZE, SIZE)
        scores.append(iou(mask, target))
    return scores


def boxed(model: Segmenter, embedding: object, box: NDArray[np.float32]) -> Logits:
    """Logits of the single mask for a box."""
    return model.predict(embedding, Prompt(box=box), several=False)[0][0]


def ellipse(box: NDArray[np.float32], height: int, width: int) -> Mask:
    """The mask (height, width) of the ellipse that fills a box xyxy: its pixels' centres."""
    centre, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def eroded(mask: Mask) -> Mask:
    """The mask without the pixels that have a neighbour (of eight) outside it; the picture's border is no edge."""
    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def asked_objects(rng: Generator, s: Scene) -> list[int]:
    """At most OBJECTS_PER_SCENE objects that are large enough, in random order."""
    large = [o for o in s.objects() if s.mask_of(0, o).mean() >= MIN_SHARE]
    return [large[i] for i in rng.permutation(len(large))[:OBJECTS_PER_SCENE]]


def score_scene(model: Segmenter, seed: int) -> Iterator[dict[str, object]]:
    """One row per object of the scene with that seed."""
    s, rng = scene(seed), np.random.default_rng(seed)
    embedding = model.embed(s.image)
    for number in asked_objects(rng, s):
        target = s.mask_of(0, number)
        x, y = inner_point(rng, target)
        click = one_click(model, embedding, (x, y), s.levels(int(s.leaves[y, x])))
        around = bounds(target)
        box = iou(full_size(boxed(model, embedding, around), SIZE, SIZE), target)
        rounds = corrected(model, embedding, (x, y), click.logits, target)
        yield {"seed": seed, "click": click.chosen, "best": float(click.true.max()), "box": box, "rounds": rounds,
               "corrected": rounds[-1], "ellipse": iou(ellipse(around, SIZE, SIZE), target),
               "eroded": iou(eroded(target), target), "predicted": click.predicted.tolist(),
               "true": click.true.tolist()}  # fmt: skip


def score_photo(model: Segmenter, photo: Photo) -> Iterator[dict[str, object]]:
    """One row per object of a held-out photograph."""
    embedding = model.embed(photo.image)
    for name, mask in photo.masks.items():
        around = bounds(mask)
        found = full_size(boxed(model, embedding, around), *mask.shape)
        yield {"photo": photo.name, "object": name, "photo_box": iou(found, mask),
               "photo_ellipse": iou(ellipse(around, *mask.shape), mask)}  # fmt: skip


def scene_means(rows: list[dict]) -> dict[str, float]:
    """The scores of objects in scenes."""
    keys = "click", "best", "box", "corrected", "ellipse", "eroded"
    predicted, true = (np.concatenate([r[key] for r in rows]) for key in ("predicted", "true"))
    correlation = float(np.corrcoef(predicted, true)[0, 1])
    return {**{key: float(np.mean([r[key] for r in rows])) for key in keys}, "correlation": correlation}


def photo_means(rows: list[dict]) -> dict[str, float]:
    """The scores of objects in photographs; of none there are none."""
    return {key: float(np.mean([r[key] for r in rows])) for key in ("photo_box", "photo_ellipse") if rows}


def summary(scenes: list[dict], photos: list[dict]) -> dict[str, object]:
    """The scores, and how many of everything they are of."""
    means = {key: round(value, 4) for key, value in (scene_means(scenes) | photo_means(photos)).items()}
    rounds = np.mean([r["rounds"] for r in scenes], 0).round(4).tolist()
    counts = {"objects": len(scenes), "photo_objects": len(photos), "photos": len({r["photo"] for r in photos})}
    return {**means, "rounds": rounds, **counts}


def jackknife(rows: list[dict], picture: str, means: Callable[[list[dict]], dict[str, float]]) -> dict[str, float]:
    """Standard errors of `means`: how far they wander when the rows of one `picture` at a time ("seed", "photo") are left out.

    A picture, not an object, as objects of one picture are alike. Of fewer than two pictures nothing can be said.
    """
    pictures = {r[picture] for r in rows}
    if len(pictures) < 2:
        return {}
    without = [means([r for r in rows if r[picture] != one]) for one in pictures]
    return {key: round(float(np.sqrt(len(pictures) - 1) * np.std([each[key] for each in without])), 4) for key in without[0]}


def standard_errors(scenes: list[dict], photos: list[dict]) -> dict[str, float]:
    """Of each score, since it is of so few pictures."""
    return jackknife(scenes, "seed", scene_means) | jackknife(photos, "photo", photo_means)


def evaluate(model: Segmenter, scenes: int, photos: list[Photo]) -> tuple[dict[str, object], list[dict], list[dict]]:
    """Scores, and the rows behind them, on held-out seeds 0 .. scenes - 1 and on the photographs."""
    if scenes > HELD_OUT_SEEDS:
        raise ValueError(f"seeds from {HELD_OUT_SEEDS} on are not held out; asked for {scenes} scenes")
    rows = [row for seed in range(scenes) for row in score_scene(model, seed)]
    photo_rows = [row for photo in photos for row in score_photo(model, photo)]
    return summary(rows, photo_rows), rows, photo_rows


def table(scores: dict[str, object], errors: dict[str, float]) -> str:
    """The scores and their standard errors beside bounds and aims, as Markdown."""
    lines = ["| score | bound | aim | measured | standard error |", "|---|---|---|---|---|"]
    lines += [f"| {k} | {b:.2f} | {a:.2f} | {scores.get(k, 'none')} | {errors.get(k, 'none')} |" for k, (b, a) in BOUNDS.items()]
    return "\n".join(lines)


def agreement(one: Segmenter, other: Segmenter, photos: list[Photo]) -> float:
    """Mean IoU of the masks that two models give for the boxes of the photographs' objects."""
    same = []
    for photo in photos:
        embeddings = [model.embed(photo.image) for model in (one, other)]
        for mask in photo.masks.values():
            pair = [boxed(m, e, bounds(mask)) for m, e in zip((one, other), embeddings, strict=True)]
            same.append(iou(*(full_size(logits, *mask.shape) for logits in pair)))
    return float(np.mean(same))


def opened(path: Path) -> Segmenter:
    """The model in a weights file, on refsam, or in a training checkpoint, on torch."""
    if path.suffix == ".pt":
        from .stored import stored
        from .torch_segmenter import TorchSegmenter

        return TorchSegmenter(stored(path)[0])
    import refsam

    from .numpy_segmenter import NumpySegmenter

    return NumpySegmenter(refsam.load(path))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path)
    args = parser.parse_args()
    model, photos = opened(args.weights), held_out_photos()
    if args.against:
        print(f"mean IoU of the masks of both, from boxes: {agreement(model, opened(args.against), photos):.4f}")
        return
    scores, rows, photo_rows = evaluate(model, args.scenes, photos)
    errors = standard_errors(rows, photo_rows)
    print(table(scores, errors), json.dumps(scores), sep="\n")
    if args.json:
        everything = {"scores": scores, "standard_errors": errors, "scenes": rows, "photos": photo_rows}
        args.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
