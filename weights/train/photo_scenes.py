"""Training photographs as scenes, and objects cut out of them to paste on other scenes.

The outlines in `photos/masks` were placed by hand and moved to the nearest edges by GrabCut (`annotate.py`). What has no
outline is cut into regions of one colour and texture by Felzenszwalb's method: parts inside an object, ground outside.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from .eval_photos import Photo
from .painter import BACKGROUND, MAX_LEAVES, SIZE, THING
from .prompts import MEAN_COLOUR, VOID
from .scenes import Scene

LEAST_REGION = 150  # pixels of the photograph: smaller pieces join the largest one of their object
MOST_LEAVES = 200  # leaves numbers free for what is pasted
MOST_PASTED = 3


class Cutout(NamedTuple):
    """An object of a photograph on its bounding box."""

    image: NDArray[np.uint8]  # (h, w, 3)
    mask: NDArray[np.float32]  # (h, w) 0 or 1


def cutouts(photo: Photo) -> list[Cutout]:
    """Every outlined object of a photograph."""
    found = []
    for mask in photo.masks.values():
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        place = slice(y, y + h), slice(x, x + w)
        found.append(Cutout(photo.image[place], mask[place].astype(np.float32)))
    return found


def photo_scene(photo: Photo) -> Scene:
    """The photograph (H, W, 3) with a leaf number per pixel; objects have the numbers 1, 2, ... in the order of their masks."""
    regions = felzenszwalb(photo.image, scale=300, sigma=0.8, min_size=300)
    owner = np.zeros(regions.shape, np.int64)
    for number, mask in enumerate(photo.masks.values(), 1):
        owner[mask] = number
    pieces, leaves = np.unique(owner * (regions.max() + 1) + regions, return_inverse=True)
    owners = pieces // (regions.max() + 1)
    leaves = join_small(leaves.reshape(regions.shape), owners)
    tree = np.zeros((MAX_LEAVES, 3), np.uint8)
    for new, leaf in enumerate(np.unique(leaves)):
        number = owners[leaf] or len(photo.masks) + 1 + new  # ground: every region for itself
        tree[new] = number, number, THING if owners[leaf] else BACKGROUND
    return Scene(photo.image, np.unique(leaves, return_inverse=True)[1].reshape(leaves.shape).astype(np.uint8), tree)


class PhotoScenes(NamedTuple):
    """What is drawn of the photographs."""

    scenes: list[Scene]
    cutouts: list[Cutout]


def photo_scenes(photos: list[Photo], folder: Path) -> PhotoScenes:
    """Scenes and cut-outs of all photographs; their regions are kept in `folder`, as finding them takes half a second each.

    The file is named by what the regions come from, so that a new photograph or outline, or a change here, finds them anew.
    """
    kept = folder / f"photos-{digest(photos)}.npz"
    if not kept.exists():
        found = [photo_scene(photo) for photo in photos]
        arrays = {
            f"{photo.name}/{part}": getattr(s, part)
            for photo, s in zip(photos, found, strict=True)
            for part in ("leaves", "tree")
        }
        temporary = folder / f"unfinished-{os.getpid()}.npz"
        np.savez_compressed(temporary, **arrays)
        temporary.replace(kept)
    with np.load(kept) as arrays:
        scenes = [Scene(photo.image, arrays[f"{photo.name}/leaves"], arrays[f"{photo.name}/tree"]) for photo in photos]
    return PhotoScenes(scenes, [c for photo in photos for c in cutouts(photo)])


def digest(photos: list[Photo]) -> str:
    """Of this file, and of the photographs' names, pixels and outlines, in order."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for photo in photos:
        for name, array in ((photo.name, photo.image), *photo.masks.items()):
            found.update(repr((name, array.shape)).encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def join_small(leaves: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leaves (H, W) where small pieces, and all beyond the MOST_LEAVES largest, have joined the largest of their owner."""
    areas = np.bincount(leaves.ravel(), minlength=len(owners))
    ranks = np.argsort(np.argsort(-areas))
    names = np.arange(len(owners))
    for owner in np.unique(owners):
        mine = owners == owner
        names[mine & ((areas < LEAST_REGION) | (ranks >= MOST_LEAVES))] = np.flatnonzero(mine)[areas[mine].argmax()]
    return names[leaves]


def photo_view(rng: Generator, s: Scene) -> Scene:
    """A square view of SIZE pixels: the whole photograph, padded right or below as preprocessing does it, or a window of it."""
    h, w = s.leaves.shape
    side = int(max(h, w) * (1 if rng.random() < 0.5 else rng.uniform(0.45, 1)))
    y, x = (int(rng.integers(0, max(0, length - side) + 1)) for length in (h, w))
    image, leaves = s.image[y : y + side, x : x + side], s.leaves[y : y + side, x : x + side]
    size = tuple(max(1, round(length * SIZE / side)) for length in leaves.shape[::-1])
    out = np.full((SIZE, SIZE, 3), MEAN_COLOUR, np.uint8), np.full((SIZE, SIZE), VOID, np.uint8)
    out[0][: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    out[1][: size[1], : size[0]] = cv2.resize(leaves, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return Scene(*out, s.tree)


def paste(rng: Generator, s: Scene, found: list[Cutout]) -> Scene:
    """The scene (SIZE, SIZE) with one to MOST_PASTED cut-out objects in front, each an object of one leaf."""
    image, leaves, tree = s.image.copy(), s.leaves.copy(), s.tree.copy()
    for _ in range(rng.integers(1, MOST_PASTED + 1)):
        used = leaves[leaves != VOID]
        leaf = int(used.max(initial=0)) + 1
        if leaf >= VOID or tree[:, :2].max() >= MAX_LEAVES - 1:
            break
        cut = scaled(rng, found[rng.integers(len(found))])
        h, w = cut.mask.shape
        y, x = (int(rng.integers(-length // 4, SIZE - length + length // 4 + 1)) for length in (h, w))
        here = slice(max(y, 0), min(y + h, SIZE)), slice(max(x, 0), min(x + w, SIZE))
        there = slice(here[0].start - y, here[0].stop - y), slice(here[1].start - x, here[1].stop - x)
        cover = cut.mask[there]
        mixed = image[here] + cover[..., None] * (cut.image[there].astype(np.float32) - image[here])
        image[here] = np.clip(mixed, 0, 255).astype(np.uint8)
        leaves[here][cover > 0.5] = leaf
        tree[leaf] = tree[:, 0].max() + 1, tree[:, 1].max() + 1, THING
    return Scene(image, leaves, tree)


def scaled(rng: Generator, cut: Cutout) -> Cutout:
    """The cut-out at a random size, mirrored, of another brightness; its mask (h, w) becomes soft coverage."""
    longer = SIZE * np.exp(rng.uniform(np.log(0.12), np.log(0.85)))
    scale = min(longer / max(cut.mask.shape), 1.5)
    size = tuple(max(4, round(length * scale)) for length in cut.mask.shape[::-1])
    flip = int(rng.choice([1, -1]))
    image = cv2.resize(np.ascontiguousarray(cut.image[:, ::flip]), size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(np.ascontiguousarray(cut.mask[:, ::flip]), size, interpolation=cv2.INTER_AREA)
    gain = rng.uniform(0.7, 1.25)
    return Cutout(np.clip(image * gain, 0, 255).astype(np.uint8), cv2.GaussianBlur(mask, (0, 0), 0.6))
