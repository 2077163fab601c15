"""Makes the masks of held-out photographs from hand-placed outlines.

`tests/data/photos/masks/<photo>.recipe.json` says, object by object, where an outline was put by eye and which
classical method moved it to the nearest edge. This script turns it into `<photo>.json` (run lengths) and `<photo>.jpg`
(a picture to look at):

    python weights/train/annotate.py tests/data/photos            # every photograph
    python weights/train/annotate.py tests/data/photos coffee     # one

A recipe is a list of objects, made in this order: `add` (shapes), `snap` (a method and a band in pixels), `plus`
(shapes), `also` (names of objects made before, added), `cut` (shapes taken away), `minus` (names, taken away).
A shape is `["path", [[x, y], ...]]` (closed and smooth; a point `[x, y, 1]` is a corner), `["poly", [[x, y], ...]]`
(closed and straight) or `["ellipse", cx, cy, rx, ry, degrees]`, in pixels; (0, 0) is the outer corner of the first one.
Snapping re-decides the pixels within the band around the outline: `grabcut` by colour, `water` by the strongest edge.
Needs opencv, scikit-image, scipy and pillow.
"""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.segmentation import watershed

Mask = np.ndarray
COLOURS = [(230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240)]


def smooth_path(points: list[list[float]], steps: int = 12) -> np.ndarray:
    """Closed Catmull-Rom curve through points; a third coordinate of 1 marks a corner."""
    xy = np.array([p[:2] for p in points], float)
    corner = [len(p) > 2 and bool(p[2]) for p in points]
    out, n = [], len(xy)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    for i in range(n):
        j = (i + 1) % n
        a, b = xy[i], xy[j]
        before = a if corner[i] else xy[i - 1]
        after = b if corner[j] else xy[(j + 1) % n]
        rise = 3 * t**2 - 2 * t**3
        slopes = (t**3 - 2 * t**2 + t) * (b - before) / 2 + (t**3 - t**2) * (after - a) / 2
        out.append((1 - rise) * a + rise * b + slopes)
    return np.concatenate(out)


def ellipse_path(cx: float, cy: float, rx: float, ry: float, degrees: float) -> np.ndarray:
    """Points of an ellipse turned clockwise on the screen by degrees."""
    t, a = np.linspace(0, 2 * np.pi, 180, endpoint=False), np.deg2rad(degrees)
    x, y = rx * np.cos(t), ry * np.sin(t)
    return np.stack([cx + x * np.cos(a) - y * np.sin(a), cy + x * np.sin(a) + y * np.cos(a)], 1)


def draw(shape: list[Any], size: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside a shape."""
    kind, *rest = shape
    outline = {"ellipse": ellipse_path, "path": smooth_path, "poly": lambda points: np.array(points, float)}[kind]
    return polygon2mask(size, outline(*rest)[:, ::-1] - 0.5)


def window(mask: Mask, pad: int) -> tuple[slice, slice]:
    """Bounding box of a mask, padded, as slices."""
    ys, xs = np.nonzero(mask)
    return slice(max(ys.min() - pad, 0), ys.max() + pad + 1), slice(max(xs.min() - pad, 0), xs.max() + pad + 1)


def snap_grabcut(image: np.ndarray, mask: Mask, band: float) -> Mask:
    """Re-decides the pixels within band of the outline by the colours on both sides."""
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    trimap = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[inside > band] = cv2.GC_FGD
    trimap[outside > band] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    bgr, models = np.ascontiguousarray(image[..., ::-1]), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.grabCut(bgr, trimap, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    return (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)


def snap_water(image: np.ndarray, mask: Mask, band: float) -> Mask:
    """Moves the outline to the strongest edge within band: watershed of the Lab gradient."""
    lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB).astype(float)
    gradient = sum(ndimage.gaussian_gradient_magnitude(lab[..., c], 1.0) ** 2 for c in range(3)) ** 0.5
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    markers = np.zeros(mask.shape, np.int32)
    markers[inside > min(band, 0.7 * inside.max())] = 1
    markers[outside > band] = 2
    return watershed(gradient, markers) == 1


def drop_crumbs(mask: Mask, share: float) -> Mask:
    """Drops the pieces that are smaller than a share of the object."""
    labels, n = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, labels, np.arange(1, n + 1))
    return np.isin(labels, 1 + np.flatnonzero(sizes >= share * sizes.sum()))


def tidy(mask: Mask) -> Mask:
    """Smooths single pixels away, drops crumbs and fills pinholes."""
    mask = drop_crumbs(ndimage.median_filter(mask.astype(np.uint8), 3).astype(bool), 0.02)
    holes, n = ndimage.label(~mask)
    sizes = ndimage.sum_labels(~mask, holes, np.arange(1, n + 1))
    return mask | np.isin(holes, 1 + np.flatnonzero(sizes < 40))


def snap(image: np.ndarray, mask: Mask, method: str, band: float) -> Mask:
    """Applies a snapping method in a window around the object."""
    win = window(mask, int(3 * band) + 12)
    out = np.zeros_like(mask)
    out[win] = {"grabcut": snap_grabcut, "water": snap_water}[method](image[win], mask[win], band)
    return tidy(out)


def make(image: np.ndarray, obj: dict[str, Any], done: dict[str, Mask]) -> Mask:
    """The mask of one object of a recipe."""
    size = image.shape[:2]
    mask = np.zeros(size, bool)
    for shape in obj.get("add", []):
        mask |= draw(shape, size)
    if "snap" in obj:
        mask = snap(image, mask, *obj["snap"])
    for shape in obj.get("plus", []):
        mask |= draw(shape, size)
    for name in obj.get("also", []):
        mask |= done[name]
    for shape in obj.get("cut", []):
        mask &= ~draw(shape, size)
    for name in obj.get("minus", []):
        mask &= ~done[name]
    return drop_crumbs(mask, 0.001)


def encode_rle(mask: Mask) -> dict[str, list[int]]:
    """Uncompressed COCO run lengths: column by column, the first run counts zeros."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    if counts[-1] == 0:
        counts.pop()
    return {"size": list(mask.shape), "counts": counts}


def decode_rle(rle: dict[str, list[int]]) -> Mask:
    """The inverse of encode_rle."""
    runs = rle["counts"]
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rle["size"], order="F")


def describe(obj: dict[str, Any]) -> str:
    """How a mask was made, in words."""
    parts = []
    if obj.get("add"):
        kinds = sorted({{"path": "curve", "poly": "polygon", "ellipse": "ellipse"}[s[0]] for s in obj["add"]})
        parts.append("hand-placed " + " and ".join(kinds))
    if "snap" in obj:
        method, band = obj["snap"]
        parts.append(f"outline moved within {band} px by " + {"grabcut": "GrabCut", "water": "watershed"}[method])
    parts += [f"with {name}" for name in obj.get("also", [])] + [f"without {name}" for name in obj.get("minus", [])]
    return ", ".join(parts + (["pieces cut out by hand"] if obj.get("cut") else []))


def entry(obj: dict[str, Any], mask: Mask) -> dict[str, Any]:
    """The record of one object in masks/<photo>.json."""
    ys, xs = np.nonzero(mask)
    box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    return {"name": obj["name"], "box": box, "area": int(mask.sum()), "made": describe(obj), "rle": encode_rle(mask)}


def label_place(mask: Mask, smaller: Mask) -> tuple[int, int]:
    """The point deepest inside an object and outside the smaller ones drawn over it."""
    free = mask & ~smaller
    depth = ndimage.distance_transform_edt(np.pad(free if free.any() else mask, 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x) - 1, int(y) - 1


def picture(image: np.ndarray, entries: list[dict[str, Any]], side: int = 600) -> Image.Image:
    """A small dimmed picture with outlines, light fills and names."""
    scale = side / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    canvas = 0.75 * cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(float)
    labels, smaller = [], np.zeros(size[::-1], bool)
    order = sorted(range(len(entries)), key=lambda i: int(entries[i]["area"]))
    full = [decode_rle(e["rle"]).astype(np.float32) for e in entries]
    masks = [cv2.resize(m, size, interpolation=cv2.INTER_AREA) > 0.5 for m in full]
    for i in order:
        labels.append((label_place(masks[i], smaller), entries[i]["name"]))
        smaller |= masks[i]
    for i in reversed(order):
        colour = np.array(COLOURS[i % len(COLOURS)], float)
        canvas[masks[i]] += 0.25 * (colour - canvas[masks[i]])
        canvas[masks[i] & ~ndimage.binary_erosion(masks[i])] = colour
    sheet = Image.fromarray(canvas.astype(np.uint8))
    for place, name in labels:
        ImageDraw.Draw(sheet).text(place, name, fill="white", anchor="mm", stroke_width=1, stroke_fill="black")
    return sheet


def write_masks(path: Path, entries: list[dict[str, Any]], photo: str, size: tuple[int, int]) -> None:
    """One object a line, so that a diff shows which changed."""
    lines = ",\n".join("  " + json.dumps(e, separators=(",", ":")) for e in entries)
    head = f'{{"photo": "{photo}.jpg", "width": {size[1]}, "height": {size[0]}, "objects": [\n'
    path.write_text(head + lines + "\n]}\n")


def annotate(folder: Path, photo: str) -> list[dict[str, Any]]:
    """Writes masks/<photo>.json and .jpg from the photo and its recipe."""
    image = np.asarray(Image.open(folder / f"{photo}.jpg").convert("RGB"))
    recipe = json.loads((folder / "masks" / f"{photo}.recipe.json").read_text())
    done: dict[str, Mask] = {}
    for obj in recipe:
        done[obj["name"]] = make(image, obj, done)
    entries = [entry(o, done[o["name"]]) for o in recipe if not o.get("helper")]
    write_masks(folder / "masks" / f"{photo}.json", entries, photo, image.shape[:2])
    picture(image, entries).save(folder / "masks" / f"{photo}.jpg", quality=72, optimize=True)
    return entries


def main(argv: list[str]) -> None:
    """Command line: folder [photo ...]."""
    folder = Path(argv[0])
    photos = argv[1:] or sorted(p.name.split(".")[0] for p in (folder / "masks").glob("*.recipe.json"))
    for photo in photos:
        for e in annotate(folder, photo):
            height, width = e["rle"]["size"]
            print(f"{photo:12} {e['name']:24} {100 * e['area'] / (height * width):6.2f} %  {e['box']}")


if __name__ == "__main__":
    main(sys.argv[1:])
