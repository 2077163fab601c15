"""Procedural textures: every function draws one (h, w, 3) float32 patch in 0..255 from a NumPy Generator."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Patch = NDArray[np.float32]


def noise(rng: Generator, h: int, w: int, cell: float, channels: int = 1) -> Patch:
    """Smooth noise (h, w, channels), about unit variance; `cell` is the size of one blob in pixels."""
    grid = (max(2, round(h / cell) + 1), max(2, round(w / cell) + 1), channels)
    coarse = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC).reshape(h, w, channels)


def ramp(rng: Generator, h: int, w: int) -> Patch:
    """A linear ramp (h, w, 1) from -0.5 to 0.5 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-0.5, 0.5, w, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    y = np.linspace(-0.5, 0.5, h, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return (x + y)[..., None]


def colour(rng: Generator) -> Patch:
    """A colour (3,): half of them near grey or of low saturation, as in photographs."""
    value = rng.uniform(5, 250)
    spread = rng.choice([6.0, 30.0, 90.0], p=[0.25, 0.35, 0.4])
    return np.clip(value + rng.normal(0, spread, 3), 0, 255).astype(np.float32)


def second_colour(rng: Generator, first: Patch) -> Patch:
    """A colour (3,) that goes with `first`: a little or much lighter or darker, or unrelated."""
    if rng.random() < 0.35:
        return colour(rng)
    shift = rng.choice([-1.0, 1.0]) * rng.uniform(12, 90)
    return np.clip(first + shift + rng.normal(0, 8, 3), 0, 255).astype(np.float32)


def plain(rng: Generator, h: int, w: int) -> Patch:
    """One colour."""
    return np.broadcast_to(colour(rng), (h, w, 3)).astype(np.float32)


def gradient(rng: Generator, h: int, w: int) -> Patch:
    """One colour running into another."""
    first = colour(rng)
    mix = ramp(rng, h, w) + 0.5
    return first * (1 - mix) + second_colour(rng, first) * mix


def cloudy(rng: Generator, h: int, w: int) -> Patch:
    """Several octaves of noise: stone, foliage, cloth from afar."""
    cell = float(np.exp(rng.uniform(np.log(3), np.log(50))))
    strength = rng.uniform(4, 32)
    total = noise(rng, h, w, cell) + 0.5 * noise(rng, h, w, max(1.2, cell / 3))
    if rng.random() < 0.3:
        return colour(rng) + strength * (total + 0.6 * noise(rng, h, w, cell, 3))
    return colour(rng) + strength * total


def grain(rng: Generator, h: int, w: int) -> Patch:
    """Fine speckle: sand, asphalt, fur."""
    stretch = rng.choice([1.0, 1.0, 5.0])
    speckle = noise(rng, h, max(2, int(w / stretch)), rng.uniform(1, 3))
    speckle = cv2.resize(speckle, (w, h), interpolation=cv2.INTER_LINEAR)[..., None]
    return colour(rng) + rng.uniform(6, 35) * speckle


def wave(rng: Generator, h: int, w: int) -> Patch:
    """Phase (h, w, 1) in radians of distorted parallel lines."""
    length = np.float32(np.exp(rng.uniform(np.log(4), np.log(60))))
    extent = np.float32(max(h, w))
    bend = rng.choice([0.0, 0.5, 2.0]) * noise(rng, h, w, float(length) * 2)
    return ramp(rng, h, w) * extent * np.float32(2 * np.pi) / length + bend.astype(np.float32)


def striped(rng: Generator, h: int, w: int) -> Patch:
    """Two colours in stripes, hard or soft, straight or wavy (wood)."""
    first = colour(rng)
    sharp = np.float32(rng.choice([0.6, 2.0, 12.0]))
    mix = 1 / (1 + np.exp(-sharp * (np.sin(wave(rng, h, w)) + np.float32(rng.uniform(-0.6, 0.6)))))
    return first * (1 - mix) + second_colour(rng, first) * mix


def checked(rng: Generator, h: int, w: int) -> Patch:
    """Two crossed wave patterns: checks, tiles, dots, weave."""
    first = colour(rng)
    crossing = np.sin(wave(rng, h, w)) * np.sin(wave(rng, h, w))
    mix = 1 / (1 + np.exp(-np.float32(rng.choice([2.0, 12.0])) * (crossing - np.float32(rng.uniform(-0.3, 0.4)))))
    return first * (1 - mix) + second_colour(rng, first) * mix


def patched(rng: Generator, h: int, w: int) -> Patch:
    """Noise cut into two or three levels: camouflage, cow, marble, leaves."""
    first = colour(rng)
    levels = np.round(noise(rng, h, w, float(rng.uniform(6, 40))) * rng.uniform(0.8, 1.6))
    return first + (second_colour(rng, first) - first) * np.clip(levels, -1, 2).astype(np.float32)


def photo_crop(rng: Generator, h: int, w: int, photos: Sequence[NDArray[np.uint8]]) -> Patch:
    """A random crop of a random photograph (H, W, 3), at a random scale, turned, sometimes recoloured."""
    photo = photos[rng.integers(len(photos))]
    side = float(np.exp(rng.uniform(np.log(0.15), np.log(1.0)))) * min(photo.shape[:2])
    ch, cw = max(4, int(side * h / max(h, w))), max(4, int(side * w / max(h, w)))
    y, x = rng.integers(photo.shape[0] - ch + 1), rng.integers(photo.shape[1] - cw + 1)
    crop = photo[y : y + ch, x : x + cw, :: rng.choice([1, 1, -1])][:: rng.choice([1, -1]), :: rng.choice([1, -1])]
    patch = cv2.resize(np.ascontiguousarray(crop), (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
    return patch * np.float32(rng.uniform(0.7, 1.25)) + rng.normal(0, 12, 3).astype(np.float32)


KINDS: tuple[Callable[[Generator, int, int], Patch], ...] = (
    plain, gradient, cloudy, grain, striped, checked, patched,
)  # fmt: skip
WEIGHTS = (0.14, 0.16, 0.26, 0.14, 0.12, 0.08, 0.10)


def texture(rng: Generator, h: int, w: int, photos: Sequence[NDArray[np.uint8]] = (), photo_share: float = 0.4) -> Patch:
    """One random texture (h, w, 3); with photographs at hand, `photo_share` of the draws are crops of them."""
    if photos and rng.random() < photo_share:
        return photo_crop(rng, h, w, photos)
    patch = KINDS[rng.choice(len(KINDS), p=WEIGHTS)](rng, h, w)
    if rng.random() < 0.5:
        patch = patch + rng.uniform(2, 10) * noise(rng, h, w, rng.uniform(1, 4))
    if rng.random() < 0.4:
        patch = patch + rng.uniform(10, 80) * ramp(rng, h, w)
    return np.asarray(patch, dtype=np.float32)
