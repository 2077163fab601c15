"""Procedural scenes with exact masks: `scene(seed)` is a picture and, for every pixel, its part, object and whole.

Training draws seeds from TRAINING_SEEDS upwards; seeds below HELD_OUT_SEEDS are for evaluation only.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from skimage.measure import label as connected

from .finish import finish
from .painter import BACKGROUND, MAX_LEAVES, SIZE, THING, Painter, Photos
from .shapes import Mask, fill, glyph, outline

HELD_OUT_SEEDS = 10_000
TRAINING_SEEDS = 1_000_000
SPECK = 24  # pixels: a smaller loose piece of a leaf stays with that leaf


class Scene(NamedTuple):
    """A picture and its hierarchy. Every pixel belongs to one leaf; a leaf to one object; an object to one whole."""

    image: NDArray[np.uint8]  # (S, S, 3)
    leaves: NDArray[np.uint8]  # (S, S) leaf number
    tree: NDArray[np.uint8]  # (255, 3): object number, whole number, BACKGROUND, THING or SCRAP

    def levels(self, leaf: int) -> list[NDArray[np.bool_]]:
        """The masks (S, S) that a click on `leaf` may mean: the part, its object, the whole (repeats left in)."""
        return [self.leaves == leaf, self.mask_of(0, self.tree[leaf, 0]), self.mask_of(1, self.tree[leaf, 1])]

    def mask_of(self, level: int, number: int) -> NDArray[np.bool_]:
        """The mask (S, S) of object (level 0) or whole (level 1) `number`."""
        return (self.tree[:, level] == number)[self.leaves]

    def objects(self) -> list[int]:
        """The object numbers of things that can be seen."""
        present = np.unique(self.leaves)
        return sorted({int(self.tree[i, 0]) for i in present if self.tree[i, 2] == THING})


def background(p: Painter) -> None:
    """One to three textured regions behind everything: a wall, a floor, a sky."""
    p.image[:] = p.texture(p.size, p.size)
    p.rows.append((*p.new_object(), BACKGROUND))
    for _ in range(p.rng.choice([0, 1, 2], p=[0.55, 0.33, 0.12])):
        yy, xx = np.mgrid[0 : p.size, 0 : p.size].astype(np.float32)
        angle = p.rng.normal(0, 0.3) + (np.pi / 2 if p.rng.random() < 0.3 else 0)
        wobble = p.rng.choice([0.0, 8.0]) * np.sin(xx / p.rng.uniform(8, 40))
        side = (yy - p.rng.uniform(0.2, 0.8) * p.size) * np.cos(angle) + (xx - p.size / 2) * np.sin(angle) > wobble
        p.image[side] = p.texture(p.size, p.size)[side]
        p.rows.append((*p.new_object(), BACKGROUND))
        p.leaves[side] = len(p.rows) - 1


def place(p: Painter, radius: float) -> tuple[float, float]:
    """A centre (x, y) for a thing of that radius: mostly inside the picture, sometimes cut by its edge."""
    low = radius * p.rng.choice([0.0, 0.8])
    low = min(low, p.size / 2 - 1)
    return p.rng.uniform(low, p.size - low), p.rng.uniform(low, p.size - low)


def thing(p: Painter, radius: float, centre: tuple[float, float], whole: int | None = None, plain: bool = False) -> int:
    """Paint one object, of one leaf or of two to four parts; returns its whole."""
    mask = fill(outline(p.rng, solid=plain), radius)
    p.shadow(mask, centre)
    obj, whole = p.new_object(whole)
    patch = p.texture(*mask.shape)
    p.paint(mask, centre, obj, whole, patch)
    if p.rng.random() < 0.12:
        rim = cv2.dilate(mask, np.ones((3, 3))) - cv2.erode(mask, np.ones((3, 3)))
        paint_over(p, rim, centre, p.rng.uniform(0, 60))
    if not plain and radius > 14 and p.rng.random() < 0.4:
        for _ in range(p.rng.integers(1, 4)):
            add_part(p, mask, radius, centre, obj, whole)
    return whole


def paint_over(p: Painter, cover: Mask, centre: tuple[float, float], value: float) -> None:
    """Colour without a leaf of its own: an outline, a highlight."""
    spot = p.window(cover, centre)
    if spot:
        alpha = np.clip(cover[spot[1]], 0, 1)[..., None] * 0.8
        p.image[spot[0]] += alpha * (value - p.image[spot[0]])


def add_part(p: Painter, body: Mask, radius: float, centre: tuple[float, float], obj: int, whole: int) -> None:
    """Paint a part on a body: one side of a cut, a band, an inset, or something attached to its edge."""
    h, w = body.shape
    kind = p.rng.choice(4, p=[0.25, 0.2, 0.35, 0.2])
    if kind <= 1:
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        angle = p.rng.uniform(0, 2 * np.pi)
        d = (xx - w / 2) * np.cos(angle) + (yy - h / 2) * np.sin(angle) - p.rng.uniform(-0.5, 0.5) * radius
        d = d if kind == 0 else p.rng.uniform(0.1, 0.35) * radius - np.abs(d)
        p.paint(body * np.clip(d + 0.5, 0, 1).astype(np.float32), centre, obj, whole)
        return
    part = fill(outline(p.rng, solid=True), radius * p.rng.uniform(0.15, 0.55))
    inside = np.argwhere(body > 0.5)
    if len(inside) == 0:
        return
    y, x = inside[p.rng.integers(len(inside))] if kind == 2 else edge_point(p.rng, body)
    at = (centre[0] + x - w / 2, centre[1] + y - h / 2)
    if kind == 2:
        part = part * crop_at(body, part.shape, (y, x))
    p.paint(part, at, obj, whole)


def edge_point(rng: Generator, body: Mask) -> NDArray[np.int64]:
    """A random (y, x) on the body's outline."""
    edge = np.argwhere((body > 0.5) & (cv2.erode(body, np.ones((3, 3)), borderValue=0) <= 0.5))
    return edge[rng.integers(len(edge))]


def crop_at(body: Mask, shape: tuple[int, ...], at: tuple[int, int]) -> Mask:
    """The (h, w) window of `body` centred at (y, x), zero outside it."""
    padded = np.pad(body, ((shape[0], shape[0]), (shape[1], shape[1])))
    y, x = round(at[0] + shape[0] / 2), round(at[1] + shape[1] / 2)
    return padded[y : y + shape[0], x : x + shape[1]]


def panel(p: Painter) -> None:
    """A body with separate objects on it: plate and food, face and eyes, keyboard; body and all items are one whole."""
    radius = p.rng.uniform(0.18, 0.42) * p.size
    centre = place(p, radius)
    whole = thing(p, radius, centre, plain=True)
    for _ in range(p.rng.integers(2, 7)):
        spread = p.rng.uniform(-0.5, 0.5, 2) * radius
        thing(p, radius * p.rng.uniform(0.08, 0.3), (centre[0] + spread[0], centre[1] + spread[1]), whole, plain=True)


def repeated(p: Painter) -> None:
    """The same thing several times, in a row, a grid or a heap: each one an object; a touching row also a whole."""
    count = int(p.rng.integers(3, 9))
    radius = p.rng.uniform(0.04, 0.12) * p.size
    mask = fill(outline(p.rng, solid=p.rng.random() < 0.6), radius)
    patch = p.texture(*mask.shape)
    x, y = place(p, radius)
    in_row = p.rng.random() < 0.6
    turn, gap = p.rng.uniform(0, 2 * np.pi), p.rng.uniform(1.5, 3) * radius
    _, together = p.new_object()
    for i in range(count):
        at = (x + i * gap * np.cos(turn), y + i * gap * np.sin(turn)) if in_row else place(p, radius)
        touching = in_row and gap < 1.9 * radius
        p.shadow(mask, at)
        p.paint(mask, at, *p.new_object(together if touching else None), patch)


def word(p: Painter) -> None:
    """Letters: each a part, the word one object; sometimes on a plate, which makes both a whole."""
    height = p.rng.uniform(0.07, 0.25) * p.size
    letters = "".join(p.rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ0123456789aeghkmnopqrsuw"), p.rng.integers(2, 7)))
    masks = [glyph(p.rng, letter, height) for letter in letters]
    x, y = place(p, height)
    width = sum(m.shape[1] for m in masks)
    whole = None
    if p.rng.random() < 0.5:
        plate = np.ones((int(height * 1.9), int(width * 1.2)), np.float32)
        obj, whole = p.new_object()
        p.shadow(plate, (x + width / 2, y))
        p.paint(plate, (x + width / 2, y), obj, whole)
    obj, whole = p.new_object(whole)
    tint = p.texture(4, 4)[:1, :1]
    for m in masks:
        p.paint(m, (x + m.shape[1] / 2, y), obj, whole, np.broadcast_to(tint, (*m.shape, 3)))
        x += m.shape[1]


def single(p: Painter) -> None:
    """One thing of any size."""
    radius = float(np.exp(p.rng.uniform(np.log(0.05), np.log(0.42)))) * p.size
    thing(p, radius, place(p, radius))


def separate_pieces(leaves: NDArray[np.int32], rows: list[tuple[int, int, int]]) -> NDArray[np.int32]:
    """Give each loose piece of a thing (cut in two by an occluder) a leaf of its own; appends to `rows`."""
    pieces = connected(leaves + 1, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    order = np.argsort(-sizes[1:]) + 1
    owner = np.zeros(len(sizes), np.int32)
    first = np.unique(pieces, return_index=True)[1]
    owner[1:] = leaves.ravel()[first]
    names, seen = owner.copy(), set()
    for piece in order:
        leaf = int(owner[piece])
        if leaf in seen and rows[leaf][2] == THING and sizes[piece] >= SPECK and len(rows) < MAX_LEAVES - 1:
            rows.append(rows[leaf])
            names[piece] = len(rows) - 1
        seen.add(leaf)
    return names[pieces]


def scene(seed: int, photos: Photos = (), size: int = SIZE) -> Scene:
    """The scene of that seed: same seed, photos and size, same scene (on one NumPy and OpenCV version)."""
    rng = np.random.default_rng(seed)
    p = Painter(rng, photos, size)
    background(p)
    painters = (single, panel, repeated, word)
    for _ in range(rng.integers(2, 10)):
        if not p.full():
            painters[rng.choice(4, p=[0.70, 0.12, 0.11, 0.07])](p)
    p.mark_scraps()
    leaves = separate_pieces(p.leaves, p.rows)
    tree = np.zeros((MAX_LEAVES, 3), np.uint8)
    tree[: len(p.rows)] = p.rows
    return Scene(finish(rng, p.image), leaves.astype(np.uint8), tree)
