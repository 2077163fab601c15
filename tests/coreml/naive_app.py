"""The app's two kernels as loops over pixels, in the words of their Metal sources; float64 throughout."""

import math
from itertools import product

import numpy as np

from refsam.transforms import PIXEL_MEAN, PIXEL_STD, resized_size


def texel_middles(place: float, n: int, linear: bool) -> list[tuple[int, float]]:
    """(texel, weight) that a sampler with clamp_to_edge reads at `place`, in texels from the edge."""
    if not linear:
        return [(min(max(math.floor(place), 0), n - 1), 1.0)]
    near = math.floor(place - 0.5)
    weight = place - 0.5 - near
    return [(min(max(near, 0), n - 1), 1 - weight), (min(max(near + 1, 0), n - 1), weight)]


def texture_sample(texture: np.ndarray, y: float, x: float, linear: bool = True) -> np.ndarray:
    rows, columns = texel_middles(y, texture.shape[0], linear), texel_middles(x, texture.shape[1], linear)
    return sum(p * q * texture[i, j] for (i, p), (j, q) in product(rows, columns))


def preprocessing_kernel(image: np.ndarray, side: int, half_pixel: bool, shipped_index: bool, buffer: np.ndarray) -> np.ndarray:
    """Fills `buffer` (3 * side * side) as the kernel's threads do; the mean and deviation are of levels."""
    height, width = resized_size(image.shape[:2], side)
    padding_x, padding_y = side - width, side - height
    middle = 0.5 if half_pixel else 0.0
    for y, x in product(range(height), range(width)):
        u, v = (x + middle) / width, (y + middle) / height
        colour = texture_sample(image.astype(float), v * image.shape[0], u * image.shape[1])
        colour = (colour - PIXEL_MEAN.astype(float)) / PIXEL_STD.astype(float)
        index = y * (width + padding_x) + x + (padding_y if shipped_index else 0)
        for channel in range(3):
            buffer[channel * side * side + index] = colour[channel]
    return buffer.reshape(1, 3, side, side)


def postprocessing_kernel(
    logits: np.ndarray, size: tuple[int, int], factor: tuple[float, float], half_pixel: bool, linear: bool
) -> np.ndarray:
    """The sampled logits: uv = xy / size, times the part of the mask where the picture is (height, width)."""
    out = np.zeros(size)
    middle = 0.5 if half_pixel else 0.0
    for y, x in product(range(size[0]), range(size[1])):
        v, u = (y + middle) / size[0] * factor[0], (x + middle) / size[1] * factor[1]
        out[y, x] = texture_sample(logits, v * len(logits), u * len(logits), linear)
    return out


def gaussian(values: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Every pixel a weighted sum of its neighbours, zero outside."""
    span = range(-radius, radius + 1)
    weights = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in span}
    total = sum(weights.values())
    out = np.zeros(values.shape)
    height, width = values.shape
    for y, x in product(range(height), range(width)):
        for dy, dx in product(span, span):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                out[y, x] += weights[dy] * weights[dx] / total**2 * values[y + dy, x + dx]
    return out
