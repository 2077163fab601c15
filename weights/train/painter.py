"""The canvas of a procedural scene: things painted from back to front, with their shadows and shading."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .shapes import Mask
from .textures import Patch, texture

SIZE = 256
MAX_LEAVES = 255  # the last of them, 254, is left to padding (prompts.py)
BACKGROUND, THING, SCRAP = 0, 1, 2  # what a leaf is part of; scraps are never asked for
LEAST_VISIBLE = 0.4  # of an object's area: less is a scrap
VISIBLE = 22.0  # grey levels between a thing's mean colour and that of what it hides

Photos = Sequence[NDArray[np.uint8]]


class Light(NamedTuple):
    """Where a scene's light comes from, and how hard its shadows are."""

    direction: NDArray[np.float32]  # (2,) xy, unit
    shadow_offset: float
    shadow_blur: float
    shadow_strength: float
    relief: float


@dataclass
class Painter:
    """A canvas that things are painted on from back to front; later things hide earlier ones."""

    rng: Generator
    photos: Photos
    size: int = SIZE
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    painted: dict[int, int] = field(default_factory=dict)  # object -> area inside the picture
    objects: int = 0
    wholes: int = 0

    def __post_init__(self) -> None:
        self.image = np.zeros((self.size, self.size, 3), np.float32)
        self.leaves = np.zeros((self.size, self.size), np.int32)
        angle = self.rng.uniform(0, 2 * np.pi)
        self.light = Light(
            np.array([np.cos(angle), np.sin(angle)], np.float32),
            self.rng.uniform(1, 14),
            self.rng.uniform(1, 8),
            self.rng.choice([0.0, self.rng.uniform(0.15, 0.65)], p=[0.3, 0.7]),
            self.rng.choice([0.0, self.rng.uniform(0.1, 0.5)], p=[0.35, 0.65]),
        )

    def full(self) -> bool:
        """Whether leaf numbers are running out."""
        return len(self.rows) > MAX_LEAVES - 60

    def new_object(self, whole: int | None = None) -> tuple[int, int]:
        """Numbers of a new object and of its whole: a new one unless `whole` is given."""
        self.objects += 1
        if whole is None:
            self.wholes += 1
            whole = self.wholes
        return self.objects, whole

    def texture(self, h: int, w: int) -> Patch:
        """A random texture (h, w, 3), or a crop of a photograph."""
        return texture(self.rng, h, w, self.photos)

    def window(self, mask: Mask, centre: tuple[float, float]) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Where the mask falls on the canvas, and which part of it does: two pairs of slices."""
        h, w = mask.shape
        y, x = round(centre[1] - h / 2), round(centre[0] - w / 2)
        y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + h, self.size), min(x + w, self.size)
        if y0 >= y1 or x0 >= x1:
            return None
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))

    def shadow(self, mask: Mask, centre: tuple[float, float]) -> None:
        """Darken where the mask's shadow falls."""
        light, pad = self.light, 16
        if light.shadow_strength == 0:
            return
        soft = cv2.GaussianBlur(np.pad(mask, pad), (0, 0), light.shadow_blur)
        place = self.window(soft, (centre[0] - light.direction[0] * light.shadow_offset,
                                   centre[1] - light.direction[1] * light.shadow_offset))  # fmt: skip
        if place:
            self.image[place[0]] *= 1 - light.shadow_strength * soft[place[1]][..., None]

    def relief(self, mask: Mask) -> Patch:
        """Shading (h, w, 1) of a body whose height rises from its outline: a dome or a bevelled plate."""
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        reach = max(2.0, float(distance.max()) * self.rng.uniform(0.25, 1))
        height = cv2.GaussianBlur(np.sqrt(1 - (1 - np.minimum(distance / reach, 1)) ** 2), (0, 0), 1.5) * reach
        slope = np.stack(np.gradient(height)[::-1], -1) @ self.light.direction
        return (1 + self.light.relief * np.clip(-slope, -1.2, 1.2) * 1.5)[..., None].astype(np.float32)

    def lift(self, cover: Patch, patch: Patch, behind: Patch) -> float:
        """What to add to a patch (h, w, 3) so that it can be told from what is behind it: 0 where it already can."""
        difference = float((cover * (patch - behind)).sum() / max(1.0, 3 * cover.sum()))
        apart = float(np.abs((cover * (patch - behind)).sum((0, 1)) / max(1.0, cover.sum())).max())
        if apart > VISIBLE:
            return 0.0
        lighter = behind.mean() < 128 if self.rng.random() < 0.7 else difference > 0
        return float(self.rng.uniform(VISIBLE, 3 * VISIBLE)) * (1 if lighter else -1)

    def paint(self, mask: Mask, centre: tuple[float, float], obj: int, whole: int, patch: Patch | None = None) -> None:
        """Paint one new leaf of object `obj` with coverage `mask` (h, w), centred at xy."""
        place = self.window(mask, centre)
        if place is None:
            return
        if patch is None:
            patch = self.texture(*mask.shape)
        if self.light.relief and self.rng.random() < 0.6:
            patch = patch * self.relief(mask)
        canvas, local = place
        cover = mask[local][..., None]
        patch = patch + self.lift(cover, patch[local], self.image[canvas])
        self.image[canvas] += cover * (patch[local] - self.image[canvas])
        covered = mask[local] > 0.5
        owners = np.array([row[0] for row in self.rows])[self.leaves[canvas]]
        self.painted[obj] = self.painted.get(obj, 0) + int((covered & (owners != obj)).sum())
        self.rows.append((obj, whole, THING))
        self.leaves[canvas][covered] = len(self.rows) - 1

    def mark_scraps(self) -> None:
        """Make leaves of objects that later ones hide for the most part SCRAP: nobody could say what they are."""
        objects = np.array([row[0] for row in self.rows])
        visible = np.bincount(objects[self.leaves].ravel(), minlength=objects.max() + 1)
        hidden = {obj for obj, area in self.painted.items() if visible[obj] < LEAST_VISIBLE * area}
        self.rows = [(obj, whole, SCRAP if obj in hidden else kind) for obj, whole, kind in self.rows]
