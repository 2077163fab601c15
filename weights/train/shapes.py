"""Random outlines in the unit disc and their anti-aliased masks; several contours fill even-odd, so holes come free."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Contour = NDArray[np.float64]
Mask = NDArray[np.float32]


def circle(n: int = 48) -> Contour:
    """A unit circle of n points."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1)


def ellipse(rng: Generator) -> list[Contour]:
    """An ellipse, round to slender."""
    return [circle() * [1, rng.uniform(0.35, 1)]]


def superellipse(rng: Generator) -> list[Contour]:
    """From a rectangle over a rounded one to an ellipse."""
    c = circle(64)
    power = rng.uniform(0.05, 0.7)
    return [np.sign(c) * np.abs(c) ** power * [1, rng.uniform(0.25, 1)] * 0.8]


def polygon(rng: Generator) -> list[Contour]:
    """Three to eleven corners at random angles and radii."""
    n = int(rng.integers(3, 12))
    t = np.sort(rng.uniform(0, 2 * np.pi, n))
    radius = rng.uniform(0.45, 1, n)
    return [np.stack([radius * np.cos(t), radius * np.sin(t)], 1)]


def star(rng: Generator) -> list[Contour]:
    """A star of four to eleven points."""
    n = int(rng.integers(4, 12))
    t = np.linspace(0, 2 * np.pi, 2 * n, endpoint=False)
    radius = np.where(np.arange(2 * n) % 2 == 0, 1, rng.uniform(0.35, 0.8))
    return [np.stack([radius * np.cos(t), radius * np.sin(t)], 1)]


def blob(rng: Generator) -> list[Contour]:
    """A smooth closed curve: a few Fourier terms on the radius."""
    c = circle(72)
    t = np.arctan2(c[:, 1], c[:, 0])
    waves = sum(rng.normal(0, 0.5 / k) * np.sin(k * t + rng.uniform(0, 6.3)) for k in range(2, 7))
    radius = np.clip(0.7 + 0.3 * waves, 0.15, 1.0)
    return [c * radius[:, None] * [1, rng.uniform(0.5, 1)]]


def joined(rng: Generator) -> list[Contour]:
    """A bent thick line of varying width: limbs, bottles, bananas, letters without corners."""
    n = int(rng.integers(3, 7))
    turn = np.cumsum(rng.normal(0, 0.6, n))
    path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1), 0)
    path = (path - path.mean(0)) / np.abs(path - path.mean(0)).max()
    path = np.stack([np.interp(np.linspace(0, n - 1, 24), np.arange(n), path[:, i]) for i in (0, 1)], 1)
    along = np.gradient(path, axis=0)
    normal = along[:, ::-1] * [1, -1] / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-6)
    width = np.interp(np.linspace(0, 3, 24), np.arange(4), rng.uniform(0.08, 0.38, 4))[:, None]
    return [np.concatenate([path + normal * width, (path - normal * width)[::-1]]) * 0.85]


def thin(rng: Generator) -> list[Contour]:
    """A thin bent line: wires, sticks, rims."""
    body = joined(rng)[0]
    middle = (body[:24] + body[24:][::-1]) / 2
    width = rng.uniform(0.03, 0.09)
    side = body[:24] - middle
    side = side / (np.linalg.norm(side, axis=1, keepdims=True) + 1e-6) * width
    return [np.concatenate([middle + side, (middle - side)[::-1]])]


def ring(rng: Generator) -> list[Contour]:
    """An outline with a hole of its own shape, or with a few round holes."""
    outer = SOLID[rng.integers(len(SOLID))](rng)
    if rng.random() < 0.6:
        return [*outer, outer[0] * rng.uniform(0.35, 0.8)]
    holes = [circle(24) * rng.uniform(0.08, 0.25) + rng.uniform(-0.4, 0.4, 2) for _ in range(rng.integers(1, 4))]
    return [*outer, *holes]


def angular(rng: Generator) -> list[Contour]:
    """L, T, U and cross shapes made of straight bars."""
    a, b = rng.uniform(0.15, 0.4, 2)
    cross = [(-a, -1), (a, -1), (a, -b), (1, -b), (1, b), (a, b), (a, 1), (-a, 1), (-a, b), (-1, b), (-1, -b), (-a, -b)]
    ell = [(-1, -1), (-1 + 2 * a, -1), (-1 + 2 * a, 1 - 2 * b), (1, 1 - 2 * b), (1, 1), (-1, 1)]
    tee = [(-1, -1), (1, -1), (1, -1 + 2 * b), (a, -1 + 2 * b), (a, 1), (-a, 1), (-a, -1 + 2 * b), (-1, -1 + 2 * b)]
    return [np.array((cross, ell, tee)[rng.integers(3)]) * 0.85]


def crescent(rng: Generator) -> list[Contour]:
    """A moon: a wide arc and a flatter one."""
    t = np.linspace(-2.2, 2.2, 40)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    inner = outer[::-1] * [rng.uniform(0.2, 0.8), 1] * 0.98
    return [np.concatenate([outer, inner])]


SOLID: tuple[Callable[[Generator], list[Contour]], ...] = (ellipse, superellipse, polygon, blob)
KINDS = (ellipse, superellipse, polygon, star, blob, joined, thin, ring, angular, crescent)
WEIGHTS = (0.14, 0.18, 0.12, 0.05, 0.18, 0.12, 0.06, 0.08, 0.04, 0.03)


def outline(rng: Generator, solid: bool = False) -> list[Contour]:
    """Contours (n, 2) of a random shape in the unit disc, turned and sheared."""
    kinds, weights = (SOLID, (0.3, 0.3, 0.15, 0.25)) if solid else (KINDS, WEIGHTS)
    contours = kinds[rng.choice(len(kinds), p=weights)](rng)
    angle = rng.normal(0, 0.15) + np.pi / 2 * rng.integers(4) if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[1, rng.normal(0, 0.15)], [0, rng.uniform(0.7, 1)]])
    return [c @ shear @ turn for c in contours]


def fill(contours: list[Contour], radius: float) -> Mask:
    """Anti-aliased coverage (h, w) in 0..1 of the contours scaled to `radius` pixels, on their bounding box + 2 px."""
    points = [c * radius for c in contours]
    low = np.floor(np.min([p.min(0) for p in points], 0)) - 2
    size = np.ceil(np.max([p.max(0) for p in points], 0)) + 2 - low
    w, h = (int(v) for v in size)
    mask = np.zeros((h, w), np.uint8)
    fixed = [np.round((p - low) * 16).astype(np.int32) for p in points]
    cv2.fillPoly(mask, fixed, 255, lineType=cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def glyph(rng: Generator, text: str, height: float) -> Mask:
    """Coverage (h, w) of text in one of OpenCV's stroke fonts, `height` pixels high."""
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    thickness = max(1, round(height * rng.uniform(0.06, 0.2)))
    scale = cv2.getFontScaleFromHeight(font, max(4, int(height)), thickness)
    (w, h), base = cv2.getTextSize(text, font, scale, thickness)
    mask = np.zeros((h + base + 2 * thickness + 2, w + 2 * thickness + 2), np.uint8)
    cv2.putText(mask, text, (thickness, h + thickness), font, scale, 255, thickness, cv2.LINE_AA)
    return mask.astype(np.float32) / 255
