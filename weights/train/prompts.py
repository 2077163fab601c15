"""From a scene to training prompts: augmentation, targets on three levels, clicks and boxes."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .painter import BACKGROUND, SIZE, THING
from .scenes import Scene

LEAST_SHARE = 0.0025  # of the picture: smaller objects are not asked for; a part may be half as large
HARDEST = 1.5  # minus the share of its box that an object fills: how often it is asked for
OBJECT = 1
TARGET_PIXEL = 2  # pixels of the picture: with pictures of 512, a target has the pixels that the scene was painted with
LEVELS = 0.15, 0.73, 0.12  # how often part, object, whole are meant
PLAIN_LEVELS = 0.05, 0.9, 0.05
VOID = 254  # the leaf of padding, never asked for
MEAN_COLOUR = (124, 116, 104)  # what padding is after normalising: zero


class Prompts(NamedTuple):
    """P prompts on one image (or, stacked, on B of them with a leading axis)."""

    image: NDArray[np.uint8]  # (S, S, 3)
    targets: NDArray[np.uint8]  # (P, 3, S/2, S/2): part, object, whole under the click; coverage 0..255
    valid: NDArray[np.bool_]  # (P, 3): False where a level repeats its neighbour
    level: NDArray[np.int64]  # (P,): the level that is meant
    point: NDArray[np.float32]  # (P, 2) xy
    box: NDArray[np.float32]  # (P, 4) xyxy, jittered
    groups: NDArray[np.uint8]  # (2, S/2, S/2): object and part numbers, for the auxiliary loss


def group_labels(s: Scene) -> NDArray[np.uint8]:
    """Object and part numbers (2, S/2, S/2), of each target's pixel the last of the picture's; padding is a group of its own."""
    parts = s.leaves[TARGET_PIXEL - 1 :: TARGET_PIXEL, TARGET_PIXEL - 1 :: TARGET_PIXEL]
    objects = np.where(parts == VOID, VOID, s.tree[parts, 0])
    return np.stack([objects, parts]).astype(np.uint8)


def plain_view(rng: Generator, s: Scene, size: int = SIZE, whole: int = 0) -> Scene:
    """The scene as evaluation shows it, enlarged to `whole` pixels and otherwise untouched; a random square of `size` of them."""
    side = SIZE * size // max(size, whole)
    y, x = rng.integers(0, SIZE - side + 1, 2)
    image, leaves = (a[y : y + side, x : x + side] for a in (s.image, s.leaves))
    ways = cv2.INTER_LINEAR, cv2.INTER_NEAREST_EXACT
    return Scene(*(cv2.resize(a, (size, size), interpolation=w) for a, w in zip((image, leaves), ways, strict=True)), s.tree)


def augment(rng: Generator, s: Scene, size: int = SIZE, whole: int = 0) -> Scene:
    """The scene at `size` pixels: flipped, turned, cropped, and recoloured; as in a square of one of `whole` pixels."""
    image, leaves, whole = s.image, s.leaves, max(size, whole)
    side = min(SIZE, int(min(whole, SIZE) * rng.uniform(0.6, 1.4)))  # at 128 pixels a crop: things keep their size in pixels
    side = side * size // whole
    if side != SIZE or size != SIZE:
        y, x = rng.integers(0, SIZE - side + 1, 2)
        way = rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]) if side < 1.3 * size else cv2.INTER_AREA
        image = cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=int(way))
        if side < size and rng.random() < 0.5:
            image = sharpen(image, size / side, rng.uniform(0, 1.5))
        leaves = cv2.resize(leaves[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    turns, mirror = int(rng.integers(4)), int(rng.choice([1, -1]))
    image, leaves = (np.rot90(a, turns)[:, ::mirror] for a in (image, leaves))
    image = recolour(rng, image)
    if rng.random() < 0.3:
        image, leaves = pad_side(rng, image, leaves)
    return Scene(np.ascontiguousarray(image), np.ascontiguousarray(leaves), s.tree)


def sharpen(image: NDArray[np.uint8], scale: float, amount: float) -> NDArray[np.uint8]:
    """A picture that was enlarged by `scale`, nearer to how sharp one of its size is: unsharp masking."""
    blurred = cv2.GaussianBlur(image, (0, 0), 0.6 * scale)
    return cv2.addWeighted(image, 1 + amount, blurred, -amount, 0)


def recolour(rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness, white balance, and half of the time other colours for the same picture."""
    gain = rng.uniform(0.75, 1.25) * (1 + rng.normal(0, 0.05, 3))
    table = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
    order = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
    return np.stack([table[image[..., c], i] for i, c in enumerate(order)], -1)


def pad_side(rng: Generator, image: NDArray[np.uint8], leaves: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
    """Cut the picture to another aspect and pad it right or below, as preprocessing does with photographs."""
    kept = int(len(image) * rng.uniform(0.5, 1))
    image, leaves = image.copy(), leaves.copy()
    out = (slice(None), slice(kept, None)) if rng.random() < 0.5 else (slice(kept, None), slice(None))
    image[out], leaves[out] = MEAN_COLOUR, VOID
    return image, leaves


def inner_point(rng: Generator, mask: NDArray[np.bool_]) -> tuple[int, int]:
    """A random (x, y) of the mask that is not right at its edge: at least a random share of the greatest depth."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    window = np.pad(mask[y : y + h, x : x + w], 1).astype(np.uint8)
    depth = cv2.distanceTransform(window, cv2.DIST_L2, 3)[1:-1, 1:-1]
    spots = np.flatnonzero(depth >= rng.uniform(0.15, 1) * depth.max())
    dy, dx = divmod(int(rng.choice(spots)), w)
    return x + dx, y + dy


def bounds(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The box xyxy (4,) around a mask, the last row and column included."""
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def jitter(rng: Generator, box: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    """Half of the time, move each corner by up to a tenth of the box's size (normal, sigma 4 %), as hand-drawn boxes are."""
    size = np.tile(box[2:] - box[:2], 2)
    shift = np.clip(rng.normal(0, 0.04, 4), -0.1, 0.1) * size * rng.choice([0.0, 1.0])
    return np.clip(box + shift, 0, limit).astype(np.float32)


def shrink(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Coverage (S/2, S/2) in 0..255 of a mask (S, S)."""
    low = len(mask) // TARGET_PIXEL
    return cv2.resize(mask.astype(np.uint8) * 255, (low, low), interpolation=cv2.INTER_AREA)


class Candidates(NamedTuple):
    """What of a scene may be asked for."""

    things: NDArray[np.int64]  # leaves of objects that are large enough
    backs: NDArray[np.int64]  # leaves of background
    objects: NDArray[np.int64]  # the objects of `things`
    odds: NDArray[np.float64]  # how often each of them is asked for; their sum is 1


def candidates(s: Scene, least: float) -> Candidates:
    """Leaves of objects of at least so many pixels. Those that fill little of their box (slender, with holes, behind others,
    words) are asked for up to three times as often: masks are worst of them."""
    areas = np.bincount(s.leaves.ravel(), minlength=len(s.tree))
    object_area = np.bincount(s.tree[:, 0], weights=areas, minlength=256)
    usable = (areas > 0) & (object_area[s.tree[:, 0]] >= least) & (np.arange(len(areas)) != VOID)
    things = np.flatnonzero(usable & (s.tree[:, 2] == THING))
    objects = np.unique(s.tree[things, 0])
    odds = np.array([HARDEST - object_area[o] / np.prod(cv2.boundingRect(s.mask_of(0, o).astype(np.uint8))[2:]) for o in objects])
    return Candidates(things, np.flatnonzero(usable & (s.tree[:, 2] == BACKGROUND)), objects, odds / odds.sum())


def choose_leaf(rng: Generator, s: Scene, c: Candidates) -> int:
    """A leaf: of a random object, whatever its number of parts, at times background."""
    if len(c.things) == 0 or (len(c.backs) and rng.random() < 0.07):
        return int(rng.choice(c.backs))
    chosen = rng.choice(c.objects, p=c.odds)
    return int(rng.choice(c.things[s.tree[c.things, 0] == chosen]))


def choose_level(rng: Generator, masks: list[NDArray[np.bool_]], least: float, odds: Sequence[float]) -> int:
    """Part, object or whole by their odds, if large enough."""
    level = int(rng.choice(3, p=odds))
    return level if masks[level].sum() >= least / 2 else OBJECT


def prompt(rng: Generator, s: Scene, c: Candidates, least: float, plain: bool) -> tuple[NDArray, ...]:
    """One prompt: targets (3, S/2, S/2), valid (3,), level (), point (2,), box (4,), exact if `plain`."""
    leaf = choose_leaf(rng, s, c)
    masks = s.levels(leaf)
    level = choose_level(rng, masks, least, PLAIN_LEVELS if plain else LEVELS)
    x, y = inner_point(rng, masks[level])
    masks = s.levels(int(s.leaves[y, x]))  # the click decides which part is meant
    if level == 0:
        masks[0] = s.leaves == s.leaves[y, x]
    areas = [m.sum() for m in masks]
    valid = np.array([areas[0] < areas[1], True, areas[2] > areas[1]])
    level = level if valid[level] else OBJECT
    targets = np.stack([shrink(m) for m in masks])
    box = bounds(masks[level])
    return targets, valid, np.int64(level), np.float32([x, y]), box if plain else jitter(rng, box, len(s.leaves))


def prompts(rng: Generator, s: Scene, count: int, size: int = SIZE, whole: int = 0, plain: bool = False) -> Prompts:
    """`count` prompts on the augmented scene at `size` pixels, see `augment`; if `plain`, on a `plain_view` of it, as evaluation
    asks: exact boxes, nearly all of objects."""
    least = LEAST_SHARE * max(size, whole) ** 2
    while True:
        view = (plain_view if plain else augment)(rng, s, size, whole)
        usable = candidates(view, least)
        if len(usable.things) or len(usable.backs):
            break
    columns = zip(*(prompt(rng, view, usable, least, plain) for _ in range(count)), strict=True)
    return Prompts(view.image, *(np.stack(c) for c in columns), group_labels(view))
